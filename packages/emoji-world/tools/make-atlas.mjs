// Draws assets/<set>.png, the sprites of every noun in both sizes, from the icon sets on npm.
//
// The atlases are committed: this runs again only when a noun is appended or a set is changed. The icon packages
// and the SVG renderer are no dependencies of the project; install them in a temporary folder:
//
//   mkdir /tmp/emoji-art && cd /tmp/emoji-art && npm init -y
//   npm install @iconify-json/noto@1.2.9 @iconify-json/twemoji@1.2.5 @iconify-json/fluent-emoji-flat@1.2.6 \
//     @iconify-json/openmoji@1.2.29 @resvg/resvg-js
//   cd <repository>
//   node --conditions=rldf-source --import tsx packages/emoji-world/tools/make-atlas.mjs /tmp/emoji-art
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { ATLAS_COLUMNS, artSets, atlasCell, atlasSize, SPRITE_SIZES } from '../src/art.ts';
import { nouns } from '../src/nouns.ts';

const RENDER_WIDTH = 768;
const MARGIN = 1; // clear pixels around a sprite, so that neighbours on the grid never touch
const FAINT = 24; // alpha below this is cut, so that boxes follow what the eye sees

const folder = process.argv[2];
if (!folder) throw new Error('make-atlas: give the folder in which the icon packages are installed');
const require = createRequire(path.join(path.resolve(folder), 'package.json'));
const { Resvg } = require('@resvg/resvg-js');
const assets = fileURLToPath(new URL('../assets/', import.meta.url));

/** The icon's SVG, through aliases. */
function svgOf(set, key) {
  const data = require(`@iconify-json/${set}/icons.json`);
  let name = key;
  while (data.aliases?.[name]) name = data.aliases[name].parent;
  const icon = data.icons[name];
  if (!icon) throw new Error(`make-atlas: ${set} has no icon "${key}"`);
  const width = icon.width ?? data.width ?? 16;
  const height = icon.height ?? data.height ?? 16;
  return `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="${icon.left ?? 0} ${icon.top ?? 0} ${width} ${height}">${icon.body}</svg>`;
}

/** The glyph's inked part, fitted into a size x size cell with a margin; RGBA, straight alpha. */
async function sprite(svg, size) {
  const png = new Resvg(svg, { fitTo: { mode: 'width', value: RENDER_WIDTH } }).render().asPng();
  const trimmed = await sharp(png).trim({ background: '#00000000', threshold: 0 }).png().toBuffer();
  const inner = size - 2 * MARGIN;
  const { data } = await sharp(trimmed) // sharp premultiplies for the resize
    .resize(inner, inner, { fit: 'contain', background: '#00000000', kernel: 'lanczos3' })
    .extend({ top: MARGIN, bottom: MARGIN, left: MARGIN, right: MARGIN, background: '#00000000' })
    .ensureAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] < FAINT) data.fill(0, i, i + 4);
    else if (data[i + 3] > 255 - FAINT) data[i + 3] = 255;
  }
  return data;
}

for (const set of artSets) {
  const { width, height } = atlasSize();
  const atlas = Buffer.alloc(width * height * 4);
  for (const [index, noun] of nouns.entries()) {
    const svg = svgOf(set, noun.icon);
    for (const size of SPRITE_SIZES) {
      const pixels = await sprite(svg, size);
      const { x, y } = atlasCell(index, size);
      for (let row = 0; row < size; row++) {
        pixels.copy(atlas, ((y + row) * width + x) * 4, row * size * 4, (row + 1) * size * 4);
      }
    }
  }
  const file = path.join(assets, `${set}.png`);
  const info = await sharp(atlas, { raw: { width, height, channels: 4 } })
    .png({ compressionLevel: 9, adaptiveFiltering: true })
    .toFile(file);
  console.log(`${set}: ${nouns.length} nouns, ${ATLAS_COLUMNS} columns, ${info.size} bytes`);
}
