#!/usr/bin/env python3
"""Makes tests/fixtures/tokenizer with the Hugging Face tokenizers library (pip install tokenizers; made with 0.23.3).

  text.txt                  a text written here, documents separated by <|endoftext|>
  tokenizer.json            a byte-level BPE of 700 tokens that the library trained on it; merges as ["a", "b"]
  gpt2/vocab.json, merges.txt   the same in GPT-2's two files
  odd.json                  the same vocabulary with its merges shuffled, written "a b", and more added tokens:
                            the order in which merges apply, and which added token wins, show only here
  cases.json                awkward strings with the ids that the library gives them, and the lengths of the
                            pieces, in bytes, into which its pre-tokenizer cuts them; "unicode", the version of
                            Unicode by which it does
"""
import json
import os
import random

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "tokenizer")
END = "<|endoftext|>"

PEOPLE = "Mina Tom Otto Zoë Björn Ольга 小明 Σοφία".split(" ")
THINGS = "kite lantern boat drum pebble wheelbarrow umbrella café naïveté мост 月亮 λύχνος".split(" ")
PLACES = ["by the river", "in the orchard", "under the old bridge", "at the mill", "behind the hill"]
WAYS = ["didn't find", "carried", "wouldn't lend", "painted", "dropped", "couldn't lift", "mended", "hid"]
ENDS = [".", "!", "?", " ...", " (again).", ", they'll say.", "; I'm sure we've seen it.", " -- it's 1905!"]

# a letter that came with each version of Unicode: the library does not say which one it has
LETTERS = [("13.0", "\U00030000"), ("14.0", "\u0870"), ("15.0", "\U00031350"), ("16.0", "\u1c89"), ("17.0", "\U000323b0")]


def make_text(rng):
    """About 27 KB: enough for merges of all lengths, with ties, numbers, several scripts and odd white space."""
    parts = "b br d dr f g gl h k l m n p pl r s st t tr v w z".split(" "), "a e i o u ai ea oo ou".split(" ")
    words = ["".join(rng.choice(parts[i % 2]) for i in range(rng.randrange(2, 8))) for _ in range(600)]
    documents = []
    for _ in range(60):
        lines = []
        for _ in range(rng.randrange(3, 9)):
            count = rng.choice(["a", "two", "17", "3,000", "99½", "the"])
            lines.append(f"{rng.choice(PEOPLE)} {rng.choice(WAYS)} {count} {rng.choice(THINGS)} "
                         f"{rng.choice(PLACES)} {' '.join(rng.choices(words, k=4))}{rng.choice(ENDS)}")
        documents.append(rng.choice(["\n", " ", "\r\n", "\n\n\t", "  "]).join(lines))
    documents += ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa baaab abababababababa " * 3, "🙂🙂🙂👩‍👩‍👧‍👦 ok 🙂", " " * 50 + "x" + "\n" * 9]
    return END.join(documents)


