import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { agentNames, follow, measureTrace, newSearch } from '../agents/follow.js';
import { type SearchArm, type SearchRow, sweep } from '../agents/sweep.js';
import { stateSeed } from '../pictures/grid-world.js';
import { readPicture } from '../pictures/image-source.js';
import { PictureMemory } from '../pictures/memory.js';
import { prepareWorld, rewardedWorld } from '../pictures/prepared-world.js';
import { toyEmbedder, toyGrammar, toyPicture, toyRecogniser, toySource } from '../toy.fixture.js';
import { parseGrammar } from '../world/grammar.js';
import { localEncoding, neighbourDistance, seriate } from '../world/locality.js';
import { goalBonus, type Observation, semanticReward } from '../world/rewards.js';
import { type SearchOptions, search } from './search.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-search-'));
let folders = 0;
const fresh = () => join(folder, String(folders++));
const goalSentence = 'three cats in the snow';

/** Options of a search for three cats in the snow, in a new folder. */
function options(
  changes: Partial<SearchOptions> = {},
): SearchOptions & { source: ReturnType<typeof toySource> } {
  return {
    input: toyPicture({ sentence: goalSentence, seed: 1 }),
    where: 'input.png',
    grammar: toyGrammar,
    source: toySource(),
    recogniser: toyRecogniser(),
    embedder: toyEmbedder,
    follow: { agent: 'q', seed: 0, steps: 2000 },
    reward: 'multi',
    pictures: 3,
    output: fresh(),
    ...changes,
  } as SearchOptions & { source: ReturnType<typeof toySource> };
}

async function world(changes: Partial<SearchOptions> = {}, memory = fresh()) {
  const all = { ...options(changes), pictureSeed: 0, memory };
  const prepared = await prepareWorld(all);
  return { ...prepared, source: all.source, world: rewardedWorld(prepared, all) };
}

describe('rewards, by hand', () => {
  const seen = (objects: string[], scene: string, score = 0.9): Observation => ({
    objects: Object.fromEntries(objects.map((label) => [label, { count: 1, score }])),
    meanings: { Scene: scene },
    confidence: {},
    embedding: [0.6, 0.8],
  });
  const input = { ...seen(['cat', 'person'], 'snow'), embedding: [1, 0] };
  const constants = { object: 2, scene: 3, scenes: ['Scene'] };

  test('multi: C for each object of the input’s, plus or minus C_s for the scene', () => {
    const reward = semanticReward('multi', input, constants);
    expect(reward.of(seen(['cat', 'person', 'dog'], 'snow'))).toBe(2 * 2 + 3);
    expect(reward.of(seen(['dog'], 'snow'))).toBe(3);
    expect(reward.of(seen(['cat'], 'grass'))).toBe(2 - 3);
    expect([reward.least, reward.most]).toEqual([-3, 7]);
  });

  test('partial: the scene only', () => {
    const reward = semanticReward('partial', input, constants);
    expect(reward.of(seen(['cat'], 'snow'))).toBe(3);
    expect(reward.of(seen(['cat'], 'sea'))).toBe(-3);
  });

  test('without a scene axis objects alone count, and partial has nothing to pay for', () => {
    const reward = semanticReward('multi', input, { object: 2, scenes: [] });
    expect([reward.least, reward.most, reward.of(seen(['cat'], 'sea'))].map(Math.abs)).toEqual([0, 4, 2]);
    expect(() => semanticReward('partial', input, { scenes: [] })).toThrow(/the grammar names no scenes/);
  });

  test('clip: the cosine', () => {
    expect(semanticReward('clip', input, constants).of(seen([], 'sea'))).toBeCloseTo(0.6);
  });

  test('a penalty for unrealistic pictures lowers them and the bound', () => {
    const reward = semanticReward('partial', input, { ...constants, unrealisticPenalty: 5 });
    expect(reward.of(seen(['cat'], 'snow', 0.3))).toBe(3 - 5);
    expect(reward.of(seen(['cat'], 'snow', 0.7))).toBe(3);
    expect(reward.least).toBe(-8);
  });

  test('the bonus by hand: (most - least (1 - γ^D)) / ((1 - γ) γ^(D - 1)), rounded up', () => {
    // γ = .5, D = 3: (2 + .875) / (.5 x .25) = 23
    expect(goalBonus({ least: -1, most: 2 }, 0.5, 3)).toBe(24);
    expect(() => semanticReward('multi', input, { ...constants, scene: -1 })).toThrow(/scene is -1/);
  });
});

