import { Command } from 'commander';
import { print } from './output.js';

interface Options {
  grid?: string;
  columns: string;
  rows: string;
  split: string;
  seed: string;
  prompts?: string;
}

export function worldCommand(): Command {
  return new Command('world')
    .description('show the built-in world: a grid of its scenes, or its prompts')
    .option('--grid <file>', 'draw scenes into this PNG file')
    .option('--columns <n>', 'scenes in a row', '8')
    .option('--rows <n>', 'rows', '6')
    .option('--split <split>', 'train, validation or test', 'train')
    .option('--seed <n>', 'which scenes', '0')
    .option('--prompts <kind>', 'print the prompts of a kind: single, colour, count, relation, ...')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf world --grid world.png
  $ rldf world --grid test.png --split test --columns 10 --rows 4
  $ rldf world --prompts relation --split validation`,
    )
    .action(async (options: Options) => {
      const { UserError } = await import('@rldf/torch/errors');
      const world = await import('@rldf/emoji-world');
      const split = oneOf(UserError, '--split', options.split, world.splits);
      if (options.prompts !== undefined) {
        const kind = oneOf(UserError, '--prompts', options.prompts, world.sceneKinds);
        print(`${world.prompts(split, kind).join('\n')}\n`);
        return;
      }
      if (options.grid === undefined)
        throw new UserError('world: nothing to do — give --grid FILE or --prompts KIND');
      const { default: sharp } = await import('sharp');
      const { replaceFile } = await import('@rldf/common/base/files');
      const number = (name: string, text: string, least: number) => {
        const value = Number(text);
        if (!Number.isSafeInteger(value) || value < least)
          throw new UserError(`--${name} ${text}: expected a whole number from ${least}`);
        return value;
      };
      const columns = number('columns', options.columns, 1);
      const rows = number('rows', options.rows, 1);
      const { rgb, width, height } = await world.drawGrid(columns, rows, {
        split,
        seed: number('seed', options.seed, 0),
      });
      const png = await sharp(rgb, { raw: { width, height, channels: 3 } })
        .png()
        .toBuffer();
      replaceFile(options.grid, png);
      print(`${options.grid}\n`);
    });
}

function oneOf<Value extends string>(
  UserError: new (message: string) => Error,
  option: string,
  text: string,
  values: readonly Value[],
): Value {
  const found = values.find((value) => value === text);
  if (found === undefined) throw new UserError(`${option} ${text}: expected one of ${values.join(', ')}`);
  return found;
}
