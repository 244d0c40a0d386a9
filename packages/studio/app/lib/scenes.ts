/** Prompts and seeds that are drawn by hand, written a line each: "a cat" or "a cat #7". */

export interface Scene {
  prompt: string;
  seed: number;
}

const MOST = 16;

/** @returns scenes, and what is wrong with the text, or null */
export function parseScenes(text: string): { scenes: Scene[]; problem: string | null } {
  const scenes: Scene[] = [];
  let problem: string | null = null;
  for (const line of text
    .split('\n')
    .map((each) => each.trim())
    .filter(Boolean)) {
    const [, prompt = line, digits] = /^(.*?)\s*#(\S+)$/.exec(line) ?? [];
    const seed = digits === undefined ? 0 : Number(digits);
    if (digits !== undefined && !(/^\d+$/.test(digits) && Number.isSafeInteger(seed))) {
      problem ??= `“#${digits}” is no seed: a whole number from 0 on, such as #7`;
      continue;
    }
    scenes.push({ prompt, seed });
  }
  if (scenes.length > MOST) {
    problem ??= `${scenes.length} lines; the first ${MOST} are drawn`;
    scenes.length = MOST;
  }
  return { scenes, problem };
}

export const writeScenes = (scenes: readonly Scene[]): string =>
  scenes.map(({ prompt, seed }) => `${prompt} #${seed}`).join('\n');
