/** `@rldf/search/clone`: a dataset cloned from one picture a class, and what a classifier learns from it. */

export { armNames } from './arms.js';
export { crops, defaultRecipe, trainClassifier } from './classifier.js';
export { type ClonedClass, type ClonedPicture, cloneDataset } from './clone.js';
export { type CloneEvaluation, type EvaluationProgress, evaluateAndWrite } from './evaluate.js';
export { setOf } from './labelled-set.js';
export { worldSets } from './world-sets.js';