describe('locality', () => {
  test('seriation finds the line that points lie on, whatever their order', () => {
    const places = [5, 0, 3, 1, 4, 2];
    const distances = places.map((a) => places.map((b) => Math.abs(a - b)));
    const order = seriate(distances);
    expect([places, [...places].sort()].map((line) => line.length)).toEqual([6, 6]);
    const line = order.map((i) => places[i]!);
    expect(line[0] === 0 ? line : line.reverse()).toEqual([0, 1, 2, 3, 4, 5]);
    expect(neighbourDistance(order, distances)).toBe(1);
    expect(neighbourDistance([0, 1, 2, 3, 4, 5], distances)).toBeGreaterThan(2);
  });

  test('orders axes, keeps numbers, and cuts windows around the goal', async () => {
    const letters = Array.from({ length: 20 }, (_, i) => `w${i}`);
    const grammar = parseGrammar(
      `counts: [N]\nwindow: { W: 5 }\nproductions:\n  S: N W\n  N: { 3: three, 1: a, 2: two }\n  W: [${letters.join(', ')}]`,
      'w.yaml',
    );
    // w7 and w8 are neighbours by number; the file's order is shuffled by 7 i mod 20
    const embed = async (sentences: readonly string[]) => [
      sentences.map((sentence) => {
        const angle = ((7 * Number(/w(\d+)/.exec(sentence)?.[1] ?? 0)) % 20) / 10;
        return [Math.cos(angle), Math.sin(angle)];
      }),
    ];
    for (let seed = 0; seed < 5; seed++) {
      const { encoding, locality } = await localEncoding({
        grammar,
        goal: { W: 'w4', N: '2' },
        order: 'clip',
        seed,
        embed,
      });
      const [numbers, words] = encoding.axes;
      expect(numbers!.order).toEqual([0, 1, 2]);
      expect(words!.order).toHaveLength(5);
      expect(words!.order).toContain(4);
      const place = words!.order.map((i) => (7 * i) % 20);
      expect(Math.max(...place) - Math.min(...place)).toBe(4);
      const { used, file, shuffled } = locality.W!.neighbourDistance;
      expect(used).toBeLessThan(file);
      expect(used).toBeLessThan(shuffled);
    }
    const offsets = new Set<number>();
    for (let seed = 0; seed < 20; seed++) {
      const { encoding } = await localEncoding({ grammar, goal: { W: 'w4' }, order: 'clip', seed, embed });
      offsets.add(encoding.axes[1]!.order.indexOf(4));
    }
    expect(offsets.size).toBeGreaterThan(2);
    const shuffled = await localEncoding({ grammar, goal: { W: 'w4' }, order: 'shuffled', seed: 1, embed });
    expect(shuffled.encoding.axes[1]!.wholeOrder.toSorted((a, b) => a - b)).toEqual(letters.map((_, i) => i));
  });
});

