/** A page of results as it was written. */

import { useMemo } from 'preact/hooks';
import { type Block, parseMarkdown } from '../lib/markdown.js';
import { Scroll } from '../ui/parts.js';

export function WrittenPage({ markdown }: { markdown: string }) {
  const blocks = useMemo(() => parseMarkdown(markdown), [markdown]);
  return (
    <article class="written">
      {blocks.map((block, i) => (
        <Shown key={`${i} ${block.kind}`} block={block} />
      ))}
    </article>
  );
}

function Shown({ block }: { block: Block }) {
  switch (block.kind) {
    case 'heading':
      return block.level < 3 ? <h2>{block.text}</h2> : <h3>{block.text}</h3>;
    case 'text':
      return <p>{block.text}</p>;
    case 'item':
      return <p class="item">{block.text}</p>;
    case 'code':
      return <pre class="quote">{block.text}</pre>;
    case 'table':
      return (
        <Scroll label={`Table of ${block.head.filter(Boolean).join(', ')}`}>
          <table class="plain">
            <thead>
              <tr>
                {block.head.map((cell, i) => (
                  <th scope="col" key={`${i} ${cell}`}>
                    {cell}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {block.rows.map((row) => (
                <tr key={row.join('|')}>
                  {row.map((cell, i) => (
                    <td key={`${i} ${cell}`}>{cell}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      );
  }
}
