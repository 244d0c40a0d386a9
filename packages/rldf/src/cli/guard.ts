/**
 * One guard around every command: exit code 0 means that it did what was asked, it ends when its work is done, and what it
 * prints is its own. Installed by main.ts alone, so that commands can be called from tests.
 */

import { fileURLToPath } from 'node:url';
import { howToContinue } from '@rldf/common/base/underway';
import { InternalError, UserError } from '@rldf/torch/errors';
import { beforeUserModules, placeInUserModules, userModules } from '../base/user-modules.js';
import { claimOutput, moveOutput } from './output.js';

/**
 * Runs a command and ends the process with its exit code; timers, sockets and workers that a module left open do not keep it. If
 * the process would end before the command has, that is an error.
 *
 * @param exitCodeOf prints an error and gives its exit code
 */
export async function guarded(
  command: () => Promise<number>,
  exitCodeOf: (error: unknown) => number,
): Promise<never> {
  const exit = process.exit.bind(process);
  let ended = false;
  const end = (code: number): never => {
    ended = true;
    return exit(code);
  };
  /** What went wrong: a mistake in a module of the user's, where there is one. */
  const tooEarly = (what: string) => {
    const message = `${what}, then ${howToContinue() || 'run the command again'}`;
    return exitCodeOf(userModules().length > 0 ? new UserError(message) : new InternalError(message));
  };

  claimOutput();
  beforeUserModules(async () => {
    const { moveStandardOutput } = await import('@rldf/torch');
    moveOutput(moveStandardOutput); // native code and child processes write to the descriptor itself
  });
  let place: string | undefined;
  process.exit = ((code?: number | string | null) => {
    place = placeInUserModules(new Error().stack);
    return exit(code as number | undefined);
  }) as typeof process.exit;
  process.on('exit', (code) => {
    if (ended) return;
    ended = true;
    const where = place ?? userModules()[0] ?? 'rldf';
    process.exitCode = tooEarly(
      `${where}: process.exit(${code}) before the work was done — a module returns its values and leaves the end to rldf. Take the call out`,
    );
  });
  process.on('beforeExit', () => {
    if (ended) return;
    const where = userModules().join(', ') || 'rldf';
    end(
      tooEarly(
        `${where}: what the work waits for never comes, and nothing is left to run — every promise must be settled. Resolve or reject it, after errors and time limits too`,
      ),
    );
  });
  const lost = (error: unknown, why: string) => {
    if (ended) return;
    if (!isTheirs(error)) return end(exitCodeOf(error));
    const stack = error instanceof Error ? error.stack : undefined;
    const where = placeInUserModules(stack) ?? userModules().join(', ');
    const words = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    end(tooEarly(`${where}: ${words} — ${why}. Mend the module`));
  };
  process.on('uncaughtException', (error) => lost(error, 'thrown where nothing can catch it, as in a timer'));
  process.on('unhandledRejection', (reason) => lost(reason, 'a promise was rejected and nobody awaited it'));
  return end(await command().catch(exitCodeOf));
}

/** Whether an error that nothing caught came out of a module of the user's, or of what that uses. */
function isTheirs(error: unknown): boolean {
  if (userModules().length === 0) return false;
  if (!(error instanceof Error)) return true;
  const { stack = '' } = error;
  return placeInUserModules(stack) !== undefined || !ourSources().some((folder) => stack.includes(folder));
}

/** Folders of the sources whose errors are ours: this package, the search, and what they share. */
function ourSources(): string[] {
  const urls = [
    new URL('..', import.meta.url),
    new URL('.', import.meta.resolve('@rldf/search')),
    new URL('..', import.meta.resolve('@rldf/common/base/files')),
  ];
  return urls.map((url) => fileURLToPath(url));
}
