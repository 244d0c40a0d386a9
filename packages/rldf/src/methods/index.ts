import { createDdpo, ddpoSchema } from './ddpo.js';

/** Every method by the value of `method:` in a recipe. */
export const methods = { ddpo: { schema: ddpoSchema, create: createDdpo } };