def awkward_strings(rng, text):
    strings = ["", " ", "  ", "\n", "\r\n", "\t", "a", " a", "a ", " a ", "  a  ", "\n\n a\r\n\r\n  b\t\tc   ",
               "it's we're I've I'm you'll he'd don't", "IT'S WE'RE I'VE I'M YOU'LL HE'D", "'s't're've'm'll'd", "''s '' 'x' 'r 'v 'l '",
               " 's", "a's's", "x'll'", "x'l", "123 4567 89a10 b2", " 1 2", "3.14159e-10", "²½Ⅷ٣४", "a²b", "__init__ == !=\t#!/usr/bin",
               "...!?--", " ...", "a . b", "e\u0301 a\u0308 o\u0302\u0323", "\u0301alone", " \u0301", "नमस्ते दुनिया", "ไทย ไม่มีช่องว่าง", "한국어 텍스트", "日本語のテキスト、漢字。",
               "العربية 123 مرحبا", "עברית", "Привет, мир! Ёлка", "ΣΊΣΥΦΟΣ σίσυφος", "ǅ ǆ ﬁ ß ẞ İ ı", "𝒜𝓑 𐍈 𠀀𠀁", "🙂", "a🙂b", " 🙂 🙂", "👩‍👩‍👧‍👦🏳️‍🌈 🇩🇪",
               "a\u00a0b", "\u00a0\u00a0a", "a \u00a0 b", "\u3000全角\u3000", "\u2003x\u2009y\u202fz", "a\u0085b", "a \u0085", "\u2028\u2029x", "a\u180eb", " \u180e ", "!\u0085\u0085a", "!\u180e\u180ea", "a\u180e \u180e\u180eb", "a\u200bb", "\ufefftext",
               "a\x0bb\x0cc", "\x1c\x1d\x1e\x1f", " \x1c a", "\x00", "\x01\x02\x7f", "a\x00b", "tab\tand  two", "trailing   ", "trailing\n\n", "é", " é", "é ", "aé", "éa", "1é", "é1", "!é", "é!", " \n é", "\n\u00a0", "\u00a0\n", "\u00a0 ",
               END, END + END, "a" + END + "b", "a " + END + " b", "  " + END + "  ", "<|endoftext", "<|endoftext|", "<" + END + ">", "|>" + END[:-1] + END,
               "<|im_start|>user\nHi<|im_end|>", "<|im_start|><|im_start|>user", "<|im_", "useruser", "x<|endoftext|>user<|im_start|>", "<|both|><|bo", "<|both", "th|>x",
               "the quick brown fox", "Mina didn't find a kite by the river.", text[:800], "ab" * 700, "a" * 1000, "a" * 63, "a" * 64, "a" * 65, "a" * 66, " " * 300, "\n" * 129, "abc" * 40, "é" * 200, "\u3000" * 100 + "x", "aab" * 90, "'" * 70]
    alphabet = list("aabbeeerrttthh  \n'.1") + ["é", "м", "日", "\u00a0", "🙂", "\u0301", "s", "l", "d"]
    strings += ["".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 40))) for _ in range(150)]
    letters = "aabbeeinnorrstthd"
    strings += ["".join(rng.choice(letters) for _ in range(n)) for n in (30, 63, 64, 65, 100, 150, 300, 1500)]
    return strings


def main():
    rng = random.Random(2)
    os.makedirs(os.path.join(FOLDER, "gpt2"), exist_ok=True)
    text = make_text(rng)
    with open(os.path.join(FOLDER, "text.txt"), "w", encoding="utf-8", newline="") as f:
        f.write(text)

    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=[END], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    plain.train_from_iterator(text.split(END), trainer)
    plain.save(os.path.join(FOLDER, "tokenizer.json"), pretty=False)
    plain.model.save(os.path.join(FOLDER, "gpt2"))

    description = json.loads(plain.to_str())
    merges = [" ".join(merge) for merge in description["model"]["merges"]]
    rng.shuffle(merges)
    description["model"]["merges"] = merges
    odd = Tokenizer.from_str(json.dumps(description))
    odd.add_special_tokens(["<|im_start|>", "<|im_start|>user", AddedToken("<|bo", normalized=False)])
    odd.add_tokens([AddedToken("user", normalized=True), AddedToken("<|im_end|>", normalized=False),
                    AddedToken("<|both|>", normalized=True), AddedToken("éé", normalized=True)])
    description = json.loads(odd.to_str())
    description["model"]["merges"] = merges
    with open(os.path.join(FOLDER, "odd.json"), "w", encoding="utf-8") as f:
        json.dump(description, f, ensure_ascii=False, separators=(",", ":"))

    strings = awkward_strings(rng, text)
    cases = {name: [[s, tokenizer.encode(s).ids] for s in strings] for name, tokenizer in (("tokenizer", plain), ("odd", odd))}
    cut = plain.pre_tokenizer.pre_tokenize_str  # writes one character for each byte
    cases["pieces"] = [[s, [len(piece) for piece, _ in cut(s)]] for s in strings]
    cases["unicode"] = max((v for v, c in LETTERS if len(cut(f"a{c}b")) == 1), key=float)
    with open(os.path.join(FOLDER, "cases.json"), "w", encoding="utf-8") as f:
        json.dump(cases, f, ensure_ascii=True, separators=(",", ":"))


if __name__ == "__main__":
    main()
