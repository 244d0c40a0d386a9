# Cases of the command line, runs and rewards. Sourced by run.sh, which says how a case is written.

# A short training with a reward module, such as `trained exit0`; further words are options of `rldf train`.
trained() {
  local module=$1
  shift
  rldf train "$inputs/tiny.yaml" --name "$module" --json --set "reward={module: $inputs/$module.ts}" "$@"
}

row_1_a_promise_that_never_settles() {
  trained never_later
  expect_refusal 'what the work waits for never comes' 'never_later.ts' 'rldf resume never_later' 'checkpoints/step-'
}
row_1_process_exit_in_a_module() {
  trained exit0
  expect_refusal 'exit0.ts:' 'process.exit(0) before the work was done' 'train again: nothing was saved yet'
}

# Waits until a command in the background has printed something.
wait_for() {
  local _
  for _ in $(seq 600); do
    grep -q "$2" "$1" 2>/dev/null && return
    sleep 0.1
  done
  fail "not printed within a minute: $2"
}

row_2_a_run_that_is_going_on_is_not_resumed_and_a_killed_one_is() {
  $rldf_command train "$inputs/tiny.yaml" --name live --set epochs=40 --set checkpoint.every=1 2>live.txt >/dev/null &
  local first=$!
  wait_for live.txt 'epoch  2/40'
  rldf resume live
  kill -9 $first
  wait $first 2>/dev/null
  expect_refusal "process $first on " 'one process a folder'
  rldf resume live --set epochs=41 --json </dev/null &
  local second=$!
  wait_for stderr.txt 'continuing behind epoch'
  kill -9 $(node -p 'JSON.parse(require("node:fs").readFileSync("runs/live/lock.json")).pid')
  wait $second 2>/dev/null
}

row_5_what_is_cut_off_a_prompt_is_named() {
  rldf generate --prompt-file "$inputs/long-prompts.txt" --steps 2
  expect_code 0
  expect_text 'is longer than the 32 tokens that the model reads' 'red car" is cut off' 'blue fish" is cut off'
  expect_same 'pixels of prompts that differ behind the limit' "$(pixels pictures/0000.png)" "$(pixels pictures/0001.png)"
}
row_5_long_prompts_are_read_in_pieces_if_asked_for() {
  rldf generate --prompt-file "$inputs/long-prompts.txt" --steps 2 --long-prompts chunks
  expect_code 0
  expect_no_text 'is cut off'
  expect_other 'pixels' "$(pixels pictures/0000.png)" "$(pixels pictures/0001.png)"
}
row_5_weights_and_breaks_are_noticed() {
  rldf validate "$inputs/tiny.yaml" --set 'prompts=[a (cat:1.3), a cat BREAK a dog]'
  expect_code 0
  expect_text '"(cat:1.3)" is drawn as it stands' '"BREAK" is drawn as it stands'
}

row_7_photographs_are_turned_as_they_say() {
  rldf search --image "$inputs/upright.jpg" --steps 1 --pictures 1 --output upright --json
  local upright=$(grep -m1 '"object"' stdout.txt)
  rldf search --image "$inputs/exif6.jpg" --steps 1 --pictures 1 --output turned --json
  expect_code 0
  expect_same object "$(grep -m1 '"object"' stdout.txt)" "$upright"
}

row_8_what_a_module_prints_is_not_in_the_JSON() {
  cat >loud.ts <<'TS'
import { spawnSync } from 'node:child_process';
import { writeSync } from 'node:fs';
export const reward = ({ images }: any) => {
  console.log('scoring');
  process.stdout.write('raw\n');
  writeSync(1, 'descriptor\n');
  spawnSync('echo', ['child'], { stdio: 'inherit' });
  return images.map((x: any) => x.data[0]);
};
TS
  rldf train "$inputs/tiny.yaml" --name loud --json --set epochs=1 --set "reward={module: $PWD/loud.ts}"
  expect_code 0
  node -e 'JSON.parse(require("node:fs").readFileSync("stdout.txt"))' 2>/dev/null || fail "stdout is no JSON: $stdout"
  expect_text scoring raw descriptor child
}

