/** Which models are here: those that ship with rldf, folders in diffusers layout, single files, and those of the hub's cache. */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, resolve } from 'node:path';
import { openModel, parseModelPath, readJson } from '@rldf/models';
import { InternalError, UserError } from '@rldf/torch/errors';
import { didYouMean } from '../base/suggest.js';
import { cachedSnapshot } from '../hub/cache.js';
import { cachedModel, hubName, hubSettings, isRemote, parseHubId } from '../hub/index.js';

export interface ModelEntry {
  name: string;
  /** Absolute path of its folder or file; with a variant behind a colon, if one was asked for. */
  path: string;
  kind: ModelKind;
  /** As the model card's header has it; `unknown` if it does not say. */
  licence: string;
  /** Size of all its files. */
  bytes: number;
}

export type ModelKind = 'text-to-image' | 'clip';

/** What may stand for a model, in words. */
export const modelWords =
  'shipped model, folder in diffusers layout, .safetensors file, or id of a hub: owner/name[@revision][:variant]';

/** The built-in world's package, wherever npm put it; it carries the shipped models. */
export const worldFolder = packageFolder('@rldf/emoji-world');
const shippedFolder = join(worldFolder, 'model');
/** The tokenizer that ships with the world. */
export const tokenizerFolder = join(shippedFolder, 'tokenizer');

/** Where the models of each name lie, should they be there. */
const shipped: Record<string, string> = { emoji: shippedFolder, 'emoji-clip': join(shippedFolder, 'clip') };

/** The shipped models that are here. */
export function listModels(folders: Readonly<Record<string, string>> = shipped): ModelEntry[] {
  return Object.entries(folders).flatMap(([name, path]) => describeModel(name, path) ?? []);
}

/**
 * A model given by name, path or id of a hub, where it is here. `provideModel` downloads those that are not.
 * @throws UserError naming the models that are here
 */
export function findModel(
  nameOrPath: string,
  folders: Readonly<Record<string, string>> = shipped,
): ModelEntry {
  const here = listModels(folders).filter(({ kind }) => kind === 'text-to-image');
  const named = here.find(({ name }) => name === nameOrPath);
  if (named !== undefined) return named;
  const { path: given, variant } = parseModelPath(nameOrPath);
  const path = resolve(given);
  if (existsSync(path) && statSync(path).isFile()) return describeFile(path, variant);
  const described = describeModel(basename(path), path);
  if (described?.kind === 'text-to-image')
    return variant === undefined ? described : { ...described, path: `${path}:${variant}` };
  const id = isRemote(nameOrPath) ? parseHubId(nameOrPath) : undefined;
  if (id !== undefined) {
    const cached = cachedModel(id);
    if (cached !== undefined) return describeCached(hubName(id), cached);
    throw new UserError(
      `model ${nameOrPath}: is not on this machine (${hubSettings().cache}) — a model of a hub is downloaded once. \`rldf models add ${hubName(id)}\` does it`,
    );
  }
  const names = here.map(({ name }) => name);
  throw new UserError(
    existsSync(path)
      ? `model ${nameOrPath}: no model_index.json in ${path} — a model is a folder in diffusers layout (model_index.json, unet/, vae/, text_encoder/, tokenizer/, scheduler/), or a single .safetensors file. Restore the missing file or give another folder`
      : `model ${nameOrPath}: neither a shipped model nor a folder — shipped are: ${names.join(', ') || 'none'}${didYouMean(nameOrPath, names)}`,
  );
}

/** The licence of a model by its card, without loading anything: of one that is not here too, if its card is in the cache. */
export function licenceOfModel(nameOrPath: string): string {
  try {
    return findModel(nameOrPath).licence;
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const id = isRemote(nameOrPath) ? parseHubId(nameOrPath) : undefined;
    const folder = id && cachedSnapshot(hubSettings().cache, id);
    const card = folder && join(folder, 'README.md');
    return licenceOf(card && existsSync(card) ? card : undefined);
  }
}

function describeFile(path: string, variant: string | undefined): ModelEntry {
  const location = variant === undefined ? path : `${path}:${variant}`;
  openModel(location); // refuses what is no model, by name
  const name = basename(path, '.safetensors');
  return { name, path: location, kind: 'text-to-image', licence: 'unknown', bytes: statSync(path).size };
}

/** A model of the hub's cache, whose files are links. */
function describeCached(name: string, location: string): ModelEntry {
  const { path, variant } = parseModelPath(location);
  if (statSync(path).isFile()) return { ...describeFile(path, variant), name };
  const card = join(path, 'README.md');
  const licence = licenceOf(existsSync(card) ? card : undefined);
  return { name, path: location, kind: 'text-to-image', licence, bytes: openModel(location).bytes() };
}

function describeModel(name: string, path: string): ModelEntry | undefined {
  const isPipeline = existsSync(join(path, 'model_index.json'));
  if (!isPipeline && !isClip(join(path, 'config.json'))) return undefined;
  const card = [join(path, 'README.md'), join(dirname(path), 'README.md')].find(existsSync);
  return {
    name,
    path,
    kind: isPipeline ? 'text-to-image' : 'clip',
    licence: licenceOf(card),
    bytes: sizeOf(path, isPipeline ? ['clip'] : []),
  };
}

function isClip(config: string): boolean {
  if (!existsSync(config)) return false;
  const { text_config: text, vision_config: vision } = readJson(config);
  return text !== undefined && vision !== undefined;
}

/** The `license:` of a model card's header. */
function licenceOf(card: string | undefined): string {
  if (card === undefined) return 'unknown';
  return /^license:\s*["']?([^\s"']+)/m.exec(readFileSync(card, 'utf8'))?.[1] ?? 'unknown';
}

function sizeOf(folder: string, without: readonly string[]): number {
  let bytes = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isFile()) bytes += statSync(path).size;
    if (entry.isDirectory() && !without.includes(entry.name)) bytes += sizeOf(path, []);
  }
  return bytes;
}

/** Looks where Node would, but needs neither an entry point nor a build. */
function packageFolder(name: string): string {
  const places = createRequire(import.meta.url).resolve.paths(name) ?? [];
  const found = places
    .map((place) => join(place, name))
    .find((folder) => existsSync(join(folder, 'package.json')));
  if (found === undefined) throw new InternalError(`the package ${name} is not installed`);
  return found;
}
