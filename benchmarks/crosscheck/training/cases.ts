// All trainings that are compared, by name.
import { clipCases } from './clips.js';
import type { CaseOf } from './comparison.js';
import { diffusionCases } from './diffusion.js';
import { methodCases } from './methods.js';
import { recogniserCases } from './recognisers.js';
import { trlCases } from './trl.js';

/** Beside PyTorch. */
export const trainingCases: Record<string, CaseOf> = {
  ...diffusionCases,
  ...clipCases,
  ...recogniserCases,
  ...methodCases,
};

export { trlCases };

export const allCases: Record<string, CaseOf> = { ...trainingCases, ...trlCases };
