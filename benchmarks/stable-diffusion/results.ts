// What `npm run bench -- stable-diffusion` measures. Bytes on the device are without an empty process's own; null on the CPU.

interface Sides<T = number> {
  ours: T;
  peer: T;
}

/** Largest difference: of pictures in [0, 1], and of latents as a share of the largest. */
interface Difference {
  pictures: number;
  latents: number;
}

export interface DrawingRow {
  precision: string;
  /** Pictures at once. */
  batch: number;
  /** Memory layout that diffusers is faster in. */
  peer: string;
  /** Pictures a second, of the median. */
  perSecond: Sides;
  /** How many times as long the peer took. */
  ratio: number | null;
  ci95?: [number, number];
  /** Each repetition, in turns. */
  seconds: Sides<number[]>;
  /** Seconds from files to the device. */
  loading: Sides;
  /** Most bytes that were reserved so far. */
  memory?: Sides;
  difference: Difference;
}

export interface TrainingRow {
  name: string;
  recipe: string;
  overrides: readonly string[];
  /** Seconds. */
  loading: number;
  sampling: number;
  update: number;
  /** Most bytes reserved on the device. */
  memory: number | null;
  /** Most bytes of the process in main memory. */
  resident: number;
  /** What `rldf plan` says. */
  planned: number | null;
  exporting: number | null;
  metrics: Record<string, number>;
}

export interface DepthRow {
  /** Denoising steps that the gradient is followed through. */
  steps: number;
  /** In one graph, or each step run again. */
  whole: boolean;
  seconds: number;
  beyondModel: number | null;
  inAll: number | null;
}

export interface AdapterRow extends Difference {
  name: string;
  kind: string;
  /** Largest difference of our picture from that without the adapter. */
  effect: number;
}

export interface StableDiffusionResults {
  /** Machine and date, in words. */
  provenance: string;
  size: string;
  device: string;
  guidance: number;
  steps: number;
  environment: Record<string, unknown>;
  model: Record<string, unknown>;
  /** Bytes that an empty process takes on the device. */
  context?: number;
  exact?: Difference & { precision: string; steps: number; batch: number };
  drawing: DrawingRow[];
  training: TrainingRow[];
  depth: DepthRow[];
  commandLine?: {
    recipe: string;
    seconds: number;
    memory: number | null;
    metrics: Record<string, number>[];
  };
  adapters: AdapterRow[];
  /** Seconds that each step of the benchmark took. */
  seconds: Record<string, number>;
  failures: { step: string; message: string }[];
}
