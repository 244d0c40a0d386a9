import { compare, type Difference, Golden, type Output } from './golden.js';
import {
  kindDifferences,
  kindNames,
  kohyaDifferences,
  loraDifferences,
  nameDifferences,
  peftDifferences,
} from './lora.js';
import * as networks from './networks.js';
import { pipelineDifferences, pipelineRuns, textDifferences } from './pipeline.js';
import { ddimTableDifferences, schedulerNames, schedulerTrajectory } from './schedulers.js';
import * as scorers from './scorers.js';
import { singleFileDifferences } from './single-files.js';
import { tokenizerDifferences, tokenizerNames } from './tokenizer.js';

/** Our code against the reference implementation, on the same random weights and inputs. */
export interface ParityCase {
  name: string;
  /** Largest error allowed, relative to the largest magnitude of each expected tensor. */
  tolerance: number;
  run(): Difference[] | Promise<Difference[]>;
}

/** What float32 networks must reach. */
const SINGLE = 1e-5;
/** What float64 schedulers must reach. */
const DOUBLE = 1e-9;

function networkCase(name: string, run: (golden: Golden) => { [name: string]: Output }): ParityCase {
  return {
    name,
    tolerance: SINGLE,
    run: () => {
      const golden = new Golden(name);
      return compare(golden, run(golden), ['outputs.', 'blocks.', 'gradients.']);
    },
  };
}

function schedulerCases(): ParityCase[] {
  const golden = new Golden('schedulers');
  return schedulerNames(golden).map((name) => ({
    name: `scheduler-${name}`,
    tolerance: DOUBLE,
    run: () => compare(golden, schedulerTrajectory(golden, name), [`${name}.outputs.`]),
  }));
}

function pipelineCases(pipeline: string): ParityCase[] {
  const golden = new Golden(`${pipeline}-runs`);
  return pipelineRuns(golden).map((name) => ({
    name: `${pipeline}-${name}`,
    tolerance: SINGLE,
    run: () => pipelineDifferences(golden, name),
  }));
}

/** Every case, cheapest kinds first. */
export function parityCases(): ParityCase[] {
  return [
    ...schedulerCases(),
    { name: 'ddim-table', tolerance: 1.01, run: ddimTableDifferences },
    ...tokenizerNames(new Golden('tokenizer')).map((folder) => ({
      name: folder.replace(/^(?!tokenizer)/, 'tokenizer-'),
      tolerance: 0, // ids are equal or wrong
      run: () => tokenizerDifferences(folder),
    })),
    networkCase('clip-text-quick-gelu', networks.clipText),
    networkCase('clip-text-gelu', networks.clipText),
    networkCase('clip-text-old-eos', networks.clipText),
    networkCase('clip-text-projection', networks.clipText),
    networkCase('clip-vision-quick-gelu', networks.clipVision),
    networkCase('clip-vision-gelu', networks.clipVision),
    networkCase('clip-model', networks.clip),
    networkCase('unet-sd1', networks.unet),
    networkCase('unet-sd2', networks.unet),
    networkCase('unet-emoji', networks.unet),
    networkCase('unet-sdxl', networks.unet),
    networkCase('unet-gligen', networks.unet),
    networkCase('unet-gligen-off', networks.unet),
    networkCase('unet-mixed-odd', networks.unet),
    networkCase('unet-fractional', networks.unet),
    networkCase('vae-kl', networks.autoencoderKL),
    networkCase('vae-kl-plain', networks.autoencoderKL),
    networkCase('vae-tiny', networks.autoencoderTiny),
    networkCase('resnet-18', networks.resnet18),
    networkCase('image-reward', scorers.imageReward),
    networkCase('open-clip-gelu', scorers.openClip),
    networkCase('open-clip-quick-gelu', scorers.openClip),
    networkCase('aesthetic-head', scorers.aestheticHead),
    networkCase('face-quality', scorers.faceQuality),
    { name: 'preprocessing-exact', tolerance: 0.01, run: () => scorers.preprocessingDifferences(true) },
    { name: 'preprocessing-smooth', tolerance: 1.01, run: () => scorers.preprocessingDifferences(false) },
    { name: 'bert-tokenizer', tolerance: 0, run: scorers.bertDifferences },
    { name: 'torch-files', tolerance: 0, run: scorers.torchFileDifferences },
    { name: 'single-files', tolerance: 0, run: singleFileDifferences },
    { name: 'lora-diffusers', tolerance: SINGLE, run: loraDifferences },
    { name: 'lora-kohya', tolerance: SINGLE, run: kohyaDifferences },
    { name: 'lora-peft', tolerance: SINGLE, run: peftDifferences },
    { name: 'lora-names', tolerance: 0, run: nameDifferences }, // names are equal or wrong
    ...kindNames().map((name) => ({
      name: `lora-kind-${name}`,
      tolerance: SINGLE,
      run: () => kindDifferences(name),
    })),
    ...pipelineCases('pipeline'),
    {
      name: 'pipeline-xl-text',
      tolerance: SINGLE,
      run: () => textDifferences(new Golden('pipeline-xl-runs')),
    },
    ...pipelineCases('pipeline-xl'),
    ...pipelineCases('pipeline-gligen'),
  ];
}

/** One row of the table: the worst of the case's outputs, of its inner blocks, or of its gradients. */
export interface Row {
  name: string;
  tensors: number;
  error: number;
  worst: string;
  tolerance: number;
  passes: boolean;
}

/** Runs a case. An error that it throws is a failing row. */
export async function rows(parityCase: ParityCase): Promise<Row[]> {
  let differences: Difference[];
  try {
    differences = await parityCase.run();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    differences = [{ name: `threw: ${message.split('\n')[0]}`, error: Number.POSITIVE_INFINITY }];
  }
  return ['', 'blocks', 'gradients'].flatMap((part) => {
    const group = differences.filter(({ name }) => (/^(blocks|gradients)\./.exec(name)?.[1] ?? '') === part);
    if (group.length === 0) return [];
    const worst = group.reduce((a, b) => (b.error > a.error ? b : a));
    return [
      {
        name: part ? `${parityCase.name} ${part}` : parityCase.name,
        tensors: group.length,
        error: worst.error,
        worst: worst.name,
        tolerance: parityCase.tolerance,
        passes: worst.error <= parityCase.tolerance,
      },
    ];
  });
}
