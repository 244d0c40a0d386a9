/** The licence ledger of a training: base model, rewards, judge, detector and prompts, told from the recipe before anything is loaded. */

import { basename } from 'node:path';
import {
  type Commercial,
  commercialUse,
  type LicenceEntry,
  licenceLines,
  strictestFirst,
  strictness,
} from '@rldf/common/base/licences';
import { licenceOfModel } from '@rldf/common/instruments/models';
import { UserError } from '@rldf/torch/errors';
import type { DetectedRewardField, DetectorField } from '../config/detector-fields.js';
import type { PromptsField, RewardField } from '../config/fields.js';
import type { Recipe } from '../recipe/recipe.js';
import { detectorOfScore } from '../rewards/detected.js';
import { describeDetector } from '../rewards/detectors/index.js';
import { qualityFaceLicence } from '../rewards/face-quality.js';
import { rewards } from '../rewards/index.js';
import { statedLicence } from '../rewards/published-licence.js';
import { remoteName } from '../rewards/remote/names.js';

const ours = 'Apache-2.0';
const own = 'your own';

/** What a training is made from, the strictest licence first. What the recipe says under `licences` goes before what is known here. */
export function licencesOf(recipe: Recipe): LicenceEntry[] {
  const { model, reward, watch, prompts, evaluate, licences = {} } = recipe;
  const detector = (recipe as { detector?: DetectorField }).detector;
  const told = (keys: readonly string[]) => keys.map((key) => licences[key]).find((one) => one !== undefined);
  const entry = (
    part: LicenceEntry['part'],
    name: string,
    licence: string,
    keys: string[],
    known?: Commercial,
  ): LicenceEntry => {
    const stated = told([...keys, name]);
    const commercial = stated === undefined ? (known ?? commercialUse(licence)) : commercialUse(stated);
    return { part, name, licence: stated ?? licence, commercial };
  };
  const detectorEntry = (field: DetectorField) => {
    const { name, licence } = describeDetector(field);
    return entry('detector', modelName(name), licence, ['detector']);
  };
  const judged = watch.judge === undefined ? [] : [{ part: 'judge' as const, field: watch.judge }];
  const rewarded = Array.isArray(reward) ? reward.map((part) => part.reward) : [reward];
  const scored = [...rewarded.map((field) => ({ part: 'reward' as const, field })), ...judged].map(
    ({ part, field }) => {
      const { name, licence, commercial } = licenceOfReward(field);
      return entry(part, name, licence, [], commercial);
    },
  );
  const texts = [prompts, evaluate.prompts]
    .filter((field) => field !== undefined)
    .map((field) => licenceOfPrompts(field))
    .map(({ name, licence }) => entry('prompts', name, licence, ['prompts']));
  const entries = [
    entry('base model', modelName(model), licenceOfModel(model), ['base']),
    ...scored,
    ...(detector === undefined ? [] : [detectorEntry(detector)]),
    ...texts,
  ];
  checkTold(licences, entries);
  const once = new Map(entries.map((one) => [`${one.part} ${one.name}`, one]));
  return strictestFirst([...once.values()]);
}

/**
 * What `--commercial` and `commercial: true` do.
 * @throws UserError for parts whose licence forbids commercial use, or that have none that is known
 */
export function refuseUncommercial(entries: readonly LicenceEntry[]): void {
  const refused = entries.filter(({ commercial }) => commercial === 'no' || commercial === 'unknown');
  if (refused.length === 0) return;
  const key = ({ part, name }: LicenceEntry) =>
    part === 'base model' ? 'base' : part === 'prompts' || part === 'detector' ? part : name;
  throw new UserError(
    `commercial: ${licenceLines(refused).join('; ')} — commercial use was asked for, and nothing was loaded. Use other parts; or, if you have a licence that allows it, name it in the recipe: licences: { ${refused.map((one) => `${key(one)}: LICENCE`).join(', ')} }`,
  );
}

/** Without the folders of one machine. */
export const modelName = (text: string) => (/^([./\\]|[A-Za-z]:)/.test(text) ? basename(text) : text);

type Single = Exclude<RewardField, readonly unknown[]>;

function licenceOfReward(field: Single): { name: string; licence: string; commercial?: Commercial } {
  if (typeof field === 'string') {
    const { licence = 'unknown', commercial } = rewards[field] ?? {};
    return { name: field, licence, ...(commercial && { commercial }) };
  }
  if ('module' in field) return { name: modelName(field.module), licence: own };
  if ('ratings' in field) return { name: modelName(field.ratings), licence: own };
  if ('score' in field) return licenceOfDetected(field);
  if ('text' in field) return { name: 'text', licence: 'Apache-2.0' };
  if ('http' in field || 'vision' in field)
    return { name: remoteName(field), licence: field.licence ?? 'unknown' };
  return { name: field.name, ...statedLicence(field) };
}

function licenceOfPrompts(field: PromptsField): { name: string; licence: string } {
  if (typeof field === 'string') return { name: modelName(field), licence: own };
  if (Array.isArray(field)) return { name: 'in the recipe', licence: own };
  return { name: 'set' in field ? field.set : 'of the built-in world', licence: ours };
}

/** Of the detector and, with one, of the network that scores crops. */
function licenceOfDetected(field: DetectedRewardField): {
  name: string;
  licence: string;
  commercial: Commercial;
} {
  const { licence } = describeDetector(field.detector ?? detectorOfScore[field.score]);
  const { quality } = field;
  const own = quality === undefined ? [] : [quality.licence ?? ('onnx' in quality ? 'unknown' : qualityFaceLicence)]; // biome-ignore format: one thought
  const parts = [licence, ...own];
  const uses = parts.map(commercialUse);
  const commercial = strictness.find((use) => uses.includes(use)) ?? 'unknown';
  return { name: field.as ?? field.score, licence: parts.join('; '), commercial };
}

/** A licence that belongs to nothing would be passed over in silence. */
function checkTold(licences: Readonly<Record<string, string>>, entries: readonly LicenceEntry[]): void {
  const keys = ['base', 'prompts', 'detector', ...entries.map(({ name }) => name)];
  const stray = Object.keys(licences).find((key) => !keys.includes(key));
  if (stray !== undefined)
    throw new UserError(
      `licences.${stray}: is no part of this training — expected base, prompts, or the name of a reward: ${entries
        .filter(({ part }) => part === 'reward' || part === 'judge')
        .map(({ name }) => name)
        .join(', ')}. Correct the name`,
    );
}
