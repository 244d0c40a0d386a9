/** What a vision judge is asked: YAML files, some of which ship with rldf in recipes/judges. docs/guide-rewards.md explains them. */

import { readFileSync } from 'node:fs';
import { UserError } from '@rldf/torch/errors';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { shippedNames, shippedOrFile } from '../../base/recipes-folder.js';

const scaleSchema = z
  .tuple([z.number(), z.number()])
  .refine(([worst, best]) => worst !== best, 'worst and best are equal');

const common = {
  version: z.literal(1),
  /** What scores high, in one line. */
  description: z.string().min(1),
  /** Said before every question. */
  system: z.string().min(1).optional(),
  /** Of an answer. */
  maxTokens: z.int().min(1).max(10_000).optional(),
};

const templateSchema = z.discriminatedUnion('ask', [
  z.strictObject({
    ...common,
    ask: z.literal('yes-no'),
    /** `{prompt}` stands for the picture's prompt. */
    question: z.string().min(1),
    /** Asked instead of a server that tells no probabilities of its words. */
    otherwise: z.strictObject({ question: z.string().min(1), scale: scaleSchema }).optional(),
  }),
  z.strictObject({
    ...common,
    ask: z.literal('number'),
    question: z.string().min(1),
    /** The worst and the best number; the score is the number itself. */
    scale: scaleSchema,
  }),
  z.strictObject({
    ...common,
    ask: z.literal('pair'),
    /** Which of two pictures is better: A, the first, or B. */
    question: z.string().min(1),
    /** With how many others of its prompt each picture is compared. */
    opponents: z.int().min(1).max(100).default(2),
  }),
]);

export type JudgeTemplate = z.output<typeof templateSchema>;

/** Those that ship with rldf. */
export const judgeTemplateNames = (): string[] => shippedNames('judges');

/**
 * @param nameOrFile a shipped one, or a file
 * @throws UserError with every mistake in the file
 */
export function loadJudgeTemplate(nameOrFile: string): JudgeTemplate {
  const file = shippedOrFile('judges', nameOrFile, 'reward vision:', 'question');
  return parseJudgeTemplate(readFileSync(file, 'utf8'), file);
}

/** @param where names the text in messages */
export function parseJudgeTemplate(text: string, where: string): JudgeTemplate {
  const document = parseDocument(text);
  const [broken] = document.errors;
  if (broken) throw new UserError(`${where}: ${broken.message.split('\n')[0]} — must be YAML`);
  const parsed = templateSchema.safeParse(document.toJS());
  if (!parsed.success) {
    const lines = parsed.error.issues.map(({ path, message }) => `${where}  ${path.join('.')}: ${message}`);
    throw new UserError(`${lines.join('\n')} — see recipes/judges/alignment.yaml for a whole one`);
  }
  const template = parsed.data;
  const questions = [template.question, ...('otherwise' in template && template.otherwise ? [template.otherwise.question] : [])]; // biome-ignore format: one thought
  const unknown = questions.flatMap((one) => one.match(/\{\w+\}/g) ?? []).find((slot) => slot !== '{prompt}');
  if (unknown === undefined) return template;
  throw new UserError(`${where}  question: ${unknown} — only {prompt} stands for something. Write it in other brackets`); // biome-ignore format: one thought
}

/** A question about a prompt. */
export const filled = (question: string, prompt: string): string =>
  question.replaceAll('{prompt}', () => prompt);
