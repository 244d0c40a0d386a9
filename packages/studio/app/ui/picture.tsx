/** A picture as a thumbnail, and rows and grids of them in which arrows move. */

import type { ComponentChildren } from 'preact';
import { useRef, useState } from 'preact/hooks';
import type { FileId, PictureInfo } from '../../src/api.js';
import { reward } from '../lib/format.js';
import { moved } from '../lib/keyboard.js';

export const fileAddress = (file: FileId): string => `/api/files/${encodeURIComponent(file)}`;

/** An image that says when it is not there. Small ones are enlarged with their pixels sharp. */
export function Image(props: {
  file: FileId | null | undefined;
  alt: string;
  width?: number;
  height?: number;
  class?: string;
}) {
  const { file, alt, width, height } = props;
  const [failed, setFailed] = useState<FileId | null>(null);
  if (file === null || file === undefined || failed === file) {
    return (
      <span class={`no-image ${props.class ?? ''}`} role="img" aria-label={`${alt} (no picture)`}>
        <span aria-hidden="true">{failed === null ? '' : '×'}</span>
      </span>
    );
  }
  return (
    <img
      class={props.class}
      src={fileAddress(file)}
      alt={alt}
      width={width}
      height={height}
      loading="lazy"
      decoding="async"
      onError={() => setFailed(file)}
    />
  );
}

/** The one with the focus is in the tab order; arrows go to its neighbours. */
export function PictureGrid(props: {
  label: string;
  count: number;
  class?: string;
  children: (at: number, focusable: boolean) => ComponentChildren;
}) {
  const { label, count, children } = props;
  const [active, setActive] = useState(0);
  const list = useRef<HTMLUListElement>(null);
  const onKeyDown = (event: KeyboardEvent) => {
    const buttons = [...(list.current?.querySelectorAll<HTMLElement>('.thumb') ?? [])];
    const from = buttons.indexOf(event.target as HTMLElement);
    if (from < 0) return;
    const top = buttons[0]!.offsetTop;
    const columns = Math.max(2, buttons.filter((button) => button.offsetTop === top).length);
    const next = moved(event.key, from, buttons.length, columns);
    if (next === undefined) return;
    event.preventDefault();
    setActive(next);
    buttons[next]?.focus();
  };
  return (
    <ul class={`pictures ${props.class ?? ''}`} aria-label={label} ref={list} onKeyDown={onKeyDown}>
      {Array.from({ length: count }, (_, i) => children(i, i === Math.min(active, count - 1)))}
    </ul>
  );
}

export function Thumb(props: {
  picture: PictureInfo;
  focusable: boolean;
  onOpen: () => void;
  showPrompt?: boolean;
  range?: [number, number] | undefined;
}) {
  const { picture, focusable, onOpen, showPrompt = false, range } = props;
  const share =
    range === undefined || picture.reward === null
      ? null
      : (picture.reward - range[0]) / (range[1] - range[0] || 1);
  return (
    <li>
      <button
        type="button"
        class="thumb"
        tabIndex={focusable ? 0 : -1}
        onClick={onOpen}
        title={picture.prompt}
        aria-label={`${picture.prompt}, reward ${reward(picture.reward)}, step ${picture.step}`}
      >
        <Image file={picture.file} alt="" />
        <span class="thumb-reward">
          {reward(picture.reward)}
          {share !== null && (
            <span class="thumb-share" style={{ width: `${Math.round(100 * share)}%` }} aria-hidden="true" />
          )}
        </span>
        {showPrompt && <span class="thumb-prompt cut">{picture.prompt}</span>}
      </button>
    </li>
  );
}
