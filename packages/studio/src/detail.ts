/** Everything about one run that its page shows besides curves and pictures. */

import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { MetricInfo, RunDetail, RunRow } from './api.js';
import { type Catalogue, checkpointSteps } from './catalogue.js';
import { factsOf } from './folder.js';
import type { PictureLines } from './pictures.js';
import { quoted } from './pictures.js';
import type { Services } from './services.js';

const groups: readonly MetricInfo['group'][] = [
  'rewards',
  'policy',
  'optimiser',
  'watch',
  'speed',
  'memory',
  'other',
];

export async function detailOf(catalogue: Catalogue, id: string, lines: PictureLines): Promise<RunDetail> {
  const { folder, services } = catalogue;
  const row = await catalogue.row(id);
  const path = await catalogue.pathOf(id);
  const recipe = await catalogue.recipe(id);
  const columns = await catalogue.columns(id);
  await lines.refresh();
  const environment = await folder.json<Record<string, unknown>>(join(path, 'environment.json'));
  const pairs =
    (await folder.json<{ pairs?: unknown[] }>(join(path, 'report', 'evaluation.json')))?.pairs ?? [];
  const metrics = columns
    .names()
    .map((name) => services.describeMetric(name))
    .sort((a, b) => groups.indexOf(a.group) - groups.indexOf(b.group));
  return {
    ...row,
    folder: folder.shown(path),
    recipeText: recipe.text,
    recipe: recipe.problem === null ? services.describeRecipe(recipe.value) : [],
    environment: environment ?? null,
    checkpoints: await checkpointsOf(catalogue, path),
    metrics,
    pictureSteps: {
      rollout: lines.steps('rollout'),
      validation: lines.steps('validation'),
      test: pairs.length > 0 ? [0] : [],
    },
    adapters: await adaptersOf(catalogue, path),
    report: await reportOf(catalogue, path),
    commands: commandsOf(row, folder.shown(path)),
    stop: stopOf(row, path, services),
    offset: columns.offset,
  };
}

async function checkpointsOf({ folder }: Catalogue, path: string): Promise<RunDetail['checkpoints']> {
  const found: RunDetail['checkpoints'] = [];
  for (const step of await checkpointSteps(path)) {
    const place = join(path, 'checkpoints', `step-${step}`);
    const info = await folder.json<{ score?: number | null }>(join(place, 'checkpoint.json'));
    const savedAt = (await factsOf(join(place, 'checkpoint.json')))?.changed;
    if (info === undefined || savedAt === undefined) continue; // pruned meanwhile
    const sizes = await Promise.all(
      ['state.safetensors', 'state.json'].map(async (name) => (await factsOf(join(place, name)))?.size ?? 0),
    );
    const score = typeof info.score === 'number' ? info.score : null;
    found.push({ step, score, best: false, savedAt, bytes: sizes.reduce((a, b) => a + b, 0) });
  }
  const scored = found.filter(({ score }) => score !== null);
  const best = scored.reduce<(typeof found)[number] | undefined>(
    (top, one) => (top === undefined || (one.score as number) > (top.score as number) ? one : top),
    undefined,
  );
  if (best !== undefined) best.best = true;
  return found;
}

export async function adaptersOf(
  { folder, services }: Catalogue,
  path: string,
): Promise<RunDetail['adapters']> {
  const name = 'pytorch_lora_weights.safetensors';
  const file = join(path, 'adapters', name);
  const info = await stat(file).catch(() => undefined);
  if (info === undefined) return [];
  try {
    const { parts } = services.describeAdapter(await folder.inside(file));
    return [{ name, file: folder.idOfFile(file), bytes: info.size, parts }];
  } catch {
    return []; // being written, or damaged
  }
}

async function reportOf({ folder }: Catalogue, path: string): Promise<RunDetail['report']> {
  const found = await folder.json<{
    reward?: { before: number; after: number; difference: number; ci95?: [number, number] | null };
    prompts?: number;
    note?: string;
  }>(join(path, 'report', 'report.json'));
  if (found?.reward === undefined) return null;
  const { before, after, difference, ci95 } = found.reward;
  return {
    before,
    after,
    difference,
    ci95: ci95 ?? null,
    prompts: found.prompts ?? 0,
    note: found.note ?? '',
  };
}

function commandsOf(row: RunRow, named: string): RunDetail['commands'] {
  const run = quoted(named);
  const commands = [{ title: 'explain', command: `rldf explain ${run}` }];
  if (row.state === 'stopped') commands.unshift({ title: 'go on', command: `rldf resume ${run}` });
  if (row.state === 'finished') {
    const adapter = quoted(join(named, 'adapters', 'pytorch_lora_weights.safetensors'));
    commands.unshift({ title: 'draw the report again', command: `rldf report ${run}` });
    commands.push(
      {
        title: 'draw with it',
        command: `rldf generate "a cat" --model ${quoted(row.model)} --adapter ${adapter}`,
      },
      {
        title: 'for ComfyUI and A1111',
        command: `rldf export ${adapter} --format kohya --output lora.safetensors`,
      },
    );
  }
  return commands;
}

function stopOf(row: RunRow, path: string, services: Services): RunDetail['stop'] {
  const holder = row.state === 'running' ? services.holderOf(path) : undefined;
  if (holder === undefined) return { possible: false, reason: 'nothing runs here', pid: null, host: null };
  const { pid, host, here } = holder;
  const reason = here ? null : `it runs on ${host}, in another container, or this process may not reach it`;
  return { possible: here, reason, pid, host };
}