describe('memory', () => {
  const request = { sentence: 'a cat', seed: 5 };

  test('nothing is drawn or recognised twice, in this process or the next', async () => {
    const at = fresh();
    const source = toySource();
    const eye = toyRecogniser();
    const first = new PictureMemory(at, source, eye);
    const [seen] = await first.observe([request]);
    await first.observe([request, request]);
    expect(first.cost).toMatchObject({ drawn: 1, remembered: 0 });
    const second = new PictureMemory(at, source, eye);
    expect(await second.observe([request])).toEqual([seen]);
    expect(second.cost).toMatchObject({ drawn: 0, remembered: 1 });
    expect([source.drawn.length, eye.looks]).toEqual([1, 1]);
    expect(await second.picture(request)).toEqual(toyPicture(request));
  });

  test('another recogniser looks at the same pictures anew; another seed or model is another picture', async () => {
    const at = fresh();
    const source = toySource();
    await new PictureMemory(at, source, toyRecogniser()).observe([request]);
    const other = { ...toyRecogniser(0.5), name: 'other eye' };
    const [seen] = await new PictureMemory(at, source, other).observe([request]);
    expect(seen!.objects.cat!.score).toBe(0.5);
    expect(source.drawn).toHaveLength(1);
    await new PictureMemory(at, { ...source, name: 'toy 2' }, other).observe([
      request,
      { ...request, seed: 6 },
    ]);
    expect(readdirSync(join(at, 'pictures'))).toHaveLength(3);
  });

  test('a line that a crash cut off is looked at again, and the lines after it are whole', async () => {
    const at = fresh();
    const eye = toyRecogniser();
    const memory = () => new PictureMemory(at, toySource(), eye);
    await memory().observe([request]);
    const journal = join(at, 'observations.jsonl');
    const line = readFileSync(journal, 'utf8');
    writeFileSync(journal, line.slice(0, -20));
    await memory().observe([request]);
    expect(eye.looks).toBe(2);
    await memory().observe([request]);
    expect(eye.looks).toBe(2);
    appendFileSync(journal, 'no JSON\n');
    expect(memory().knows(request)).toBe(true);
  });

  test('what was drawn before the source broke is kept', async () => {
    const at = fresh();
    const source = toySource();
    source.failAt = 2;
    const requests = [0, 1, 2, 3].map((seed) => ({ sentence: 'a cat', seed }));
    await expect(new PictureMemory(at, source, toyRecogniser()).observe(requests)).rejects.toThrow('broke');
    source.failAt = -1;
    const again = new PictureMemory(at, source, toyRecogniser());
    await again.observe(requests);
    expect(again.cost).toMatchObject({ drawn: 2, remembered: 2 });
  });
});

describe('the world', () => {
  test('a state is one picture with one seed; its neighbours are drawn with it, but not counted as looked at', async () => {
    const { world: grid, memory, source } = await world();
    const reward = await grid.reward(0);
    expect(source.drawn).toHaveLength(4);
    expect(new Set(source.drawn)).toEqual(
      new Set([0, ...grid.grid.neighbours(0)].slice(0, 4).map((state) => grid.sentence(state))),
    );
    expect(await grid.reward(0)).toBe(reward);
    expect(grid.visited.size).toBe(1);
    expect(memory.cost.drawn).toBe(4);
    expect(grid.request(0).seed).toBe(stateSeed(0, grid.sentence(0)));
    for (let state = 0; state < grid.states; state++) await grid.reward(state);
    expect(source.drawn).toHaveLength(24);
    expect(new Set(source.drawn).size).toBe(24);
  });

  test('the goal pays its bonus, other states what their pictures show', async () => {
    const { world: grid } = await world();
    expect(grid.sentence(grid.goal)).toBe(goalSentence);
    expect(await grid.reward(grid.goal)).toBe(2 + grid.bonus);
    expect(await grid.pictureReward(grid.goal)).toBe(2);
    const other = grid.encoding.indexOf(grid.encoding.encode({ Frequency: '1', Noun: 'ant', Scene: 'snow' }));
    expect(await grid.reward(other)).toBe(1);
  });

  test('dynamic seeds draw another picture at every visit', async () => {
    const { world: grid, source } = await world({ dynamicSeeds: true, reward: 'clip' });
    const rewards = [await grid.reward(3), await grid.reward(3), await grid.reward(3)];
    expect(source.drawn).toHaveLength(3);
    expect(new Set(rewards).size).toBe(3);
  });
});

