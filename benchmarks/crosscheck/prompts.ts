// Prompts that tokenizers stumble over.
import { noiseKey, Random } from '@rldf/torch';

const special = [
  ...['', ' ', '\t\n', '   \r\n  ', 'a cat', ' a  cat ', 'a\tcat\nand\u00a0a dog', 'A CAT', 'aCaT'],
  ...[
    "it's a cat",
    "the cat's dog's hat",
    "don't they'll we've I'd you're I'm",
    "'s",
    "''s",
    'IT’S',
    "CAT'S",
  ],
  ...[
    'ß',
    'Straße',
    'STRASSE',
    'STRAẞE',
    'İstanbul',
    'ıI',
    'ΟΔΟΣ',
    'ὈΔΥΣΣΕΎΣ ΣΣ',
    'Ǆ ǅ ǆ',
    'ﬁne ﬂow',
    'Ⅷ ⅷ ½ ²',
  ],
  ...['é', 'e\u0301', 'n\u0303o', 'Å Å Å', 'ö\u0308', 'q\u0307\u0323', '각 \u1100\u1161\u11a8', 'क्षि', 'ำ'],
  ...['🐱', '👩‍👩‍👧‍👦', '🏳️‍🌈', '👍🏽👍', '🇩🇪🇫🇷', 'a 🐶cat', '🐱'.repeat(40), '☃️ ☃', '1️⃣2️⃣', '🥹🫠🩷'],
  ...['日本語の猫', '一只猫', '고양이', 'кошка КОШКА', 'قطة', 'חתול', 'แมว', '𝒶 𝔠𝔞𝔱', '𐐀𐐨', 'ǌ', 'ỗ'],
  ...[
    '1',
    '12345',
    '3.14159',
    '-1e-5',
    '1,000',
    '٣٤',
    '10%',
    '$5',
    '€5',
    '#1',
    '@cat',
    'a&b',
    'a_b',
    'a-b',
    'a/b',
  ],
  ...[
    '<|endoftext|>',
    '<|startoftext|>',
    'a <|endoftext|> cat',
    'cat<|endoftext|>dog',
    '<|ENDOFTEXT|>',
    '<|end of text|>',
  ],
  ...[
    '</w>',
    'a</w>',
    '<w>',
    '&amp; &lt;',
    '<b>cat</b>',
    '\\n',
    '\\u0041',
    '{"a": 1}',
    '(((cat:1.2)))',
    '[cat|dog]',
  ],
  ...['.', '...', '…', '!?', '?!?!', '—', '–', '“cat”', '‘cat’', '«cat»', 'cat,dog', 'cat ,dog', 'cat.dog.'],
  ...[
    'a\u200bcat',
    'a\u200dcat',
    'a\ufeffcat',
    '\ufeffcat',
    'a\u0085cat',
    'a\u2028cat',
    'a\u3000cat',
    'a\u180ecat',
  ],
  ...[
    'a\u00adcat',
    'a\u0000cat',
    'a\u0001cat',
    'a\u001ccat',
    'a\u007fcat',
    'a\u0300',
    '\u0300',
    'a\ufffdcat',
    '\ufffd',
  ],
  ...[
    'a\u1680cat',
    'a\u2003cat',
    'a\u202fcat',
    'a\u205fcat',
    'a\u000bcat',
    'a\u000ccat',
    'a\u2060cat',
    '\u202ecat',
  ],
  ...[
    'cat '.repeat(100),
    'x'.repeat(500),
    'supercalifragilisticexpialidocious '.repeat(9),
    'a'.repeat(31),
    '1'.repeat(90),
  ],
  ...['a cat, '.repeat(30), `${'dog '.repeat(29)}cat`, `${'dog '.repeat(30)}cat`, `${'dog '.repeat(31)}cat`],
];

const words = [
  ...[
    'cat',
    'dogs',
    'Red',
    'on',
    'the',
    'left',
    'of',
    'grass',
    'snow',
    'a',
    'two',
    'photo',
    'zebra',
    'hippopotamus',
  ],
  ...['wearing', "isn't", 'ß', '🐱', 'naïve', 'x2', '50%', '—', '(cute)', 'Ünïcödé', 'x_y', 'e\u0301'],
];
/** First and last code point of alphabets to draw random letters from. */
const alphabets = [
  [0x20, 0x7e], [0xa0, 0x24f], [0x250, 0x36f], [0x370, 0x3ff], [0x400, 0x52f], [0x590, 0x6ff], [0x900, 0xdff],
  [0x1e00, 0x1fff], [0x2000, 0x2bff], [0x3000, 0x30ff], [0x4e00, 0x4fff], [0xac00, 0xacff], [0xf900, 0xffef], [0x1f300, 0x1faff],
] as const; // biome-ignore format: a table

/** The same prompts every time: known traps first, then random sentences and random letters. */
export function hardPrompts(count: number): string[] {
  const random = new Random(noiseKey(0, 'crosscheck prompts'));
  const made = Array.from({ length: Math.max(0, count - special.length) }, (_, i) => {
    if (i % 2 === 0)
      return Array.from({ length: 1 + random.integer(40) }, () => random.choice(words)).join(
        random.choice([' ', ' ', ', ', '  ']),
      );
    return Array.from({ length: 1 + random.integer(30) }, () => {
      const [first, last] = random.choice(alphabets);
      return String.fromCodePoint(first + random.integer(last - first + 1));
    }).join('');
  });
  return [...special, ...made].slice(0, count);
}
