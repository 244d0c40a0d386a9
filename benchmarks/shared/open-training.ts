// What a recipe trains, without the run around it: no validation, checkpoint or report.
import { loadPipeline } from '@rldf/models';
import type { Device } from '@rldf/torch';
import {
  findModel,
  loadPrompts,
  loadReward,
  methodOf,
  type Recipe,
  scorePictures,
  type Training,
} from 'rldf';

export async function openTraining(recipe: Recipe): Promise<Training> {
  const device = recipe.device as Device;
  const reward = await loadReward(recipe.reward, device);
  return methodOf(recipe).create(recipe, loadPipeline(findModel(recipe.model).path, { device }), {
    prompts: loadPrompts(recipe.prompts),
    score: (images, drawn) =>
      scorePictures(
        reward,
        { images, prompts: drawn.map(({ text }) => text), meta: drawn.map(({ meta }) => meta) },
        'training',
      ),
    ...(reward.differentiable === undefined ? {} : { differentiable: reward.differentiable.bind(reward) }),
  });
}
