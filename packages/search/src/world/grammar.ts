/**
 * Context-free grammars of picture semantics (Marathe, "Reinforcement Learning from Diffusion Feedback", 2023, section 3,
 * "Semantic encoding"), read from a small YAML file. docs/methods/rldf.md explains the file.
 */

import { readFileSync } from 'node:fs';
import { didYouMean } from '@rldf/common/base/suggest';
import { nouns } from '@rldf/emoji-world';
import { UserError } from '@rldf/torch/errors';
import { isMap, isScalar, isSeq, LineCounter, type Node, type Pair, parseDocument } from 'yaml';

/** What a symbol can become: words, or other symbols in a row. */
export type Alternative =
  | {
      kind: 'words';
      /** What it stands for, such as "grass": how recognisers and reports name it. */
      means: string;
      /** Ways to say it, such as "on the grass". The first is said; recognisers listen to all. May be empty. */
      words: readonly string[];
      /** What is said behind a number other than one. */
      plural: string;
    }
  | { kind: 'symbols'; symbols: readonly string[] };

export interface Grammar {
  /** The file, for messages. */
  where: string;
  start: string;
  /** In the file's order. */
  productions: ReadonlyMap<string, readonly Alternative[]>;
  /** Symbols whose meanings are numbers: each counts the object behind it. */
  counts: ReadonlySet<string>;
  /** Symbols that name objects: what detectors see. */
  objects: ReadonlySet<string>;
  /** Symbols that name the scene: what the rewards call coarse semantics. */
  scenes: ReadonlySet<string>;
  /** Symbols that the search leaves at their first choice and the final pictures draw uniformly. */
  controls: ReadonlySet<string>;
  /** Objects that choices bring into the picture, by meaning: a verb's prop. Where a detector sees none, the choice is out. */
  shows: ReadonlyMap<string, string>;
  /** How many neighbouring choices of a symbol a search sees; the recognised one is among them. */
  window: ReadonlyMap<string, number>;
}

const settings = [
  'start',
  'counts',
  'objects',
  'scenes',
  'controls',
  'shows',
  'window',
  'productions',
] as const;
const nounByName = new Map(nouns.map((noun) => [noun.name, noun]));
const longestText = 200_000;

/** @throws UserError with line and column, all mistakes at once */
export function readGrammar(file: string): Grammar {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new UserError(
      `${file}: cannot read the grammar — ${code === 'ENOENT' ? 'there is no such file' : message}. Those that ship with rldf lie in recipes/search`,
    );
  }
  return parseGrammar(text, file);
}

/**
 * A grammar from its text.
 * @param where named in messages
 * @throws UserError with line and column: not YAML, unknown keys, undefined, unreachable or recursive symbols, a choice
 *   that stands twice, a sentence that can be empty
 */
