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
  const e = escapeXml;
  const number = (value: number) => value.toFixed(3);
  const facts = page.facts
    .map(([name, value]) => `<tr><th>${e(name)}</th><td>${e(value)}</td></tr>`)
    .join('\n');
  const figures = page.figures
    .map(
      ({ file, caption }) =>
        `<figure><img src="${e(file)}" alt="${e(caption)}"><figcaption>${e(caption)}</figcaption></figure>`,
    )
    .join('\n');
  const rows = page.prompts
    .map(
      ({ prompt, before, after }) =>
        `<tr><td>${e(prompt)}</td><td>${number(before)}</td><td>${number(after)}</td><td>${number(after - before)}</td></tr>`,
    )
    .join('\n');
  const table =
    page.prompts.length === 0
      ? ''
      : `<h2>Prompts</h2>\n<table><thead><tr><th>prompt</th><th>before</th><th>after</th><th>difference</th></tr></thead>\n<tbody>${rows}</tbody></table>`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${e(page.title)}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff; }
img { max-width: 100%; height: auto; border: 1px solid #ddd; }
figure { margin: 1.5rem 0; } figcaption { color: #555; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #eee; }
td:not(:first-child) { font-variant-numeric: tabular-nums; }
.summary { font-size: 1.25rem; } .note { color: #555; } pre { background: #f6f6f6; padding: 1rem; overflow: auto; }
</style>
</head>
<body>
<h1>${e(page.title)}</h1>
<p class="summary">${e(page.summary)}</p>
${page.notes.map((note) => `<p class="note">${e(note)}</p>`).join('\n')}
${figures}
<h2>Run</h2>
<table>${facts}</table>
${table}
<h2>Recipe</h2>
<pre>${e(page.recipe)}</pre>
</body>
</html>
`;
}
