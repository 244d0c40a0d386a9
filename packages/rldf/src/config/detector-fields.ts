/** Detectors that a recipe may name: one that ships with rldf, human, any ONNX model, or a zero-shot model. */

import { z } from 'zod';

const path = z.string().min(1);
const share = z.number().min(0).max(1);
const triple = z.tuple([z.number(), z.number(), z.number()]);
const licence = z
  .string()
  .min(1)
  .optional()
  .describe('Licence of the weights, for the record of the run. By default, unknown.');
const threshold = share.default(0.3).describe('Least score of a detection, 0 to 1.');

export const onnxDetectorSchema = z.strictObject({
  onnx: path.describe('The model, a .onnx file; run by the package onnxruntime-node.'),
  labels: z
    .union([path, z.array(z.string().min(1)).min(1)])
    .optional()
    .describe(
      'Its labels in order: a list, `coco`, or a file with one on each line. By default, those ' +
        'that the model file names, as Ultralytics writes them.',
    ),
  head: z
    .enum(['auto', 'yolo', 'yolo-objectness', 'end-to-end', 'detr', 'detr-sigmoid'])
    .default('auto')
    .describe(
      'Form of its outputs. `yolo`: boxes and class scores (YOLOv8 to 12); `yolo-objectness`: ' +
        'with an objectness (YOLOv5, v7, X); `end-to-end`: rows of x0, y0, x1, y1, score, ' +
        'class; `detr`: logits with a last class for nothing, and boxes; `detr-sigmoid`: ' +
        'logits without (RT-DETR).',
    ),
  size: z
    .int()
    .min(8)
    .max(4096)
    .optional()
    .describe('Edge of its input in pixels, where the model leaves it open. By default, 640.'),
  resize: z
    .enum(['letterbox', 'stretch'])
    .optional()
    .describe('How images get that size. By default, letterbox for YOLO, stretch for DETR.'),
  mean: triple
    .optional()
    .describe('Subtracted from pixels in [0, 1]. By default, 0, or that of ImageNet for `detr`.'),
  std: triple.optional().describe('What they are then divided by. By default, 1, or that of ImageNet.'),
  threshold,
  overlap: share.default(0.5).describe('Boxes of a label that overlap a better one by more are dropped.'),
  licence,
});
export type OnnxDetectorField = z.output<typeof onnxDetectorSchema>;

export const zeroShotDetectorSchema = z.strictObject({
  zeroShot: path.describe(
    'A model of @huggingface/transformers for zero-shot object detection (OWL-ViT, OWLv2, ' +
      'Grounding DINO): a folder, or a repository that the package downloads.',
  ),
  labels: z.array(z.string().min(1)).min(1).describe('What it looks for.'),
  phrase: z
    .string()
    .default('a photo of a {}')
    .describe('What it is told of each label, which stands for the braces.'),
  dtype: z.string().optional().describe('Which of its weights, such as `q8`. By default, its own choice.'),
  threshold: share.default(0.1).describe('Least score of a detection, 0 to 1.'),
  overlap: share.default(0.5).describe('Boxes of a label that overlap a better one by more are dropped.'),
  licence,
});
export type ZeroShotDetectorField = z.output<typeof zeroShotDetectorSchema>;

/** The face quality network of the Python package qualityface 1.0.3. */
export const qualityFaceSchema = z.strictObject({
  qualityface: path.describe(
    'Weights of the Python package qualityface 1.0.3: its file `checkpoints/last.pth`, or the ' +
      'package unpacked. `tiny` are random ones, to try it.',
  ),
  licence,
});
export type QualityFaceField = z.output<typeof qualityFaceSchema>;

/** An ONNX network that gives one number for the crop of a face or hand. */
export const onnxQualitySchema = z.strictObject({
  onnx: path.describe('The network, a .onnx file of one number for each crop.'),
  size: z.int().min(8).max(4096).optional().describe('Edge of its input, where the model leaves it open.'),
  mean: triple.default([0.5, 0.5, 0.5]).describe('Subtracted from pixels in [0, 1].'),
  std: triple.default([0.5, 0.5, 0.5]).describe('What they are then divided by.'),
  licence,
});

export type OnnxQualityField = z.output<typeof onnxQualitySchema>;

const qualityNetworkSchema = z.union([qualityFaceSchema, onnxQualitySchema], {
  error: 'expected { qualityface: FILE } or { onnx: FILE, size, mean, std }',
});

/** A name: `detector`, `human`, a .onnx file, or a .yaml file with the fields of one of the objects. */
export const detectorSchema = z.union([path, onnxDetectorSchema, zeroShotDetectorSchema], {
  error:
    'expected detector, human, a .onnx file, a .yaml file, { onnx: FILE, labels: ... }, or { zeroShot: MODEL, labels: [...] }',
});
export type DetectorField = z.output<typeof detectorSchema>;

/** Scores that are made of a detector's boxes. */
export const detectedScores = [
  'spatial',
  'count',
  'presence',
  'detector-confidence',
  'geneval',
  'composition',
  'face',
  'hand',
] as const;

export const detectedRewardSchema = z.strictObject({
  score: z.enum(detectedScores).describe('What is scored; `rldf rewards NAME` describes it.'),
  detector: detectorSchema
    .optional()
    .describe('What looks at the images. By default, that of the built-in reward of the same name.'),
  as: z
    .string()
    .regex(/^[\w.-]+$/, 'expected letters, digits, dots, dashes and underscores')
    .optional()
    .describe('Name in metrics and reports. By default, that of the score.'),
  quality: qualityNetworkSchema
    .optional()
    .describe('For `face` and `hand`: scores the crops. By default, the confidence of the detector.'),
  none: z
    .number()
    .default(0)
    .describe('For `face` and `hand`: the score of an image in which there is none.'),
});
export type DetectedRewardField = z.output<typeof detectedRewardSchema>;

/** Text in images against the text that the prompt quotes. */
export const textRewardSchema = z.strictObject({
  text: z.literal('tesseract').describe('What reads: the package tesseract.js.'),
  language: z
    .string()
    .regex(/^[a-z_]+(\+[a-z_]+)*$/, 'expected names of languages, such as eng or eng+deu')
    .default('eng')
    .describe('Of its language data, of the packages @tesseract.js-data/LANGUAGE.'),
  data: path.optional().describe('Folder with LANGUAGE.traineddata.gz instead of these packages.'),
});
export type TextRewardField = z.output<typeof textRewardSchema>;
