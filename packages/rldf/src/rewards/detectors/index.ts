/** Detectors by what a recipe or `--detector` says. */

import { dirname, resolve } from 'node:path';
import { didYouMean } from '@rldf/common/base/suggest';
import {
  instrumentCard,
  isDetector,
  listInstruments,
  loadDetector,
} from '@rldf/common/instruments/instruments';
import type { Detector } from '@rldf/models';
import type { Device } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import {
  type DetectorField,
  detectorSchema,
  type OnnxDetectorField,
  onnxDetectorSchema,
  type ZeroShotDetectorField,
} from '../../config/detector-fields.js';
import { checkedFields, checkedFile } from '../../config/remote-fields.js';
import { humanDetector } from './human.js';
import { humanLicences, humanNames } from './human-licences.js';
import { onnxDetector } from './onnx.js';
import { zeroShotDetector } from './zero-shot.js';

type Spelled = OnnxDetectorField | ZeroShotDetectorField;

/**
 * The detector that a field names. Its weights are read when it is first used, or by `ready`.
 * @param role what it may not be used for: judges give no feedback
 * @throws UserError for a name that is none
 */
export function openDetector(field: DetectorField, { device = 'cpu' as Device } = {}): Detector {
  const meant = meaningOf(field);
  if (typeof meant !== 'string') return 'onnx' in meant ? onnxDetector(meant) : zeroShotDetector(meant);
  return meant in humanNames
    ? humanDetector(meant as keyof typeof humanNames)
    : loadDetector(meant, undefined, device);
}

/** What can be said of a detector before it is loaded: its name, and its licence where that is known. */
export function describeDetector(field: DetectorField): { name: string; licence: string } {
  const meant = meaningOf(field);
  if (typeof meant === 'string') {
    if (meant in humanNames) return { name: meant, licence: humanLicences[meant as keyof typeof humanNames] };
    return { name: meant, licence: instrumentCard(meant).licence ?? 'Apache-2.0' };
  }
  return { name: 'onnx' in meant ? meant.onnx : meant.zeroShot, licence: meant.licence ?? 'unknown' };
}

/** Why a field is no detector that may give feedback; undefined if it is one. */
export function detectorProblem(field: DetectorField): string | undefined {
  try {
    const meant = meaningOf(field);
    if (typeof meant !== 'string' || meant in humanNames) return undefined;
    const card = instrumentCard(meant);
    if (!isDetector(card)) return `is no detector but a ${card.class}. Set detector: detector`;
    if (card.role === 'feedback') return undefined;
    return 'is a judge: what is evaluated by it must not have trained on its boxes, or the evaluation would measure how well they were copied. Set detector: detector';
  } catch (error) {
    if (error instanceof UserError) return error.message;
    throw error;
  }
}

/** A field with its paths made absolute. */
export function absoluteDetector(field: DetectorField, absolute: (path: string) => string): DetectorField {
  if (typeof field === 'string') return /\.(onnx|ya?ml)$/i.test(field) ? absolute(field) : field;
  if ('zeroShot' in field) return { ...field, zeroShot: /^\.{1,2}[/\\]/.test(field.zeroShot) ? absolute(field.zeroShot) : field.zeroShot }; // biome-ignore format: one thought
  const { labels } = field;
  return {
    ...field,
    onnx: absolute(field.onnx),
    ...(typeof labels === 'string' && labels !== 'coco' && { labels: absolute(labels) }),
  };
}

/** The labels of a detector that knows other things than the built-in world has; undefined for a shipped one. */
export function ownLabels(field: DetectorField): readonly string[] | undefined {
  const meant = meaningOf(field);
  return typeof meant === 'string' && !(meant in humanNames) ? undefined : openDetector(field).labels;
}

/** The name of an instrument or of human, or the fields of a model. */
function meaningOf(field: DetectorField): string | Spelled {
  if (typeof field !== 'string') return field;
  if (/\.onnx$/i.test(field)) return checkedFields(onnxDetectorSchema, { onnx: field }, `detector ${field}`);
  if (/\.ya?ml$/i.test(field)) return fieldsIn(field);
  if (field in humanNames || listInstruments().includes(field)) return field;
  const names = [
    ...Object.keys(humanNames),
    ...listInstruments().filter((name) => isDetector(instrumentCard(name))),
  ];
  throw new UserError(
    `detector ${field}: there is none of that name — there are ${names.join(', ')}; or give a .onnx file, or a .yaml file${didYouMean(field, names)}`,
  );
}

function fieldsIn(file: string): Spelled {
  const read = checkedFile(detectorSchema, file, 'detector');
  if (typeof read === 'string')
    throw new UserError(`detector ${file}: is a name — write { onnx: FILE, labels: ... } or { zeroShot: MODEL, labels: [...] }`); // biome-ignore format: one thought
  return absoluteDetector(read, (path) => resolve(dirname(file), path)) as Spelled;
}
