/** Once for all files: the runs that the page shows. `STUDIO_RUNS=FOLDER` keeps them there for the next time. */

import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { makeRuns, root } from './runs.js';

declare module 'vitest' {
  export interface ProvidedContext {
    folder: string;
    root: string;
  }
}

export default async function setup(project: TestProject): Promise<() => void> {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-studio-'));
  const kept = process.env.STUDIO_RUNS;
  if (kept !== undefined && existsSync(join(kept, 'runs'))) cpSync(kept, folder, { recursive: true });
  else await makeRuns(folder);
  if (kept !== undefined && !existsSync(kept)) cpSync(folder, kept, { recursive: true });
  project.provide('folder', folder);
  project.provide('root', root);
  return () => rmSync(folder, { recursive: true, force: true });
}
