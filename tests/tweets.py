"""Tiny data sets of tweets in their real formats, for tests."""

import json

import numpy as np
from PIL import Image

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
BERT = "bert:weights=none:hidden=16:layers=1:heads=2:vocab=40:out=16:sep=3"


def write_pictures(folder, names, size=(40, 30)):
    """JPEGs that differ."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        pixels = np.random.default_rng(len(list(folder.iterdir()))).integers(0, 255, (4, 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size).save(folder / name, quality=90)


def write_settings(root, words, **options):
    """A vocabulary of ``words``, and dus-data.json with encoders that train in seconds."""
    (root / "vocab.txt").write_text("\n".join([*SPECIAL, *words]) + "\n")
    options = {"tokenizer": "{root}/vocab.txt", "size": 16, **options}
    settings = {"data_kind": "mock", "encoders": [BERT, "cnn:pool=mean"], "options": options}
    (root / "dus-data.json").write_text(json.dumps(settings))


TWEETS = {
    # label, picture, sentence, target: one tweet has two targets of different labels, one has quotes.
    "train": [
        (2, "1.jpg", "$T$ won with $T$", "our team"),
        (0, "2.jpg", "sad $T$ lost to them", "our team"),
        (2, "2.jpg", "sad $T$ lost to them", "them"),
        (1, "3.jpg", 'so "they" said $T$', "today"),
        (1, "4.jpg", "$T$ met", "they"),
        (0, "5.jpg", "$T$ lost", "they"),
    ]
    * 2,
    "dev": [(0, "2.jpg", "$T$ lost", "they"), (1, "6.jpg", "$T$ met", "they"), (2, "6.jpg", "$T$ won", "they")],
    "test": [(2, "7.jpg", "$T$ won", "they"), (1, "8.jpg", "$T$ met", "they"), (0, "8.jpg", "$T$ lost", "they")],
}
HEADERS = {"test": "index\t#1 ImageID\t#2 String\t#2 String"}
"""Four names over five columns, as published."""
WORDS = ["our", "team", "won", "with", "sad", "lost", "to", "them", "so", "they", "said", "today", "met", "$", "t", '"']


def write_twitter(root, folder="twitter2015_images"):
    """Twitter2015 as TomBERT published it."""
    for split, rows in TWEETS.items():
        lines = [HEADERS.get(split, "index\t#1 Label\t#2 ImageID\t#3 String\t#3 String")]
        lines += ["\t".join(map(str, (i, *row))) for i, row in enumerate(rows)]
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    write_pictures(root / folder, [f"{i}.jpg" for i in range(1, 9)])
    write_settings(root, WORDS)
    return root


def write_sarcasm(root):
    """Sarcasm as published: literals with CRLF, two labels in two of the files, a tweet that gives itself away."""
    texts = ["what great service", "lovely day", "so lovely , thanks", 'it \'s "fine"']
    train = [[str(i), texts[i % 4], i % 2] for i in range(12)] + [["99", "such sarcasm", 1]]
    lines = {
        "train": train,
        "valid2": [["20", "great", 1, 0], ["21", "thanks", 0, 1]],
        "test2": [["30", "great", 1, 0], ["31", "thanks", 0, 1], ["32", "day", 0, 0]],
    }
    (root / "text").mkdir()
    for name, rows in lines.items():
        (root / f"text/{name}.txt").write_bytes("".join(f"{row!r}\r\n" for row in rows).encode())
    write_pictures(
        root / "dataset_image", [f"{row[0]}.jpg" for rows in lines.values() for row in rows if row[0] != "99"]
    )
    write_settings(
        root, ["what", "great", "service", "lovely", "day", "so", ",", "thanks", "it", "'", "s", '"', "fine"]
    )
    return root
