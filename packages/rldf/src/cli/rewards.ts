import { Command } from 'commander';
import { print } from './output.js';
import { provideModels, provideRewards } from './provide.js';
import { numberOption, printJson, table } from './shared.js';

type Reward = import('../rewards/reward.js').Reward;
type SingleReward = import('../config/fields.js').SingleReward;

/** Said below the list. */
const ABOUT = `\`rldf rewards NAME\` tells more of one: its values, known hacks, licence, and what it needs.
needs  weights: those that its project published; \`rldf train\` downloads them once
       package: an npm package that rldf does not install; \`rldf rewards NAME\` has the command
       server: one of yours, or a vision-language model; \`rldf rewards NAME\` has the form
A recipe also takes a module of your own, people's ratings, and sums of all these: docs/guide-rewards.md`;

export function rewardsCommand(): Command {
  const command = new Command('rewards')
    .description('list the built-in rewards; with a name show its card')
    .argument('[name]', 'a reward, or the beginning of its name')
    .option('--json', 'print as JSON: cards with their percentiles')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf rewards
  $ rldf rewards aesthetic
  $ rldf rewards torture clip           does it prefer noise, grids, loud colours, wrong prompts?
  $ rldf rewards torture ./mine.ts      the same for a reward of your own
  $ rldf rewards check imagereward --weights tiny             does this installation compute it as its own code does?
  $ rldf rewards check imagereward --weights ImageReward.pt   ... and with the published weights?
  $ rldf rewards check hand             does its package find what it found where rldf was made?
  $ rldf rewards check judge.yaml       does a server or a judge of yours answer as it should?
  $ rldf rewards percentiles pickscore --model runwayml/stable-diffusion-v1-5 --prompts prompts.txt`,
    )
    .action(async (name: string | undefined, options: { json?: boolean }) => {
      const { rewards } = await import('../rewards/index.js');
      const { percentilesOf } = await import('../rewards/percentiles.js');
      const { publishedWeights } = await import('../rewards/published-names.js');
      const cardOf = (one: string) => {
        const { load: _, ...card } = rewards[one]!;
        const weights = Object.hasOwn(publishedWeights, one) && card.needs === 'weights' ? publishedWeights[one as 'imagereward'] : null; // biome-ignore format: one thought
        return { name: one, ...card, weights, percentiles: percentilesOf(one) ?? null };
      };
      if (name === undefined) {
        const cards = Object.keys(rewards).map(cardOf);
        if (options.json) return printJson(cards);
        const rows = cards.map((card) => [
          card.name,
          card.unit,
          card.differentiable ? 'yes' : '',
          card.needs ?? '',
          card.description,
        ]);
        print(
          `${table([['reward', 'unit', 'gradient', 'needs', 'what scores high'], ...rows])}\n\n${ABOUT}\n`,
        );
        return;
      }
      const card = cardOf(await rewardName(name));
      if (options.json) return printJson(card);
      const { installOf } = await import('../base/peers.js');
      const { remoteFields } = await import('../rewards/remote-cards.js');
      const install = card.package === undefined ? undefined : installOf(card.package);
      const form = card.needs === 'server' ? remoteFields[card.name as 'http'] : undefined;
      print(`${cardText(card, install, form)}\n`);
    });
  command.addCommand(tortureCommand());
  command.addCommand(checkCommand());
  command.addCommand(percentilesCommand());
  return command;
}

interface WeightsOptions {
  weights?: string;
  clip?: string;
  tokenizer?: string;
  activation?: string;
}

/** Options that say where published weights lie. */
function withWeights(command: Command): Command {
  return command
    .option('--weights <path>', 'file, folder, or repository in Hugging Face’s cache')
    .option('--clip <path>', 'for laion-aesthetic: its CLIP ViT-L/14')
    .option('--tokenizer <folder>', 'where there is none beside the weights')
    .option('--activation <name>', 'gelu or quick_gelu, of a CLIP in a file without a configuration');
}

/** A reward as a recipe would name it. @throws UserError for options that it does not take */
async function fieldOf(name: string, { weights, clip, tokenizer, activation }: WeightsOptions) {
  const { publishedRewardSchema } = await import('../config/fields.js');
  const given = Object.entries({ weights, clip, tokenizer, activation }).filter(([, value]) => value);
  const { success, data, error } = publishedRewardSchema.safeParse({ name, ...Object.fromEntries(given) });
  if (success) return data;
  const { UserError } = await import('@rldf/torch/errors');
  const [issue] = error.issues;
  throw new UserError(
    issue?.path[0] === 'name'
      ? `reward ${name}: has no weights of its own — those that have are imagereward, hpsv2.1, hpsv2, pickscore, clip-score, laion-aesthetic. Leave out ${given.map(([key]) => `--${key}`).join(' ') || 'check'}`
      : `--${issue?.path.join('.')}: ${issue?.message}`,
  );
}

function checkCommand(): Command {
  return withWeights(
    new Command('check')
      .description(
        'prove that a reward is computed here as its own code does, or its package finds what it should, against stored vectors',
      )
      .argument('<name>', 'a reward that needs weights or a package, or a .yaml file with one of yours'),
  )
    .option('--device <device>', 'where to compute', 'cpu')
    .option('--examples <folder>', 'the project’s own example pictures, whose scores are published')
    .option('--json', 'print as JSON: { reward, checks: [{ what, pass, detail }], scores }')
    .addHelpText(
      'after',
      '\n--weights tiny checks without the published weights: random ones that ship with rldf. Of face, --weights is\nthat of its quality network.',
    )
    .action(async (name: string, _: object, command: Command) => {
      // --json is the parent's too, which takes it
      const options = command.optsWithGlobals<
        WeightsOptions & { device: string; examples?: string; json?: boolean }
      >();
      const { deviceName } = await import('@rldf/torch');
      const device = deviceName(options.device as 'cpu') as 'cpu';
      const checked = await checkedReward(name, device, options);
      const failed = checked.checks.filter(({ pass }) => pass === false);
      if (options.json) printJson(checked);
      else {
        const rows = checked.checks.map(({ what, pass, detail }) => [
          `  ${what}`,
          pass === undefined ? 'not checked' : pass ? 'good' : 'WRONG',
          detail,
        ]);
        print(`${checked.reward}\n${table(rows)}\n`);
      }
      if (failed.length === 0) return;
      const { UserError } = await import('@rldf/torch/errors');
      throw new UserError(
        `reward ${checked.reward}: ${failed.map(({ what }) => what).join('; ')} — does not agree. Check that the weights are the published ones, and packages of the version that \`rldf rewards ${checked.reward}\` names; if tiny weights disagree, \`rldf doctor\` says what is installed`,
      );
    });
}

