import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '@rldf/torch';
import { expect, test } from 'vitest';
import {
  fileOperation,
  fileOperations,
  linkOnce,
  listFolder,
  makeFolder,
  readTextIfThere,
  replaceFile,
  replaceFiles,
  setFileHook,
} from './files.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-files-'));

test('replacing a file is all or nothing, and leaves no temporary behind', () => {
  const path = join(folder, 'a.txt');
  replaceFile(path, 'old');
  for (const failing of ['open', 'write', 'flush', 'rename']) {
    const stop = setFileHook((operation) => {
      if (operation === failing) throw Object.assign(new Error('x'), { code: 'ENOSPC' });
    });
    expect(() => replaceFile(path, 'new')).toThrow('the disk is full');
    stop();
    expect([readFileSync(path, 'utf8'), readdirSync(folder)]).toEqual(['old', ['a.txt']]);
  }
  replaceFile(path, 'new');
  expect(readFileSync(path, 'utf8')).toBe('new');
});

test.each([
  ['ENOSPC', 'the disk is full. Free some space'],
  ['EDQUOT', 'the disk is full. Free some space'],
  ['EACCES', 'no permission'],
  ['EROFS', 'the disk is read-only'],
  ['EEXIST', 'there is a file of this name. Choose another path'],
  ['ENAMETOOLONG', 'the name is too long for this file system'],
  ['EMFILE', 'too many files are open'],
  ['EIO', 'the disk does not answer rightly'],
])('%s is a mistake of the user’s with a way out', (code, message) => {
  const failing = () =>
    fileOperation('write', 'x', () => {
      throw Object.assign(new Error(code), { code });
    });
  expect(failing).toThrow(UserError);
  expect(failing).toThrow(message);
});

test('other errors pass through unchanged', () => {
  const error = new Error('else');
  expect(() =>
    fileOperation('write', 'x', () => {
      throw error;
    }),
  ).toThrow(error);
});

test('a file in the place of a folder is explained; what is missing is empty', () => {
  writeFileSync(join(folder, 'file'), '');
  expect(() => makeFolder(join(folder, 'file', 'below'))).toThrow('a part of the path is a file');
  expect(listFolder(join(folder, 'none'))).toEqual([]);
  expect(readTextIfThere(join(folder, 'none'))).toBeUndefined();
});

test('many files are there at once, or as they were', () => {
  const below = join(folder, 'many');
  makeFolder(below);
  const files = ['a', 'b', 'c'].map((name) => ({ path: join(below, name), data: Buffer.from(name) }));
  const before = fileOperations();
  replaceFiles(files);
  expect(fileOperations() - before).toBe(3 * 4 + 1); // open, write, flush, rename; flush of the folder
  const texts = () => listFolder(below).map((name) => `${name} ${readTextIfThere(join(below, name))}`);
  expect(texts()).toEqual(['a a', 'b b', 'c c']);
  const remove = setFileHook((operation, path) => {
    if (operation === 'flush' && path.endsWith('b')) throw Object.assign(new Error(), { code: 'ENOSPC' });
  });
  expect(() => replaceFiles(files.map((file) => ({ ...file, data: Buffer.from('new') })))).toThrow(
    'the disk is full',
  );
  remove();
  expect(texts()).toEqual(['a a', 'b b', 'c c']);
  replaceFiles([]);
});

test('every operation is counted', () => {
  const before = fileOperations();
  replaceFile(join(folder, 'b.txt'), 'x'); // open, write, flush, rename, flush of the folder
  expect(fileOperations() - before).toBe(5);
});

test('a name is given once, whatever was there before', () => {
  const [temporary, path] = [join(folder, 'temporary'), join(folder, 'once')];
  writeFileSync(temporary, 'first');
  expect([linkOnce(temporary, path), linkOnce(temporary, path)]).toEqual([true, true]); // an answer that got lost
  rmSync(temporary);
  writeFileSync(temporary, 'second');
  expect([linkOnce(temporary, path), readFileSync(path, 'utf8')]).toEqual([false, 'first']);
});
