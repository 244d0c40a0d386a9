/** IP-RLDF's part of the recipe. */

import { z } from 'zod';
import type { ArithmeticProblem } from '../config/batch-arithmetic.js';
import { type DetectorField, detectorSchema } from '../config/detector-fields.js';
import { absolutePrompts, commonFields, count, fraction, promptsSchema } from '../config/fields.js';
import type { Prompt } from '../prompts/prompts.js';
import { loadGrammar } from '../relabel/grammar.js';
import { askedOf } from '../relabel/relabel.js';
import { absoluteDetector, detectorProblem, ownLabels } from '../rewards/detectors/index.js';
import { denoisingFields } from './denoising-schema.js';
import { promptsOf } from './ip-rldf-pictures.js';
import { sampleFields } from './online-fields.js';

const { innerEpochs: _, ...denoising } = denoisingFields;

export const ipRldfSchema = z.strictObject({
  method: z
    .literal('ip-rldf')
    .describe('IP-RLDF (Ge et al. 2023, arXiv 2312.16204): iterative prompt relabelling.'),
  ...commonFields,
  rounds: z
    .int()
    .min(0)
    .max(1000)
    .default(2)
    .describe(
      'Number of rounds. Each round samples the self-training images anew and trains. 0 ' +
        'trains nothing (the paper’s arm Direct). The paper uses 1 or 2.',
    ),
  epochs: count.default(3).describe('Number of passes over all images in each round. The paper uses 3.'),
  detector: detectorSchema
    .refine((field) => detectorProblem(field) === undefined, {
      error: ({ input }) => detectorProblem(input as DetectorField) as string,
    })
    .optional()
    .describe(
      'The detector that examines the images: a shipped one, `human`, a .onnx or .yaml file, or ' +
        'the fields of one (docs/guide-rewards.md). It is needed to relabel and to rescale. ' +
        'Images in which it finds nothing are dropped.',
    ),
  grammar: z
    .string()
    .min(1)
    .default('spatial')
    .describe('The grammar in which detected boxes are described: a file, or one of recipes/relabel.'),
  relabel: z
    .boolean()
    .default(true)
    .describe(
      'Whether images that do not show what their prompt asks for get a caption that is true ' +
        'of them (the paper’s P).',
    ),
  rescale: fraction
    .default(0.5)
    .describe(
      'Weight of images that do not show what their original prompt asks for, also when they ' +
        'are relabelled. 1 weights them like all others. The paper uses 0.5.',
    ),
  base: z
    .strictObject({
      prompts: promptsSchema,
      ratio: count
        .default(20)
        .describe('Number of base prompts for each self-training prompt. The paper uses 20.'),
    })
    .optional()
    .describe(
      'The anchor: images of other prompts, sampled once by the model before training and ' +
        'trained on in every round.',
    ),
  pictures: z
    .enum(['own', 'world', 'oracle'])
    .default('own')
    .describe(
      'Where the images come from. `own`: the model samples them. Two controls use as many ' +
        'rendered scenes of the built-in world instead. `world` has its mix of scenes, with ' +
        'the inaccurate captions of pre-training. `oracle` has pairs of objects with true ' +
        'captions, the most that feedback could teach.',
    ),
  grounding: z
    .strictObject({
      draw: z
        .enum(['prompt', 'none'])
        .default('prompt')
        .describe(
          'Boxes with which the images are sampled: a layout in which the relation of the prompt ' +
            'holds, another for each image; or none.',
        ),
      learn: z
        .enum(['detected', 'none'])
        .default('detected')
        .describe(
          'Boxes with which the images are learned: those that the detector found, as in the ' +
            'paper; or none.',
        ),
      evaluate: z
        .enum(['none', 'prompt'])
        .default('none')
        .describe(
          'Boxes with which evaluations are sampled: none, as in the paper, or those of the ' +
            'prompt where it tells any.',
        ),
      beta: z
        .number()
        .min(0)
        .max(1)
        .default(0.3)
        .describe(
          'Share of the denoising steps, the first ones, in which boxes are heard; the gated ' +
            'layers are off afterwards. GLIGEN uses 0.3.',
        ),
    })
    .nullish()
    .describe(
      'Tells a model of GLIGEN’s kind where objects are. Needs such a model (docs/models.md); ' +
        'without this field it is told of no boxes.',
    ),
  sample: z
    .strictObject({
      ...sampleFields,
      promptsPerEpoch: count
        .default(100)
        .describe('Number N of self-training prompts, the first of `prompts`. The paper uses 100.'),
      picturesPerPrompt: count
        .default(4)
        .describe('Images of each prompt in a round. The paper’s code uses 4.'),
      picturesPerStep: count
        .default(256)
        .describe('Images sampled in one step of the run, which can be saved between two steps.'),
      eta: z.number().min(0).max(1).default(0).describe('Noise of the sampler. 0 samples as evaluations do.'),
    })
    .prefault({}),
  train: z
    .strictObject({
      ...denoising,
      updatesPerEpoch: count
        .default(84)
        .describe(
          'Number of optimiser steps in one pass over all images of a round. The paper’s ' +
            'code makes 1,050, of 8 images each.',
        ),
      updatesPerStep: count.default(10).describe('Number of optimiser steps in one step of the run.'),
      roundDecay: fraction
        .default(0.5)
        .describe(
          'Learning rate of a round relative to the round before, above 0 and at most 1. The ' +
            'paper lets it fall but gives no number.',
        ),
    })
    .prefault({}),
});

