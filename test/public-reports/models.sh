# Cases of files: adapters, model folders, schedulers. Sourced by run.sh, which says how a case is written.

# The alphas in a file of kohya's layout, as numbers.
alphas() {
  node -e '
    const file = require("node:fs").readFileSync(process.argv[1]);
    const end = 8 + Number(file.readBigUInt64LE());
    const header = Object.entries(JSON.parse(file.subarray(8, end).toString()));
    const found = header.filter(([name]) => name.endsWith(".alpha"));
    console.log(found.map(([, entry]) => file.readFloatLE(end + entry.data_offsets[0])).join(" "))' "$1"
}

row_3_alphas_by_the_end_of_a_name() {
  rldf export "$inputs/alpha-suffix.safetensors" --format kohya --output z.safetensors
  expect_code 0
  expect_same alphas "$(alphas z.safetensors)" '16 16'
}

row_3_alphas_by_regular_expressions() {
  rldf export "$inputs/alpha-regex.safetensors" --format kohya --output z.safetensors
  expect_code 0
  expect_same alphas "$(alphas z.safetensors)" '16 16'
}

# A folder as PEFT saves it, with FIELDS of its config.
peft_folder() {
  mkdir -p peft
  cp "$inputs/peft-prefix.safetensors" peft/adapter_model.safetensors
  printf '{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["to_q", "to_k"]%s}' "$1" >peft/adapter_config.json
}

row_3_alphas_and_ranks_in_a_folder_of_PEFT() {
  peft_folder ', "alpha_pattern": {"attn1\\.to_[qk]": 16}, "rank_pattern": {".*to_q": 2}'
  rldf export peft --format kohya --output z.safetensors
  expect_code 0
  expect_same alphas "$(alphas z.safetensors)" '16 16'
  peft_folder ', "rank_pattern": {".*to_q": 4}'
  rldf export peft --format kohya --output z.safetensors
  expect_refusal 'the rank of down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q is 4 — its matrices have rank 2'
}

