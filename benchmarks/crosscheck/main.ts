// npm run crosscheck [-- GROUP ...] [--json] [--only GROUP,...] [--case NAME,...] [--plant FAULT,...] [--python FILE]
// Whatever rldf writes is used by the real clients, and whatever they write by rldf; the results must be the same; and
// training goes as in PyTorch (group training) and in TRL (group trl). A fault of --plant must make its check fail; those in
// training (--plant all, or names of training/plants.ts) are edits of a copy of the sources, and each is shown to be caught.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { UserError } from '@rldf/torch';
import { findModel } from 'rldf';
import { pythonEnvironment } from '../shared/environments.js';
import { Peer } from '../shared/peer.js';
import { adapterChecks } from './adapters.js';
import { ask, type Check, type Context, checkTable, type Plant, plants, same } from './checks.js';
import { gligenChecks } from './gligen.js';
import { hubChecks } from './hub.js';
import { pictureChecks } from './pictures.js';
import { rewardChecks } from './rewards.js';
import { singleFileChecks } from './single-files.js';
import { tensorBoardChecks } from './tensorboard.js';
import { theirFileChecks } from './their-files.js';
import { towerChecks } from './towers.js';
import { casesOf, trainingChecks } from './training/index.js';
import { plantedChecks } from './training/planted.js';
import { plants as trainingPlants } from './training/plants.js';
import { xlAdapterChecks } from './xl-adapters.js';

const groups: Record<string, (context: Context) => Promise<Check[]>> = {
  pictures: pictureChecks,
  adapters: async (context) => [
    ...(await adapterChecks(context)),
    ...(await xlAdapterChecks(context)),
    ...(await tensorBoardChecks(context)),
  ],
  gligen: gligenChecks,
  'their-files': theirFileChecks,
  'single-files': singleFileChecks,
  hub: hubChecks,
  towers: towerChecks,
  rewards: rewardChecks,
  training: trainingChecks('training'),
  trl: trainingChecks('trl'),
};

function chosen<Name extends string>(option: string, name: string, names: readonly Name[]): Name {
  const found = names.find((candidate) => candidate === name);
  if (found !== undefined) return found;
  throw new UserError(`--${option} ${name}: there is no such — one of ${names.join(', ')}.`);
}

/** A side that cannot load what the other wrote is a difference too, and other groups go on. */
function failure(group: string, error: unknown): Check {
  process.stderr.write(`${(error as Error).stack}\n`);
  return same(`${group} came to an end`, Number.POSITIVE_INFINITY, 0, '', (error as Error).message);
}

try {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      case: { type: 'string' },
      json: { type: 'boolean', default: false },
      only: { type: 'string' },
      plant: { type: 'string' },
      python: { type: 'string' },
    },
  });
  const chosenGroups = [...positionals, ...(values.only?.split(',') ?? [])];
  const names = chosenGroups.length > 0 ? chosenGroups : Object.keys(groups);
  const wanted = names.map((name) => chosen('only', name, Object.keys(groups)));
  const faults = values.plant?.split(',') ?? [];
  const inTraining = ['all', ...trainingPlants.map(({ name }) => name)];
  const sown = faults.filter((name) => inTraining.includes(name));
  const planted = new Set(
    faults
      .filter((name) => !sown.includes(name))
      .map((name) => chosen('plant', name, [...Object.keys(plants), ...inTraining] as Plant[])),
  );
  const known = wanted.flatMap((name) => casesOf[name] ?? []);
  const cases = values.case?.split(',').map((name) => chosen('case', name, known));
  const say = (text: string) => process.stderr.write(`crosscheck: ${text}\n`);
  const folder = mkdtempSync(join(tmpdir(), 'rldf-crosscheck-'));
  let python: string | undefined;
  let peer: Peer | undefined;
  try {
    const context: Context = {
      ...{ folder, model: findModel('emoji').path, planted, say, cases, scorersPython: values.python },
      get python() {
        python ??= pythonEnvironment('diffusers', { python: values.python });
        return python;
      },
      get peer() {
        peer ??= new Peer(this.python, 'crosscheck_peer.py');
        return peer;
      },
    };
    const clients = wanted.every((name) => ['trl', 'rewards'].includes(name))
      ? {}
      : await ask(context, { ask: 'hello' });
    const versions = Object.entries(clients).map(([name, version]) => `${name} ${version}`);
    if (versions.length > 0) say(versions.join(', '));
    for (const fault of planted) say(`planted: ${plants[fault]}`);
    const checks: Check[] = [];
    if (sown.length > 0) checks.push(...(await plantedChecks(context, sown)));
    for (const name of sown.length > 0 ? [] : wanted) {
      say(name);
      checks.push(...(await groups[name]!(context).catch((error) => [failure(name, error)])));
    }
    process.stdout.write(
      values.json ? `${JSON.stringify({ clients, checks }, null, 2)}\n` : checkTable(checks),
    );
    const failed = checks.filter(({ pass }) => !pass).length;
    say(failed === 0 ? `all ${checks.length} checks passed` : `${failed} of ${checks.length} checks FAILED`);
    process.exitCode = failed === 0 ? 0 : 1;
  } finally {
    peer?.end();
    rmSync(folder, { recursive: true, force: true });
  }
} catch (error) {
  const mistake =
    error instanceof UserError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
  process.stderr.write(`${mistake ? (error as Error).message : (error as Error).stack}\n`);
  process.exitCode = mistake ? 2 : 1;
}
