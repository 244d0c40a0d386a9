import { UserError } from '@rldf/torch/errors';

const units: Record<string, number> = {
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** `12GB` is 12e9, `12GiB` is 12 * 2^30; `12G` means the first. @throws UserError for anything else */
export function parseBytes(text: string): number {
  const [, number = '', unit = ''] = /^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$/.exec(text) ?? [];
  const name =
    unit === ''
      ? 'B'
      : Object.keys(units).find((known) =>
          [known, known.replace(/B$/, '')].some((form) => form.toLowerCase() === unit.toLowerCase()),
        );
  if (number === '' || name === undefined || Number(number) <= 0) {
    throw new UserError(
      `--memory ${text}: not a size — a number and a unit is needed. Write 12GB, 800MB or 16GiB`,
    );
  }
  return Number(number) * (units[name] as number);
}
