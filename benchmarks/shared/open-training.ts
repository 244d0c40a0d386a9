// What a recipe trains, without the run around it: no validation, checkpoint or report.
import { loadPipeline, residentMeanwhile } from '@rldf/models';
import { type Device, Parameters } from '@rldf/torch';
import {
  findModel,
  loadPrompts,
  loadReward,
  methodOf,
  openDetector,
  type Recipe,
  scorePictures,
  type Training,
} from 'rldf';
import { loadOptionsOf, settle } from 'rldf/learning';

export async function openTraining(recipe: Recipe): Promise<Training> {
  const device = recipe.device as Device;
  const { result: reward, made } = await Parameters.madeBy(() => loadReward(recipe.reward, device));
  const pipeline = loadPipeline(findModel(recipe.model).path, loadOptionsOf(recipe));
  settle(pipeline, recipe, made);
  const { detector } = recipe as { detector?: string };
  return methodOf(recipe).create(recipe, pipeline, {
    prompts: loadPrompts(recipe.prompts),
    ...(detector !== undefined && { detector: openDetector(detector, { device }) }),
    score: (images, drawn) =>
      residentMeanwhile(pipeline, made, () =>
        scorePictures(
          reward,
          { images, prompts: drawn.map(({ text }) => text), meta: drawn.map(({ meta }) => meta) },
          'training',
        ),
      ),
    ...(reward.differentiable === undefined ? {} : { differentiable: reward.differentiable.bind(reward) }),
  });
}