row_6_NaN_in_an_adapter_is_refused_by_name() {
  local nan=$inputs/nan-lora.safetensors said
  said=$(node -e '
    const file = require("node:fs").readFileSync(process.argv[1]);
    const end = 8 + Number(file.readBigUInt64LE());
    for (const [name, { data_offsets: [from, to] = [0, 0] }] of Object.entries(JSON.parse(file.subarray(8, end).toString())))
      for (let i = from; i < to; i += 4) if (!Number.isFinite(file.readFloatLE(end + i))) { console.log(name); process.exit(); }' "$nan")
  rldf generate 'a cat' --steps 2 --adapter "$nan"
  expect_refusal "tensor \"$said\"" 'holds NaN or infinity'
  [ ! -e pictures/0000.png ] || fail 'a picture was drawn'
  rldf export "$nan" --format kohya --output z.safetensors
  expect_refusal "tensor \"$said\"" 'holds NaN or infinity'
  rldf fuse "$nan:0.5" --output z.safetensors
  expect_refusal "tensor \"$said\"" 'holds NaN or infinity'
  [ ! -e z.safetensors ] || fail 'a file was written'
  rldf eval emoji --suite clip --max-prompts 1 --pictures 1 --steps 1 --adapter "$nan"
  expect_refusal "tensor \"$said\"" 'holds NaN or infinity'
}

row_11_an_adapter_that_is_no_safetensors_file() {
  rldf generate a --adapter "$inputs/not-safetensors.bin"
  expect_refusal 'not-safetensors.bin: is no .safetensors file'
}

# The adapter changes the picture, and the same adapter under diffusers' names changes it alike.
draws_as_exported() {
  rldf generate 'a cat' --steps 2 --output none
  expect_code 0
  rldf generate 'a cat' --steps 2 --output own --adapter "$1"
  expect_code 0
  rldf export "$1" --format diffusers --output diffusers.safetensors
  expect_code 0
  rldf generate 'a cat' --steps 2 --output exported --adapter diffusers.safetensors
  expect_code 0
  expect_same 'pixels under own names and as exported' "$(pixels own/0000.png)" "$(pixels exported/0000.png)"
  expect_other 'pixels with and without the adapter' "$(pixels own/0000.png)" "$(pixels none/0000.png)"
}
row_13_the_names_of_PEFT_load() { draws_as_exported "$inputs/peft-prefix.safetensors"; }
row_13_the_names_of_LDM_load() { draws_as_exported "$inputs/sgm-names.safetensors"; }
row_13_a_folder_of_PEFT_loads() {
  peft_folder ', "alpha_pattern": {"attn1\\.to_[qk]": 16}'
  draws_as_exported peft
}
row_13_other_kinds_of_adapters_are_refused_by_name() {
  peft_folder ', "use_dora": true'
  rldf generate a --steps 2 --adapter peft
  expect_refusal 'use_dora is true, but layer'
  local kind
  for kind in 'down dora_scale' 'hada_w1_b hada_w1_a' 'lokr_w2_a lokr_w1'; do # of DoRA, LoHa and LoKr, which are read when whole
    tensor "${kind#* }.safetensors" F32 "lora_unet_conv_in.${kind#* }"
    rldf generate a --steps 2 --adapter "${kind#* }.safetensors"
    expect_refusal "${kind% *} is missing"
  done
  tensor oft.safetensors F32 lora_unet_conv_in.oft_blocks
  rldf generate a --steps 2 --adapter oft.safetensors
  expect_refusal 'belongs to an OFT'
}

# tensor FILE DTYPE NAME: a safetensors file of one tensor [1, 1] that is zero.
tensor() {
  node -e '
    const [file, dtype, name] = process.argv.slice(1);
    const size = { F32: 4, I64: 8, I32: 4, BOOL: 1 }[dtype];
    const header = Buffer.from(JSON.stringify({ [name]: { dtype, shape: [1, 1], data_offsets: [0, size] } }));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    require("node:fs").writeFileSync(file, Buffer.concat([length, header, Buffer.alloc(size)]))' "$@"
}

row_18_whole_numbers_in_an_adapter_are_refused() {
  local dtype
  for dtype in I64 I32 BOOL; do
    tensor "$dtype.safetensors" "$dtype" unet.conv_in.lora_A.weight
    rldf generate a --steps 2 --adapter "$dtype.safetensors"
    expect_refusal 'tensor unet.conv_in.lora_A.weight is' 'floating-point'
  done
}

row_18_whole_numbers_in_a_U_Net_are_refused() {
  cp -r "$model" whole
  rm -r whole/clip
  # every half as the two bytes that it is
  node -e '
    const fs = require("node:fs");
    const path = "whole/unet/diffusion_pytorch_model.safetensors";
    const file = fs.readFileSync(path);
    const end = 8 + Number(file.readBigUInt64LE());
    const entries = JSON.parse(file.subarray(8, end).toString());
    for (const entry of Object.values(entries))
      if (entry.dtype === "F16") Object.assign(entry, { dtype: "U8", shape: [...entry.shape, 2] });
    const header = Buffer.from(JSON.stringify(entries));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    fs.rmSync(path);
    fs.writeFileSync(path, Buffer.concat([length, header, file.subarray(end)]))'
  rldf generate a --steps 2 --model whole
  expect_refusal 'diffusion_pytorch_model.safetensors: tensor "' 'is uint8 — weights are floating-point numbers'
}

# model_with FIELDS SED: a copy of the model, named `own`, whose scheduler has other fields.
model_with() {
  cp -r "$model" own
  rm -r own/clip
  sed -i "$1" own/scheduler/scheduler_config.json
}

row_4_PNDM_LMS_and_UniPC_are_drawn_as_themselves() {
  model_with 's/DDIMScheduler/PNDMScheduler/; s/"prediction_type": "sample"/"prediction_type": "epsilon", "skip_prk_steps": true/'
  rldf generate 'a cat' --model own --steps 5 --output pndm
  expect_code 0
  expect_same 'scheduler of the picture' "$(setting pndm/0000.png scheduler)" PNDMScheduler
  local name
  for name in ddim lms unipc; do
    rldf generate 'a cat' --model own --steps 5 --scheduler "$name" --output "$name"
    expect_code 0
    expect_other "pixels of PNDM and $name" "$(pixels pndm/0000.png)" "$(pixels "$name/0000.png")"
  done
  expect_same 'scheduler of the picture' "$(setting lms/0000.png scheduler)" LMSDiscreteScheduler
  expect_same 'scheduler of the picture' "$(setting unipc/0000.png scheduler)" UniPCMultistepScheduler
}
row_4_other_schedulers_are_refused_by_name() {
  model_with 's/DDIMScheduler/HeunDiscreteScheduler/'
  rldf generate 'a cat' --model own --steps 5
  expect_refusal 'scheduler "HeunDiscreteScheduler" — not supported'
}
row_4_a_PNDM_that_predicts_what_PNDM_cannot_is_refused() {
  model_with 's/DDIMScheduler/PNDMScheduler/'
  rldf generate 'a cat' --model own --steps 5
  expect_refusal 'prediction_type is "sample"'
}

row_11_a_picture_too_thin_to_be_looked_at() {
  rldf search --image "$inputs/thin.png"
  expect_refusal 'is 1 x 5000 pixels'
}
row_11_a_reward_that_gives_bigints() {
  cp "$inputs/bigint.ts" .
  printf 'method: ddpo\nprompts: [a cat]\nreward: { module: ./bigint.ts }\nepochs: 1\nthreads: 1\nsample: { steps: 2, promptsPerEpoch: 1, picturesPerPrompt: 2, batchSize: 2 }\nevaluate: { maxPrompts: 1 }\nreport: { maxPrompts: 1 }\ntrain: { clipNats: 1, rank: 2 }\n' >tiny.yaml
  rldf train tiny.yaml --name x --runs runs
  expect_refusal 'bigint'
}

# as save_pretrained(variant="fp16", max_shard_size=...) writes it; here one shard
row_12_sharded_variants_load() {
  local index stem=diffusion_pytorch_model shard=diffusion_pytorch_model.fp16-00001-of-00001.safetensors
  rldf generate 'a cat' --steps 2 --output whole
  cp -r "$model" sharded
  mv "sharded/unet/$stem.safetensors" "sharded/unet/$shard"
  for index in "$stem.safetensors.index.fp16.json" "$stem.fp16.safetensors.index.json"; do
    node -e '
      const fs = require("node:fs");
      const [folder, shard, index] = process.argv.slice(1);
      const file = fs.readFileSync(`${folder}/${shard}`);
      const names = Object.keys(JSON.parse(file.subarray(8, 8 + Number(file.readBigUInt64LE())).toString()));
      const map = Object.fromEntries(names.filter((name) => name !== "__metadata__").map((name) => [name, shard]));
      fs.writeFileSync(`${folder}/${index}`, JSON.stringify({ metadata: {}, weight_map: map }))' sharded/unet "$shard" "$index"
    rldf generate 'a cat' --model sharded --steps 2 --output out
    expect_code 0
    expect_same 'pixels whole and sharded' "$(pixels whole/0000.png)" "$(pixels out/0000.png)"
    rm "sharded/unet/$index"
  done
  rldf generate 'a cat' --model sharded --steps 2 --output out
  expect_refusal "$shard is there, but not the index"
}

row_16_a_spacing_without_noise_is_named_in_the_dry_run_too() {
  model_with 's/"timestep_spacing": "[a-z]*"/"timestep_spacing": "linspace"/'
  grep -q linspace own/scheduler/scheduler_config.json || sed -i 's/{/{ "timestep_spacing": "linspace",/' own/scheduler/scheduler_config.json
  printf 'method: ddpo\nmodel: own\nprompts: [a cat]\nreward: jpeg-compressibility\nepochs: 1\nthreads: 1\nsample: { steps: 13, promptsPerEpoch: 1, picturesPerPrompt: 2, batchSize: 2 }\nevaluate: { maxPrompts: 1 }\nreport: { maxPrompts: 1 }\ntrain: { clipNats: 1, rank: 2 }\n' >tiny.yaml
  local way
  for way in 'train --dry-run' plan validate; do
    rldf $way tiny.yaml
    expect_refusal 'step 13 of 13' 'timestep_spacing: linspace'
  done
  rldf train tiny.yaml --name x --runs runs
  expect_refusal 'step 13 of 13' 'timestep_spacing: linspace'
}

row_6_pictures_that_turn_into_NaN_are_told_by_name() {
  rldf generate 'a cat' --steps 3 --guidance 1e38 --seed 5
  expect_refusal 'the latents of picture 1 of 1 ("a cat", seed 5) hold NaN or infinity after step 1 of 3'
  [ ! -e pictures/0000.png ] || fail 'a picture was drawn'
  rldf eval emoji --suite clip --max-prompts 1 --pictures 1 --steps 2 --guidance 1e38
  expect_refusal 'hold NaN or infinity after step 1 of 2'
}
