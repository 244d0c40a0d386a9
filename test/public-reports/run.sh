#!/usr/bin/env bash
# bash test/public-reports/run.sh [ROW ...]: what public bug reports of peers showed on rldf 0.1.0, tried as a user would: a
# line a case. Runs what `npm run build` compiled, or RLDF="another command". Exits with 1 when a case is not as expected.
#
# A case is a function of models.sh or command-line.sh, named row_NUMBER_what_is_expected, and runs in an empty folder of its
# own, with `set -e` off. It calls `rldf WORDS...` (which sets `code` and `text`, what was printed on both streams), and the
# `expect_...` functions, the first of which that does not hold ends it.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
inputs=$here/inputs
model=$root/packages/emoji-world/model
rldf_command=${RLDF:-node $root/packages/rldf/dist/cli/main.js}
scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT

# Runs a command of ours. Sets `code`; `text`, all that it printed; `stdout` alone.
rldf() {
  $rldf_command "$@" >stdout.txt 2>stderr.txt </dev/null
  code=$?
  stdout=$(cat stdout.txt)
  text=$(cat stdout.txt stderr.txt)
}

fail() {
  printf '%s\n' "$*" | tr '\n' ' ' | cut -c1-400 >&3
  exit 1
}
expect_code() { [ "$code" = "$1" ] || fail "exit code $code, not $1: $text"; }
# Pieces that must stand in what was printed.
expect_text() {
  local piece
  for piece in "$@"; do [[ $text == *"$piece"* ]] || fail "not said: \"$piece\", but: $text"; done
}
expect_no_text() {
  local piece
  for piece in "$@"; do [[ $text != *"$piece"* ]] || fail "said: \"$piece\": $text"; done
}
# A user's mistake, told as such, with these pieces.
expect_refusal() {
  expect_code 2
  expect_text "$@"
  expect_no_text 'fault of rldf'
}
expect_same() { [ "$2" = "$3" ] || fail "$1: $2, not $3"; }
expect_other() { [ "$2" != "$3" ] || fail "$1: both are $2"; }
# Pixels of PNG files, as one hash: what is written beside them does not count.
pixels() {
  local folder=$PWD
  (cd "$root" && node -e '
    const sharp = require("sharp");
    const hash = require("node:crypto").createHash("sha256");
    (async () => {
      for (const file of process.argv.slice(1)) hash.update(await sharp(file).raw().toBuffer());
      console.log(hash.digest("hex").slice(0, 16));
    })()' "${@/#/$folder/}")
}
# What a PNG says of a setting, such as `scheduler`.
setting() { grep -ao "\"$2\":\"[^\"]*\"" "$1" | head -1 | cut -d'"' -f4; }

source "$here/models.sh"
source "$here/command-line.sh"

failed=0
count=0
for name in $(declare -F | sed -n 's/^declare -f \(row_.*\)/\1/p' | sort -t_ -k2,2n -s); do
  [[ $name =~ ^row_([0-9]+)_(.*)$ ]] || continue
  row=${BASH_REMATCH[1]} what=${BASH_REMATCH[2]//_/ }
  [ $# = 0 ] || [[ " $* " == *" $row "* ]] || continue
  mkdir "$scratch/$name"
  count=$((count + 1))
  if (cd "$scratch/$name" && exec 3>"$scratch/why.txt" && "$name"); then
    printf '%3s  %-72s as expected\n' "$row" "$what"
  else
    failed=$((failed + 1))
    printf '%3s  %-72s NOT AS EXPECTED  %s\n' "$row" "$what" "$(cat "$scratch/why.txt")"
  fi
done
if [ $count = 0 ]; then
  echo "no case of row $*" >&2
  exit 2
elif [ $failed = 0 ]; then
  echo "all $count cases as expected"
else
  echo "$failed of $count cases not as expected"
  exit 1
fi
