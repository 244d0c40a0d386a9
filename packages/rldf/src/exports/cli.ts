/** `rldf/cli`: what the command line is made of, for programs that stand in for a user at it. For benchmarks and tests; it may change with any version. */

export { progressWords } from '../cli/clone-evaluate.js';
export { runCommandLine } from '../cli/program.js';
export { Progress } from '../cli/progress.js';
export { grammarPath } from '../cli/shared.js';
