export { InternalError, shown, UserError } from '@rldf/torch/errors';
