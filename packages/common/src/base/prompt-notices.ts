/** What of a prompt the model does not see, or sees otherwise than its writer meant. */

import type { CLIPTokenizer } from '@rldf/models';

export interface PromptNotice {
  prompt: string;
  /** The words behind the model's length. */
  cut?: string;
  /** Text in a syntax of other tools, which is drawn as it stands. */
  unread?: string;
}

/** Weights as `(cat:1.3)`, `((cat))` and `cat++`, breaks, and LoRA tags, as AUTOMATIC1111, ComfyUI and compel read them. */
const foreign = /\([^()]*:\s*-?\d*\.?\d+\s*\)|\({2,}[^()]*\){2,}|\b\w{2,}\+{2,}|\bBREAK\b|<lora:[^>]*>/;

/** @param whole long prompts are read whole, in pieces */
export function promptNotices(
  tokenizer: Pick<CLIPTokenizer, 'cut'>,
  prompts: Iterable<string>,
  whole = false,
): PromptNotice[] {
  const notices: PromptNotice[] = [];
  for (const prompt of new Set(prompts)) {
    const cut = whole ? '' : tokenizer.cut(prompt);
    const unread = foreign.exec(prompt)?.[0];
    if (cut !== '') notices.push({ prompt, cut });
    if (unread !== undefined) notices.push({ prompt, unread });
  }
  return notices;
}

/** What reads prompts besides the model: a reward. */
interface Reader {
  name: string;
  maxLength: number;
  cut(prompt: string): string;
}

/** Lines for what the model reads of the prompts and a reward does not, told as those of `describePromptNotices`. */
export function describeUnscored(
  tokenizer: Pick<CLIPTokenizer, 'cut'>,
  readers: readonly Reader[],
  prompts: Iterable<string>,
  whole = false,
): string[] {
  const distinct = [...new Set(prompts)];
  return readers.flatMap(({ name, maxLength, cut }) => {
    const unscored = distinct
      .map((prompt) => ({ prompt, cut: cut(prompt) }))
      .filter((one) => one.cut !== '' && (whole || one.cut !== tokenizer.cut(one.prompt)));
    return lines(
      unscored,
      (one) =>
        `reward ${name} reads the first ${maxLength} tokens of a prompt: of "${start(one.prompt)}", "${one.cut}" is drawn but not scored. Shorten the prompt, or take a reward that reads it`,
      'prompts are longer too',
    );
  });
}

/** Prompts that are written out; of the others their number is told. */
const shown = 3;

/** One line for each of the first, and one for the number of the others. @param length tokens that the model reads */
export function describePromptNotices(notices: readonly PromptNotice[], length: number): string[] {
  const cut = notices.filter((notice) => notice.cut !== undefined);
  const unread = notices.filter((notice) => notice.unread !== undefined);
  return [
    ...lines(
      cut,
      (notice) =>
        `prompt "${start(notice.prompt)}" is longer than the ${length} tokens that the model reads: "${notice.cut}" is cut off. Shorten it, or read it in pieces (longPrompts: chunks, --long-prompts chunks)`,
      'prompts are longer too',
    ),
    ...lines(
      unread,
      (notice) =>
        `prompt "${start(notice.prompt)}": weights and breaks are not read, "${notice.unread}" is drawn as it stands. Leave the signs out`,
      'prompts hold such signs too',
    ),
  ];
}

function lines<Notice extends PromptNotice>(
  notices: readonly Notice[],
  one: (notice: Notice) => string,
  others: string,
): string[] {
  const more = notices.length - shown;
  return [...notices.slice(0, shown).map(one), ...(more > 0 ? [`${more} further ${others}`] : [])];
}

const start = (prompt: string) => (prompt.length > 50 ? `${prompt.slice(0, 47)}...` : prompt);
