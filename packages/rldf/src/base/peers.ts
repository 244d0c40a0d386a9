/** Packages that rldf can use and does not install: they are loaded when something needs them. */

import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { UserError } from '@rldf/torch/errors';

/** What each is for, and with what it is installed. */
const peers: Readonly<Record<string, { does: string; install?: string }>> = {
  'onnxruntime-node': { does: 'runs ONNX models' },
  '@vladmandic/human': {
    does: 'finds people, faces, hands and 80 kinds of objects',
    install:
      '@vladmandic/human@3.3.6 @tensorflow/tfjs-core@4 @tensorflow/tfjs-converter@4 @tensorflow/tfjs-backend-wasm@4',
  },
  '@huggingface/transformers': { does: 'runs zero-shot detectors' },
  'tesseract.js': {
    does: 'reads text in pictures',
    install: 'tesseract.js @tesseract.js-data/eng',
  },
};

/**
 * Loads one, from beside rldf or from where the command runs.
 * @param where begins messages, such as `detector human`
 * @param file of the package, instead of what it exports
 * @throws UserError when it is not installed, with the command that does it, or does not load
 */
export async function loadPeer<Module>(name: string, where: string, file?: string): Promise<Module> {
  const path = peerPath(name, where, file);
  try {
    const module = (await import(path)) as Module & { default?: Module };
    return module.default ?? module;
  } catch (error) {
    throw broken(name, where, error);
  }
}

/** The same of a file in CommonJS. */
export function requirePeer<Module>(name: string, where: string, file: string): Module {
  try {
    return createRequire(import.meta.url)(file) as Module;
  } catch (error) {
    throw broken(name, where, error);
  }
}

const broken = (name: string, where: string, error: unknown) =>
  new UserError(
    `${where}: the package ${name} does not load (${firstLine(error)}) — it ${peers[name]?.does ?? 'is needed'}. Install it again: ${installOf(name)}`,
    { cause: error },
  );

/** Where a package, or a file of one, lies, as an address that can be imported. @throws UserError */
export function peerPath(name: string, where: string, file = name): string {
  for (const from of [import.meta.url, pathToFileURL(join(process.cwd(), 'package.json')).href]) {
    try {
      return pathToFileURL(createRequire(from).resolve(file)).href;
    } catch {}
  }
  throw new UserError(
    `${where}: the package ${name} is not installed — it ${peers[name]?.does ?? 'is needed'}, and rldf leaves its installation to you. Install it: ${installOf(name)}`,
  );
}

/** Whether a package can be loaded, for those who tell what is here. */
export function hasPeer(name: string): boolean {
  try {
    peerPath(name, '');
    return true;
  } catch {
    return false;
  }
}

/** The command that installs one. */
export const installOf = (name: string) => `\`npm install ${peers[name]?.install ?? name}\``;

const firstLine = (error: unknown) => (error instanceof Error ? error.message : String(error)).split('\n')[0];
