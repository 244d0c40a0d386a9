import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { loadRecipe } from '../recipe/load.js';
import { methodNames } from '../recipe/recipe.js';
import { rldf } from './command-line.fixture.js';
import { recipePath } from './shared.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-recipes-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('recipes are listed by group, the quickstart first, one line each', async () => {
  const { out } = await rldf('recipes');
  const lines = out.split('\n');
  const place = (start: string) => lines.findIndex((line) => line.startsWith(start));
  const order = ['Start here', '  quickstart  ', '  emoji/ddpo  ', '  stable-diffusion/ddpo-lora  '].map(
    place,
  );
  expect(order).not.toContain(-1);
  expect([...order].sort((a, b) => a - b)).toEqual(order);
  const all = JSON.parse((await rldf('recipes', '--json')).out) as Record<string, string>[];
  for (const { name, description, method } of all) {
    expect(lines.filter((line) => line.startsWith(`  ${name}  `))).toHaveLength(1);
    expect(description!.length).toBeGreaterThan(20);
    expect(methodNames).toContain(method);
  }
});

test('one folder of recipes alone', async () => {
  const { out } = await rldf('recipes', 'emoji');
  expect(out).toContain('emoji/texforce');
  expect(out).not.toContain('stable-diffusion/');
});

test('a copy has the files that its recipe names beside it, and means the same', async () => {
  const copy = join(folder, 'mine.yaml');
  const name = 'stable-diffusion/trl-ddpo';
  const { out } = await rldf('recipes', name, '--copy', copy);
  const beside = ['rewards/aesthetic.mjs', 'prompts/animals.txt'].map((file) => join(folder, file));
  expect(out.trim().split('\n').sort()).toEqual([copy, ...beside].sort());
  const { prompts, reward, ...rest } = loadRecipe(copy);
  const { prompts: _prompts, reward: _reward, ...original } = loadRecipe(recipePath(name));
  expect(rest).toEqual(original);
  expect({ prompts, reward }).toEqual({ prompts: beside[1], reward: { module: beside[0] } });

  // another recipe with the same files may lie beside it; a file that was changed is not overwritten
  expect((await rldf('recipes', name, '--copy', join(folder, 'second.yaml'))).code).toBe(0);
  writeFileSync(beside[1]!, 'a cat\n');
  const { code, err } = await rldf('recipes', name, '--copy', join(folder, 'third.yaml'));
  expect([code, err]).toEqual([2, expect.stringContaining('animals.txt: exists already')]);
  expect(readFileSync(beside[1]!, 'utf8')).toBe('a cat\n');
});
