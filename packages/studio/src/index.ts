/** `rldf studio`: a local server that shows a folder of runs. */

export type * from './api.js';
export { type PictureLine, pictureFile } from './pictures.js';
export { type Studio, type StudioOptions, startStudio } from './server.js';
export type { FileAt, Holder, Services, Worker, WorkerAnswer, WorkerRequest } from './services.js';
