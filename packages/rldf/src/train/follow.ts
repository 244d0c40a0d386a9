// What a worker other than the first does: what it is told.
import { crew, Dismissed } from '@rldf/common/workers/crew';
import { type DrawCommand, DrawingFollower } from '@rldf/common/workers/draw';
import { UserError } from '@rldf/torch/errors';
import { checkRecipe } from '../recipe/load.js';
import { prepare, type TrainOptions } from './from-recipe.js';
import { followTraining } from './shared-training.js';

/** What the first worker asks for, of all. */
export type WorkCommand = DrawCommand | { do: 'train'; recipe: object };

/**
 * Follows the first worker until its work is over.
 * @param options the same reward as the first worker's, where it is given as a function
 * @returns the exit code
 */
export async function follow(options: Pick<TrainOptions, 'reward'> = {}): Promise<number> {
  const drawing = new DrawingFollower();
  try {
    for (;;) {
      const command = (await crew().command()) as WorkCommand | { do: 'close' };
      if (command.do === 'generate') await drawing.draw(command);
      if (command.do === 'train') {
        drawing.free();
        const { training, reward, drawn, release } = await prepare(checkRecipe(command.recipe), options);
        await followTraining(training, reward, drawn);
        release();
      }
    }
  } catch (error) {
    if (error instanceof Dismissed) return error.code;
    if (error instanceof UserError && crew().lost) throw error; // the first one is gone: nobody else would tell
    await crew().fail(error);
    return 2;
  }
}
