/** Rewards that a server gives: one of the user's own over HTTP, or a vision-language model behind a chat endpoint. */

import { existsSync, readFileSync } from 'node:fs';
import { UserError } from '@rldf/torch/errors';
import { parseDocument } from 'yaml';
import { z } from 'zod';

const whole = z.int().min(1).max(1_000_000);

const nameSchema = z.string().regex(/^[\w.-]+$/, 'expected letters, digits, dots, dashes and underscores');

const addressSchema = z.string().refine((text) => addressProblem(text) === undefined, {
  error: ({ input }) => addressProblem(String(input)) as string,
});

function addressProblem(text: string): string | undefined {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return 'no address — write such as http://localhost:8000/score';
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    return `${url.protocol} is not spoken — write such as http://localhost:8000/score`;
  if (url.username !== '' || url.password !== '')
    return 'holds a password, and a recipe is copied into its run — set key to the name of an environment variable instead';
  return undefined;
}

/** What a server may take of time, and how it is asked. */
const patienceFields = {
  parallel: whole.max(256).default(2).describe('Requests under way at once.'),
  timeout: z
    .number()
    .positive()
    .max(290) // Node's own fetch gives up after 300
    .default(60)
    .describe('Seconds for one whole answer; above 0, at most 290.'),
  retries: z
    .int()
    .min(0)
    .max(50)
    .default(6)
    .describe(
      'Further tries after a time-out, a broken connection, or a status of 408, 425, 429 or 5xx; ' +
        'before the first 1 second is waited, then twice as long each time, up to a minute.',
    ),
  key: z
    .string()
    .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'expected the name of an environment variable, not a key itself')
    .optional()
    .describe('Name of the environment variable whose value is sent as a bearer token.'),
  licence: z
    .string()
    .min(1)
    .optional()
    .describe('Licence of the model behind it, for the record of the run. By default, unknown.'),
};

export const httpRewardSchema = z.strictObject({
  http: addressSchema.describe('Address of a server that scores images (docs/guide-rewards.md).'),
  as: nameSchema
    .optional()
    .describe('Name in metrics and reports. By default, the address without its scheme.'),
  batch: whole.max(1024).default(8).describe('Images in one request.'),
  ...patienceFields,
});
export type HttpRewardField = z.output<typeof httpRewardSchema>;

export const visionRewardSchema = z.strictObject({
  vision: z.string().min(1).describe('What is asked: a file, or one of recipes/judges.'),
  endpoint: addressSchema.describe(
    'Base of an OpenAI-compatible server, such as `http://localhost:8000/v1`.',
  ),
  model: z.string().min(1).describe('Name of the model there.'),
  as: nameSchema.optional().describe('Name in metrics and reports. By default, that of what is asked.'),
  ...patienceFields,
  budget: whole
    .default(100_000)
    .describe('Most calls of one command. The work ends before more; the cache is free.'),
  price: z
    .number()
    .min(0)
    .optional()
    .describe('What a call costs, in your currency; only for the estimate that is told before.'),
  cache: z
    .string()
    .min(1)
    .optional()
    .describe('Folder that keeps the answers. By default, `judges` in the cache folder of rldf.'),
  unreadable: z
    .number()
    .optional()
    .describe(
      'Score of an image whose answer cannot be read after a second try. By default, the work ' +
        'ends then.',
    ),
});
export type VisionRewardField = z.output<typeof visionRewardSchema>;

/**
 * Fields in a YAML file of their own.
 * @param what they describe, in messages
 * @throws UserError when there is no such file, or with every mistake in it
 */
export function checkedFile<Schema extends z.ZodType>(
  schema: Schema,
  file: string,
  what: string,
): z.output<Schema> {
  const where = `${what} ${file}`;
  if (!existsSync(file))
    throw new UserError(`${where}: there is no such file — give the path of a .yaml file`);
  const document = parseDocument(readFileSync(file, 'utf8'));
  const [broken] = document.errors;
  if (broken) throw new UserError(`${where}: ${broken.message.split('\n')[0]} — must be YAML`);
  return checkedFields(schema, document.toJS(), where);
}

/** Fields given by a program, which no recipe has checked. @throws UserError with every mistake */
export function checkedFields<Schema extends z.ZodType>(
  schema: Schema,
  given: unknown,
  where: string,
): z.output<Schema> {
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map(({ path, message }) => `${where}: ${path.join('.')}: ${message}`);
  throw new UserError(lines.join('\n'));
}