row_9_an_open_timer_keeps_no_process() {
  rldf validate "$inputs/tiny.yaml" --set "reward={module: $inputs/interval.ts}"
  expect_code 0
}

row_10_an_input_is_no_output() {
  cp "$inputs/peft-prefix.safetensors" x.safetensors
  rldf fuse x.safetensors:0.5 --output x.safetensors
  expect_refusal 'is the input x.safetensors'
  rldf export x.safetensors --format kohya --output ./x.safetensors
  expect_refusal 'is the input x.safetensors'
  cmp -s x.safetensors "$inputs/peft-prefix.safetensors" || fail 'the input was changed'
}

row_11_counts_names_and_files_in_the_way() {
  rldf generate a --count 1e9
  expect_refusal 'at most 1000000 in one command'
  rldf train "$inputs/tiny.yaml" --name "$(printf 'n%.0s' {1..300})"
  expect_refusal 'run name of 300 letters: at most 200'
  touch file
  rldf generate a --steps 1 --output file
  expect_refusal 'file: cannot make folder — there is a file of this name'
}
row_14_seeds_of_64_bits() {
  rldf generate 'a cat' --seed 6687881544318117707 --steps 1
  expect_code 0
  grep -aq '"seed":6687881544318117707' pictures/0000.png || fail 'the PNG has another seed'
  rldf validate "$inputs/tiny.yaml" --set seed=18446744073709551615 --json
  expect_text '"seed": 18446744073709551615'
  rldf generate a --seed=-1
  expect_refusal 'from 0 to 18446744073709551615'
  rldf generate a --seed 5-0
  expect_refusal 'counts down — write 0-5'
  rldf generate a --seed 0-99999999999
  expect_refusal 'at most 1000000'
}

row_15_a_schedule_over_another_length_is_said_at_the_seam() {
  rldf train "$inputs/tiny.yaml" --name longer --set train.schedule=cosine
  rldf resume longer --set epochs=3
  expect_code 0
  expect_text 'the schedule (cosine) now spans 3 epochs instead of 2' 'continuing behind epoch'
}

row_17_causes_are_told() {
  printf '%s\n---\nmethod: dpo\n' "$(cat "$inputs/tiny.yaml")" >two.yaml
  rldf validate two.yaml
  expect_refusal 'a second document begins here'
  rldf validate "$inputs/tiny.yaml" --set train.learningRate=.inf
  expect_refusal 'expected a finite number, got Infinity'
  cp "$inputs/cjs.js" reward.cjs
  rldf validate "$inputs/tiny.yaml" --set "reward={module: $PWD/reward.cjs}"
  expect_code 0
}
row_17_a_throw_in_a_timer() {
  trained late --set epochs=400
  expect_refusal 'late.ts' 'Error: late — thrown where nothing can catch it, as in a timer. Mend the module, then '
  expect_no_text '    at '
}
row_17_a_full_disk_behind_standard_output() {
  [ -e /dev/full ] || return 0
  $rldf_command recipes --json >/dev/full 2>stderr.txt
  code=$? text=$(cat stderr.txt)
  expect_refusal 'standard output: cannot be written (its disk is full)'
}

row_19_what_does_not_fit_is_refused_at_once() {
  rldf generate a --width 204800 --height 204800 --steps 1
  expect_refusal 'of memory are needed, and this machine has' 'Draw smaller pictures'
}
# Ends a drawing of hours with these signals; sets `code` and `text`.
interrupted() {
  $rldf_command generate a --width 4096 --height 4096 --steps 1 >stdout.txt 2>stderr.txt &
  local drawing=$! signal
  wait_for stderr.txt 'drawing 1 pictures'
  sleep 1
  for signal in "$@"; do
    kill -"$signal" $drawing
    sleep 0.2
  done
  wait $drawing
  code=$? text=$(cat stderr.txt)
}
row_19_an_estimate_first_and_the_second_interruption_at_once() {
  interrupted INT INT
  [ $code = 130 ] || expect_code 2 # 2: the first found the place between two operators
  expect_text '1 picture will take about'
  interrupted TERM
  expect_code 143
}