describe('agents in a world', () => {
  test.each(agentNames.filter((agent) => agent !== 'gradient-spsa'))('%s reaches the goal', async (agent) => {
    const { world: grid } = await world();
    const followed = newSearch(grid, { agent, seed: 1, steps: 3000 });
    for await (const { trace } of follow(grid, { agent, seed: 1, steps: 3000 }, followed))
      expect(trace.best).toBeLessThan(trace.states.length);
    const { trace } = followed;
    expect(trace.states[trace.firstHit]).toBe(grid.goal);
    expect(trace.states[trace.best]).toBe(grid.goal);
    expect(trace.distinct.at(-1)).toBe(new Set(trace.states.concat([...grid.visited])).size);
  });

  test('the best so far is kept from the first look', async () => {
    const { world: grid } = await world();
    const followed = newSearch(grid, { agent: 'random', seed: 2, steps: 40 });
    let best = Number.NEGATIVE_INFINITY;
    for await (const { trace } of follow(grid, { agent: 'random', seed: 2, steps: 40 }, followed)) {
      best = Math.max(best, ...trace.rewards);
      if (trace.firstHit < 0) expect(trace.rewards[trace.best]).toBe(best);
      else expect(trace.states[trace.best]).toBe(grid.goal);
    }
    expect(followed.trace.states.length).toBeGreaterThan(1);
  });

  test('agents share one memory: the second draws nothing', async () => {
    const at = fresh();
    const first = await world({}, at);
    await first.world.prepare(Array.from({ length: first.world.states }, (_, state) => state));
    const second = await world({}, at);
    for await (const _ of follow(second.world, { agent: 'sarsa', seed: 4, steps: 500 })) void _;
    expect(second.memory.cost.drawn).toBe(0);
    expect(second.world.visited.size).toBeGreaterThan(1);
  });

  test('continues after the goal when told to', async () => {
    const { world: grid } = await world();
    const settings = { agent: 'q', seed: 1, steps: 600, continueAfterGoal: true } as const;
    const followed = newSearch(grid, settings);
    for await (const _ of follow(grid, settings, followed)) void _;
    expect(followed.table!.step).toBe(600);
    expect(followed.trace.states.filter((state) => state === grid.goal).length).toBeGreaterThan(20);
  });

  test('the columns of Table 3, by hand', async () => {
    const { world: grid } = await world();
    const far = grid.encoding.indexOf([0, 0, 0]);
    const states = [far, grid.goal, grid.grid.neighbours(grid.goal)[0]!];
    const trace = {
      states,
      rewards: [0, 2, 1],
      distinct: [1, 2, 3],
      firstHit: 1,
      best: 1,
      episodes: [0],
      plateaus: 0,
    };
    const d = grid.grid.distance(far, grid.goal);
    const measures = measureTrace(grid, trace, (state) => ({
      fine: state === grid.goal,
      coarse: state !== far,
    }));
    expect(measures).toMatchObject({
      finalDistance: 1,
      largestDistance: d,
      smallestDistance: 0,
      converged: true,
    });
    expect(measures).toMatchObject({
      fineHits: 1,
      coarseHits: 2,
      firstHit: 1,
      distinctPictures: 2,
      steps: 2,
    });
    const m = (d + 1) / 3;
    expect(measures.distanceVariance).toBeCloseTo(((d - m) ** 2 + m ** 2 + (1 - m) ** 2) / 2);
  });
});

test('a sweep crosses arms and seeds over pictures that are drawn once, from equal starts with equal caps', async () => {
  const { world: grid, ...prepared } = await world();
  const arms = (['q', 'random', 'gradient'] as const).flatMap((agent) =>
    (['multi', 'clip'] as const).map((reward) => ({ agent, reward, epsilon: '0.1' })),
  );
  const rows: SearchRow[] = [];
  const worldOf = ({ reward }: SearchArm) => rewardedWorld(prepared, { reward, pictureSeed: 0 });
  const caps = { steps: 300, allSteps: true };
  for await (const row of sweep(worldOf, prepared.input, { arms, seeds: [0, 1, 2], ...caps })) rows.push(row);
  expect(rows.map(({ agent, reward, seed }) => `${agent} ${reward} ${seed}`)).toHaveLength(18);
  expect(prepared.source.drawn.length).toBeLessThanOrEqual(grid.states);
  for (const { seed, distances } of rows)
    expect(distances[0]).toBe(rows.find((row) => row.seed === seed)!.distances[0]);
  const learners = rows.filter(({ agent }) => agent !== 'gradient');
  expect(learners.every(({ measures }) => measures.steps === 300)).toBe(true);
  expect(rows.filter(({ agent }) => agent === 'q').some(({ learned }) => learned)).toBe(true);
  expect(rows.filter(({ agent }) => agent === 'random').every(({ learned }) => learned === null)).toBe(true);
});

