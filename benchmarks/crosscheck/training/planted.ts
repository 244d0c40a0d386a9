// Plants faults in a copy of the sources, one at a time, and shows that a training beside PyTorch or TRL notices each.
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'; // biome-ignore format: one thought
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readSafetensors, UserError } from '@rldf/torch';
import { type Check, type Context, same } from '../checks.js';
import { allCases } from './cases.js';
import { type Case, compare, OtherSides, type Ours, type Reference, reference } from './comparison.js';
import { type Plant, plants } from './plants.js';

const repository = fileURLToPath(new URL('../../..', import.meta.url));
const PACKAGES = readdirSync(join(repository, 'packages'));

/** Runs the trainings of the faults; each must fail. @param names of plants, or `all` */
export async function plantedChecks(context: Context, names: readonly string[]): Promise<Check[]> {
  const chosen = names.includes('all') ? plants : plants.filter(({ name }) => names.includes(name));
  const root = copy(join(context.folder, 'planted'));
  const misfits = chosen.flatMap((plant) => problemsOf(root, plant));
  if (misfits.length > 0)
    throw new UserError(`${misfits.join('\n')}\nChange training/plants.ts with the code.`);
  const sides = new OtherSides(context);
  const known = new Map<string, { made: Case; theirs: Reference }>();
  const checks: Check[] = [];
  try {
    for (const plant of chosen) {
      for (const name of plant.cases) {
        if (known.has(name)) continue;
        const made = await allCases[name]!(context);
        known.set(name, { made, theirs: await reference(context, sides, made) });
      }
      checks.push(await caught(context, root, plant, known));
    }
  } finally {
    sides.end();
  }
  return checks;
}

/** One row: by how much the fault is above its limit, and where that shows first. */
async function caught(
  context: Context,
  root: string,
  plant: Plant,
  known: ReadonlyMap<string, { made: Case; theirs: Reference }>,
): Promise<Check> {
  context.say(`planted: ${plant.what}`);
  const file = fileOf(root, plant);
  const original = readFileSync(file, 'utf8');
  writeFileSync(file, plant.edits.reduce((text, [find, replace]) => text.replace(find, () => replace), original)); // biome-ignore format: one thought
  try {
    const failed: Check[] = [];
    for (const name of plant.cases) {
      const { made, theirs } = known.get(name)!;
      failed.push(...compare(made, await ours(context, root, name), theirs).filter(({ pass }) => !pass));
    }
    const [first] = failed;
    const times = first === undefined ? 0 : first.difference / first.limit;
    const note = first === undefined ? 'SURVIVED' : `${first.check}${failed.length > 1 ? `, and ${failed.length - 1} more` : ''}`; // biome-ignore format: one thought
    const pass = first !== undefined;
    return { check: `${plant.name}: ${plant.what}`, rule: 'changes', difference: times, limit: 1, unit: 'times the limit', pass, note }; // biome-ignore format: a row
  } catch (error) {
    return same(`${plant.name}: did not run`, Number.POSITIVE_INFINITY, 0, '', (error as Error).message);
  } finally {
    writeFileSync(file, original);
  }
}

/** Our side in the workspace. */
async function ours({ model }: Context, root: string, name: string): Promise<Ours> {
  const folder = mkdtempSync(join(root, 'run-'));
  const script = join(root, 'benchmarks', 'crosscheck', 'training', 'ours.ts');
  const words = ['--conditions=rldf-source', '--import', 'tsx', script, name, model, folder];
  await new Promise<void>((resolve, reject) => {
    execFile(process.execPath, words, { cwd: root, timeout: 600_000 }, (error, _, stderr) =>
      error === null ? resolve() : reject(new Error(stderr.slice(-2000))),
    );
  });
  const read = JSON.parse(readFileSync(join(folder, 'ours.json'), 'utf8')) as Omit<Ours, 'weights'>;
  const weights = readSafetensors(join(folder, 'ours.safetensors')).tensors;
  rmSync(folder, { recursive: true, force: true }); // what is mapped stays
  return { ...read, weights };
}

/** The sources and these benchmarks, copied; all else is linked. */
function copy(root: string): string {
  for (const name of PACKAGES) {
    const from = join(repository, 'packages', name);
    const to = join(root, 'packages', name);
    mkdirSync(to, { recursive: true });
    for (const entry of readdirSync(from)) {
      if (entry === 'src' || entry === 'package.json')
        cpSync(join(from, entry), join(to, entry), { recursive: true });
      else symlinkSync(join(from, entry), join(to, entry));
    }
  }
  for (const entry of ['benchmarks', 'package.json']) {
    cpSync(join(repository, entry), join(root, entry), { recursive: true });
  }
  for (const entry of ['recipes', 'tsconfig.base.json'])
    symlinkSync(join(repository, entry), join(root, entry));
  const modules = join(root, 'node_modules');
  mkdirSync(join(modules, '@rldf'), { recursive: true });
  for (const entry of readdirSync(join(repository, 'node_modules'))) {
    if (entry !== '@rldf' && entry !== 'rldf')
      symlinkSync(join(repository, 'node_modules', entry), join(modules, entry));
  }
  for (const folder of PACKAGES) {
    const { name } = JSON.parse(readFileSync(join(root, 'packages', folder, 'package.json'), 'utf8'));
    symlinkSync(join(root, 'packages', folder), join(modules, name));
  }
  return root;
}

/** Every source file of the copy. */
function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sources(path);
    return /\.ts$/.test(entry.name) && !/\.(test|fixture)\.ts$/.test(entry.name) ? [path] : [];
  });
}

const holding = (root: string, text: string) =>
  PACKAGES.flatMap((name) => sources(join(root, 'packages', name, 'src'))).filter((file) =>
    readFileSync(file, 'utf8').includes(text),
  );

const fileOf = (root: string, { edits }: Plant) => holding(root, longest(edits))[0]!;
const longest = (edits: Plant['edits']) => [...edits].sort(([a], [b]) => b.length - a.length)[0]![0];

/** Why a plant no longer fits the sources, if so. */
function problemsOf(root: string, { name, edits }: Plant): string[] {
  const files = holding(root, longest(edits));
  if (files.length !== 1) {
    return [`plant ${name}: ${JSON.stringify(longest(edits))} stands in ${files.length} files, not in one`];
  }
  const text = readFileSync(files[0]!, 'utf8');
  return edits.flatMap(([find]) => {
    const count = text.split(find).length - 1;
    return count === 1 ? [] : [`plant ${name}: ${JSON.stringify(find)} occurs ${count} times, not once`];
  });
}
