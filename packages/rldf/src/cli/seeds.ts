/** The seeds of a command line: never a list in memory, so that a million pictures need no more of it than one. */

import { UserError } from '@rldf/torch/errors';
import { largestSeed, type Seed, seedOf } from '@rldf/torch/seeds';
import { mostPictures } from '../base/counts.js';

export interface Seeds {
  readonly length: number;
  at(index: number): Seed;
}

/**
 * `7`, `1,2,3`, `0-15`, or one seed and a count.
 * @throws UserError for what is none of these, and for more than `mostPictures`
 */
export function parseSeeds(text: string, count = 1, option = '--seed'): Seeds {
  const ranges = text.split(',').map((part) => rangeOf(option, text, part));
  if (count > 1) {
    const [range] = ranges as [Range];
    if (ranges.length > 1 || range.length > 1n)
      throw new UserError(
        `--count ${count} with several seeds: the seeds say how many. Leave one of them out`,
      );
    range.length = BigInt(count);
  }
  const beyond = ranges.find(({ first, length }) => first + length - 1n > largestSeed);
  if (beyond !== undefined)
    throw new UserError(
      `${option} ${text}: counted up ${beyond.length} times it goes beyond ${largestSeed} (2^64 - 1), the largest seed. Begin lower`,
    );
  const length = ranges.reduce((sum, range) => sum + range.length, 0n);
  if (length > mostPictures)
    throw new UserError(
      `${count > 1 ? `--count ${count}` : `${option} ${text}`}: ${length} pictures of each prompt — at most ${mostPictures} in one command. Draw them in several, with seeds that follow each other`,
    );
  return {
    length: Number(length),
    at(index) {
      let left = BigInt(index);
      for (const range of ranges) {
        if (left < range.length) return seedOf(range.first + left);
        left -= range.length;
      }
      throw new RangeError(`seed ${index} of ${length}`);
    },
  };
}

interface Range {
  first: bigint;
  length: bigint;
}

function rangeOf(option: string, text: string, part: string): Range {
  const [, first, last = first] = /^\s*(\d+)(?:\s*-\s*(\d+))?\s*$/.exec(part) ?? [];
  if (first === undefined || last === undefined)
    throw new UserError(
      `${option} ${text}: expected whole numbers from 0 to ${largestSeed}, such as 7, 1,2,3 or 0-15${/^\s*-\s*\d+\s*$/.test(part) ? '; there is no seed that means "any"' : ''}`,
    );
  const [from, to] = [BigInt(first), BigInt(last)];
  if (to < from)
    throw new UserError(`${option} ${text}: ${part.trim()} counts down — write ${last}-${first}`);
  if (to > largestSeed)
    throw new UserError(`${option} ${text}: ${last} is beyond ${largestSeed} (2^64 - 1), the largest seed`);
  return { first: from, length: to - from + 1n };
}