test('after the goal the noisy diffusion gradient stays when the slope is clean', async () => {
  const prepared = await world();
  const options = {
    arms: [{ agent: 'gradient', reward: 'multi', epsilon: '0', continueAfterGoal: true }],
    seeds: [1],
    steps: 40,
  } as const;
  const worldOf = ({ reward }: SearchArm) => rewardedWorld(prepared, { reward, pictureSeed: 0 });
  for await (const row of sweep(worldOf, prepared.input, options)) {
    expect(row.measures.converged).toBe(true);
    expect(row.distanceAfterGoal).toBe(0);
  }
});

describe('a whole search', () => {
  test('finds the picture’s semantics, writes its files, and says what it cost', async () => {
    const all = options({
      slides: ['Scene'],
      caption: 'some cats',
      follow: { agent: 'q', seed: 0, steps: 3000 },
    });
    const result = await search(all);
    expect(result.found).toMatchObject({ sentence: goalSentence, isGoal: true, reward: 2 });
    expect(result.learned).toBe(true);
    expect(result.path[0]!.sentence).toBe(result.start.sentence);
    expect(result.path.at(-1)!.sentence).toBe(goalSentence);
    expect(result.recognised.Noun).toEqual({ meaning: 'cat', confidence: 0.9 });
    expect(result.world.states).toBe(24);
    expect(result.enumerationPictures).toBe(12.5);
    expect(result.cost.drawn).toBeLessThanOrEqual(24);
    expect(result.cost.visited).toBeGreaterThanOrEqual(result.measures.distinctPictures);
    expect(result.cost.untilGoal!.drawn).toBeGreaterThanOrEqual(result.measures.distinctPictures);
    expect(result.cost.untilGoal!.seconds).toBeLessThanOrEqual(result.cost.seconds);
    expect(result.zeroSearch.map(({ arm, matches }) => [arm, matches])).toEqual([
      ['recognised', true],
      ['caption', false],
    ]);
    expect(result.finals.diverse.consistency).toBe(1);
    expect(result.slides[0]).toMatchObject({ axis: 'Scene', moved: 1, held: 1 });
    expect(result.slides[0]!.values.toSorted()).toEqual(['grass', 'sea', 'snow', 'white']);
    const names = ['world', 'trajectory', 'q-values', 'pictures', 'slide-Scene'].map((name) => `${name}.png`);
    expect(result.files.map((file) => basename(file))).toEqual([...names, 'search.json']);
    for (const file of result.files) expect(existsSync(file), file).toBe(true);
    expect(JSON.parse(readFileSync(join(all.output, 'search.json'), 'utf8')).goal).toEqual(result.goal);
    const { width } = await sharp(join(all.output, 'trajectory.png')).metadata();
    expect(width).toBeGreaterThan(200);
  });

  test('what a failing source interrupts goes on with resume, and ends like a straight search', async () => {
    const whole = options();
    const straight = await search(whole);
    const broken = options();
    broken.source.failAt = 9;
    await expect(search(broken)).rejects.toThrow('broke');
    const agent = JSON.parse(readFileSync(join(broken.output, 'agent.json'), 'utf8'));
    expect(agent.trace.states.length).toBeGreaterThan(0);
    broken.source.failAt = -1;
    const resumed = await search({ ...broken, resume: true });
    expect(resumed.path).toEqual(straight.path);
    expect(resumed.measures.firstHit).toBe(straight.measures.firstHit);
    const table = (at: SearchOptions) =>
      JSON.parse(readFileSync(join(at.output, 'agent.json'), 'utf8')).table;
    expect(table(broken)).toEqual(table(whole));
    expect(broken.source.drawn.length).toBe(whole.source.drawn.length);
  });

  test('more steps with resume equal as many at once', async () => {
    const follow = { agent: 'q', seed: 3, continueAfterGoal: true } as const;
    const once = options({ follow: { ...follow, steps: 400 } });
    await search(once);
    const twice = options({ follow: { ...follow, steps: 150 } });
    await search(twice);
    await search({ ...twice, follow: { ...follow, steps: 400 }, resume: true });
    const read = (at: SearchOptions) => JSON.parse(readFileSync(join(at.output, 'agent.json'), 'utf8'));
    expect(read(twice).table).toEqual(read(once).table);
    expect(read(twice).trace.states).toEqual(read(once).trace.states);
  });

  test('an agent of another search is not resumed', async () => {
    const all = options();
    await search(all);
    await expect(search({ ...all, reward: 'clip', resume: true })).rejects.toThrow(
      /of another search \(reward/,
    );
  });

  test('a damaged agent is told, not resumed', async () => {
    const all = options();
    await search(all);
    writeFileSync(join(all.output, 'agent.json'), '{"identity":');
    await expect(search({ ...all, resume: true })).rejects.toMatchObject({
      name: 'UserError',
      message: expect.stringMatching(/agent.json: is damaged .*Leave --resume out/),
    });
  });

  test('a slider along no axis is refused before anything is drawn', async () => {
    const all = options({ slides: ['Scene', 'Colour'] });
    await expect(search(all)).rejects.toThrow(/--slide Colour: .* Frequency, Noun, Scene/);
    expect(all.source.drawn).toHaveLength(0);
  });

  test('an input below the confidence is refused, with what was seen', async () => {
    await expect(search(options({ recogniser: toyRecogniser(0.2) }))).rejects.toThrow(
      /input.png: recognised as Noun cat \(0.20\), Scene snow \(0.20\) — Noun and Scene below --min-confidence 0.3/,
    );
  });

  test('a start is named by its sentence', async () => {
    const result = await search(options({ start: 'an ant on the grass' }));
    expect(result.start.sentence).toBe('an ant on the grass');
    await expect(search(options({ start: 'an eel' }))).rejects.toThrow(/no state of this world says so/);
    await expect(search(options({ start: goalSentence }))).rejects.toThrow(/is the goal itself/);
  });

  test('another model draws the final pictures', async () => {
    const other = { ...toySource(), name: 'other' };
    const all = options({ drawWith: other });
    await search(all);
    expect(other.drawn.filter((sentence) => sentence === goalSentence)).toHaveLength(3);
  });
});

test('pictures that cannot be read are refused', async () => {
  await expect(readPicture(join(folder, 'none.png'), 'none.png')).rejects.toThrow(
    /none.png: cannot be read as a picture — there is no such file/,
  );
  const file = join(folder, 'text.png');
  writeFileSync(file, 'no picture');
  await expect(readPicture(file, file)).rejects.toMatchObject({ name: 'UserError' });
});

test('pictures too thin, too small or too large to be looked at are refused before they are decoded', async () => {
  const blank = (width: number, height: number) =>
    sharp({ create: { width, height, channels: 3, background: '#ff0000' }, limitInputPixels: false })
      .png()
      .toBuffer();
  const refused = (width: number, height: number) => blank(width, height).then((file) => expect(readPicture(file, 'it')).rejects.toThrow(`it: is ${width} x ${height} pixels — each side must have at least 8`)); // biome-ignore format: one line
  await refused(1, 5000);
  await refused(7, 7);
  await refused(400, 20);
  await refused(8200, 8200);
  expect((await readPicture(await blank(8, 128), 'it')).data.length).toBe(8 * 128 * 3);
});
