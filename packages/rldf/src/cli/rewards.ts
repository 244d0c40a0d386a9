import { Command } from 'commander';
import { print } from './output.js';
import { provideModels } from './provide.js';
import { printJson, table } from './shared.js';

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
  $ rldf rewards torture ./mine.ts      the same for a reward of your own`,
    )
    .action(async (name: string | undefined, options: { json?: boolean }) => {
      const { rewards } = await import('../rewards/index.js');
      const { percentilesOf } = await import('../rewards/cards.js');
      const cardOf = (one: string) => {
        const { load: _, ...card } = rewards[one]!;
        return { name: one, ...card, percentiles: percentilesOf(one) ?? null };
      };
      if (name === undefined) {
        const cards = Object.keys(rewards).map(cardOf);
        if (options.json) return printJson(cards);
        const rows = cards.map((card) => [
          card.name,
          card.unit,
          card.differentiable ? 'gradient' : '',
          card.description,
        ]);
        print(`${table(rows)}\n`);
        return;
      }
      const card = cardOf(await rewardName(name));
      if (options.json) return printJson(card);
      print(`${cardText(card)}\n`);
    });
  command.addCommand(tortureCommand());
  return command;
}

function tortureCommand(): Command {
  return new Command('torture')
    .description('show a reward noise, blank, saturated, gridded and mirrored pictures and wrong prompts')
    .argument('<name>', 'a reward, the beginning of its name, or a file of your own')
    .option('--model <model>', 'whose good pictures are shown beside them', 'emoji')
    .option('--pictures <n>', 'how many', '48')
    .option('--json', 'print as JSON: { reward, tortures: [{ name, verdict, difference, ci95, ... }] }')
    .action(async (name: string, options: { model: string; pictures: string; json?: boolean }) => {
      const { UserError } = await import('@rldf/torch/errors');
      const count = Number(options.pictures);
      if (!Number.isSafeInteger(count) || count < 8)
        throw new UserError(`--pictures ${options.pictures}: expected a whole number from 8`);
      const { loadReward } = await import('../rewards/index.js');
      const { drawGoodPictures, tortureReward } = await import('../rewards/torture.js');
      const { loadDetector, listInstruments } = await import('@rldf/common/instruments/instruments');
      const { findModel } = await import('@rldf/common/instruments/models');
      const { loadPipeline } = await import('@rldf/models');
      const field = /\.[cm]?[jt]s$/.test(name) ? { module: name } : await rewardName(name);
      const reward = await loadReward(field);
      const detector = listInstruments().includes('detector') ? loadDetector('detector') : undefined;
      await provideModels([options.model]);
      const pipeline = loadPipeline(findModel(options.model).path);
      const form = field === 'spatial' ? 'relation' : 'any';
      const good = await drawGoodPictures(pipeline, detector, count, form);
      const tortures = await tortureReward(reward, good);
      if (options.json) return printJson({ reward: reward.name, model: options.model, tortures });
      print(`${tortureText(reward.name, tortures)}\n`);
    });
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
  percentiles: import('../rewards/cards.js').Percentiles | null;
};

function cardText({ name, percentiles, ...card }: Card): string {
  const digits = (value: number) => value.toPrecision(4);
  const rows = [
    ['unit', card.unit || 'none'],
    ['range', card.range],
    ['gradient', card.differentiable ? 'yes' : 'no'],
    ['known hacks', card.hacks],
    ['licence', card.licence],
  ];
  if (percentiles !== null) {
    const { reference, count, p5, p25, p50, p75, p95, betweenPrompts } = percentiles;
    rows.push(
      ['reference', `${count} pictures: ${reference}`],
      [
        'percentiles',
        `5 %: ${digits(p5)}  25 %: ${digits(p25)}  50 %: ${digits(p50)}  75 %: ${digits(p75)}  95 %: ${digits(p95)}`,
      ],
      [
        'prompts',
        `${(100 * betweenPrompts).toFixed(0)} % of the variance lies between prompts: compare pictures of the same prompt only`,
      ],
    );
  }
  return `${name}: ${card.description}\n${table(rows.map(([key, value]) => [`  ${key}`, value!]))}`;
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
