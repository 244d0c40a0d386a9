/** Drawn signs, 16 x 16, in the colour of the text around them. */

const paths = {
  alarm: 'M8 1.8 15 14H1L8 1.8ZM8 6v4m0 1.6v.6',
  arrowLeft: 'M10 3 5 8l5 5',
  arrowRight: 'm6 3 5 5-5 5',
  back: 'M2 8a6 6 0 1 1 2 4.5M2 8l-.6-3.4M2 8l3.2-1',
  check: 'm3 8.5 3.2 3.2L13 4.5',
  close: 'm4 4 8 8m0-8-8 8',
  compare: 'M2 12 6 6l3 3 5-6M2 14.5h12',
  copy: 'M5.5 5.5v-3h8v8h-3m-8-5h8v8h-8v-8Z',
  download: 'M8 2v8m0 0L5 7m3 3 3-3M2.5 13.5h11',
  pause: 'M5 3v10m6-10v10',
  play: 'M4.5 2.8v10.4L13 8 4.5 2.8Z',
  plus: 'M8 3v10M3 8h10',
  stop: 'M3.5 3.5h9v9h-9z',
  table: 'M2 3h12v10H2zM2 6.5h12M6.5 3v10',
} as const;

export function Icon({ name }: { name: keyof typeof paths }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="14" height="14" aria-hidden="true" focusable="false">
      <path
        d={paths[name]}
        fill="none"
        stroke="currentColor"
        stroke-width="1.5"
        stroke-linecap="round"
        stroke-linejoin="round"
      />
    </svg>
  );
}
