// Pictures of the shipped model on which rewards are measured, drawn once a process.
import { modelReference, type Reference } from 'rldf/rewards';

let drawn: Promise<Reference> | undefined;

export function drawReference(): Promise<Reference> {
  drawn ??= modelReference();
  return drawn;
}
