"""Goldens of the tokenizer, and the small vocabulary they use."""

import json

from transformers import CLIPTokenizer

from .common import EMOJI_TOKENIZER, OUT, VERSIONS


CORPUS = """a photo of a cat . a photo of a dog . a red cat on the left of a blue dog , two dogs and a cat
don't can't won't it's they're we've i'm i'll he'd photograph photographer photographs
the quick brown fox jumps over the lazy dog 0 1 2 3 4 5 6 7 8 9 10 42 1024
a cat wearing a hat , a cat washing the dishes , a dog riding a bike in the snow , straße größe café naïve
playing chess , a painting of a fox , an astronaut , a horse , a mountain , a lake , the forest at night !! ?? ...
""".replace("\n", " ")

STRINGS = [
    "a photo of a cat", "", " ", "   a   cat  ", "A CAT On The LEFT", "a cat\non\tthe\r\nleft", "don't can't they're we've i'm i'll he'd it's",
    "DON'T stop", "dogs' tails ' s 's", "straße GROẞE größe", "café cafe\u0301", "cat🐱dog 👩‍👩‍👧", "🦊🦊🦊", "日本語 のテキスト",
    "1234 3.14 1,024", "a cat, a dog; (a fox)... wait!? --- #1", "cat_dog e-mail@x.y", "<|endoftext|> in the middle <|startoftext|>",
    "a cat </w> dog", "Ａ ｆｕｌｌ width", "İstanbul ǅ ﬁsh", "zero\u200bwidth nb\u00a0space", "\u3000ideographic", "tab\tand\u2028line",
    "photographer's photographs", "a\x00b", "x" * 200, "a cat and a dog " * 30, "the " * 74 + "end", "the " * 75, "the " * 76 + "end", "!" * 90,
    "a red fox", "Two Dogs AND a Cat.", "à la carte", "ñandú", "½ ² Ⅻ ٣", "don`t “quoted” ’s", "he'D I'LL",
]  # fmt: skip


def make_vocabulary():
    """A CLIP-shaped vocabulary: 256 bytes, 256 bytes with </w>, merges learned on CORPUS, two specials."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    alphabet = list(bytes_to_unicode().values())
    pre = CLIPTokenizer().backend_tokenizer.pre_tokenizer
    words = {}
    for word, _ in pre.pre_tokenize_str(CORPUS.lower()):
        symbols = (*word[:-1], word[-1] + "</w>")
        words[symbols] = words.get(symbols, 0) + 1
    merges = []
    while len(merges) < 120:
        counts = {}
        for symbols, count in words.items():
            for pair in zip(symbols, symbols[1:]):
                counts[pair] = counts.get(pair, 0) + count
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        joined = {}
        for symbols, count in words.items():
            merged, i = [], 0
            while i < len(symbols):
                if symbols[i : i + 2] == best:
                    merged.append("".join(best))
                    i += 2
                else:
                    merged.append(symbols[i])
                    i += 1
            joined[tuple(merged)] = joined.get(tuple(merged), 0) + count
        words = joined
    tokens = alphabet + [a + "</w>" for a in alphabet] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, merges


def write_tokenizer(folder, max_length, pad=None):
    """The files as Stable Diffusion's folders have them: vocab.json, merges.txt and two small JSONs."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab, merges = make_vocabulary()
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": pad or "<|endoftext|>"}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": max_length, "add_prefix_space": False, "do_lower_case": True, "errors": "replace", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=max_length, pad_token=special["pad_token"])


def tokenizer():
    def ids(tok, strings):
        return tok(strings, padding="max_length", truncation=True, max_length=tok.model_max_length)["input_ids"]

    cases = []
    for folder, length, pad in (("tokenizer-77", 77, None), ("tokenizer-24", 24, "!")):
        tok = write_tokenizer(OUT / folder, length, pad)
        cases.append({"folder": folder, "maxLength": length, "ids": ids(tok, STRINGS), "unpadded": tok(STRINGS)["input_ids"]})
        if folder == "tokenizer-77":
            assert tok.decode(tok("a photo of a cat")["input_ids"], skip_special_tokens=True) == "a photo of a cat"
    if (EMOJI_TOKENIZER / "tokenizer_config.json").exists():
        tok = CLIPTokenizer.from_pretrained(EMOJI_TOKENIZER)
        cases.append({"folder": "emoji", "maxLength": tok.model_max_length, "ids": ids(tok, STRINGS), "unpadded": tok(STRINGS)["input_ids"]})
    lines = json.dumps({"name": "tokenizer", "madeWith": VERSIONS, "strings": STRINGS, "cases": cases}, ensure_ascii=True)
    (OUT / "tokenizer.json").write_text(lines + "\n")
    print(f"tokenizer: {len(STRINGS)} strings, {len(cases)} vocabularies")
