import { hashString } from '@rldf/emoji-world';

/**
 * The noise of a picture: its prompt and number name it, so that it is the same for every model, suite and batch, and
 * differs from prompt to prompt (one noise for all prompts would make them depend on each other, and intervals over
 * prompts too narrow). @returns 32 bits
 */
export function pictureSeed(prompt: string, number: number): number {
  return hashString(`evaluation/${number}/${prompt}`);
}
