import { expect, test } from 'vitest';
import { parseMarkdown } from './markdown.js';

test('headings, paragraphs, items, code and tables; marks are taken off, HTML stays text', () => {
  const page = `# Base <b>methods</b>
<!-- written by a program -->
Two lines of
**one** paragraph, [a link](x.md) and \`code\`.

- an item

| arm | change |
|---|--:|
| ddpo | **+0.1** |
| \`rwr\` | ![x](y.png) |
after
\`\`\`sh
npx rldf | cat
\`\`\``;
  expect(parseMarkdown(page)).toEqual([
    { kind: 'heading', level: 1, text: 'Base <b>methods</b>' },
    { kind: 'text', text: 'Two lines of one paragraph, a link and code.' },
    { kind: 'item', text: 'an item' },
    {
      kind: 'table',
      head: ['arm', 'change'],
      rows: [
        ['ddpo', '+0.1'],
        ['rwr', 'x'],
      ],
    },
    { kind: 'text', text: 'after' },
    { kind: 'code', text: 'npx rldf | cat' },
  ]);
  expect(parseMarkdown('')).toEqual([]);
  expect(parseMarkdown('```\nnever ends')).toEqual([{ kind: 'code', text: 'never ends' }]);
});
