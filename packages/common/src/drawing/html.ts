/** The report as one HTML page without scripts. Everything that came from a user is escaped. */

import { escapeXml } from './svg.js';

export interface ReportPage {
  title: string;
  /** The result in one sentence. */
  summary: string;
  /** What the interval is over, and other words of caution. */
  notes: string[];
  /** Rows of the table of facts. */
  facts: [name: string, value: string][];
  /** Picture files relative to the page. */
  figures: { file: string; caption: string }[];
  /** One row a prompt. */
  prompts: { prompt: string; before: number; after: number }[];
  unit: string;
  /** The resolved recipe as text. */
  recipe: string;
}

export function reportHtml(page: ReportPage): string {
  const number = (value: number) => value.toFixed(3);
  const prompts = page.prompts.map(({ prompt, before, after }) => [
    prompt,
    number(before),
    number(after),
    number(after - before),
  ]);
  return htmlPage(
    page.title,
    `<h1>${escapeXml(page.title)}</h1>
<p class="summary">${escapeXml(page.summary)}</p>
${page.notes.map((note) => `<p class="note">${escapeXml(note)}</p>`).join('\n')}
${htmlFigures(page.figures)}
<h2>Run</h2>
${htmlTable([], page.facts)}
${prompts.length === 0 ? '' : `<h2>Prompts</h2>\n${htmlTable(['prompt', 'before', 'after', 'difference'], prompts)}`}
<h2>Recipe</h2>
<pre>${escapeXml(page.recipe)}</pre>`,
  );
}

/** A table of texts; the first cell of each row names it. */
export function htmlTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: 'th' | 'td', texts: readonly string[]) =>
    texts.map((text) => `<${tag}>${escapeXml(text)}</${tag}>`).join('');
  const body = rows.map(([name = '', ...values]) => `<tr>${cells('th', [name])}${cells('td', values)}</tr>`);
  const header = head.length === 0 ? '' : `<thead><tr>${cells('th', head)}</tr></thead>`;
  return `<table>${header}<tbody>${body.join('\n')}</tbody></table>`;
}

/** Pictures with their captions. */
export function htmlFigures(figures: ReportPage['figures']): string {
  return figures
    .map(({ file, caption }) => {
      const [source, text] = [escapeXml(file), escapeXml(caption)];
      return `<figure><img src="${source}" alt="${text}"><figcaption>${text}</figcaption></figure>`;
    })
    .join('\n');
}

/** The frame of every page. @param body HTML */
export function htmlPage(title: string, body: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeXml(title)}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff; }
img { max-width: 100%; height: auto; border: 1px solid #ddd; }
figure { margin: 1.5rem 0; } figcaption { color: #555; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #eee; }
tbody th { font-weight: normal; } td { font-variant-numeric: tabular-nums; }
.summary { font-size: 1.25rem; } .note { color: #555; } pre { background: #f6f6f6; padding: 1rem; overflow: auto; }
</style>
</head>
<body>
${body}
</body>
</html>
`;
}
