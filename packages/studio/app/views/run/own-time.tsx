/** A prompt of one's own, drawn by the weights of every kept checkpoint. */

import { useMemo, useState } from 'preact/hooks';
import type { DrawRequest, RunDetail } from '../../../src/api.js';
import { useDrawing } from '../../lib/drawing.js';
import { parseScenes } from '../../lib/scenes.js';
import { Problem, Scroll, Share } from '../../ui/parts.js';
import { Image } from '../../ui/picture.js';

export function OwnThroughTime({ detail }: { detail: RunDetail }) {
  const [text, setText] = useState('');
  const [request, setRequest] = useState<DrawRequest | null>(null);
  const drawing = useDrawing(request);
  const steps = useMemo(() => detail.checkpoints.map(({ step }) => step), [detail.checkpoints]);
  const { scenes, problem } = parseScenes(text);
  const draw = (event: Event) => {
    event.preventDefault();
    if (scenes.length === 0) return;
    setRequest({
      run: detail.id,
      pictures: scenes,
      points: steps.map((step) => ({ kind: 'checkpoint', run: detail.id, step })),
    });
  };
  return (
    <>
      <form class="own" onSubmit={draw}>
        <label class="grow">
          <span class="small">Prompts, a line each; “#7” at the end is a seed</span>
          <textarea
            rows={2}
            value={text}
            placeholder={'a cat on the grass #7'}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <button type="submit" class="primary" disabled={scenes.length === 0}>
          Draw
        </button>
        {problem !== null && <p class="small bad">{problem}</p>}
      </form>
      {drawing.progress !== null && (
        <p class="row small muted" role="status">
          <Share value={drawing.progress.share} label="Drawing" /> {drawing.progress.phase}
        </p>
      )}
      {drawing.error !== null && <Problem error={drawing.error} what="Nothing was drawn." />}
      {request !== null && drawing.files.length > 0 && (
        <Scroll label="Prompts by checkpoints">
          <table class="through">
            <caption class="hidden">Prompts by checkpoints</caption>
            <thead>
              <tr>
                <th scope="col">Prompt</th>
                {steps.map((step) => (
                  <th scope="col" key={step}>
                    step {step}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {request.pictures.map(({ prompt, seed }, picture) => (
                <tr key={`${prompt} ${seed}`}>
                  <th scope="row">
                    {prompt} <span class="muted small">#{seed}</span>
                  </th>
                  {steps.map((step, point) => (
                    <td key={step}>
                      <Image file={drawing.files[point]?.[picture]} alt={`${prompt}, step ${step}`} />
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
    </>
  );
}
