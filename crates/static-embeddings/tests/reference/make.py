"""Makes texts.jsonl and vectors.f32: texts, and what the same steps give in Python.

Usage: pip install numpy==2.3.5 safetensors==0.7.0 tokenizers==0.22.1
       python make.py $(scripts/local-model/prepare.sh)
"""

import gzip
import json
import random
import sys
from pathlib import Path

import numpy
from safetensors.numpy import load_file
from tokenizers import Tokenizer

COUNT = 200
HERE = Path(__file__).parent
# First and last characters of blocks of Unicode.
BLOCKS = [
    (0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x17F), (0x370, 0x3FF), (0x400, 0x4FF), (0x530, 0x58F), (0x590, 0x5FF),
    (0x600, 0x6FF), (0x900, 0x97F), (0xB80, 0xBFF), (0xE00, 0xE7F), (0x10A0, 0x10FF), (0x1200, 0x137F),
    (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x2190, 0x21FF), (0x3040, 0x309F), (0x30A0, 0x30FF), (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3), (0x1F300, 0x1F6FF), (0x20000, 0x2A6DF),
]
SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "Le cœur a ses raisons que la raison ne connaît point.",
    "El niño pequeño soñaba con montañas lejanas.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "いろはにほへと ちりぬるを わかよたれそ つねならむ",
    "吾輩は猫である。名前はまだ無い。",
    "天地玄黄,宇宙洪荒。日月盈昃,辰宿列张。",
    "다람쥐 헌 쳇바퀴에 타고파",
    "نص حكيم له سر قاطع وذو شأن عظيم",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich",
    "Pchnąć w tę łódź jeża lub ośm skrzyń fig",
    "fn main() { println!(\"{}\", 1 + 1); }",
    "SELECT id, name FROM users WHERE age >= 21 ORDER BY name LIMIT 10;",
    "https://example.com/a/b?c=d&e=%20f#g",
    "3.14159265358979 -1e-10 0xdeadbeef 1,000,000",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽",
    "a\u0301e\u0301 \u00e1\u00e9 \ufb01 \u2126",
]
ODD = [
    " ", "  ", "a", ".", "\n", "\t", "\0", "a\0b", "\r\n", "\u00a0", "\ufeff", "\u200b", "▁", "▁▁a ▁b", "a▁b", " a",
    "a ", "  a   b    c ", "<s>", "</s>", "<unk>", "a<s>b", " <s> </s> x", "<s", "<0x41>", "\U0010ffff", "\ue000",
    "word\n\n\nword", "x" * 300, "é" * 300,
]
# A text and how often it is repeated.
LONG = [
    ("The quick brown fox jumps over the lazy dog. ", 2000),
    ("いろはにほへと", 3000),
    ("x", 40_000),
    ("lorem ipsum dolor sit amet\n", 4000),
    (" ", 10_000),
    ("🙂", 5000),
    ("0123456789", 4000),
    ("слово ", 5000),
]


def texts():
    made = [(text, 1) for text in SENTENCES + ODD] + LONG
    chance = random.Random(14)
    while len(made) < COUNT:
        blocks = chance.sample(BLOCKS, chance.randint(1, 3))
        text = "".join(
            " " if chance.random() < 0.15 else chr(chance.randint(*chance.choice(blocks)))
            for _ in range(chance.randint(1, 120))
        )
        made.append((text, 1))
    return made


def main():
    folder = Path(sys.argv[1])
    [table] = load_file(folder / "weights.safetensors").values()
    table = table.astype(numpy.float32)
    tokenizer = Tokenizer.from_str(gzip.decompress((folder / "tokenizer.json.gz").read_bytes()).decode())
    made = texts()
    vectors = []
    for text, times in made:
        ids = tokenizer.encode(text * times, add_special_tokens=False).ids
        mean = table[ids].mean(axis=0)
        vectors.append(mean / numpy.linalg.norm(mean))
    lines = [json.dumps({"text": text, "times": times}, ensure_ascii=False) for text, times in made]
    (HERE / "texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    numpy.array(vectors, dtype="<f4").tofile(HERE / "vectors.f32")


main()
