/** An evaluation as files: `eval.json`, `pictures.jsonl` (one line a picture), a contact sheet a suite, one HTML page. */

import { basename, join } from 'node:path';
import { makeFolder, replaceFile } from '@rldf/common/base/files';
import { version } from '@rldf/common/base/version';
import { contactSheet } from '@rldf/common/drawing/grid';
import { htmlFigures, htmlPage, htmlTable } from '@rldf/common/drawing/html';
import { escapeXml } from '@rldf/common/drawing/svg';
import { withBoxes } from './boxes.js';
import type { Arm, Evaluation, SuiteResult } from './evaluate.js';
import { suites } from './index.js';
import type { Ends, Metric, MetricDifference } from './measures.js';
import { remarkOnJudge } from './pairs.js';

/** What `eval.json` holds. */
export interface EvaluationNumbers {
  software: string;
  model: string;
  adapters: string[];
  against?: { model: string; adapters: string[]; metrics: Record<string, Metric> };
  settings: Evaluation['settings'];
  metrics: Record<string, Metric>;
  /** Each metric of the model minus that of what it is compared with. */
  differences?: Record<string, MetricDifference>;
  suites: Record<string, Pick<SuiteResult, 'sets' | 'judges'>>;
  /** Suites that were left out, and why. */
  skipped: Record<string, string>;
  seconds: number;
}

const PICTURE_SCALE = 4;
const PICTURE_SIZE = 256;
const intervalNote =
  '95 % intervals are over prompts: a bootstrap that keeps the pictures of a prompt together (FID and KID: a jackknife over groups of prompts). They say how sure a number is on such prompts, not how much another training seed would differ.';

export function evaluationNumbers(evaluation: Evaluation): EvaluationNumbers {
  const [first, second] = evaluation.arms as [Arm, Arm?];
  const all = Object.values(evaluation.suites);
  const joined = <T>(of: (result: SuiteResult) => Record<string, T> | undefined): Record<string, T> =>
    Object.assign({}, ...all.map(of));
  return {
    software: `rldf ${version}`,
    ...named(first),
    ...(second === undefined
      ? {}
      : {
          against: { ...named(second), metrics: joined(({ against }) => against) },
          differences: joined(({ differences }) => differences),
        }),
    settings: evaluation.settings,
    metrics: joined(({ metrics }) => metrics),
    suites: Object.fromEntries(
      Object.entries(evaluation.suites).map(([name, { sets, judges }]) => [name, { sets, judges }]),
    ),
    skipped: evaluation.skipped,
    seconds: Math.round(evaluation.seconds),
  };
}

const named = ({ model, adapters = [] }: Arm) => ({
  model,
  adapters: adapters.map(({ path, strength }) => `${basename(path)}:${strength}`),
});

/** Writes all files. @returns the numbers, and where the page lies */
export async function writeEvaluation(
  folder: string,
  evaluation: Evaluation,
): Promise<{ numbers: EvaluationNumbers; page: string }> {
  makeFolder(folder);
  const write = (name: string, data: string | Uint8Array) => replaceFile(join(folder, name), data);
  const numbers = evaluationNumbers(evaluation);
  write('eval.json', `${JSON.stringify(numbers, null, 2)}\n`);
  const lines = evaluation.pictures
    .filter(({ verdict }) => !isLong(verdict))
    .map((picture) => JSON.stringify(picture));
  write('pictures.jsonl', lines.map((line) => `${line}\n`).join(''));
  for (const [name, { sheet }] of Object.entries(evaluation.suites)) {
    const cells = sheet.map(({ label, pictures }) => ({
      pictures: pictures.map(({ picture, boxes }) => withBoxes(picture, boxes, PICTURE_SCALE)),
      label,
      detail: pictures
        .map(({ words }) => words)
        .filter((words) => words !== '')
        .join(' | '),
    }));
    if (cells.length > 0)
      write(
        `${name}.png`,
        await contactSheet(cells, { columns: numbers.against ? 3 : 6, pictureSize: PICTURE_SIZE }),
      );
  }
  const page = join(folder, 'index.html');
  write('index.html', pageOf(numbers, evaluation));
  return { numbers, page };
}

/** Embeddings are for computing with. */
const isLong = (verdict: unknown): boolean =>
  typeof verdict === 'object' && verdict !== null && (Array.isArray(verdict) || 'real' in verdict);

function pageOf(numbers: EvaluationNumbers, { suites: results }: Evaluation): string {
  const arms = [numbers, ...(numbers.against === undefined ? [] : [numbers.against])].map(
    ({ model, adapters }) => [model, ...adapters].join(' + '),
  );
  const title = `Evaluation of ${arms[0]}${arms[1] === undefined ? '' : `, beside ${arms[1]}`}`;
  const { steps, guidanceScale, eta } = numbers.settings;
  const sections = Object.entries(results).map(([name, result]) => sectionOf(name, result, arms));
  const skipped = Object.entries(numbers.skipped).map(
    ([name, why]) => `<li>${escapeXml(`${name}: ${why}`)}</li>`,
  );
  return htmlPage(
    title,
    `<h1>${escapeXml(title)}</h1>
<p class="note">${escapeXml(`DDIM, ${steps} steps, guidance ${guidanceScale}, eta ${eta}. ${intervalNote}`)}</p>
${sections.join('\n')}
${skipped.length === 0 ? '' : `<h2>Left out</h2>\n<ul>${skipped.join('\n')}</ul>`}`,
  );
}

function sectionOf(name: string, result: SuiteResult, arms: readonly string[]): string {
  const compared = result.against !== undefined && result.differences !== undefined;
  const head = compared
    ? ['', arms[0]!, arms[1]!, 'difference', '95 % interval', 'win rate']
    : ['', 'value', '95 % interval', 'values', 'prompts'];
  const rows = Object.entries(result.metrics).map(([metric, { value, ci95, n, prompts }]) => {
    if (!compared) return [metric, digits(value), interval(ci95), String(n), String(prompts)];
    const { difference, ci95: of, winRate } = result.differences![metric]!;
    const wins = winRate === undefined ? '' : digits(winRate);
    return [
      metric,
      digits(value),
      digits(result.against![metric]!.value),
      digits(difference),
      interval(of),
      wins,
    ];
  });
  const sets = result.sets.map(({ set, hash, prompts, pictures }) => {
    return `${set} (${hash.slice(0, 12)}): ${prompts} prompts, ${pictures} pictures`;
  });
  const remark = remarkOnJudge(result.metrics);
  const beside = (result.sheet[0]?.pictures.length ?? 1) > 1;
  const caption = `First picture of the first prompts${beside ? '; left the first, right the second model' : ''}.`;
  return `<h2>${escapeXml(name)}</h2>
<p>${escapeXml(`${suites[name]?.description ?? ''}; judged by ${result.judges.join(', ')}; ${sets.join('; ')}.`)}</p>
${htmlTable(head, rows)}
${remark === undefined ? '' : `<p class="note">${escapeXml(remark)}</p>`}
${htmlFigures(result.sheet.length === 0 ? [] : [{ file: `${name}.png`, caption }])}`;
}

const interval = (ends: Ends) => (ends === null ? '-' : `${digits(ends[0])} to ${digits(ends[1])}`);

export const digits = (value: number | null): string =>
  value === null ? '-' : Math.abs(value) >= 100 ? value.toFixed(1) : value.toFixed(3);
