/** `rldf rewards check` of rewards that look: do the packages here find in stored pictures what they found where rldf was made? */

import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Picture, tensorOfPictures } from '@rldf/common/base/picture';
import { type Detection, readJson } from '@rldf/models';
import { type Device, noiseKey, Random, readSafetensors } from '@rldf/torch';
import type { SingleReward } from '../config/fields.js';
import type { CheckedReward, RewardCheck } from './check.js';
import { detectedReward, detectorOfScore } from './detected.js';
import { openDetector } from './detectors/index.js';
import { faceQuality, loadFaceQuality } from './face-quality.js';
import {
  loadPhotograph,
  loadSign,
  type PhotographName,
  photographNames,
  promptOf,
  storedSign,
  taskOf,
} from './photographs.js';
import { rewardAssets } from './published-names.js';
import { loadJudgeTemplate } from './remote/judge-template.js';
import { preferenceOf, type VisionJudge } from './remote/vision.js';
import { checkScores, type Reward } from './reward.js';
import { tesseractReader, textScore } from './text.js';

/** What was found where rldf was made: packages/rldf/assets/rewards/photographs/found.json. */
export type Found = Record<string, Partial<Record<PhotographName, Detection[]>>>;

const stored = (): Found => readJson(join(rewardAssets, 'photographs', 'found.json')) as Found;

/** WebAssembly rounds alike; processors without its vector instructions do not quite. */
const SCORE = 0.05;
/** Of the longer side. */
const EDGE = 0.03;

export type LookingName = 'geneval' | 'composition' | 'face' | 'hand' | 'text';

/**
 * @param weights of the face quality network, for `face`
 * @throws UserError that says what to install
 */
export async function checkLooking(
  name: LookingName,
  { weights, device = 'cpu' }: { weights?: string | undefined; device?: Device } = {},
): Promise<CheckedReward> {
  const network = name === 'face' ? qualityChecks(weights, device) : [];
  if (weights === 'tiny') return { reward: name, checks: network, scores: [] };
  if (name === 'text') return checkText();
  const named = detectorOfScore[name];
  const detector = openDetector(named);
  await detector.ready?.();
  const reward = detectedReward({ score: name });
  const checks: RewardCheck[] = [...network];
  const scores: CheckedReward['scores'] = [];
  for (const photograph of photographNames) {
    const picture = await loadPhotograph(photograph);
    const images = tensorOfPictures([picture]);
    const [found] = (await detector.detect(images)) as [Detection[]];
    checks.push(compared(`${named} on the photograph ${photograph}`, found, stored()[named]?.[photograph] ?? [], picture)); // biome-ignore format: one thought
    if (photograph !== 'rocket') {
      const batch = { images, prompts: [promptOf(photograph)], meta: [taskOf(photograph)] };
      scores.push({ prompt: promptOf(photograph), score: (await reward.score(batch))[0]! });
    }
    images.free();
  }
  return { reward: name, checks, scores };
}

/** Of detections in their order, best first. */
function compared(
  what: string,
  found: readonly Detection[],
  expected: readonly Detection[],
  { width, height }: Picture,
): RewardCheck {
  const names = (all: readonly Detection[]) =>
    all.map(({ label }) => label).join(', ') || 'nothing'; // biome-ignore format: one thought
  if (names(found) !== names(expected))
    return { what, pass: false, detail: `finds ${names(found)} instead of ${names(expected)}` };
  const score = Math.max(0, ...found.map((one, i) => Math.abs(one.score - expected[i]!.score)));
  const edges = found.flatMap(({ box }, i) => box.map((edge, k) => Math.abs(edge - expected[i]!.box[k]!)));
  const edge = Math.max(0, ...edges) / Math.max(width, height);
  return {
    what,
    pass: score <= SCORE && edge <= EDGE,
    detail: `${names(found)}${found.length === 0 ? '' : `; scores at most ${score.toFixed(3)} apart (${SCORE}), edges ${(100 * edge).toFixed(1)} % (${100 * EDGE} %)`}`,
  };
}

/** Of the largest stored score. */
const TOLERANCE = 1e-4;
/** What the package's own code gives its own weights for the stored pictures (face_quality.py, `published`). */
const published = [0.5225356817245483, 0.36961475014686584, 0.47511953115463257];

