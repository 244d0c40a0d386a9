// Training of detectors and classifiers.
import { join } from 'node:path';
import { backgrounds, loadArt, nouns } from '@rldf/emoji-world';
import { OneStageDetector, PatchVotingDetector, ResNet18 } from '@rldf/models';
import { noiseKey, Parameters, Random, type StateDict, tensor } from '@rldf/torch';
import { knownArt, SceneClassifier, styleLabels } from 'rldf/eval';
import { NounClassifier } from 'rldf/pretrain';
import {
  cellsAtCentre,
  cellTargets,
  crops,
  detectionBatch,
  detectionLoss,
  imagesOf,
  labelled,
  labelledScenes,
  pretrainClassifier,
  sceneLoss,
  trainClassifier,
} from 'rldf/training';
import { type Case, type CaseOf, UPDATES } from './comparison.js';
import {
  copies,
  eachUpdate,
  type Fitting,
  followed,
  inHalf,
  integers,
  ourOptions,
  part,
  SEED,
  theirOptions,
  trainee,
} from './fitting.js';

// ---- detectors and classifiers

const detector =
  (name: string, Network: typeof OneStageDetector | typeof PatchVotingDetector, given: Partial<Fitting> = {}, limits: Case['limits'] = {}): CaseOf =>
  async (context) => {
    const labels = nouns.map((noun) => noun.name);
    const parameters = Parameters.random(SEED);
    const network = new Network(parameters.at(), labels);
    const art = await loadArt('noto');
    const data: StateDict = new Map();
    const targets: ReturnType<typeof cellTargets>[] = [];
    eachUpdate(data, (step) => {
      const { pictures, truths } = detectionBatch(art, 'train', SEED, step * 4, 4);
      const wanted = cellTargets(truths, labels, cellsAtCentre);
      targets.push(wanted);
      return {
        images: imagesOf(pictures),
        objectness: tensor(wanted.objectness),
        cells: integers(wanted.cells),
        labels: integers(wanted.labels),
        distances: tensor(wanted.distances),
      };
    });
    const named = [...parameters.entries];
    return {
      name,
      question: { ask: 'detector', class: Network.name, labels: labels.length, options: theirOptions(given) },
      start: copies(named),
      data,
      train: () =>
        trainee(context, name, given, named, (step) =>
          detectionLoss(network.forward(part(data, step, 'images')), targets[step] as ReturnType<typeof cellTargets>),
        ),
      limits,
    };
  }; // biome-ignore format: its parameters are a table

const nounClassifier: CaseOf = async (context) => {
  const name = 'classifier of nouns';
  const given = {};
  const parameters = Parameters.random(SEED);
  const classifier = new NounClassifier(parameters.at());
  const art = await loadArt('noto');
  const data: StateDict = new Map();
  eachUpdate(data, (step) => {
    const { images, labels } = labelled(art, 'train', SEED, step * 8, 8);
    return { images, labels: integers(labels) };
  });
  const named = [...parameters.entries];
  const options = { ...ourOptions(context, name, given), batchSize: 8, seed: SEED };
  return {
    name,
    question: { ask: 'noun_classifier', nouns: nouns.length, options: theirOptions(given) },
    start: copies(named),
    data,
    train: () => followed(options, named, pretrainClassifier(classifier, parameters, options)),
  };
};

const sceneClassifier: CaseOf = async (context) => {
  const name = 'classifier of scenes';
  const given = {};
  const parameters = Parameters.random(SEED);
  const network = new SceneClassifier(parameters.at());
  const arts = await Promise.all(knownArt.map(loadArt));
  const batches = Array.from({ length: UPDATES }, (_, step) =>
    labelledScenes(arts, 'train', SEED, step * 6, 6),
  );
  const data: StateDict = new Map();
  eachUpdate(data, (step) => {
    const { images, nouns: shares, styles, backgrounds: places, arts: sets } = batches[step] as (typeof batches)[number]; // biome-ignore format: one thought
    return {
      images,
      nouns: tensor(shares, { shape: [6, nouns.length] }),
      style: integers(styles),
      background: integers(places),
      art: integers(sets),
    };
  });
  const named = [...parameters.entries];
  const heads = {
    noun: nouns.length,
    style: styleLabels.length,
    background: backgrounds.length,
    art: knownArt.length,
  };
  return {
    name,
    question: { ask: 'scene_classifier', heads, options: theirOptions(given) },
    start: copies(named),
    data,
    train: () =>
      trainee(context, name, given, named, (step) =>
        sceneLoss(network, batches[step] as (typeof batches)[number]),
      ),
  };
};

/** The clone's classifier has a loop of its own. */
const resNet18: CaseOf = (context) => {
  const name = 'ResNet-18';
  const size = 32;
  const classes = ['a', 'b', 'c'];
  const random = new Random(noiseKey(SEED, 'pictures'));
  const labels = Array.from({ length: 160 }, (_, i) => i % classes.length);
  const pixels = Uint8Array.from({ length: 160 * size * size * 3 }, () => random.integer(256));
  const set = { classes, labels, size, pixels };
  const recipe = { epochs: 1, batchSize: 8, learningRate: 1e-4, weightDecay: 0.5, precision: 'float32', width: 8 } as const; // biome-ignore format: one thought
  const parameters = Parameters.random(SEED);
  new ResNet18(parameters.at(), { classes: classes.length, width: recipe.width });
  const learned = [...parameters.entries].filter(([path]) => !/running_|num_batches/.test(path));
  const order = new Random(noiseKey(SEED, 'classifier-order', 0)).shuffle(labels.map((_, i) => i));
  const data: StateDict = new Map();
  eachUpdate(data, (step) => {
    const rows = order.slice(step * 8, (step + 1) * 8);
    return {
      images: crops(set, rows, new Random(noiseKey(SEED, 'classifier-crops', step))),
      labels: integers(rows.map((row) => labels[row] as number)),
    };
  });
  const folder = join(context.folder, 'resnet-18');
  return {
    name,
    question: {
      ask: 'resnet18',
      classes: classes.length,
      width: recipe.width,
      options: {
        ...recipe,
        betas: [0.9, 0.999],
        steps: UPDATES,
        warmup: 1,
        cosine: true,
        decay: 0.95,
        floor: 0.01,
      },
    },
    start: copies(learned),
    data,
    async train() {
      const losses: number[] = [];
      const { classifier } = await trainClassifier(set, {
        recipe,
        seed: SEED,
        folder,
        onProgress: ({ loss }) => losses.push(loss),
      });
      return { losses, norms: [], weights: classifier.parameters.state() };
    },
  };
};

export const recogniserCases: Record<string, CaseOf> = {
  detector: detector('one-stage detector', OneStageDetector),
  'judge-detector': detector('patch-voting detector', PatchVotingDetector),
  judge: nounClassifier,
  style: sceneClassifier,
  'resnet-18': resNet18,
  'detector-bfloat16': detector('one-stage detector, bfloat16', OneStageDetector, { precision: 'bfloat16' }, inHalf),
}; // biome-ignore format: a line each
