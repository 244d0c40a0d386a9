/** The process that draws for `rldf studio`: asked by messages, one at a time, since a model is changed between two points. */

import { existsSync } from 'node:fs';
import { replaceFile } from '@rldf/common/base/files';
import { type Picture, picturesOf } from '@rldf/common/base/picture';
import { encodePng, settingsTexts } from '@rldf/common/drawing/png';
import { checkBase } from '@rldf/common/instruments/adapter-base';
import { findModel } from '@rldf/common/instruments/models';
import { type LoraPair, loadLora, type Pipeline } from '@rldf/models';
import type { WorkerAnswer, WorkerRequest } from '@rldf/studio';
import type { Recipe } from '../methods/index.js';
import { Run } from '../run/run.js';
import { drawForEvaluation } from '../sampling/evaluation.js';
import { freeModel, openModel, RunModel } from './run-model.js';

/** Pictures drawn at once: few, so that the first is soon there. */
const atOnce = 4;

/** What is loaded now: a model to put adapters on, or a run with its checkpoints. One at a time. */
type Loaded =
  | { kind: 'adapters'; key: string; recipe: Recipe; pipeline: Pipeline }
  | { kind: 'checkpoint'; key: string; model: RunModel };

/** Draws what is asked for; files that are there already are passed over. */
export class Drawer {
  #loaded: Loaded | undefined;

  async draw(request: WorkerRequest, say: (answer: WorkerAnswer) => void): Promise<void> {
    const { id, pictures, points, files } = request;
    const all = points.length * pictures.length;
    let done = 0;
    for (const [point, where] of points.entries()) {
      const missing = pictures.flatMap((picture, index) => {
        const file = files[point]?.[index] as string;
        return existsSync(file) ? [] : [{ ...picture, index, file }];
      });
      for (const index of pictures.keys()) {
        if (missing.some((one) => one.index === index)) continue;
        done++;
        say({ id, kind: 'picture', point, picture: index });
      }
      for (let start = 0; start < missing.length; start += atOnce) {
        say({
          id,
          kind: 'progress',
          share: done / all,
          phase: this.#loaded === undefined ? 'loading the model' : 'drawing',
        });
        const part = missing.slice(start, start + atOnce);
        const drawn = await this.#drawAt(request.folder, where, part);
        for (const [i, { prompt, seed, index, file }] of part.entries()) {
          replaceFile(
            file,
            await encodePng(drawn[i] as Picture, settingsTexts({ prompt, seed, drawnBy: where })),
          );
          done++;
          say({ id, kind: 'picture', point, picture: index });
        }
      }
    }
    say({ id, kind: 'done' });
  }

  async #drawAt(
    folder: string,
    point: WorkerRequest['points'][number],
    pictures: readonly { prompt: string; seed: number }[],
  ): Promise<Picture[]> {
    if (point.kind === 'checkpoint') {
      const { model } = this.#checkpoints(point.folder);
      model.load(point.step);
      return taken(await model.training.draw(pictures));
    }
    const { recipe, pipeline } = this.#plain(folder);
    for (const { path } of point.adapters) checkBase(path, findModel(recipe.model).path, recipe.model);
    const attached: LoraPair[] = [];
    try {
      for (const { path, unet, textEncoder } of point.adapters) {
        const pair = loadLora(path, pipeline.parameters);
        attached.push(pair);
        for (const [part, adapter] of Object.entries(pair))
          adapter.strength = part === 'unet' ? unet : textEncoder;
      }
      return taken(await drawForEvaluation(pipeline, pictures, recipe.negativePrompt, recipe.sample));
    } finally {
      for (const adapter of attached.flatMap((pair) => Object.values(pair))) adapter?.remove();
    }
  }

  #plain(folder: string): Extract<Loaded, { kind: 'adapters' }> {
    if (this.#loaded?.kind === 'adapters' && this.#loaded.key === folder) return this.#loaded;
    this.free();
    const loaded = { kind: 'adapters' as const, key: folder, ...openModel(new Run(folder)) };
    this.#loaded = loaded;
    return loaded;
  }

  #checkpoints(folder: string): Extract<Loaded, { kind: 'checkpoint' }> {
    if (this.#loaded?.kind === 'checkpoint' && this.#loaded.key === folder) return this.#loaded;
    this.free();
    const loaded = { kind: 'checkpoint' as const, key: folder, model: new RunModel(new Run(folder)) };
    this.#loaded = loaded;
    return loaded;
  }

  free(): void {
    if (this.#loaded?.kind === 'adapters') freeModel(this.#loaded.pipeline);
    if (this.#loaded?.kind === 'checkpoint') this.#loaded.model.free();
    this.#loaded = undefined;
  }
}

function taken(images: import('@rldf/torch').Tensor): Picture[] {
  try {
    return picturesOf(images);
  } finally {
    images.free();
  }
}
