// Writes coco-pairs-self.txt, -base.txt and -test.txt: two kinds of COCO's objects and a relation, in VISOR's form. Each pair of
// kinds is in one file only; the four relations are equally frequent. Run: node recipes/stable-diffusion/prompts/coco-pairs.mjs
import { writeFileSync } from 'node:fs';

const kinds =
  `person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,bench,bird,cat,
dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,pair of skis,snowboard,sports ball,kite,
baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,
carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,
toaster,sink,refrigerator,book,clock,vase,pair of scissors,teddy bear,hair drier,toothbrush`
    .replaceAll('\n', '')
    .split(',');
const relations = ['to the left of', 'to the right of', 'above', 'below'];
const named = (kind) => `${/^[aeiou]/.test(kind) ? 'an' : 'a'} ${kind}`;
const pairs = kinds.flatMap((a, i) => kinds.slice(i + 1).map((b) => [a, b]));
let state = 20231216; // the paper's date
const below = (most) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * most);
};
for (let i = pairs.length - 1; i > 0; i--) {
  const j = below(i + 1);
  [pairs[i], pairs[j]] = [pairs[j], pairs[i]];
}
let taken = 0;
for (const [name, count] of Object.entries({ self: 100, base: 2000, test: 400 })) {
  const lines = pairs.slice(taken, taken + count).map((pair, i) => {
    const [a, b] = below(2) === 0 ? pair : pair.toReversed();
    return `${named(a)} ${relations[i % relations.length]} ${named(b)}\n`;
  });
  taken += count;
  writeFileSync(new URL(`coco-pairs-${name}.txt`, import.meta.url), lines.join(''));
}
