/** A mistake of the user's: wrong input, impossible request. The command line exits with code 2. */
export class UserError extends Error {
  override name = 'UserError';
}

/** A fault of ours. The command line exits with code 1. */
export class InternalError extends Error {
  override name = 'InternalError';
  constructor(message: string) {
    super(`internal: ${message}`);
  }
}
