/** SVG to PNG with the font that ships with rldf, so that charts look the same on machines without any font. */

import { fileURLToPath } from 'node:url';

/** Family name of the shipped font, with fallbacks for browsers. */
export const fontFamily = 'DejaVu Sans, Verdana, sans-serif';

const fontFile = fileURLToPath(new URL('../../assets/DejaVuSans-subset.ttf', import.meta.url));

/** @param width of the PNG in pixels; default: the SVG's own */
export async function renderSvg(svg: string, width?: number): Promise<Buffer> {
  const { Resvg } = await import('@resvg/resvg-js');
  const resvg = new Resvg(svg, {
    font: {
      fontFiles: [fontFile],
      loadSystemFonts: false,
      defaultFontFamily: 'DejaVu Sans',
      sansSerifFamily: 'DejaVu Sans',
      serifFamily: 'DejaVu Sans',
      monospaceFamily: 'DejaVu Sans',
    },
    ...(width === undefined ? {} : { fitTo: { mode: 'width', value: width } }),
  });
  return resvg.render().asPng();
}

/** Text for XML and HTML, element content and quoted attributes alike. */
export function escapeXml(text: string): string {
  const entities: Record<string, string> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  };
  // Control characters are not allowed in XML at all.
  const printable = [...text].filter((char) => char >= ' ' || '\t\n\r'.includes(char)).join('');
  return printable.replace(/[&<>"']/g, (char) => entities[char]!);
}
