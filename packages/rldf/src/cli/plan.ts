import { Command } from 'commander';
import type { Plan } from '../plan/plan.js';
import { print } from './output.js';
import { byteWords, collect, numberOption, printJson, recipePath, setOption, table } from './shared.js';

interface Options {
  memory?: string;
  model?: string;
  set?: string[];
  calibration: boolean;
  workers?: string;
  json?: boolean;
}

export function planCommand(): Command {
  return new Command('plan')
    .description('predict memory, pictures, updates and time of a recipe before anything is loaded')
    .argument('<recipe>', 'recipe file, or the name of a shipped one (`rldf recipes`)')
    .option('--memory <size>', 'make it fit, such as 12GB: chooses how many pictures are worked on at once')
    .option('--model <model>', 'instead of the recipe’s: name, folder, or sd-1.5, sd-2.1, sdxl-base-1.0, ...')
    .option('--workers <n>', 'what each of several workers has, see docs/scale.md')
    .option('--no-calibration', 'no estimate of the time, which tries this machine for up to 5 s')
    .option(...setOption, collect)
    .option('--json', 'print the plan as JSON')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf plan quickstart
  $ rldf plan my-recipe.yaml --memory 12GB
  $ rldf plan my-recipe.yaml --model sd-1.5 --set train.rank=16 --json`,
    )
    .action(async (recipe: string, options: Options) => {
      const { loadRecipe } = await import('../recipe/load.js');
      const { plan } = await import('../plan/plan.js');
      const { parseBytes } = await import('../plan/bytes.js');
      const checked = loadRecipe(recipePath(recipe), options.set);
      const planned = await plan(checked, {
        ...(options.memory === undefined ? {} : { memory: parseBytes(options.memory) }),
        ...(options.model === undefined ? {} : { model: options.model }),
        ...(options.calibration ? {} : { calibration: 0 }),
      });
      const workers = numberOption('workers', options.workers, { least: 1, most: 65536 });
      const { shareOfWorkers, describeShare } = await import('../plan/workers.js');
      const share = workers === undefined ? undefined : shareOfWorkers(planned, workers);
      if (options.json) printJson(share === undefined ? planned : { ...planned, workers: share });
      else
        print(`${[await describe(planned, checked), ...(share ? describeShare(share) : [])].join('\n')}\n`);
      if (!planned.fits) process.exitCode = 2;
    });
}

async function describe(
  planned: Plan,
  recipe: Parameters<typeof import('../plan/plan.js').plan>[0],
): Promise<string> {
  const { describeArithmetic } = await import('../config/batch-arithmetic.js');
  const { methodOf } = await import('../methods/index.js');
  const { withSizes } = await import('../plan/fit.js');
  const { processBytes } = await import('../plan/plan.js');
  const { duration } = await import('../base/duration.js');
  const { memory, chosen, asked, seconds } = planned;
  const { unet, vae, textEncoder, textEncoder2, trained } = memory.parameters;
  const count = (n: number) => n.toLocaleString('en');
  const sized = withSizes(recipe, chosen);
  const lines = [
    `model      ${planned.model}: ${count(unet)} parameters in the U-Net, ${count(textEncoder)} in the text encoder${textEncoder2 === undefined ? '' : `, ${count(textEncoder2)} in the second`}, ${count(vae)} in the autoencoder; ${count(trained)} learn`,
    ...(methodOf(recipe).plan.describe?.(sized, planned.arithmetic) ??
      describeArithmetic(sized, planned.arithmetic)),
    `evaluation ${planned.evaluatedPictures} pictures`,
  ];
  const parts = memory.parts;
  const rows: [string, string][] = [
    ['weights', byteWords(parts.weights)],
    ['adapters', byteWords(parts.adapters)],
    ['optimiser', byteWords(parts.optimiser)],
    ['gradient sums', byteWords(parts.gradients)],
    ['pictures and latents of an epoch', byteWords(parts.trajectories)],
    [
      `activations of ${chosen.train} ${chosen.train === 1 ? 'picture' : 'pictures'}`,
      byteWords(parts.activations),
    ],
    ['temporary', byteWords(parts.temporary)],
  ];
  const { drawing, learning, evaluation, loading } = memory.phases;
  lines.push(
    `memory     ${byteWords(memory.peak)} of tensors at most: ${byteWords(drawing)} drawing, ${byteWords(learning)} learning, ${byteWords(evaluation)} evaluating, ${byteWords(loading)} loading a checkpoint; the process takes about ${byteWords(processBytes)} besides`,
    ...table(rows)
      .split('\n')
      .map((line) => `           ${line}`),
  );
  const { checkpoint, checkpoints } = planned.disk;
  lines.push(`disk       ${byteWords(checkpoint)} a checkpoint, at most ${byteWords(checkpoints)} of them`);
  if (planned.limit !== null) lines.push(...verdict(planned));
  if (chosen.sample !== asked.sample || chosen.train !== asked.train)
    lines.push(`settings   --set sample.batchSize=${chosen.sample} --set train.batchSize=${chosen.train}`);
  lines.push(...planned.costs.map((line) => `calls      ${line}`));
  if (seconds) {
    lines.push(
      `time       about ${duration(seconds.total)} on this machine: ${duration(seconds.drawing)} drawing, ${duration(seconds.learning)} learning, ${duration(seconds.evaluation)} evaluating`,
    );
  }
  return lines.join('\n');
}

/** Whether it fits, what was chosen for it, and why. */
function verdict({ limit, fits, chosen, asked, memory, askedMemory, wayOut }: Plan): string[] {
  const room = byteWords(limit ?? 0);
  if (fits && chosen.sample === asked.sample && chosen.train === asked.train)
    return [`fits       as it is: ${room} for tensors`];
  if (fits) {
    const changes = [
      ...(chosen.sample === asked.sample
        ? []
        : [`${chosen.sample} pictures drawn at once instead of ${asked.sample}`]),
      ...(chosen.train === asked.train
        ? []
        : [`gradients of ${chosen.train} at once instead of ${asked.train}`]),
    ];
    return [
      `fits       in ${room} for tensors with ${changes.join(' and ')}; as asked it would take ${byteWords(askedMemory.peak)}. The same pictures stand behind each update: what is learned does not change`,
    ];
  }
  return [
    `no fit     one picture at a time still takes ${byteWords(memory.peak)} of ${room} for tensors`,
    ...wayOut.map(
      ({ settings, peak, fits: would, learns }) =>
        `           ${settings} would take ${byteWords(peak)}${would ? '' : ', still too much'}, and learns ${learns}`,
    ),
  ];
}
