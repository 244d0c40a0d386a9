import type { HashRandom } from './random.js';
import { relations, type Scene, subjectsOf } from './scene.js';

/** How often a caption says something else than the picture shows, as captions of web pictures do. */
export interface CaptionNoise {
  /** Share of two-object captions whose relation is drawn anew, uniformly. */
  readonly relation?: number;
  /** Share of counting captions whose number is drawn anew, uniformly from two to four. */
  readonly count?: number;
}

/** The scene as a careless describer remembers it: for `captionOf` only, it is never drawn. */
export function misremember(scene: Scene, random: HashRandom, noise: CaptionNoise): Scene {
  if (scene.relation !== undefined && random.chance(noise.relation ?? 0)) {
    return { ...scene, relation: random.choice(relations) };
  }
  const subjects = subjectsOf(scene);
  const [first] = subjects;
  const counted = subjects.length > 1 && subjects.every(({ noun }) => noun === first?.noun);
  if (first !== undefined && counted && random.chance(noise.count ?? 0)) {
    const remembered = Array.from({ length: 2 + random.integer(3) }, () => first);
    return { ...scene, objects: [...remembered, ...scene.objects.slice(subjects.length)] };
  }
  return scene;
}
