export { InternalError, UserError } from '@rldf/torch';