async function checkedReward(
  name: string,
  device: 'cpu',
  options: WeightsOptions & { examples?: string },
): Promise<import('../rewards/check.js').CheckedReward> {
  if (/\.ya?ml$/i.test(name)) {
    const { readRewardFile } = await import('../recipe/reward-paths.js');
    const { checkGiven } = await import('../rewards/check-looking.js');
    const { loadReward } = await import('../rewards/index.js');
    const field = readRewardFile(name);
    await provideRewards(field);
    return checkGiven(field, async (one) => (await loadReward(one, device)) as Reward);
  }
  const found = await rewardName(name);
  const { rewards } = await import('../rewards/index.js');
  if (rewards[found]?.needs === 'package') {
    const { checkLooking } = await import('../rewards/check-looking.js');
    const { UserError } = await import('@rldf/torch/errors');
    const { weights } = options;
    if (weights !== undefined && found !== 'face')
      throw new UserError(`reward ${found}: takes no weights — its package has them. Leave out --weights`);
    return checkLooking(found as 'face', { weights, device });
  }
  const { checkReward } = await import('../rewards/check.js');
  const field = await fieldOf(found, options);
  await provideRewards(field);
  return checkReward(field, { device, examples: options.examples });
}

function tortureCommand(): Command {
  return withWeights(
    new Command('torture')
      .description('show a reward noise, blank, saturated, gridded and mirrored pictures and wrong prompts')
      .argument('<name>', 'a reward, the beginning of its name, or a file of your own'),
  )
    .option('--model <model>', 'whose good pictures are shown beside them', 'emoji')
    .option('--pictures <n>', 'how many', '48')
    .option('--json', 'print as JSON: { reward, tortures: [{ name, verdict, difference, ci95, ... }] }')
    .action(async (name: string, _: object, command: Command) => {
      const options = command.optsWithGlobals<
        WeightsOptions & { model: string; pictures: string; json?: boolean }
      >();
      const { UserError } = await import('@rldf/torch/errors');
      const count = Number(options.pictures);
      if (!Number.isSafeInteger(count) || count < 8)
        throw new UserError(`--pictures ${options.pictures}: expected a whole number from 8`);
      const { loadReward } = await import('../rewards/index.js');
      const { drawGoodPictures, goodPicturesOf, tortureReward } = await import('../rewards/torture.js');
      const { loadDetector, listInstruments } = await import('@rldf/common/instruments/instruments');
      const { findModel } = await import('@rldf/common/instruments/models');
      const { loadPipeline } = await import('@rldf/models');
      const field = await tortured(name, options);
      await provideRewards(field);
      const reward = await loadReward(field);
      await reward.ready?.(); // what is missing is told before anything is drawn
      const own = await goodPicturesOf(looksAt(field), count);
      const drawn = async () => {
        const detector = listInstruments().includes('detector') ? loadDetector('detector') : undefined;
        await provideModels([options.model]);
        const pipeline = loadPipeline(findModel(options.model).path);
        return drawGoodPictures(pipeline, detector, count, field === 'spatial' ? 'relation' : 'any');
      };
      const tortures = await tortureReward(reward, own ?? (await drawn()));
      const model = own === undefined ? options.model : null;
      if (options.json) return printJson({ reward: reward.name, model, tortures });
      print(`${tortureText(reward.name, tortures)}\n`);
    });
}

