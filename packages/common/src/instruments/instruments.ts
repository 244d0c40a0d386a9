/** The small measuring networks that ship with the world: feedback models and judges, each with a card beside its weights. */

import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { nouns } from '@rldf/emoji-world';
import { type LocalDetector, OneStageDetector, PatchVotingDetector, readJson, writeJson } from '@rldf/models';
import {
  type Device,
  Parameters,
  readSafetensors,
  type StateDict,
  scope,
  writeSafetensors,
} from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { didYouMean } from '../base/suggest.js';
import { worldFolder } from './models.js';

/** Where they lie. */
export const instrumentsFolder = join(worldFolder, 'instruments');

/** What is known of an instrument: `NAME.json`. */
export interface InstrumentCard {
  name: string;
  /** The class that reads its weights. */
  class: string;
  /** `feedback` may reward, condition and choose; a `judge` only evaluates and shares no seed with any feedback model. */
  role: 'feedback' | 'judge';
  /** Seed of the weights before training. */
  seed: number;
  /** Seed of the training scenes. */
  sceneSeed: number;
  /** The split of the training scenes. */
  split: 'train';
  /** The instrument or model that the training started from. */
  startedFrom: string | null;
  /** Least score of a detection, chosen on the validation split. Detectors only. */
  threshold?: number;
  /** As measured when it was made. */
  metrics: Record<string, number>;
  description: string;
  licence: string;
}

/** Names of the instruments that are here, sorted. */
export function listInstruments(folder = instrumentsFolder): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((file) => file.endsWith('.safetensors'))
    .map((file) => file.slice(0, -'.safetensors'.length))
    .sort();
}

/** The weights' file. @throws UserError naming the instruments that are here */
export function instrumentFile(name: string, folder = instrumentsFolder): string {
  const file = join(folder, `${name}.safetensors`);
  if (existsSync(file)) return file;
  const here = listInstruments(folder);
  throw new UserError(
    `instrument ${name}: there is none of that name — here are: ${here.join(', ') || 'none'}${didYouMean(name, here)}. Train it with \`rldf pretrain ${name} --output ${folder}\`.`,
  );
}

/** @throws UserError if there is no such instrument, or its card is missing or incomplete */
export function instrumentCard(name: string, folder = instrumentsFolder): InstrumentCard {
  const file = join(folder, `${name}.json`);
  instrumentFile(name, folder);
  if (!existsSync(file)) {
    throw new UserError(`instrument ${name}: no card ${file} — every instrument has one. Restore the file.`);
  }
  const card = readJson(file);
  const missing = requiredFields.filter((field) => card[field] === undefined);
  if (missing.length > 0) {
    throw new UserError(
      `${file}: ${missing.join(', ')} missing — a card states ${requiredFields.join(', ')}. Add them.`,
    );
  }
  return card as unknown as InstrumentCard;
}

/** @throws UserError when the instrument may also train */
export function judgeOnly<Name extends string>(name: Name): Name {
  const { role } = instrumentCard(name);
  if (role === 'judge') return name;
  throw new UserError(
    `instrument ${name}: its role is ${role} — only a judge, which trains nothing, may evaluate. Restore its card`,
  );
}

const requiredFields = [
  'name',
  'class',
  'role',
  'seed',
  'sceneSeed',
  'split',
  'startedFrom',
  'metrics',
  'description',
  'licence',
] as const;

const detectorClasses = { OneStageDetector, PatchVotingDetector };

/** Whether an instrument can be loaded by `loadDetector`. */
export const isDetector = (card: InstrumentCard) => Object.hasOwn(detectorClasses, card.class);

/**
 * A detector of the world's nouns: `detector` gives feedback, `judge-detector` only evaluates.
 * @param device of its weights; pictures may lie elsewhere
 */
export function loadDetector(
  name: 'detector' | 'judge-detector' | (string & {}),
  folder = instrumentsFolder,
  device: Device = 'cpu',
): LocalDetector {
  const card = instrumentCard(name, folder);
  const DetectorClass = detectorClasses[card.class as keyof typeof detectorClasses];
  if (DetectorClass === undefined) {
    throw new UserError(
      `instrument ${name}: its class is ${card.class} — not a detector; detectors are ${Object.keys(detectorClasses).join(', ')}.`,
    );
  }
  const parameters = loadInstrument(name, folder, device);
  const labels = nouns.map((noun) => noun.name);
  const detector = new DetectorClass(parameters.at(), labels, { threshold: card.threshold ?? 0.5 });
  parameters.assertAllUsed();
  return {
    labels,
    detect: (images, options) => scope(() => detector.detect(images.to(device), options)),
  };
}

/** An instrument's weights as float32 parameters, to build its class on. */
export function loadInstrument(name: string, folder = instrumentsFolder, device: Device = 'cpu'): Parameters {
  const file = instrumentFile(name, folder);
  return Parameters.from(readSafetensors(file).tensors, { dtype: 'float32', device, where: file });
}

/** Writes weights, in half precision, and card. */
export function writeInstrument(folder: string, card: InstrumentCard, state: StateDict): void {
  mkdirSync(folder, { recursive: true });
  scope(() => {
    const halves = [...state].map(([key, tensor]) => [key, tensor.detach().to('float16')] as const);
    writeSafetensors(join(folder, `${card.name}.safetensors`), new Map(halves));
  });
  writeJson(join(folder, `${card.name}.json`), card as unknown as Record<string, unknown>);
}
