import { expect, test } from 'vitest';
import {
  commercialUse,
  joinLicences,
  type LicenceEntry,
  licenceLines,
  licenceMetadata,
  licencesIn,
  strictestFirst,
} from './licences.js';

test.each([
  ['cc-by-nc-4.0', 'no'],
  ['CC-BY-NC-SA-4.0', 'no'],
  ['flux-1-dev-non-commercial-license', 'no'],
  ['stabilityai-nc-research-community', 'no'],
  ['sai-nc-community', 'no'],
  ['creativeml-openrail-m', 'conditions'],
  ['openrail++', 'conditions'],
  ['bigscience-openrail-m', 'conditions'],
  ['stabilityai-ai-community', 'conditions'],
  ['gpl-3.0', 'conditions'],
  ['agpl-3.0', 'conditions'],
  ['cc-by-sa-4.0', 'conditions'],
  ['apache-2.0', 'yes'],
  ['Apache-2.0 (code and weights)', 'yes'],
  ['mit', 'yes'],
  ['bsd-3-clause', 'yes'],
  ['cc0-1.0', 'yes'],
  ['cc-by-4.0', 'yes'],
  ['your own', 'yes'],
  ['MIT (code); its weights are published without a licence', 'unknown'],
  ['other', 'unknown'],
  ['unknown', 'unknown'],
  ['mittens', 'unknown'],
  ['', 'unknown'],
])('%s: %s', (licence, commercial) => {
  expect(commercialUse(licence)).toBe(commercial);
});

const entry = (name: string, licence: string): LicenceEntry => ({
  part: 'reward',
  name,
  licence,
  commercial: commercialUse(licence),
});
const mixed = [entry('a', 'mit'), entry('b', 'openrail++'), entry('c', 'other'), entry('d', 'cc-by-nc-4.0')];

test('the strictest first; the order of parts of one kind stays', () => {
  expect(strictestFirst([...mixed, entry('e', 'apache-2.0')]).map(({ name }) => name)).toEqual([
    ...['d', 'c', 'b', 'a', 'e'],
  ]);
  expect(licenceLines(mixed)).toEqual([
    'reward d: cc-by-nc-4.0 — forbids commercial use',
    'reward c: other — commercial use: unknown',
    'reward b: openrail++ — commercial use under conditions',
    'reward a: mit — allows commercial use',
  ]);
});

test('metadata holds them, files of others and damaged entries hold none, and several files are joined', () => {
  expect(licencesIn(licenceMetadata(mixed))).toEqual(strictestFirst(mixed));
  for (const rldf_licences of ['', '{', '3', '[3, null, {"part":"reward"}]', '[{"part":1}]'])
    expect(licencesIn({ rldf_licences })).toEqual([]);
  expect(licencesIn({})).toEqual([]);
  expect(joinLicences([mixed.slice(0, 2), mixed.slice(1)]).map(({ name }) => name)).toEqual([...'dcba']);
});
