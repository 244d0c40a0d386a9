/** GenEval (Ghosh et al. 2023, arXiv 2310.11513) on its prompt file, by any detector: what is asked for, task by task. */

import type { Detection } from '@rldf/models';
import { type GenevalVerdict, genevalTask, genevalVerdicts } from '../rewards/geneval.js';
import { type Measure, meanOf } from './measures.js';
import { type EvalPrompt, type JudgedPrompt, share, suite } from './suite.js';

const tagOf = ({ meta, prompt }: EvalPrompt) => genevalTask(meta, prompt).tag;

/** `genevalTwoObject` of `two_object`. */
const metricOf = (tag: string) =>
  `geneval${tag.replace(/(?:^|[^A-Za-z0-9]+)([A-Za-z0-9])/g, (_, letter: string) => letter.toUpperCase())}`;

/**
 * - `geneval`: mean over tasks of the share of correct pictures, as GenEval's overall score;
 * - one metric for each task, such as `genevalTwoObject`: that share;
 * - `genevalShare`: how much of what is asked is right, over all pictures.
 */
export function genevalMeasures(
  judged: readonly JudgedPrompt<Pick<GenevalVerdict, 'correct' | 'share'>>[],
): Record<string, Measure> {
  const tags = [...new Set(judged.map(({ prompt }) => tagOf(prompt)))];
  const only = (tag: string) =>
    meanOf(
      judged.map(({ prompt, verdicts }) =>
        verdicts.map(({ correct }) => (tagOf(prompt) === tag ? share(correct) : null)),
      ),
    );
  // each prompt weighs so that its task counts as much as any other
  const sizes = new Map(
    tags.map((tag) => [tag, judged.filter(({ prompt }) => tagOf(prompt) === tag).length]),
  );
  const weight = ({ prompt }: { prompt: EvalPrompt }) =>
    judged.length / (tags.length * sizes.get(tagOf(prompt))!);
  const overall = meanOf(
    judged.map((one) => one.verdicts.map(({ correct }) => share(correct) * weight(one))),
  );
  return {
    geneval: overall,
    ...Object.fromEntries(tags.map((tag) => [metricOf(tag), only(tag)])),
    genevalShare: meanOf(judged.map(({ verdicts }) => verdicts.map((one) => one.share))),
  };
}

interface Seen extends GenevalVerdict {
  detections: readonly Detection[];
}

export const genevalSuite = suite<Seen>({
  description: 'objects, numbers, colours and places of GenEval’s prompt file',
  judges: ['detector'],
  file: 'must',
  sets: [{ set: 'prompt file', pictures: 4 }],
  look: ({ images, prompts }, judges) =>
    genevalVerdicts(
      judges.detector,
      images,
      prompts.map(({ prompt }) => prompt),
      prompts.map(({ meta }) => meta),
    ),
  measure: genevalMeasures,
  words: (_, { correct, reasons }) => (correct ? 'right' : reasons.join('; ')),
  boxes: ({ detections }) => detections,
});