/** The built-in reward whose stored pictures one looks at: photographs of faces or objects, or words; '' for others. */
function looksAt(field: SingleReward): string {
  if (typeof field === 'string') return field;
  if ('text' in field) return 'text';
  if (!('score' in field)) return '';
  const { score, detector } = field;
  return ['face', 'hand', 'geneval', 'composition'].includes(score) || (detector ?? 'detector') === 'detector'
    ? score
    : 'geneval';
}

function percentilesCommand(): Command {
  return withWeights(
    new Command('percentiles')
      .description('measure how high is high: the percentiles of a reward, which its card shows from then on')
      .argument('<name>', 'a reward, the beginning of its name, or a file of your own'),
  )
    .option('--model <model>', 'whose pictures are scored', 'emoji')
    .option('--prompts <file>', 'their prompts; by default test prompts of the built-in world')
    .option('--pictures <n>', 'of each prompt', '6')
    .option('--device <device>', 'where to draw and compute', 'cpu')
    .option('--json', 'print as JSON: { reward, reference, count, p5, ..., p95, betweenPrompts }')
    .addHelpText(
      'after',
      '\nface, geneval, composition and text are measured on photographs and signs that ship with rldf.\nMeasure a published reward on pictures of the model that you train.',
    )
    .action(async (name: string, _: object, command: Command) => {
      const options = command.optsWithGlobals<
        WeightsOptions & { model: string; prompts?: string; pictures: string; device: string; json?: boolean }
      >();
      const each = numberOption('pictures', options.pictures, { least: 1, whole: true })!;
      const { deviceName } = await import('@rldf/torch');
      const device = deviceName(options.device as 'cpu') as 'cpu';
      const { loadReward, rewards } = await import('../rewards/index.js');
      const measuring = await import('../rewards/percentiles.js');
      const field = await tortured(name, options);
      await provideRewards(field);
      const reward = (await loadReward(field, device)) as Reward;
      await reward.ready?.(); // what is missing is told before anything is drawn
      const drawn = async () => {
        await provideModels([options.model]);
        const { readPromptFile } = await import('../prompts/prompt-files.js');
        const { basename } = await import('node:path');
        const { prompts: file } = options;
        const { Progress } = await import('./progress.js');
        const progress = new Progress();
        try {
          return await measuring.modelReference({
            model: options.model,
            device,
            each,
            ...(file !== undefined && { prompts: { from: basename(file), all: readPromptFile(file) } }),
            onProgress: (done, total) => progress.update(`drawing ${done}/${total} prompts`),
          });
        } finally {
          progress.clear();
        }
      };
      const own = options.prompts === undefined && options.model === 'emoji';
      const reference = (own ? await measuring.ownReference(looksAt(field)) : undefined) ?? (await drawn());
      const measured = measuring.percentiles(
        await measuring.scoreReference(reward, reference),
        reference.description,
      );
      const known = typeof field === 'string' ? field : 'name' in field ? field.name : undefined;
      const keeps = known !== undefined && Object.hasOwn(rewards, known) && options.weights !== 'tiny';
      if (keeps) measuring.keepPercentiles(known, measured);
      if (options.json) return printJson({ reward: reward.name, ...measured });
      print(
        `${reward.name}\n${table(percentileRows(measured))}\n${keeps ? `kept in ${measuring.ownPercentilesFile()}: \`rldf rewards ${known}\` shows them\n` : ''}`,
      );
    });
}

/** What is measured: a module, a reward in a file, one with weights that are given, or a built-in. */
async function tortured(name: string, options: WeightsOptions): Promise<SingleReward> {
  if (/\.ya?ml$/i.test(name)) return (await import('../recipe/reward-paths.js')).readRewardFile(name);
  if (/\.[cm]?[jt]s$/.test(name)) return { module: name };
  const found = await rewardName(name);
  const { weights, clip, tokenizer, activation } = options;
  return weights || clip || tokenizer || activation ? fieldOf(found, options) : found;
}

/** The one built-in reward whose name is, or begins with, what was typed. */
async function rewardName(typed: string): Promise<string> {
  const { rewards } = await import('../rewards/index.js');
  const names = Object.keys(rewards);
  if (names.includes(typed)) return typed;
  const [first, ...others] = names.filter((name) => name.startsWith(typed));
  if (first !== undefined && others.length === 0) return first;
  const { UserError } = await import('@rldf/torch/errors');
  const { didYouMean } = await import('@rldf/common/base/suggest');
  throw new UserError(
    first === undefined
      ? `reward ${typed}: no built-in reward of this name — there are ${names.join(', ')}${didYouMean(typed, names)}`
      : `reward ${typed}: could be ${[first, ...others].join(' or ')} — write more of the name`,
  );
}

type Card = import('../rewards/cards.js').RewardCard & {
  name: string;
  needs?: string;
  package?: string;
  weights: string | null;
  percentiles: import('../rewards/percentiles.js').Percentiles | null;
};

function cardText(
  { name, percentiles, weights, ...card }: Card,
  install: string | undefined,
  form: string | undefined,
): string {
  const rows = [
    ['unit', card.unit || 'none'],
    ['range', card.range],
    ['gradient', card.differentiable ? 'yes' : 'no'],
    ['known hacks', card.hacks],
    ['licence', card.licence],
  ];
  if (install !== undefined) rows.push(['package', `${card.package}: ${install}`]);
  if (form !== undefined) rows.push(['in a recipe', `reward: ${form}`]);
  if (weights !== null) rows.push(['weights', `${weights}, or reward: { name: ${name}, weights: ... }`]);
  if (percentiles !== null) {
    return `${name}: ${card.description}\n${table([...rows.map(([key, value]) => [`  ${key}`, value!]), ...percentileRows(percentiles)])}`;
  }
  if (card.needs !== 'server')
    rows.push(['percentiles', `not measured yet: \`rldf rewards percentiles ${name} --model MODEL\` does`]);
  return `${name}: ${card.description}\n${table(rows.map(([key, value]) => [`  ${key}`, value!]))}`;
}

