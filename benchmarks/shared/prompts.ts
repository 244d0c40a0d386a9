import {
  type PromptScene,
  promptScenes,
  promptSet,
  promptSetNames,
  type SceneKind,
  sceneKinds,
} from '@rldf/emoji-world';
import { UserError } from '@rldf/torch';

/** Prompts with their scenes by a name on the command line: a set of `rldf prompts`, or a kind of training prompts. */
export function promptsNamed(name: string): readonly PromptScene[] {
  if (promptSetNames.includes(name)) return promptSet(name).prompts;
  if (sceneKinds.includes(name as SceneKind)) return promptScenes('train', name as SceneKind);
  throw new UserError(
    `--prompts ${name}: neither a set nor a kind of prompts — sets are ${promptSetNames.join(', ')}; kinds are ${sceneKinds.join(', ')}.`,
  );
}
