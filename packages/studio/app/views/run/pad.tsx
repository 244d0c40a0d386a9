/** One slider, or a pad with two: the pad is for fingers and mice, the sliders beside it for keys as well. */

import type { FileId } from '../../../src/api.js';
import type { DialAxis } from '../../lib/dial.js';
import { onStep } from '../../lib/keyboard.js';
import { Slider } from '../../ui/parts.js';
import { Image } from '../../ui/picture.js';

const [LEAST, GREATEST, STEP] = [-0.25, 1.5, 0.05];

export function Pad(props: {
  axes: DialAxis[];
  place: number[];
  onMove: (place: number[]) => void;
  corners: (FileId | null)[];
}) {
  const { axes, place, onMove, corners } = props;
  const move = (event: PointerEvent) => {
    if (event.buttons === 0 && event.type !== 'pointerdown') return;
    const pad = event.currentTarget as HTMLElement;
    if (event.type === 'pointerdown') pad.setPointerCapture(event.pointerId);
    const box = pad.getBoundingClientRect();
    const on = (share: number) => onStep(LEAST + Math.min(1, Math.max(0, share)) * (GREATEST - LEAST), STEP);
    onMove([on((event.clientX - box.left) / box.width), on(1 - (event.clientY - box.top) / box.height)]);
  };
  const percent = (value: number) =>
    `${(100 * (Math.min(GREATEST, Math.max(LEAST, value)) - LEAST)) / (GREATEST - LEAST)}%`;
  return (
    <div class="stack">
      {axes.length === 2 && (
        <div class="pad-frame">
          <div class="pad" aria-hidden="true" onPointerDown={move} onPointerMove={move}>
            {corners.map((file, i) => (
              // The corners stand where their strengths are: 0 and 1 on each axis.
              <span key={i} class="corner" style={{ left: percent(i % 2), bottom: percent(i >> 1) }}>
                <Image file={file} alt="" />
              </span>
            ))}
            <span class="cross-x" style={{ left: percent(place[0]!) }} />
            <span class="cross-y" style={{ bottom: percent(place[1]!) }} />
            <span class="finger" style={{ left: percent(place[0]!), bottom: percent(place[1]!) }} />
          </div>
          <span class="pad-x small muted" aria-hidden="true">
            {axes[0]!.label} →
          </span>
          <span class="pad-y small muted" aria-hidden="true">
            {axes[1]!.label} →
          </span>
        </div>
      )}
      {axes.map((axis, i) => (
        <div class="axis" key={axis.label}>
          <Slider
            label={axis.label}
            say={(place[i] ?? 0).toFixed(2)}
            value={place[i] ?? 0}
            min={LEAST}
            max={GREATEST}
            step={STEP}
            onInput={(value) => onMove(place.map((old, k) => (k === i ? value : old)))}
          />
          <button
            type="button"
            class="quiet small"
            onClick={() => onMove(place.map((old, k) => (k === i ? 1 : old)))}
            aria-label={`1: ${axis.label} as trained`}
          >
            1
          </button>
        </div>
      ))}
    </div>
  );
}
