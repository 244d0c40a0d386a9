/** `@rldf/search/table`: a table of searches by its protocol, for `rldf reproduce`. */

export { searchProtocol } from './protocol.js';
export { openTableInstruments } from './recording.js';
export { searchTable } from './table.js';
