/** Embeddings of pictures, for the distances between them: by networks that trained nothing else. */

import { noGrad, scope, type Tensor } from '@rldf/torch';
import { loadWorldClip, pixelsOf } from './frozen-clip.js';
import { instrumentFile, judgeOnly } from './instruments.js';
import { SceneClassifier } from './scene-classifier.js';

/** Embeddings of pictures, uint8 [B, H, W, 3]: one row a picture. */
export type FeatureNetwork = (images: Tensor) => number[][];

/** What `features` (diversity, FID, KID) can be computed with, by name; add your own. Loaded when asked for. */
export const featureNetworks: Record<string, () => FeatureNetwork> = {
  style: () => {
    const network = SceneClassifier.load(instrumentFile(judgeOnly('style')));
    return (images) => network.featuresOf(images);
  },
  'clip-2': () => {
    const frozen = loadWorldClip(judgeOnly('clip-2'));
    return (images) => {
      const embed = () => {
        const images01 = images.permute([0, 3, 1, 2]).to('float32').div(255);
        return frozen.clip.encodeImage(pixelsOf(frozen, images01)); // [B, D]
      };
      const { values, width } = noGrad(() =>
        scope(() => {
          const embedded = embed();
          return { values: embedded.toNumbers(), width: embedded.shape[1] as number };
        }),
      );
      return Array.from({ length: values.length / width }, (_, i) =>
        values.slice(i * width, (i + 1) * width),
      );
    };
  },
};