export type IpRldfRecipe = z.output<typeof ipRldfSchema>;

export type Sizes = Pick<IpRldfRecipe, 'epochs' | 'rounds' | 'base' | 'sample' | 'train'>;

/** Pictures of the self-training prompts, drawn in every round, and of the base prompts, drawn in the first. */
export function pictureCounts({ base, sample }: Pick<Sizes, 'base' | 'sample'>): {
  self: number;
  base: number;
} {
  const self = sample.promptsPerEpoch * sample.picturesPerPrompt;
  return { self, base: base === undefined ? 0 : base.ratio * self };
}

export function ipRldfProblems(
  recipe: Sizes & Pick<IpRldfRecipe, 'detector' | 'relabel' | 'rescale' | 'pictures' | 'grounding'>,
): ArithmeticProblem[] {
  const problems: ArithmeticProblem[] = [];
  const { detector, relabel, rescale, pictures, grounding, train } = recipe;
  const needs = [...(relabel ? ['relabel: true'] : []), ...(rescale < 1 ? [`rescale: ${rescale}`] : [])];
  if (needs.length > 0 && pictures !== 'own') {
    problems.push({
      path: ['pictures'],
      message: `${pictures}, with ${needs.join(' and ')} — scenes of the world keep their captions and all weigh the same. Set relabel: false and rescale: 1`,
    });
  } else if (needs.length > 0 && detector === undefined) {
    problems.push({
      path: ['detector'],
      message: `missing, with ${needs.join(' and ')} — somebody has to look at the pictures. Set detector: detector, or relabel: false and rescale: 1`,
    });
  }
  if (grounding?.learn === 'detected' && pictures === 'own' && detector === undefined) {
    problems.push({
      path: ['grounding', 'learn'],
      message: 'detected, without a detector — nobody finds boxes. Set detector: detector, or learn: none',
    });
  }
  if (grounding && pictures !== 'own') {
    problems.push({
      path: ['grounding'],
      message: `with pictures: ${pictures} — scenes of the world are not sampled by the model. Set pictures: own, or leave grounding out`,
    });
  }
  const { self, base } = pictureCounts(recipe);
  if (train.updatesPerEpoch > self + base) {
    problems.push({
      path: ['train', 'updatesPerEpoch'],
      message: `${train.updatesPerEpoch} updates of ${self} self-training and ${base} base pictures — each needs one. Lower it`,
    });
  }
  return problems;
}

/** @throws UserError when there are too few, or the detector could not tell whether a picture shows what one asks for */
export function checkPrompts(recipe: IpRldfRecipe, given: readonly Prompt[]): void {
  const prompts = promptsOf(recipe, given);
  const read = recipe.detector !== undefined || recipe.grounding?.draw === 'prompt';
  if (!read || recipe.pictures !== 'own') return;
  const grammar = loadGrammar(recipe.grammar);
  const labels = recipe.detector === undefined ? undefined : ownLabels(recipe.detector);
  for (const text of new Set(prompts.map(({ text }) => text))) askedOf(grammar, text, labels);
}

/** Files and folders by their absolute paths. */
export function withAbsolutePaths(recipe: IpRldfRecipe, absolute: (path: string) => string): IpRldfRecipe {
  const { grammar, detector, base } = recipe;
  return {
    ...recipe,
    grammar: grammar.endsWith('.yaml') ? absolute(grammar) : grammar,
    ...(detector !== undefined && { detector: absoluteDetector(detector, absolute) }),
    ...(base && { base: { ...base, prompts: absolutePrompts(base.prompts, absolute) } }),
  };
}
