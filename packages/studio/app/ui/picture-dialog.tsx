/** Everything about one picture: how it was drawn, what it was worth, and the command that draws it again. */

import type { PictureInfo } from '../../src/api.js';
import { grouped, reward, short } from '../lib/format.js';
import { keysAreTaken } from '../lib/keyboard.js';
import { Dialog } from './dialog.js';
import { Icon } from './icons.js';
import { Command, CopyButton } from './parts.js';
import { Image } from './picture.js';

export function PictureDialog(props: {
  picture: PictureInfo;
  position: string;
  onClose: () => void;
  onMove: (by: -1 | 1) => void;
}) {
  const { picture, position, onClose, onMove } = props;
  const { behaviour, before, rewards } = picture;
  const onKeyDown = (event: KeyboardEvent) => {
    if (keysAreTaken(event.target as HTMLElement)) return;
    if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
    event.preventDefault();
    onMove(event.key === 'ArrowLeft' ? -1 : 1);
  };
  const parts = Object.entries(rewards);
  return (
    <Dialog
      title={picture.prompt || '(empty prompt)'}
      class="picture-dialog"
      onClose={onClose}
      onKeyDown={onKeyDown}
      actions={
        <>
          <span class="small muted" aria-live="polite">
            {position}
          </span>
          <button
            type="button"
            class="quiet"
            onClick={() => onMove(-1)}
            aria-label="Picture before (left arrow)"
          >
            <Icon name="arrowLeft" />
          </button>
          <button
            type="button"
            class="quiet"
            onClick={() => onMove(1)}
            aria-label="Next picture (right arrow)"
          >
            <Icon name="arrowRight" />
          </button>
        </>
      }
    >
      <div class="picture-detail">
        <div class={before === null ? 'big' : 'big two'}>
          {before !== null && (
            <figure>
              <Image file={before.file} alt={`${picture.prompt}, before the training`} />
              <figcaption class="small muted">before: {reward(before.reward)}</figcaption>
            </figure>
          )}
          <figure>
            <Image file={picture.file} alt={picture.prompt} />
            {before !== null && <figcaption class="small muted">after: {reward(picture.reward)}</figcaption>}
          </figure>
        </div>
        <div class="stack">
          <dl class="facts">
            <dt>Reward</dt>
            <dd>
              <b>{reward(picture.reward)}</b>
              {picture.advantage !== null && (
                <span class="muted"> · advantage {short(picture.advantage)}</span>
              )}
            </dd>
            {(parts.length > 1 || (parts.length === 1 && parts[0]![1] !== picture.reward)) &&
              parts.map(([name, value]) => [
                <dt key={`${name} name`} class="part">
                  {name}
                </dt>,
                <dd key={name}>{reward(value)}</dd>,
              ])}
            <dt>Drawn</dt>
            <dd>
              {picture.kind === 'rollout'
                ? 'for training'
                : picture.kind === 'validation'
                  ? 'at an evaluation'
                  : 'for the report'}
              , step {grouped(picture.step)}
            </dd>
            <dt>Seed</dt>
            <dd class="seed">
              <code>{picture.seed}</code>
              <CopyButton text={String(picture.seed)} what="the seed" />
            </dd>
            <dt>Denoising</dt>
            <dd>
              {behaviour.steps} steps, eta {short(behaviour.eta)}
            </dd>
            <dt>Guidance</dt>
            <dd>
              <Guidance values={behaviour.guidance} />
            </dd>
            {behaviour.wordWeights.length > 0 && <dt>Word weights</dt>}
            {behaviour.wordWeights.length > 0 && (
              <dd class="row words">
                {behaviour.wordWeights.map(({ word, weight }) => (
                  <span key={word} class="word">
                    {word} <b>{short(weight)}</b>
                  </span>
                ))}
              </dd>
            )}
            {behaviour.negativePrompt !== '' && <dt>Steered away from</dt>}
            {behaviour.negativePrompt !== '' && <dd>{behaviour.negativePrompt}</dd>}
          </dl>
          <Command
            command={picture.redraw.command}
            title={picture.redraw.exact ? 'Draws this very picture' : 'Draws nearly this picture'}
          />
          {picture.redraw.note !== '' && <p class="small muted">{picture.redraw.note}</p>}
        </div>
      </div>
    </Dialog>
  );
}

/** One number if it stays, else bars by step. */
function Guidance({ values }: { values: number[] }) {
  if (values.length === 0) return <span>–</span>;
  const [least, greatest] = [Math.min(...values), Math.max(...values)];
  if (least === greatest) return <span>{short(least)} at every step</span>;
  return (
    <span
      class="guidance"
      role="img"
      aria-label={`by step: ${values.map((value) => short(value)).join(', ')}`}
    >
      {values.map((value, i) => (
        <span
          key={i}
          title={`step ${i + 1}: ${short(value)}`}
          style={{ height: `${8 + (92 * Math.abs(value)) / Math.max(Math.abs(least), Math.abs(greatest))}%` }}
        />
      ))}
      <span class="small muted">
        {short(values[0])} … {short(values.at(-1))}
      </span>
    </span>
  );
}
