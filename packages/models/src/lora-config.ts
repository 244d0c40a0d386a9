/** PEFT's LoraConfig, in an adapter file's header or as `adapter_config.json` beside it: what it says of ranks and scales. */

import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { createContext, Script } from 'node:vm';
import { shown, UserError } from '@rldf/torch';
import { readJson } from './files.js';
import type { LoraPart } from './lora-files.js';
import { PREFIXES } from './lora-names.js';

/** The config of each network's adapter. */
export interface PeftConfigs {
  /** File, or place in it, for messages. */
  where: string;
  of(part: LoraPart): PeftConfig;
}
export type PeftConfig = { readonly [key: string]: unknown };

export const PEFT_WEIGHTS = 'adapter_model.safetensors';
const PEFT_CONFIG = 'adapter_config.json';

/** PEFT's names of what is read. */
const KINDS = ['LORA', 'LOHA', 'LOKR'];
/** What a config may ask for that changes what an adapter does, and that is not built. */
const UNSUPPORTED: { readonly [key: string]: string } = {
  use_qalora: 'QALoRA',
  use_bdlora: 'block-diagonal LoRA',
  alora_invocation_tokens: 'activated LoRA',
  arrow_config: 'Arrow',
  kasa_config: 'KaSA',
  layer_replication: 'copied layers',
  lora_bias: 'LoRA with biases',
};
/** Ways to begin that take something out of the base model's weights, which an adapter then misses. */
const CHANGES_BASE = /^(pissa|corda|olora|loftq|lora_ga)/i;

/**
 * @param metadata of the file's header
 * @throws UserError when a config is damaged, or asks for another kind of adapter
 */
export function peftConfigs(file: string, metadata: { readonly [key: string]: string }): PeftConfigs {
  const beside = join(dirname(file), PEFT_CONFIG);
  if (basename(file) === PEFT_WEIGHTS && existsSync(beside)) {
    const config = readJson(beside);
    const { peft_type: kind = 'LORA' } = config;
    if (!KINDS.includes(String(kind).toUpperCase())) {
      throw new UserError(
        `${beside}: peft_type is ${shown(kind)} — only ${KINDS.join(', ')} are supported. Convert it, or use a LoRA.`,
      );
    }
    refuseUnsupported(beside, config);
    return { where: beside, of: () => config };
  }
  const where = `${file}: lora_adapter_metadata`;
  const all = parsed(where, metadata.lora_adapter_metadata);
  const of = (part: LoraPart) => {
    const prefix = `${PREFIXES[part]}.`;
    const own = Object.entries(all).filter(([key]) => key.startsWith(prefix));
    return Object.fromEntries(own.map(([key, value]) => [key.slice(prefix.length), value]));
  };
  for (const part of Object.keys(PREFIXES) as LoraPart[]) refuseUnsupported(where, of(part));
  return { where, of };
}

function parsed(where: string, text: string | undefined): PeftConfig {
  if (text === undefined) return {};
  try {
    const config: unknown = JSON.parse(text);
    return typeof config === 'object' && config !== null ? (config as PeftConfig) : {};
  } catch (error) {
    throw new UserError(`${where}: ${(error as Error).message} — must be JSON. Save it again.`);
  }
}

function refuseUnsupported(where: string, config: PeftConfig): void {
  for (const [key, kind] of Object.entries(UNSUPPORTED)) {
    const value = config[key];
    if (value === undefined || value === null || value === false) continue;
    throw new UserError(
      `${where}: ${key} is ${shown(value)} — ${kind} is another kind of adapter; only LoRA, LoHa, LoKr and DoRA are supported. ` +
        'Convert it, or use a LoRA.',
    );
  }
  const init = config.init_lora_weights;
  if (typeof init !== 'string' || !CHANGES_BASE.test(init)) return;
  throw new UserError(
    `${where}: init_lora_weights is ${shown(init)} — the adapter was trained on base weights that were changed with it. ` +
      'Save it as a plain LoRA (PEFT: save_pretrained with path_initial_model_for_weight_conversion).',
  );
}

/**
 * Alpha of a layer, so that its update is alpha / rank · up · down; the rank itself where the config says nothing, and by
 * rsLoRA alpha · sqrt(rank).
 * @throws UserError when it is no number, or the config gives the layer another rank than its matrices have
 */
export function configAlpha(configs: PeftConfigs, part: LoraPart, path: string, rank: number): number {
  const config = configs.of(part);
  const told = configRank(configs, part, path);
  if (told !== undefined && told !== null && told !== rank) {
    throw new UserError(
      `${configs.where}: the rank of ${path} is ${shown(told)} — its matrices have rank ${rank}. Save the adapter again.`,
    );
  }
  // LoHa's and LoKr's configs call it alpha
  const alpha =
    ofLayer(configs.where, config, 'alpha_pattern', path) ?? config.lora_alpha ?? config.alpha ?? rank;
  if (typeof alpha !== 'number' || !Number.isFinite(alpha)) {
    throw new UserError(
      `${configs.where}: alpha of ${path} is ${shown(alpha)} — must be a number. Save it again.`,
    );
  }
  return config.use_rslora === true ? alpha * Math.sqrt(rank) : alpha;
}

/** The rank that the config gives a layer; undefined where it says nothing. */
export function configRank(configs: PeftConfigs, part: LoraPart, path: string): unknown {
  const config = configs.of(part);
  return ofLayer(configs.where, config, 'rank_pattern', path) ?? config.r;
}

/** The value of the first pattern that fits the layer, as PEFT chooses it. */
function ofLayer(where: string, config: PeftConfig, key: string, path: string): unknown {
  const patterns = config[key];
  if (patterns === undefined || patterns === null) return undefined;
  if (typeof patterns !== 'object' || Array.isArray(patterns)) {
    throw new UserError(
      `${where}: ${key} is ${shown(patterns)} — must be an object of patterns and numbers. Save it again.`,
    );
  }
  // transformers 5 leaves `text_model.` out of the text encoder's names
  const names = [path, path.replace(/^text_model\./, '')];
  for (const [pattern, value] of Object.entries(patterns)) {
    if (fits(where, key, pattern, names)) return value;
  }
  return undefined;
}

/** PEFT's match, Python's `re.match(rf"(.*\.)?({pattern})$", path)`, in JavaScript's words. */
export function fits(where: string, key: string, pattern: string, names: readonly string[]): boolean {
  const refuse = (why: string) =>
    new UserError(`${where}: ${key} has the pattern ${shown(pattern)} — ${why}. Save the adapter again.`);
  const translated = pattern
    .replace(/\(\?P</g, '(?<')
    .replace(/\(\?P=(\w+)\)/g, '\\k<$1>')
    .replace(/\\A/g, '^')
    .replace(/\\Z/g, '$')
    .replace(/\{,(\d+)\}/g, '{0,$1}');
  let expression: RegExp;
  try {
    expression = new RegExp(`^(?:.*\\.)?(?:${translated})$`);
  } catch (error) {
    throw refuse(`${(error as Error).message}; must be a regular expression`);
  }
  if (!/[*+{]/.test(pattern)) return names.some((name) => expression.test(name));
  // repetitions within repetitions can take for ever: the file is a stranger's
  try {
    return search.runInContext(createContext({ names, expression }), { timeout: 1000 }) === true;
  } catch {
    throw refuse('it takes too long to match');
  }
}

const search = new Script('names.some((name) => expression.test(name))');
