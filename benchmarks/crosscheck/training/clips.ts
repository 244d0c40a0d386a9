// Training of CLIP and of what scores with it.
import { loadArt } from '@rldf/emoji-world';
import {
  AestheticPredictor,
  type CLIPConfig,
  CLIPModel,
  CLIPTokenizer,
  contrastiveLoss,
  ImageRewardModel,
  TunedPreferenceModel,
} from '@rldf/models';
import { F, noGrad, noiseKey, normal, Parameters, type StateDict } from '@rldf/torch';
import {
  clipConfig,
  feedbackRules,
  GROUP,
  pretrainClip,
  rankingBatch,
  rankingLoss,
  repeatRows,
  sceneBatch,
  siblingBatch,
  tokenizerFolder,
  tokenTensor,
} from 'rldf/training';
import type { Case, CaseOf } from './comparison.js';
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

// ---- CLIP, and what stands on it

function smallClip(seed: number): { config: CLIPConfig; clip: CLIPModel; parameters: Parameters; tokenizer: CLIPTokenizer } {
  const tokenizer = CLIPTokenizer.load(tokenizerFolder);
  const { text_config, vision_config, ...common } = clipConfig(tokenizer);
  const tower = { hidden_size: 32, intermediate_size: 64, num_attention_heads: 2, num_hidden_layers: 2, projection_dim: 24 };
  const config = { ...common, projection_dim: 24, text_config: { ...text_config, ...tower }, vision_config: { ...vision_config, ...tower } };
  const parameters = Parameters.random(seed);
  return { config, clip: new CLIPModel(config, parameters.at()), parameters, tokenizer };
} // biome-ignore format: two tables

const clip =
  (name: string, given: Partial<Fitting> = {}, limits: Case['limits'] = {}): CaseOf =>
  async (context) => {
    const { config, clip, parameters, tokenizer } = smallClip(SEED);
    const art = await loadArt('noto');
    const data: StateDict = new Map();
    eachUpdate(data, (step) => {
      const { images, captions } = sceneBatch(art, 'train', SEED, step * 8, 8);
      return { images, ids: tokenTensor(tokenizer, captions) };
    });
    const named = [...parameters.entries];
    return {
      name,
      question: { ask: 'clip', clip: config, options: theirOptions(given) },
      start: copies(named),
      data,
      train: () =>
        trainee(context, name, given, named, (step) => {
          const { logitsPerImage } = clip.forward(part(data, step, 'ids'), part(data, step, 'images'));
          return contrastiveLoss(logitsPerImage.to('float32'));
        }),
      limits,
    };
  };

/** As `rldf pretrain clip` trains it: half of a batch are siblings of the other half. */
const siblings: CaseOf = async (context) => {
  const name = 'CLIP with siblings in its batches';
  const { config, clip, parameters, tokenizer } = smallClip(SEED);
  const options = { ...ourOptions(context, name, {}), batchSize: 8, seed: SEED };
  const art = await loadArt('noto');
  const data: StateDict = new Map();
  eachUpdate(data, (step) => {
    const { images, captions } = siblingBatch(
      art,
      'train',
      SEED,
      step * options.batchSize,
      options.batchSize,
    );
    return { images, ids: tokenTensor(tokenizer, captions) };
  });
  const named = [...parameters.entries];
  return {
    name,
    question: { ask: 'clip', clip: config, options: theirOptions({}) },
    start: copies(named),
    data,
    train: () => followed(options, named, pretrainClip(clip, parameters, tokenizer, options)),
  };
};

/** Ranked pictures of 3 prompts an update. */
async function ranked(data: StateDict, tokenizer: CLIPTokenizer) {
  const art = await loadArt('noto');
  const ranks: number[][] = [];
  eachUpdate(data, (step) => {
    const batch = rankingBatch(art, 'train', SEED, step * 3, 3, {
      rules: feedbackRules,
      blur: { kind: 'gaussian' },
    });
    ranks.push(batch.ranks);
    return {
      images: batch.images,
      ids: tokenTensor(tokenizer, batch.captions),
      ranks: integers(batch.ranks),
    };
  });
  return ranks;
}

