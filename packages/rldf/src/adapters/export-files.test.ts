import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { baseKey, baseOf, commonBase } from '@rldf/common/instruments/adapter-base';
import { LoraAdapter, saveLora, TEXT_ATTENTION, tinyPipeline, UNET_ATTENTION } from '@rldf/models';
import { liveTensors, noGrad, readSafetensors } from '@rldf/torch';
import { expect, test, vi } from 'vitest';
import { runCommandLine } from '../cli/program.js';
import { exportAdapterFiles } from './export-files.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-export-'));
const [unetFile, textFile] = [join(folder, 'unet.safetensors'), join(folder, 'text.safetensors')];
{
  const { parameters } = tinyPipeline();
  const attach = (network: 'unet' | 'textEncoder', targets: readonly string[]) => {
    const adapter = LoraAdapter.attach(parameters[network], { rank: 2, alpha: 6, targets, seed: 3 });
    noGrad(() => adapter.modules.forEach(({ branch }, i) => void branch.up.fill_(i + 1)));
    return adapter;
  };
  saveLora(unetFile, { unet: attach('unet', UNET_ATTENTION) });
  saveLora(textFile, { textEncoder: attach('textEncoder', TEXT_ATTENTION) });
}

test('rldf export: both adapters into one kohya file, and back to the same tensors', async () => {
  const [kohya, back] = [join(folder, 'kohya.safetensors'), join(folder, 'back.safetensors')];
  const before = liveTensors();
  const out = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  expect(
    await runCommandLine(['export', unetFile, textFile, '--format', 'kohya', '--output', kohya, '--json']),
  ).toBe(0);
  const printed = JSON.parse(String(out.mock.calls[0]![0]));
  expect(await runCommandLine(['export', kohya, '--format', 'diffusers', '--output', back])).toBe(0);
  out.mockRestore();
  expect(liveTensors()).toBe(before);
  expect(printed).toEqual({ file: kohya, format: 'kohya', layers: { unet: 32, textEncoder: 8 } });

  const found = readSafetensors(back);
  const parts = [readSafetensors(unetFile), readSafetensors(textFile)];
  const expected = parts.flatMap(({ tensors }) => [...tensors]);
  expect([...found.tensors.keys()].sort()).toEqual(expected.map(([name]) => name).sort());
  for (const [name, value] of expected) expect(found.tensors.get(name)!.bytes()).toEqual(value.bytes());
  const configs = parts.map(({ metadata }) => JSON.parse(metadata.lora_adapter_metadata!));
  expect(JSON.parse(found.metadata.lora_adapter_metadata!)).toMatchObject({
    'unet.lora_alpha': 6,
    'text_encoder.r': 2,
    'text_encoder.target_modules': configs[1]['text_encoder.target_modules'],
  });
});

test('the base model’s fingerprint stays, in every layout; files of two models are not put together', () => {
  const { parameters } = tinyPipeline();
  const adapter = LoraAdapter.attach(parameters.unet, { rank: 1, targets: ['to_q'], seed: 1 });
  const of = (name: string, base: string) => {
    const file = join(folder, `${name}.safetensors`);
    saveLora(file, { unet: adapter }, { metadata: { [baseKey]: base } });
    return file;
  };
  const [mine, other] = [of('mine', '0123'), of('other', '4567')];
  for (const format of ['kohya', 'diffusers'] as const) {
    const output = join(folder, `kept-${format}.safetensors`);
    expect(baseOf(exportAdapterFiles([mine, textFile], output, format).file)).toBe('0123');
    expect(baseOf(exportAdapterFiles([textFile], output, format).file)).toBeUndefined();
  }
  const both = [other, exportAdapterFiles([mine], join(folder, 'again.safetensors'), 'diffusers').file];
  expect(() => commonBase(both, 'export')).toThrow(
    /export: .*other\.safetensors was made on the base model 4567/,
  );
});

test('mistakes are said', () => {
  const output = join(folder, 'x.safetensors');
  expect(() => exportAdapterFiles([unetFile, unetFile], output, 'kohya')).toThrow(
    /both adapt .* one adapter a layer/s,
  );
  expect(() => exportAdapterFiles([unetFile], join(folder, 'x.bin'), 'kohya')).toThrow(
    /must end in .safetensors/,
  );
  expect(() => exportAdapterFiles([join(folder, 'none.safetensors')], output, 'kohya')).toThrow(
    /none\.safetensors/,
  );
});