export function parseGrammar(text: string, where: string): Grammar {
  const lines = new LineCounter();
  const problems: string[] = [];
  const place = (node: Node | null | undefined) => {
    const { line, col } = lines.linePos(node?.range?.[0] ?? 0);
    return `${where}:${line}:${col}`;
  };
  const fail = (node: Node | null | undefined, message: string) => {
    problems.push(`${place(node)}  ${message}`);
  };
  const done = () => {
    if (problems.length > 0) throw new UserError(problems.join('\n'));
  };
  if (text.length > longestText) {
    throw new UserError(`${where}: ${text.length} characters — a grammar has at most ${longestText}`);
  }
  const document = parseDocument(text, { lineCounter: lines });
  for (const error of document.errors.slice(0, 20)) {
    const { line, col } = lines.linePos(error.pos[0]);
    const message = error.message.split('\n')[0]!.replace(/ at line \d+, column \d+:?$/, '');
    problems.push(`${where}:${line}:${col}  ${message} — not valid YAML`);
  }
  done();
  const root = document.contents;
  if (!isMap(root)) throw new UserError(`${where}:1:1  expected \`productions:\` and so on — not a grammar`);
  for (const { key } of root.items as Pair<Node, Node | null>[]) {
    const name = textOf(key);
    if (!settings.includes(name as (typeof settings)[number]))
      fail(key, `${name}: unknown key${didYouMean(name, settings)}`);
  }
  const field = (name: string) => root.get(name, true) as Node | undefined;
  const productionsNode = field('productions');
  if (!isMap(productionsNode)) {
    fail(productionsNode ?? root, 'productions: missing — a map from symbols to what they become');
    done();
  }
  const rules = new Map<string, { key: Node; alternatives: Alternative[]; nodes: Node[] }>();
  for (const { key, value } of (productionsNode as { items: Pair<Node, Node | null>[] }).items) {
    const name = textOf(key);
    if (!/^[A-Za-z][A-Za-z0-9_-]*$/.test(name))
      fail(key, `"${name}" is no name of a symbol — letters, digits, - and _`);
    const { alternatives, nodes } = alternativesOf(value, (node, message) =>
      fail(node, `${name}: ${message}`),
    );
    if (alternatives.length === 0) fail(key, `${name}: has no choice — a symbol becomes at least one thing`);
    rules.set(name, { key, alternatives, nodes });
  }
  const defined = [...rules.keys()];
  const start = field('start') === undefined ? 'S' : textOf(field('start')!);
  if (!rules.has(start))
    fail(field('start') ?? root, `start: symbol ${start} is not defined${didYouMean(start, defined)}`);
  for (const [name, { alternatives, nodes }] of rules) {
    for (const [index, alternative] of alternatives.entries()) {
      if (alternative.kind !== 'symbols') continue;
      for (const symbol of alternative.symbols.filter((symbol) => !rules.has(symbol)))
        fail(nodes[index], `${name}: symbol ${symbol} is not defined${didYouMean(symbol, defined)}`);
    }
  }
  const names = (key: string): Set<string> => {
    const node = field(key);
    if (node === undefined) return new Set();
    const items = isSeq(node) ? (node.items as Node[]) : [node];
    for (const item of items.filter((item) => !rules.has(textOf(item))))
      fail(item, `${key}: symbol ${textOf(item)} is not defined${didYouMean(textOf(item), defined)}`);
    return new Set(items.map(textOf));
  };
  const counts = names('counts');
  for (const symbol of counts) {
    const rule = rules.get(symbol);
    for (const [index, alternative] of (rule?.alternatives ?? []).entries()) {
      if (alternative.kind === 'symbols' || !/^\d+$/.test(alternative.means))
        fail(rule!.nodes[index], `${symbol}: a count means a number — write such as \`3: many\``);
    }
  }
  const window = new Map<string, number>();
  const windowNode = field('window');
  if (windowNode !== undefined && !isMap(windowNode))
    fail(windowNode, 'window: expected lines such as Noun: 5');
  for (const { key, value } of isMap(windowNode) ? (windowNode.items as Pair<Node, Node | null>[]) : []) {
    const [name, count] = [textOf(key), Number(textOf(value))];
    const choices = rules.get(name)?.alternatives.length;
    if (choices === undefined) fail(key, `window: symbol ${name} is not defined${didYouMean(name, defined)}`);
    else if (!(Number.isInteger(count) && count >= 1 && count <= choices))
      fail(value, `window: ${name}: ${textOf(value)} — a whole number from 1 to its ${choices} choices`);
    window.set(name, count);
  }
  const shows = new Map<string, string>();
  const showsNode = field('shows');
  const meanings = [...rules.values()].flatMap(({ alternatives }) =>
    alternatives.map((one) => (one.kind === 'words' ? one.means : '')),
  );
  if (showsNode !== undefined && !isMap(showsNode))
    fail(showsNode, 'shows: expected lines such as bike: bicycle');
  for (const { key, value } of isMap(showsNode) ? (showsNode.items as Pair<Node, Node | null>[]) : []) {
    const name = textOf(key);
    if (!meanings.includes(name)) fail(key, `shows: nothing means ${name}${didYouMean(name, meanings)}`);
    shows.set(name, textOf(value));
  }
  const sets = { objects: names('objects'), scenes: names('scenes'), controls: names('controls') };
  done();
  checkDerivations(start, rules, fail);
  done();
  const productions = new Map([...rules].map(([name, { alternatives }]) => [name, alternatives]));
  return { where, start, productions, counts, ...sets, shows, window };
}

type Rules = ReadonlyMap<string, { key: Node; alternatives: Alternative[] }>;
type Fail = (node: Node | null | undefined, message: string) => void;

