import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { didYouMean } from '@rldf/common/base/suggest';
import { UserError } from '@rldf/torch/errors';

/** The recipes that ship with rldf, and the data they name: in the installed package, or at the top of the repository. */
export const recipesFolder: string = ['../../recipes/', '../../../../recipes/']
  .map((path) => fileURLToPath(new URL(path, import.meta.url)))
  .find(existsSync) as string;

/** What ships with rldf in one of its folders: YAML files by their names, such as grammars. */
export function shippedNames(folder: string): string[] {
  return readdirSync(join(recipesFolder, folder))
    .filter((file) => file.endsWith('.yaml'))
    .map((file) => file.replace(/\.yaml$/, ''))
    .sort();
}

/**
 * The file of a shipped name, or the file itself.
 * @param where what asks for it, in messages
 * @param what one of them is called
 * @throws UserError when there is neither
 */
export function shippedOrFile(folder: string, nameOrFile: string, where: string, what: string): string {
  const shipped = join(recipesFolder, folder, `${nameOrFile}.yaml`);
  if (existsSync(shipped)) return shipped;
  if (existsSync(nameOrFile)) return nameOrFile;
  const names = shippedNames(folder);
  throw new UserError(
    `${where} ${nameOrFile}: neither a shipped ${what} nor a file — there are ${names.join(', ')}${didYouMean(nameOrFile, names)}`,
  );
}