function percentileRows(percentiles: import('../rewards/percentiles.js').Percentiles): string[][] {
  const digits = (value: number) => value.toPrecision(4);
  const { reference, count, p5, p25, p50, p75, p95, betweenPrompts } = percentiles;
  return [
    ['  reference', `${count} pictures: ${reference}`],
    [
      '  percentiles',
      `5 %: ${digits(p5)}  25 %: ${digits(p25)}  50 %: ${digits(p50)}  75 %: ${digits(p75)}  95 %: ${digits(p95)}`,
    ],
    [
      '  prompts',
      `${(100 * betweenPrompts).toFixed(0)} % of the variance lies between prompts: compare pictures of the same prompt only`,
    ],
  ];
}

function tortureText(name: string, tortures: readonly import('../rewards/torture.js').Torment[]): string {
  const digits = (value: number) => value.toPrecision(3);
  const lines = tortures.map(({ name, good, tortured, difference, ci95, verdict, count }) => [
    `  ${name}`,
    verdict === 'preferred' ? 'PREFERRED' : verdict,
    `${digits(tortured)} against ${digits(good)}`,
    `${difference > 0 ? '+' : ''}${digits(difference)} [${ci95.map(digits).join(', ')}]`,
    `${count} pictures`,
  ]);
  const preferred = tortures.filter(({ verdict }) => verdict === 'preferred').map(({ name }) => name);
  const blind = tortures.filter(({ verdict }) => verdict === 'no difference').map(({ name }) => name);
  const verdict = [
    preferred.length > 0
      ? `${name} prefers ${preferred.join(', ')} to good pictures: it can be hacked that way`
      : '',
    blind.length > 0 ? `${name} cannot tell ${blind.join(', ')} from good pictures` : '',
    preferred.length + blind.length === 0 ? `${name} prefers none of these` : '',
  ];
  return `${table(lines)}\n${verdict.filter((line) => line !== '').join('\n')}`;
}
