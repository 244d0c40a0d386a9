/** A run's model in memory, with the weights of any of its checkpoints: to draw with, not to train. */

import { findModel } from '@rldf/common/instruments/models';
import { checkSameTensors, tensorsOf } from '@rldf/common/storage/state-tree';
import { loadPipeline, type Pipeline } from '@rldf/models';
import { setThreads } from '@rldf/torch';
import { InternalError } from '@rldf/torch/errors';
import type { DetectorField } from '../config/detector-fields.js';
import { loadOptionsOf } from '../config/precision.js';
import { methodOf, type Recipe } from '../methods/index.js';
import { loadPrompts } from '../prompts/prompts.js';
import { loadRecipe } from '../recipe/load.js';
import { ownLabels } from '../rewards/detectors/index.js';
import type { Run } from '../run/run.js';
import type { Training } from '../run/training.js';
import { settle } from '../sampling/model-settings.js';
import { textsOf } from '../train/from-recipe.js';

/** The model of a run's recipe without what was learned. The caller frees its parameters. */
export function openModel(run: Run): { recipe: Recipe; pipeline: Pipeline } {
  const recipe = loadRecipe(run.recipePath);
  if (recipe.threads !== undefined) setThreads(recipe.threads);
  const pipeline = loadPipeline(findModel(recipe.model).path, loadOptionsOf(recipe));
  settle(pipeline, recipe);
  if (recipe.longPrompts === 'chunks')
    pipeline.promptChunks = Math.max(...textsOf(recipe).map((text) => pipeline.tokenizer.chunks(text)));
  return { recipe, pipeline };
}

export function freeModel(pipeline: Pipeline): void {
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
}

/** A model whose weights are those of a checkpoint. */
export class RunModel {
  readonly recipe: Recipe;
  readonly pipeline: Pipeline;
  readonly training: Training;

  constructor(readonly run: Run) {
    const { recipe, pipeline } = openModel(run);
    this.recipe = recipe;
    this.pipeline = pipeline;
    const unused = () => {
      throw new InternalError('RunModel: nothing is trained here');
    };
    try {
      const prompts = loadPrompts(recipe.prompts);
      const { detector } = recipe as { detector?: DetectorField };
      const words = detector === undefined ? undefined : ownLabels(detector); // in which prompts are read
      this.training = methodOf(recipe).create(recipe, pipeline, {
        prompts,
        score: unused,
        detector: { labels: words ?? [], ownWords: words !== undefined, detect: unused },
        differentiable: unused,
      });
    } catch (error) {
      freeModel(pipeline);
      throw error;
    }
  }

  /** @throws UserError when the checkpoint is missing, damaged or of another shape */
  load(step: number): void {
    const { path, state } = this.run.loadCheckpoint({ step });
    try {
      const { training } = state as { training: ReturnType<Training['state']> };
      checkSameTensors(path, training, this.training.state());
      this.training.load(training);
    } finally {
      for (const tensor of tensorsOf(state).values()) tensor.free();
    }
  }

  free(): void {
    this.training.free();
    freeModel(this.pipeline);
  }
}
