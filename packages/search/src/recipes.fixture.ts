/** The repository's recipes, for tests of what they hold. */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const recipesFolder = fileURLToPath(new URL('../../../recipes/', import.meta.url));
export const grammarsFolder = join(recipesFolder, 'search');

/** The file of a shipped grammar. */
export const grammarFile = (name: string) => join(grammarsFolder, `${name}.yaml`);