function qualityChecks(weights: string | undefined, device: Device): RewardCheck[] {
  const { scores } = readJson(join(rewardAssets, 'vectors.json')) as { scores: { face: number[] } };
  const pictures = [...readSafetensors(join(rewardAssets, 'pictures.safetensors')).tensors.values()].map(
    (data): Picture => {
      const [height, width] = data.shape as [number, number, number];
      return { width, height, channels: 3, data: data.toArray() as Uint8Array };
    },
  );
  const check = (what: string, given: string, expected: readonly number[]): RewardCheck => {
    const found = faceQuality(loadFaceQuality(given, device), pictures, device);
    const scale = Math.max(...expected.map(Math.abs));
    const error = Math.max(...expected.map((score, i) => Math.abs(score - found[i]!))) / scale;
    return {
      what,
      pass: error <= TOLERANCE,
      detail: `largest difference ${error.toExponential(1)} of the largest score (at most ${TOLERANCE.toExponential(0)})`,
    };
  };
  const checks = [check('face quality, tiny weights, against the package’s own code', 'tiny', scores.face)];
  if (weights !== undefined && weights !== 'tiny')
    checks.push(check('your weights against the package’s own code', weights, published));
  return checks;
}

async function checkText(): Promise<CheckedReward> {
  const reader = tesseractReader({ text: 'tesseract', language: 'eng' });
  await reader.ready();
  const [read] = (await reader.read([await loadSign()])) as [string];
  const score = textScore(storedSign.text, read);
  const check = {
    what: 'tesseract on the stored sign',
    pass: score === 1,
    detail: `reads "${read.trim()}" where "${storedSign.text}" is written`,
  };
  return { reward: 'text', checks: [check], scores: [{ prompt: `a sign that says "${storedSign.text}"`, score }] }; // biome-ignore format: one thought
}

/** Of a judge of pairs: photographs beside noise. */
async function checkPairs(judge: VisionJudge): Promise<CheckedReward> {
  const pairs = await Promise.all(
    photographNames.map(async (name) => {
      const picture = await loadPhotograph(name);
      const random = new Random(noiseKey(0, 'check pairs'));
      const noise = { ...picture, data: picture.data.map(() => random.integer(256)) };
      return { prompt: promptOf(name), pictures: [picture, noise] as const };
    }),
  );
  const answers = await judge.prefer(pairs);
  const checks = answers.map((answer, i): RewardCheck => {
    return {
      what: `${photographNames[i]} beside noise, in both orders`,
      pass: answer !== undefined && answer.shownFirst > 0.5 && answer.shownSecond > 0.5,
      detail: answer
        ? `p(the photograph) ${answer.shownFirst.toPrecision(3)} shown first, ${answer.shownSecond.toPrecision(3)} shown second`
        : 'the answer cannot be read',
    };
  });
  const scores = answers.map((answer, i) => ({
    prompt: pairs[i]!.prompt,
    score: preferenceOf(answer),
  }));
  return { reward: judge.name, checks, scores };
}

/**
 * Of a reward that a file names, such as a server or a judge: does it answer for the stored photographs, and the same twice?
 * @param again a second one of the same, without what the first remembers
 */
export async function checkGiven(
  field: SingleReward,
  load: (field: SingleReward) => Promise<Reward>,
): Promise<CheckedReward> {
  const isVision = typeof field === 'object' && 'vision' in field;
  const fresh = () =>
    load(isVision ? { ...field, cache: mkdtempSync(join(tmpdir(), 'rldf-check-')) } : field);
  const [reward, again] = [await fresh(), await fresh()];
  await reward.ready?.();
  if ('prefer' in reward && isVision && loadJudgeTemplate(field.vision).ask === 'pair')
    return checkPairs(reward as VisionJudge);
  const names = photographNames;
  const all = await Promise.all(names.map(loadPhotograph));
  const prompts = names.map(promptOf);
  const scoresBy = async (one: Reward) => {
    const scores: number[] = [];
    for (const [i, picture] of all.entries()) {
      const images = tensorOfPictures([picture]);
      const own = [prompts[i]!];
      scores.push(...checkScores(one.name, await one.score({ images, prompts: own, meta: [taskOf(names[i]!)] }), { prompts: own })); // biome-ignore format: one thought
      images.free();
    }
    return scores;
  };
  const first = await scoresBy(reward);
  const second = await scoresBy(again);
  const apart = Math.max(...first.map((score, i) => Math.abs(score - second[i]!)));
  const alike = new Set(first).size === 1;
  const checks: RewardCheck[] = [
    { what: 'answers for four photographs', pass: true, detail: first.map((score) => score.toPrecision(4)).join(', ') },
    { what: 'answers the same twice', pass: apart === 0 ? true : undefined, detail: apart === 0 ? 'yes' : `at most ${apart.toPrecision(3)} apart: it changes its mind, or is drawn at random` },
    { what: 'tells the photographs apart', pass: alike ? undefined : true, detail: alike ? 'all score the same' : 'yes' },
  ]; // biome-ignore format: one a line
  return { reward: reward.name, checks, scores: prompts.map((prompt, i) => ({ prompt, score: first[i]! })) };
}
