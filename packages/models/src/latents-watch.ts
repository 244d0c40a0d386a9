import { free, keep, noGrad, scope, stack, type Tensor, UserError } from '@rldf/torch';

/**
 * Tells pictures whose latents became NaN or infinite, which would be drawn black, by picture and step. Keeps one number a
 * picture and step where the latents lie, and reads one back at the end.
 */
export class LatentsWatch {
  /** [B] each, not finite where a latent is not */
  #sums: Tensor[] = [];

  /** Called with the latents [B, C, h, w] after each step. */
  see(latents: Tensor): void {
    this.#sums.push(noGrad(() => scope(() => keep(latents.detach().sum([1, 2, 3])))));
  }

  /**
   * @param name of a picture, such as its prompt
   * @param fix what to do about it
   * @throws UserError naming the first picture that broke, and at which step
   */
  check(where: string, name: (picture: number) => string, fix: string): void {
    const broken = brokenRow(this.#sums);
    if (broken === undefined) return;
    const { row, column } = broken;
    throw new UserError(
      `${where}: the latents of ${name(column)} hold NaN or infinity after step ${row + 1} of ${this.#sums.length} — such a picture ` +
        `is black. ${fix}`,
    );
  }

  free(): void {
    free(this.#sums);
    this.#sums = [];
  }
}

/**
 * @param images [B, 3, H, W] as they were decoded, before they become bytes
 * @param first number of the first of them
 * @throws UserError when one holds NaN or infinity
 */
export function refuseBlack(images: Tensor, first = 0): void {
  const broken = scope(() => brokenRow([images.sum([1, 2, 3])]));
  if (broken === undefined) return;
  throw new UserError(
    `decode: picture ${first + broken.column + 1} holds NaN or infinity — it would be black. Its latents have diverged, or the ` +
      'autoencoder overflows: use an earlier checkpoint, float32, or another autoencoder.',
  );
}

/** The first of the rows [B] that holds NaN or infinity, and where in it. */
function brokenRow(rows: readonly Tensor[]): { row: number; column: number } | undefined {
  if (rows.length === 0) return undefined;
  return noGrad(() =>
    scope(() => {
      const all = stack(rows); // [T, B]
      if (Number.isFinite(all.sum().item())) return undefined;
      const values = all.toNumbers();
      const place = values.findIndex((value) => !Number.isFinite(value));
      const width = all.shape[1]!;
      return place < 0 ? undefined : { row: Math.floor(place / width), column: place % width };
    }),
  );
}
