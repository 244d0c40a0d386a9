#!/usr/bin/env node
// node scripts/scale-paper.mjs [--write]: how far training scales, on paper: the table of docs/scale.md from public numbers of GPUs and
// networks. An epoch of B pictures is shared out by picture; an update sums the gradients in rings, within a machine and between machines.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** NVIDIA H100 SXM by its data sheet: bfloat16 without sparsity; what training of U-Nets reaches of it. */
const gpu = { flops: 989e12, reached: 0.35, perMachine: 8 };
/** Bytes a second and direction of one GPU, and seconds of a message: NVLink 4; one InfiniBand NDR port a GPU; one 100-Gbit Ethernet port a machine. */
const links = {
  nvlink: { bytes: 450e9, latency: 5e-6 },
  infiniband: { bytes: 50e9, latency: 10e-6 },
  ethernet: { bytes: 12.5e9 / gpu.perMachine, latency: 30e-6 },
};
/** Operations of one forward pass of one picture, and bytes of the gradients (float32) that an update sums. */
const models = {
  'SD 1.5, LoRA of rank 16, 512 px': { forward: 0.68e12, gradients: 3.19e6 * 4 },
  'SDXL, LoRA of rank 16, 1024 px': { forward: 5.98e12, gradients: 23.2e6 * 4 },
  'SDXL, all 2.57 G parameters, 1024 px': { forward: 5.98e12, gradients: 2.567e9 * 4 },
};
/** DDPO: 50 steps with guidance, all of them learned from, 4 updates an epoch. A backward pass counts as two forward ones. */
const ddpo = { steps: 50, halves: 2, updates: 4 };
/** Of an update besides: agreeing and adding up between two processes, as `npm run bench -- scaling` measures it on one machine. */
const perMeeting = 3e-3;

const seconds = ({ forward }, pictures) =>
  (pictures * ddpo.steps * ddpo.halves * (1 + 3) * forward) / (gpu.flops * gpu.reached);

/** A ring over n: 2 (n - 1) messages of a share each, whose bytes are 2 (n - 1) / n of all. */
const ring = (bytes, n, { bytes: rate, latency }) =>
  n === 1 ? 0 : (2 * (n - 1) * bytes) / n / rate + 2 * (n - 1) * latency;

function efficiency(model, gpus, pictures, between) {
  const machines = Math.ceil(gpus / gpu.perMachine);
  const within = ring(model.gradients, Math.min(gpus, gpu.perMachine), links.nvlink);
  const across = ring(model.gradients / Math.min(gpus, gpu.perMachine), machines, links[between]);
  const communication = ddpo.updates * (within + across + perMeeting);
  const computing = seconds(model, Math.ceil(pictures / ddpo.updates / gpus) * ddpo.updates); // whole pictures
  const ideal = seconds(model, pictures) / gpus;
  return { share: ideal / (computing + communication), communication, epoch: computing + communication };
}

const counts = [8, 64, 512];
const percent = (share) => `${Math.round(100 * share)} %`;
const time = (value) =>
  value < 1
    ? `${Number((1000 * value).toPrecision(2))} ms`
    : value < 100
      ? `${value.toPrecision(3)} s`
      : `${Math.round(value)} s`;
const rows = Object.entries(models).flatMap(([name, model]) =>
  [256, 4096].flatMap((pictures) =>
    ['infiniband', 'ethernet'].map((between) => [
      `${name}`,
      `${pictures}`,
      between === 'infiniband' ? 'InfiniBand' : 'Ethernet',
      ...counts.map((gpus) => {
        const { share, epoch, communication } = efficiency(model, gpus, pictures, between);
        return `${percent(share)} (${time(epoch)}, ${time(communication)} of it)`;
      }),
    ]),
  ),
);
const head = ['training', 'pictures an epoch', 'between machines', ...counts.map((gpus) => `${gpus} GPUs`)];
const table = [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');
if (!process.argv.includes('--write')) console.log(table);
else {
  const file = join(resolve(dirname(fileURLToPath(import.meta.url)), '..'), 'docs/scale.md');
  const text = readFileSync(file, 'utf8');
  writeFileSync(
    file,
    text.replace(
      /(<!-- paper -->\n)[\s\S]*?(<!-- \/paper -->)/,
      (_, begin, end) => `${begin}${table}\n${end}`,
    ),
  );
}
