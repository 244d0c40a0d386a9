// docs/results/stable-diffusion.md and .json.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { markdownTable } from '../shared/page.js';
import type { StableDiffusionResults } from './results.js';

const folder = new URL('../../docs/results/', import.meta.url);

const gigabytes = (bytes: number | null | undefined) =>
  bytes === null || bytes === undefined ? '-' : (bytes / 1e9).toFixed(2);
const short = (value: number) => value.toPrecision(3);
const tiny = (value: number) => value.toExponential(1);

/** Everything that was measured, as Markdown. */
export function pageText(results: StableDiffusionResults): string {
  const { environment, exact, drawing, training, depth, adapters, commandLine, failures } = results;
  const parts = [
    `${environment.name}, PyTorch ${environment.torch}, diffusers ${environment.diffusers}, transformers ${environment.transformers}; size ${results.size} on ${results.device}.`,
    `## Drawing\n\n${results.steps} DDIM steps, guidance ${results.guidance}, from prompts to bytes, in turns. Memory is what the device holds beyond an empty process, the largest so far.`,
    markdownTable(
      [
        'precision',
        'pictures at once',
        'ours /s',
        'diffusers /s',
        'ratio',
        '95 %',
        'ours GB',
        'diffusers GB',
        'largest difference',
        'diffusers is',
      ],
      drawing.map((row) => [
        row.precision,
        `${row.batch}`,
        short(row.perSecond.ours),
        short(row.perSecond.peer),
        row.ratio?.toFixed(2) ?? '-',
        row.ci95?.map((end) => end.toFixed(2)).join(' to ') ?? '',
        gigabytes(row.memory?.ours),
        gigabytes(row.memory?.peer),
        tiny(row.difference.pictures),
        row.peer,
      ]),
    ),
    exact === undefined
      ? ''
      : `With ${exact.precision}, ${exact.steps} steps, ${exact.batch} pictures: largest difference of pictures in [0, 1] ${tiny(exact.pictures)}, of latents ${tiny(exact.latents)} of the largest.`,
    '## Training\n\nThe shipped recipes, made short; seconds of the second epoch.',
    markdownTable(
      [
        '',
        'recipe',
        'pictures',
        'sampling s',
        'update s',
        'device GB',
        'planned GB',
        'main memory GB',
        'loading s',
      ],
      training.map((row) => [
        row.name,
        row.recipe,
        `${row.metrics.pictures}`,
        short(row.sampling),
        short(row.update),
        gigabytes(row.memory),
        gigabytes(row.planned),
        gigabytes(row.resident),
        short(row.loading),
      ]),
    ),
    `<details><summary>what was set</summary>\n\n${training.map((row) => `- ${row.recipe}: \`${row.overrides.join(' ')}\``).join('\n')}\n\n</details>`,
    '## Gradients through denoising steps\n\nOne picture with guidance, an adapter on the attention.',
    markdownTable(
      ['steps', 'way', 'seconds', 'GB beyond the model'],
      depth.map((row) => [
        `${row.steps}`,
        row.whole ? 'one graph' : 'each step run again',
        short(row.seconds),
        gigabytes(row.beyondModel),
      ]),
    ),
    '## Adapters\n\nTrained here, `rldf export`ed, loaded by diffusers; exact precision.',
    markdownTable(
      ['', '', 'largest difference of the pictures', 'effect of the adapter'],
      adapters.map((row) => [row.name, row.kind, tiny(row.pictures), tiny(row.effect)]),
    ),
    commandLine === undefined
      ? ''
      : `\`rldf train\` (${commandLine.recipe}, validation, checkpoints and report included), \`rldf export\` and \`rldf generate\`: ${short(commandLine.seconds)} s, ${gigabytes(commandLine.memory)} GB on the device.`,
    failures.length === 0
      ? ''
      : `## Failed\n\n${failures.map(({ step, message }) => `- ${step}: ${message.replaceAll('\n', '\n  ')}`).join('\n')}`,
  ];
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}

export function writePage(results: StableDiffusionResults): void {
  const head = [
    '# Stable Diffusion’s architecture at full size',
    '',
    'Random weights of Stable Diffusion 1.5’s own configurations: speed, memory and files do not depend on the weights’ values; pictures',
    'and rewards mean nothing. `npm run bench -- stable-diffusion --device cuda --page` writes this page.',
    '',
    results.provenance,
    '',
    '',
  ];
  writeFileSync(fileURLToPath(new URL('stable-diffusion.md', folder)), head.join('\n') + pageText(results));
  writeFileSync(
    fileURLToPath(new URL('stable-diffusion.json', folder)),
    `${JSON.stringify(results, null, 2)}\n`,
  );
}