/** Every symbol is reached, none contains itself, and no sentence is empty. */
function checkDerivations(start: string, rules: Rules, fail: Fail): void {
  const childrenOf = (name: string) =>
    rules.get(name)!.alternatives.map((one) => (one.kind === 'symbols' ? one.symbols : []));
  const reached = new Set<string>();
  const recursive = new Set<string>();
  /** @param leftmost whether every step on the way down took the first symbol, or only silent ones stood before it */
  const visit = (name: string, path: readonly { name: string; leftmost: boolean }[]) => {
    const at = path.findIndex((step) => step.name === name);
    if (at >= 0) {
      const loop = path.slice(at);
      if (recursive.has(name)) return;
      for (const step of loop) recursive.add(step.name);
      const left = loop.every(({ leftmost }) => leftmost);
      const words = [...loop.map((step) => step.name), name].join(' -> ');
      fail(
        rules.get(name)!.key,
        `${name}: is ${left ? 'left-recursive' : 'recursive'} (${words}) — the states of a search are finite, so no symbol may contain itself`,
      );
      return;
    }
    if (reached.has(name)) return;
    for (const children of childrenOf(name)) {
      let leftmost = true;
      for (const child of children) {
        visit(child, [...path, { name, leftmost }]);
        leftmost &&= !recursive.has(child) && canBeEmpty(child, rules);
      }
    }
    reached.add(name);
  };
  visit(start, []);
  if (recursive.size > 0) return;
  for (const [name, { key }] of rules) {
    if (!reached.has(name))
      fail(key, `${name}: cannot be reached from ${start} — add it to a production, or leave it out`);
  }
  if (canBeEmpty(start, rules))
    fail(
      rules.get(start)!.key,
      `${start}: can become an empty sentence — every state must say something. Leave out an empty choice`,
    );
}

function canBeEmpty(name: string, rules: Rules, above: readonly string[] = []): boolean {
  if (above.includes(name)) return false;
  return rules
    .get(name)!
    .alternatives.some((one) =>
      one.kind === 'words'
        ? one.words[0] === ''
        : one.symbols.every((symbol) => canBeEmpty(symbol, rules, [...above, name])),
    );
}

/** `A B | C` are symbols; `[a, b]` are words that mean themselves; `{ a: words }` says what words mean. */
function alternativesOf(value: Node | null, fail: Fail): { alternatives: Alternative[]; nodes: Node[] } {
  const alternatives: Alternative[] = [];
  const nodes: Node[] = [];
  const seen = new Set<string>();
  const add = (node: Node, means: string, spoken: readonly string[]) => {
    const forms = spoken.map((text) => text.split(' / ').map((form) => form.trim().replace(/\s+/g, ' ')));
    const words = forms.map(([singular]) => singular!);
    const name = means.trim() === '' ? 'none' : (means.split(' / ')[0] as string).trim();
    for (const mark of [`mean ${name}`, `say ${words[0]}`]) {
      if (seen.has(mark))
        fail(node, `two choices ${mark.replace(/ $/, ' nothing')} — states could not be told apart`);
      seen.add(mark);
    }
    alternatives.push({ kind: 'words', means: name, words, plural: forms[0]![1] ?? pluralOf(words[0]!) });
    nodes.push(node);
  };
  if (isSeq(value)) for (const item of value.items as Node[]) add(item, textOf(item), [textOf(item)]);
  else if (isMap(value)) {
    for (const { key, value: said } of value.items as Pair<Node, Node | null>[])
      add(key, textOf(key), isSeq(said) ? (said.items as Node[]).map(textOf) : [textOf(said)]);
  } else if (value !== null) {
    for (const part of textOf(value).split('|')) {
      const symbols = part
        .trim()
        .split(/\s+/)
        .filter((symbol) => symbol !== '');
      if (symbols.length === 0) fail(value, 'an empty production — to say nothing, write { none: "" }');
      else {
        alternatives.push({ kind: 'symbols', symbols });
        nodes.push(value);
      }
    }
  }
  return { alternatives, nodes };
}

/** The built-in world's plural, else an -s. A grammar says others itself: `leaf / leaves`. */
function pluralOf(word: string): string {
  const known = nounByName.get(word)?.plural;
  return known ?? (word === '' ? '' : `${word}s`);
}

function textOf(node: Node | null | undefined): string {
  if (!isScalar(node)) return '';
  return node.source ?? String(node.value ?? '');
}