const pickScore: CaseOf = async (context) => {
  const name = 'preference model in PickScore’s form, low rank';
  const given = { learningRate: 1e-4 };
  const { config, clip, parameters, tokenizer } = smallClip(SEED);
  const start = copies(parameters.entries);
  const model = TunedPreferenceModel.attach(clip, parameters, { rank: 2, seed: SEED });
  for (const [i, { branch }] of model.adapter.modules.entries()) {
    noGrad(() =>
      branch.up.copy_(
        normal([noiseKey(SEED, 'up', i)], branch.up.shape)
          .squeeze(0)
          .mul(0.1),
      ),
    );
  }
  const named = [...model.state()];
  for (const [path, one] of copies(named)) start.set(path, one);
  const data: StateDict = new Map();
  const ranks = await ranked(data, tokenizer);
  return {
    name,
    question: {
      ask: 'pick_score',
      clip: config,
      group: GROUP,
      lora: {
        rank: 2,
        alpha: 2,
        targets: [...new Set(model.adapter.modules.map(({ path }) => path.split('.').at(-1)))],
      },
      options: theirOptions(given),
    },
    start,
    data,
    train: () =>
      trainee(context, name, given, named, (step) => {
        const texts = clip.encodeText(part(data, step, 'ids'));
        return rankingLoss(
          model.score(repeatRows(texts), part(data, step, 'images')).to('float32'),
          ranks[step] as number[],
        );
      }),
  };
};

const imageReward: CaseOf = async (context) => {
  const name = 'preference head in ImageReward’s form';
  const given = {};
  const { config, clip, parameters: frozen, tokenizer } = smallClip(SEED);
  const reward = { hidden_size: 24, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 48 };
  const parameters = Parameters.random(SEED + 2);
  const model = new ImageRewardModel(reward, clip, parameters.at());
  // louder than they are drawn, so that pictures differ: with scores a rounding apart, a ReLU is on on one side and off on the other
  noGrad(() => {
    for (const [path, one] of parameters.entries)
      if (/mlp.*weight|cross.*value.weight/.test(path)) one.mul_(3);
  });
  const named = [...parameters.entries].filter(([path]) => !['mean', 'deviation'].includes(path));
  const data: StateDict = new Map();
  const ranks = await ranked(data, tokenizer);
  return {
    name,
    question: { ask: 'image_reward', clip: config, reward, group: GROUP, options: theirOptions(given) },
    start: new Map([...copies(frozen.entries, 'clip.'), ...copies(named)]),
    data,
    train: () =>
      trainee(context, name, given, named, (step) => {
        const raw = model.raw(repeatRows(part(data, step, 'ids')), part(data, step, 'images'));
        return rankingLoss(raw.to('float32'), ranks[step] as number[]);
      }),
  };
};

const aesthetic: CaseOf = (context) => {
  const name = 'aesthetic head';
  const given = { learningRate: 1e-3 };
  const parameters = Parameters.random(SEED);
  const head = new AestheticPredictor(parameters.at(), 24);
  const named = [...parameters.entries];
  const data: StateDict = new Map();
  eachUpdate(data, (step) => ({
    embeddings: normal([noiseKey(SEED, 'embeddings', step)], [32, 24]).squeeze(0),
    ratings: normal([noiseKey(SEED, 'ratings', step)], [32])
      .squeeze(0)
      .add(5),
  }));
  return {
    name,
    question: { ask: 'aesthetic', inputs: 24, options: theirOptions(given) },
    start: copies(named),
    data,
    train: () =>
      trainee(context, name, given, named, (step) =>
        F.mseLoss(head.forward(part(data, step, 'embeddings')), part(data, step, 'ratings')),
      ),
  };
};

export const clipCases: Record<string, CaseOf> = {
  'clip-siblings': siblings,
  clip: clip('CLIP with its vision tower'),
  'pick-score': pickScore,
  'image-reward': imageReward,
  aesthetic,
  'clip-bfloat16': clip('CLIP with its vision tower, bfloat16', { precision: 'bfloat16' }, inHalf),
}; // biome-ignore format: a line each
