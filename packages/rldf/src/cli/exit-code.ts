import { CommanderError } from 'commander';

/** Exit codes: a mistake of the user's or an interruption, and a fault of ours. */
const exitCodes = { user: 2, ours: 1 } as const;

/** Prints one clear message on stderr and gives the exit code. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    process.stderr.write(`rldf: ${error.message.replace(/^error: /, '')}. See rldf --help\n`);
    return exitCodes.user;
  }
  const { name, message, stack } =
    error instanceof Error ? error : { name: 'Error', message: String(error), stack: undefined };
  if (name === 'UserError') {
    process.stderr.write(`rldf: ${message}\n`);
    if (process.env.RLDF_DEBUG) process.stderr.write(`${stack}\n`);
    return exitCodes.user;
  }
  if (name === 'AbortError') {
    process.stderr.write('rldf: interrupted\n');
    return exitCodes.user;
  }
  const text = name === 'InternalError' ? message : `internal: ${name}: ${message}`;
  process.stderr.write(
    `rldf: ${text}\nThis is a fault of rldf, not of yours. Please report it with the lines below.\n${stack}\n`,
  );
  return exitCodes.ours;
}
