/** Licences of what a training is made from, and what they say of commercial use. No legal advice: read the licences. */

/**
 * - `no`: forbids commercial use
 * - `unknown`: no licence is stated, or none that is known here; without one, nothing is permitted
 * - `conditions`: allows it under conditions, such as uses that are ruled out, a limit of revenue, or the same licence for what follows
 * - `yes`: allows it
 */
export type Commercial = 'no' | 'unknown' | 'conditions' | 'yes';

/** From the strictest on. */
export const strictness: readonly Commercial[] = ['no', 'unknown', 'conditions', 'yes'];

/** One part of a training and its licence. */
export interface LicenceEntry {
  part: 'base model' | 'reward' | 'judge' | 'detector' | 'prompts';
  name: string;
  licence: string;
  commercial: Commercial;
}

const rules: readonly (readonly [Commercial, RegExp])[] = [
  ['unknown', /without a licen[cs]e|^unknown$|^other$/i],
  ['no', /non-?commercial|(^|[-_ ])nc([-_ .]|$)|research[- ]only|only for research/i],
  ['conditions', /openrail|\brail\b|community|gpl|-sa\b|responsible/i],
  [
    'yes',
    /^(apache-2|mit\b|bsd|isc\b|cc0|cc-by-\d|cc-by$|unlicense|wtfpl|zlib|mpl-2|0bsd|public domain|your own)/i,
  ],
];

/** By the name of a licence, as model cards write it. */
export function commercialUse(licence: string): Commercial {
  return rules.find(([, name]) => name.test(licence.trim()))?.[0] ?? 'unknown';
}

/** The strictest first, and parts of one kind together. */
export function strictestFirst(entries: readonly LicenceEntry[]): LicenceEntry[] {
  const rank = ({ commercial }: LicenceEntry) => strictness.indexOf(commercial);
  return [...entries].sort((a, b) => rank(a) - rank(b));
}

const words: { readonly [use in Commercial]: string } = {
  no: 'forbids commercial use',
  unknown: 'commercial use: unknown',
  conditions: 'commercial use under conditions',
  yes: 'allows commercial use',
};

/** One line for each part. */
export function licenceLines(entries: readonly LicenceEntry[]): string[] {
  return strictestFirst(entries).map(
    ({ part, name, licence, commercial }) => `${part} ${name}: ${licence} — ${words[commercial]}`,
  );
}

/** Entry of a safetensors file's metadata. */
export const licencesKey = 'rldf_licences';

/** As metadata of a file, without the parts that a reader cannot have. */
export function licenceMetadata(entries: readonly LicenceEntry[]): Record<string, string> {
  return { [licencesKey]: JSON.stringify(strictestFirst(entries)) };
}

/** The licences in a file's metadata; none in files of other tools, or where the entry is not readable. */
export function licencesIn(metadata: Readonly<Record<string, string>>): LicenceEntry[] {
  try {
    const entries: unknown = JSON.parse(metadata[licencesKey] ?? '[]');
    const isEntry = (entry: unknown): entry is LicenceEntry =>
      entry !== null &&
      typeof entry === 'object' &&
      ['part', 'name', 'licence'].every(
        (key) => typeof (entry as Record<string, unknown>)[key] === 'string',
      ) &&
      strictness.includes((entry as LicenceEntry).commercial);
    return Array.isArray(entries) ? entries.filter(isEntry) : [];
  } catch {
    return [];
  }
}

/** Those of several files, each part once. */
export function joinLicences(lists: readonly (readonly LicenceEntry[])[]): LicenceEntry[] {
  const byPart = new Map(lists.flat().map((entry) => [JSON.stringify(entry), entry]));
  return strictestFirst([...byPart.values()]);
}
