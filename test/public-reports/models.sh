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
