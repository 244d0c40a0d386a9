/** Small parts of every view. */

import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { RunState } from '../../src/api.js';
import type { StudioError } from '../lib/client.js';
import { reward, signed } from '../lib/format.js';
import { movedRound } from '../lib/keyboard.js';
import { Icon } from './icons.js';

const states: Record<RunState, string> = {
  running: 'running',
  finished: 'finished',
  stopped: 'stopped',
  damaged: 'damaged',
};

export function StateMark({
  state,
  bare = false,
}: {
  state: RunState | 'running' | 'stopped' | 'finished';
  bare?: boolean;
}) {
  return (
    <span class={`state ${state}`}>
      <span class="dot" aria-hidden="true" />
      <span class={bare ? 'hidden' : ''}>{states[state]}</span>
    </span>
  );
}

/** A change with its sign; good and bad are said by sign and colour. */
export function Delta({ value }: { value: number | null }) {
  if (value === null || !Number.isFinite(value)) return <span class="muted">–</span>;
  return <span class={value > 0 ? 'good' : value < 0 ? 'bad' : 'muted'}>{signed(value)}</span>;
}

export function StartToNow({ start, now }: { start: number | null; now: number | null }) {
  if (start === null && now === null) return <span class="muted">–</span>;
  return (
    <span class="start-now">
      <span class="muted">{reward(start)}</span>
      <span class="muted" aria-hidden="true">
        →
      </span>
      <span class="hidden">to</span>
      <span>{reward(now)}</span>
    </span>
  );
}

export function Share({ value, label }: { value: number; label: string }) {
  const share = Math.min(1, Math.max(0, Number.isFinite(value) ? value : 0));
  return (
    <span
      class="share"
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(100 * share)}
    >
      <span style={{ width: `${100 * share}%` }} />
    </span>
  );
}

export function CopyButton({ text, what, label = 'Copy' }: { text: string; what: string; label?: string }) {
  const [copied, setCopied] = useState<'yes' | 'no' | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied('yes');
    } catch {
      setCopied('no');
    }
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setCopied(null), 2500);
  };
  return (
    <button type="button" class="quiet copy" onClick={copy} aria-label={`${label}: ${what}`}>
      <Icon name={copied === 'yes' ? 'check' : 'copy'} />
      <span aria-live="polite">
        {copied === 'yes' ? 'Copied' : copied === 'no' ? 'Select it and copy by hand' : label}
      </span>
    </button>
  );
}

export function Command({ command, title }: { command: string; title?: string }) {
  return (
    <div class="command">
      {title !== undefined && <span class="small muted">{title}</span>}
      <div>
        <pre>
          <code>{command}</code>
        </pre>
        <CopyButton text={command} what={title ?? 'the command'} />
      </div>
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children !== undefined && <div class="muted">{children}</div>}
    </div>
  );
}

/** What went wrong, in words, and what can be done. */
export function Problem({
  error,
  again,
  what,
}: {
  error: StudioError | Error;
  again?: () => void;
  what: string;
}) {
  return (
    <div class="problem" role="alert">
      <strong>{what}</strong>
      <span>{error.message}</span>
      {again !== undefined && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

export const Loading = ({ what }: { what: string }) => (
  <p class="loading muted" role="status">
    Reading {what} …
  </p>
);

export interface Tab<Name extends string> {
  name: Name;
  label: string;
  mark?: ComponentChildren;
}

/** Links that look like tabs: each is a place of its own, so the browser's back button works. Arrows move between them. */
export function TabLinks<Name extends string>(props: {
  label: string;
  tabs: Tab<Name>[];
  active: Name;
  to: (name: Name) => string;
}) {
  const { label, tabs, active, to } = props;
  const list = useRef<HTMLUListElement>(null);
  const onKeyDown = (event: KeyboardEvent) => {
    const links = [...(list.current?.querySelectorAll('a') ?? [])];
    const next = movedRound(event.key, links.indexOf(event.target as HTMLAnchorElement), links.length);
    if (next === undefined) return;
    event.preventDefault();
    links[next]?.focus();
  };
  return (
    <nav class="tabs" aria-label={label}>
      <ul ref={list} onKeyDown={onKeyDown}>
        {tabs.map((tab) => (
          <li key={tab.name}>
            <a href={to(tab.name)} aria-current={tab.name === active ? 'page' : undefined}>
              {tab.label}
              {tab.mark}
            </a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

/** One of a few, as a row of radio buttons. */
export function Choice<Value extends string>(props: {
  label: string;
  value: Value;
  options: { value: Value; label: string; disabled?: boolean }[];
  onChange: (value: Value) => void;
}) {
  const { label, value, options, onChange } = props;
  return (
    <fieldset class="choice">
      <legend class="hidden">{label}</legend>
      {options.map((option) => (
        <label key={option.value} class={option.value === value ? 'chosen' : ''}>
          <input
            type="radio"
            class="hidden"
            name={label}
            checked={option.value === value}
            disabled={option.disabled ?? false}
            onChange={() => onChange(option.value)}
          />
          {option.label}
        </label>
      ))}
    </fieldset>
  );
}

export function Slider(props: {
  label: string;
  value: number;
  min: number;
  max: number;
  step: number;
  onInput: (value: number) => void;
  say?: string;
  hideLabel?: boolean;
  disabled?: boolean;
}) {
  const { label, value, min, max, step, onInput, say, hideLabel = false, disabled = false } = props;
  return (
    <label class="slider">
      <span class={hideLabel ? 'hidden' : 'small'}>
        {label} {say !== undefined && <span class="said muted">{say}</span>}
      </span>
      <input
        type="range"
        value={value}
        min={min}
        max={max}
        step={step}
        disabled={disabled}
        aria-valuetext={say}
        onInput={(event) => onInput(Number(event.currentTarget.value))}
      />
    </label>
  );
}

/** What may be wider than the window: it scrolls by itself, by keys too. */
export function Scroll({ label, children }: { label: string; children: ComponentChildren }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls must be reachable by keyboard
    <section class="scroll" tabIndex={0} aria-label={label}>
      {children}
    </section>
  );
}

/** A sentence in which `names` between backticks are set as code. */
export const Words = ({ text }: { text: string }) => (
  <>{text.split('`').map((part, i) => (i % 2 === 1 ? <code key={`${i} ${part}`}>{part}</code> : part))}</>
);
