import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import {
  type Kind,
  kindOf,
  type Shapes,
  schedulerConfig,
  TEXT,
  textConfig,
  UNET,
  unetConfig,
  VAE,
  vaeConfig,
} from '../src/single-file/config.js';
import { unetFromLdm, unetToLdm, vaeFromLdm, vaeToLdm } from '../src/single-file/names.js';
import { type Difference, goldenFolder } from './golden.js';

type Json = { [key: string]: unknown };

interface RealModel {
  configs: { [part: string]: Json };
  tensors: [original: string, shape: number[], diffusers: string[]][];
}

/**
 * What single files of the real models hold, as diffusers' conversion scripts name it: every name both ways, and the
 * configurations that are read off names and shapes. Errors are counts of what differs.
 */
export function singleFileDifferences(): Difference[] {
  const file = join(goldenFolder, 'single-file-names.json.gz');
  const golden = JSON.parse(gunzipSync(readFileSync(file)).toString('utf8')) as { [kind in Kind]: RealModel };
  return (Object.keys(golden) as Kind[]).flatMap((kind) => {
    const { configs, tensors } = golden[kind];
    const shapes: Shapes = new Map(tensors.map(([name, shape]) => [name, shape]));
    const velocity = configs.scheduler!.prediction_type === 'v_prediction';
    const found: { [part: string]: Json } = {
      unet: unetConfig(kind, shapes, kind, velocity),
      vae: vaeConfig(kind, shapes, kind, VAE, velocity),
      scheduler: schedulerConfig(kind, velocity, false),
      text_encoder: textConfig(kind, shapes, kind, 0),
      ...(TEXT[kind].length > 1 && { text_encoder_2: textConfig(kind, shapes, kind, 1) }),
    };
    const count = (name: string, wrong: number) => ({ name: `${kind} ${name}`, error: wrong });
    return [
      count('kind', kindOf(kind, shapes) === kind ? 0 : 1),
      count('names of the U-Net', wrongNames(tensors, UNET, ...unetNames(configs.unet!))),
      count(
        'names of the VAE',
        wrongNames(
          tensors,
          VAE,
          (name) => vaeFromLdm(name, 4),
          (name) => vaeToLdm(name, 4),
        ),
      ),
      ...Object.entries(found).map(([part, config]) =>
        count(`config of ${part}`, wrongFields(config, configs[part]!)),
      ),
    ];
  });
}

type Rename = (name: string) => string | undefined;

function unetNames({ layers_per_block: layers, down_block_types: types }: Json): [Rename, Rename] {
  const layersPerBlock = layers as number;
  const attends = (types as string[]).map((type) => type.startsWith('CrossAttn'));
  return [
    (name) => unetFromLdm(name, layersPerBlock),
    (name) => unetToLdm(name, { layersPerBlock, attends }),
  ];
}

function wrongNames(tensors: RealModel['tensors'], prefix: string, from: Rename, to: Rename): number {
  const own = tensors.filter(([name]) => name.startsWith(prefix));
  if (own.length === 0) return Number.POSITIVE_INFINITY;
  const bare = (name: string) => name.slice(prefix.length);
  return own.filter(([name, , [other = '']]) => from(bare(name)) !== other || to(other) !== bare(name))
    .length;
}

/** Ends of special tokens differ between a model's files without meaning anything to us. */
const unread = /^(_|architectures$|model_type$|act_fn$|projection_dim$|sample_size$|(bos|eos|pad)_token_id$)/;

/** Fields of the real configuration that ours says otherwise; what ours leaves out takes the same default. */
function wrongFields(found: Json, real: Json): number {
  const differs = (key: string) => {
    const [own, other] = [found[key], real[key]];
    return own !== undefined && other !== undefined && JSON.stringify(own) !== JSON.stringify(other);
  };
  const needed = ['block_out_channels', 'hidden_size', 'addition_embed_type', 'transformer_layers_per_block'];
  const absent = needed.filter((key) => real[key] != null && found[key] === undefined);
  return Object.keys(found).filter((key) => !unread.test(key) && differs(key)).length + absent.length;
}
