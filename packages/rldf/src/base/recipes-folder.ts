import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The recipes that ship with rldf, and the data they name: in the installed package, or at the top of the repository. */
export const recipesFolder: string = ['../../recipes/', '../../../../recipes/']
  .map((path) => fileURLToPath(new URL(path, import.meta.url)))
  .find(existsSync) as string;
