/** The little Markdown that our own pages of results are written in, as blocks. Nothing in it becomes HTML. */

export type Block =
  | { kind: 'heading'; level: number; text: string }
  | { kind: 'text'; text: string }
  | { kind: 'item'; text: string }
  | { kind: 'code'; text: string }
  | { kind: 'table'; head: string[]; rows: string[][] };

export function parseMarkdown(markdown: string): Block[] {
  const blocks: Block[] = [];
  const lines = markdown.replace(/<!--[\s\S]*?-->/g, '').split('\n');
  let paragraph: string[] = [];
  const endParagraph = () => {
    if (paragraph.length > 0) blocks.push({ kind: 'text', text: plain(paragraph.join(' ')) });
    paragraph = [];
  };
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!;
    const heading = /^(#{1,6}) +(.*)$/.exec(line);
    const item = /^\s*[-*] +(.*)$/.exec(line);
    if (/^```/.test(line)) {
      endParagraph();
      const from = i + 1;
      for (i++; i < lines.length && !/^```/.test(lines[i]!); i++);
      blocks.push({ kind: 'code', text: lines.slice(from, i).join('\n') });
    } else if (heading !== null) {
      endParagraph();
      blocks.push({ kind: 'heading', level: heading[1]!.length, text: plain(heading[2]!) });
    } else if (/^\|/.test(line) && /^\|[\s:|-]+$/.test(lines[i + 1] ?? '')) {
      endParagraph();
      const rows: string[][] = [];
      for (i += 2; i < lines.length && /^\|/.test(lines[i]!); i++) rows.push(cells(lines[i]!));
      blocks.push({ kind: 'table', head: cells(line), rows });
      i--;
    } else if (item !== null) {
      endParagraph();
      blocks.push({ kind: 'item', text: plain(item[1]!) });
    } else if (line.trim() === '') endParagraph();
    else paragraph.push(line.trim());
  }
  endParagraph();
  return blocks;
}

const cells = (line: string): string[] =>
  line
    .trim()
    .replace(/^\||\|$/g, '')
    .split('|')
    .map((cell) => plain(cell.trim()));

/** Without the marks of bold, code, links and pictures. */
const plain = (text: string): string =>
  text
    .replace(/!\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/\*\*([^*]+)\*\*/g, '$1')
    .replace(/`([^`]+)`/g, '$1');
