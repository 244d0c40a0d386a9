/** Opens what the command line names: image sources, the shipped recogniser, the world's judges. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Picture, tensorOfPictures } from '@rldf/common/base/picture';
import { sha256 } from '@rldf/common/base/sha256';
import { loadClipFolder, loadWorldClip, worldClip } from '@rldf/common/instruments/frozen-clip';
import {
  instrumentFile,
  judgeOnly,
  listInstruments,
  loadDetector,
} from '@rldf/common/instruments/instruments';
import { findModel } from '@rldf/common/instruments/models';
import { NounClassifier } from '@rldf/common/instruments/noun-classifier';
import { SceneClassifier, styleLabels } from '@rldf/common/instruments/scene-classifier';
import { shareModel } from '@rldf/common/workers/draw';
import { nouns } from '@rldf/emoji-world';
import { loadPipeline, type Pipeline } from '@rldf/models';
import type { Device, Tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import type { Encoding } from '../world/encoding.js';
import type { Grammar } from '../world/grammar.js';
import { type EndpointOptions, endpointSource } from './endpoint.js';
import type { SearchJudge } from './final-pictures.js';
import {
  type ImageSource,
  type PipelineSourceOptions,
  pipelineSource,
  resizePicture,
} from './image-source.js';
import { clipEmbedder, type Embedder, type Recogniser, zeroShotRecogniser } from './recogniser.js';

/** A batch as a pipeline is to draw it. */
export interface SourceDrawing {
  folder: string;
  device: Device;
  pictures: number;
  batchSize: number;
  steps: number;
  guided: boolean;
  onNotice?: ((line: string) => void) | undefined;
}

export type SourceOptions = Omit<PipelineSourceOptions, 'model' | 'check'> &
  EndpointOptions & {
    device?: Device;
    /** Asked before the first picture of a pipeline whether the machine can draw a batch; may refuse. */
    checkDrawing?: (pipeline: Pipeline, drawing: SourceDrawing) => Promise<void>;
  };

/** @param model a shipped model, a folder, or an endpoint's address */
export function openSource(model: string, options: SourceOptions = {}): ImageSource {
  if (/^https?:/i.test(model)) return endpointSource(model, options);
  const { name, path: folder, bytes } = findModel(model);
  const { device = 'cpu', onNotice, checkDrawing } = options;
  const pipeline = loadPipeline(folder, { device });
  shareModel(pipeline, { folder, device });
  return pipelineSource(pipeline, {
    ...options,
    model: `${name} (${bytes} bytes)`,
    check: async (pictures, settings) =>
      checkDrawing?.(pipeline, { folder, device, pictures, batchSize: pictures, onNotice, ...settings }),
  });
}

/**
 * The shipped detector and CLIP, where the grammar's objects are the world's nouns.
 * Its name holds the weights' hashes: what older weights saw is not taken for what these see.
 * @param clipFolder a CLIP folder instead, for other worlds: it recognises alone
 * @throws UserError for a grammar of other objects without a CLIP folder
 */
export function openRecogniser(
  grammar: Grammar,
  clipFolder?: string,
): { recogniser: Recogniser; embedder: Embedder } {
  if (clipFolder !== undefined) {
    const embedder = clipEmbedder(loadClipFolder(clipFolder));
    return { embedder, recogniser: zeroShotRecogniser(grammar, { embedder, name: `clip ${clipFolder}` }) };
  }
  const foreign = [...grammar.objects]
    .flatMap((symbol) => grammar.productions.get(symbol) ?? [])
    .filter((one) => one.kind === 'words' && !worldNouns.has(one.means));
  if (foreign.length > 0) {
    const names = foreign.map((one) => (one.kind === 'words' ? one.means : '')).slice(0, 5);
    throw new UserError(
      `${grammar.where}: the shipped detector knows no ${names.join(', ')} — it names the built-in world's nouns. Give a CLIP folder with --clip`,
    );
  }
  const embedder = clipEmbedder(loadWorldClip('clip'));
  const detector = loadDetector('detector');
  const hash = (file: string) => sha256(readFileSync(file)).slice(0, 12);
  const name = `detector ${hash(instrumentFile('detector'))} and clip ${hash(join(worldClip(), 'model.safetensors'))}`;
  return { embedder, recogniser: zeroShotRecogniser(grammar, { embedder, detector, name }) };
}

const worldNouns: ReadonlySet<string> = new Set(nouns.map(({ name }) => name));
const judgeSize = 64;

/** The world's judges, which share nothing with what rewards: for grammars of the world's nouns. */
export async function worldJudge(encoding: Encoding): Promise<SearchJudge | undefined> {
  const objects = encoding.axes.filter(({ role }) => role === 'object');
  if (objects.length === 0 || objects.some(({ meanings }) => meanings.some((one) => !worldNouns.has(one))))
    return undefined;
  const here = listInstruments();
  if (!here.includes('judge') || !here.includes('style')) return undefined;
  const classifier = NounClassifier.load(instrumentFile(judgeOnly('judge')));
  const styles = SceneClassifier.load(instrumentFile(judgeOnly('style')));
  return {
    name: 'judge and style',
    styleLabels,
    nouns: (pictures) => looking(pictures, (images) => classifier.nounsOf(images)),
    features: (pictures) => looking(pictures, (images) => styles.featuresOf(images)),
    styles: (pictures) => looking(pictures, (images) => styles.styles(images)),
  };
}

/** Shows pictures to a judge at the size that it knows. */
async function looking<Verdict>(
  pictures: readonly Picture[],
  look: (images: Tensor) => Verdict[],
): Promise<Verdict[]> {
  if (pictures.length === 0) return [];
  const fitting = await Promise.all(pictures.map((one) => resizePicture(one, judgeSize, judgeSize)));
  const images = tensorOfPictures(fitting);
  try {
    return look(images);
  } finally {
    images.free();
  }
}
