/** The model card of what a run has learned: a README.md in the form of Hugging Face's hub. */

import { join } from 'node:path';
import { replaceFile } from '@rldf/common/base/files';
import { type LicenceEntry, licenceMetadata, strictestFirst } from '@rldf/common/base/licences';
import { readSafetensors, writeSafetensors } from '@rldf/torch';
import { stringify } from 'yaml';
import type { ReportNumbers } from './report.js';

export interface CardOf {
  run: string;
  method: string;
  model: string;
  /** Whether the model itself is exported, and not an adapter of it. */
  full: boolean;
  licences: readonly LicenceEntry[];
  report: ReportNumbers;
}

/** Licences of adapters are those of their base model, as far as the hub knows them by name. */
const hubLicence = (licence: string) =>
  /^[a-z0-9.+-]+$/.test(licence) && licence !== 'unknown' ? licence : 'other';

export function modelCard({ run, method, model, full, licences, report }: CardOf): string {
  const base = licences.find(({ part }) => part === 'base model');
  const isHub = /^[^./\\][^/\\]*\/[^/\\]+$/.test(model);
  const header = {
    license: hubLicence((base?.licence ?? 'unknown').toLowerCase()),
    ...(isHub && { base_model: model }),
    library_name: 'diffusers',
    tags: ['text-to-image', 'rldf', method, ...(full ? [] : ['lora'])],
  };
  const { before, after, ci95 } = report.reward;
  const shown = (value: number) => value.toFixed(3);
  const rows = strictestFirst(licences).map(
    ({ part, name, licence, commercial }) => `| ${part} | ${name} | ${licence} | ${commercial} |`,
  );
  return `---
${stringify(header).trim()}
---

# ${run}

${full ? 'A model' : 'Adapters'} trained by [rldf](https://www.npmjs.com/package/rldf) with the method \`${method}\` on ${model}.

${report.rewardName}: ${shown(before)} before, ${shown(after)} after training, on ${report.prompts} prompts with the same noise (95 % interval of the difference over prompts: ${shown(ci95[0])} to ${shown(ci95[1])}). ${report.pictures} images were sampled for training. The recipe is in the run's \`recipe.yaml\`.

## Licences

What was used, the strictest first. "conditions": commercial use is allowed under conditions of that licence. Read the licences themselves; this table is no legal advice.

| part | name | licence | commercial use |
|---|---|---|---|
${rows.join('\n')}
`;
}

/** Writes the licences into the files of a run's adapters, and the card beside them. */
export function labelExports(folder: string, files: readonly string[], card: Omit<CardOf, 'full'>): void {
  const adapters = files.filter((file) => file.endsWith('.safetensors'));
  const inside = card.licences.filter(({ part }) => part !== 'judge'); // which looked on, and taught nothing
  for (const file of adapters) {
    const { tensors, metadata } = readSafetensors(file);
    writeSafetensors(file, tensors, { ...metadata, ...licenceMetadata(inside) });
    for (const tensor of tensors.values()) tensor.free();
  }
  const models = files.filter((file) => !adapters.includes(file));
  for (const model of models) replaceFile(join(model, 'README.md'), modelCard({ ...card, full: true }));
  replaceFile(join(folder, 'README.md'), modelCard({ ...card, full: adapters.length === 0 }));
}
