import { explained } from '@rldf/common/base/files';
import { UserError } from '@rldf/torch/errors';
import { CommanderError } from 'commander';

/** Exit codes: a mistake of the user's or an interruption, and a fault of ours. */
const exitCodes = { user: 2, ours: 1 } as const;

/** Prints one clear message on stderr and gives the exit code. */
export function exitCodeOf(thrown: unknown): number {
  const error = understood(thrown);
  if (error instanceof Error && error.name === 'Dismissed') return exitCodes.user; // the first worker tells why
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
  if (name === 'AbortError' || (error as NodeJS.ErrnoException | null)?.code === 'ERR_INTERRUPTED') {
    process.stderr.write('rldf: interrupted\n');
    return exitCodes.user;
  }
  const text = name === 'InternalError' ? message : `internal: ${name}: ${message}`;
  process.stderr.write(
    `rldf: ${text}\nThis is a fault of rldf, not of yours. Please report it with the lines below.\n${stack}\n`,
  );
  return exitCodes.ours;
}

/** A package of another's that is missing, or whose binary is: left out, of another machine, or not built. */
function isBrokenInstall({ message, code }: NodeJS.ErrnoException): boolean {
  if (/^Could not load the "sharp" module/.test(message)) return true;
  return /^(ERR_)?MODULE_NOT_FOUND$/.test(code ?? '') && /node_modules|Cannot find package/.test(message);
}

/** What the system or libtorch refuses for reasons of the machine, as the user's to mend. */
export function understood(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { code, syscall, path } = error as NodeJS.ErrnoException;
  if (isBrokenInstall(error))
    return new UserError(
      `a package that rldf needs does not load: ${error.message.split('\nPossible solutions')[0]?.replace(/\n/g, ': ')} — the installation is not whole. Run \`npm ci\` again, or \`npm install --include=optional\`; \`rldf doctor\` shows what is missing`,
      { cause: error },
    );
  if (syscall !== undefined && path !== undefined) return explained(error, syscall, path);
  if (code === 'ERR_TORCH' && /not enough memory|bytes of memory$|out of memory/m.test(error.message))
    return new UserError(
      `${error.message} — the work must fit into memory. Draw smaller pictures (--width, --height, or the recipe's model) or fewer at once (--batch-size, sample.batchSize, train.batchSize)`,
      { cause: error },
    );
  return error;
}
