/** Writes exactly the point of the dial as one adapter file. */

import { useState } from 'preact/hooks';
import type { AdapterAt, ExportAnswer } from '../../../src/api.js';
import { post } from '../../lib/client.js';
import { exportName } from '../../lib/dial.js';
import { bytes, plural } from '../../lib/format.js';
import { Icon } from '../../ui/icons.js';
import { Command, Problem } from '../../ui/parts.js';
import { fileAddress } from '../../ui/picture.js';

export function ExportForm({
  run,
  name,
  adapters,
  place,
}: {
  run: string;
  name: string;
  adapters: AdapterAt[];
  place: number[];
}) {
  const [fileName, setFileName] = useState(exportName(name, place));
  const [state, setState] = useState<'idle' | 'writing' | { made: ExportAnswer } | { error: Error }>('idle');
  const valid = /^[A-Za-z0-9._-]+$/.test(fileName);
  const write = (event: Event) => {
    event.preventDefault();
    if (!valid) return;
    setState('writing');
    post<ExportAnswer>('/api/export', { run, adapters, name: fileName }).then(
      (made) => setState({ made }),
      (error: Error) => setState({ error }),
    );
  };
  return (
    <form class="export stack" onSubmit={write}>
      <h3>Export exactly this</h3>
      <div class="row">
        <input
          type="text"
          class="grow"
          aria-label="Name of the file"
          value={fileName}
          aria-invalid={!valid}
          onInput={(event) => setFileName(event.currentTarget.value)}
        />
        <button type="submit" class="primary" disabled={!valid || state === 'writing'}>
          {state === 'writing' ? 'Writing …' : 'Export'}
        </button>
      </div>
      {!valid && <p class="small bad">Letters, digits, dots, “_” and “-” only.</p>}
      {typeof state === 'object' && 'error' in state && (
        <Problem error={state.error} what="It could not be written." />
      )}
      {typeof state === 'object' && 'made' in state && (
        <div class="stack" role="status">
          <p class="small">
            {bytes(state.made.bytes)}, rank {state.made.rank}, {plural(state.made.layers.unet, 'layer')} of
            the U-Net, {plural(state.made.layers.textEncoder, 'layer')} of the text encoder.
          </p>
          <pre class="quote">{state.made.path}</pre>
          <a class="button" href={fileAddress(state.made.file)} download={`${fileName}.safetensors`}>
            <Icon name="download" />
            Download
          </a>
          <Command command={state.made.command} title="Draws with it" />
        </div>
      )}
    </form>
  );
}
