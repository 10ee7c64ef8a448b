"""Sarcasm (Cai, Cai & Wan 2019, "MMSD"): whether a tweet with a picture is sarcastic; and its cleaned successors."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dus_gym.data.annotations.record import Record, bad_line, first_of, lines_of, unique
from dus_gym.errors import AnnotationError, DatasetNotFoundError, check_choice

CLASSES = ("not sarcastic", "sarcastic")
GIVEAWAYS = frozenset(
    ("sarcasm", "sarcastic", "reposting", "<url>", "joke", "humour", "humor", "jokes", "irony", "ironic", "exgag")
)
"""Words that give the label away: the published code drops every tweet that has one of them."""
WORDS = 5
"""Words said of each picture in ``extract_all``."""

_SPLITS = ("train", "validation", "test")
_FOLDERS = ("", "text/", "text_data/", "data/text/", "annotations/")
_LISTS = {"train": ("train.txt",), "validation": ("valid2.txt", "valid.txt"), "test": ("test2.txt", "test.txt")}
_STEMS = {"train": ("train",), "validation": ("valid", "val", "dev"), "test": ("test",)}
_EXTRACT = ("extract/extract_all", "extract_all", "text/extract_all", "annotations/extract_all")
_CLEANED = {"mmsd-clean": "text_json_clean", "mmsd2": "text_json_final"}
VERSIONS = ("mmsd", *_CLEANED)
"""``mmsd``: the published lists. ``mmsd2`` (Qin et al. 2023): the same tweets with other text and 1095 other labels.
``mmsd-clean``: that repository's copy of ``mmsd`` without some tweets. Figures of two versions can't be compared."""


def parse_list(path: Path, split: str) -> list[Record]:
    """One published file: a Python list a line, ``[id, text, label]`` or ``[id, text, hashtag label, human label]``.

    Where a line has two labels, the human one counts: they differ in 231 of the 4819 lines. Tweets with a word of
    :data:`GIVEAWAYS` between spaces are left out, as the published code does; a word that merely contains one stays.

    Raises:
        AnnotationError: for a line of another form. Lines are literals and never run.
    """
    records = []
    for number, line in lines_of(path):
        fields = _literal(path, number, line)
        if len(fields) not in (3, 4) or not all(label in (0, 1) for label in fields[2:]):
            raise bad_line(path, number, line, "[id, text, label] or [id, text, hashtag label, human label]")
        tweet, text = (str(field) for field in fields[:2])
        if GIVEAWAYS.isdisjoint(text.split()):
            records.append(Record(tweet, split, int(fields[-1]), f"{tweet}.jpg", text))
    return unique(records, path)


def parse_json(path: Path, split: str) -> list[Record]:
    """A list of objects with ``text``, ``label`` and ``image`` (a path, of which the last part counts: BSS) or
    ``image_id`` (MMSD2.0). Nothing is left out.

    Raises:
        AnnotationError: for anything else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(found, list):
            raise TypeError(type(found).__name__)
        records = [_of_json(entry, split) for entry in found]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AnnotationError(
            f"{path} is no list of objects with text, label (0 or 1) and image or image_id ({error!r})."
        ) from error
    return unique(records, path)


def _of_json(entry: Mapping[str, Any], split: str) -> Record:
    picture = f"{entry['image_id']}.jpg" if "image_id" in entry else entry["image"].rpartition("/")[2]
    label = int(entry["label"])
    if label not in (0, 1) or not isinstance(entry["text"], str):
        raise ValueError(entry)
    return Record(picture.rpartition(".")[0] or picture, split, label, picture, entry["text"])


def parse_tsv(path: Path, split: str) -> list[Record]:
    """A table with the columns ``Label``, ``ImageID`` and ``String`` (AMSS); quotes are ordinary characters.

    Raises:
        AnnotationError: for a header without these names, or a line of another form.
    """
    lines = list(lines_of(path))
    header = lines[0][1].split("\t") if lines else []
    if not {"Label", "ImageID", "String"} <= set(header):
        raise AnnotationError(f"{path} needs the columns Label, ImageID and String; its first line has {header}.")
    places = [header.index(name) for name in ("Label", "ImageID", "String")]
    records = []
    for number, line in lines[1:]:
        fields = line.split("\t")
        if len(fields) != len(header) or fields[places[0]] not in ("0", "1") or not fields[places[1]]:
            raise bad_line(path, number, line, "the columns of its header and a label of 0 or 1")
        label, picture, text = (fields[place] for place in places)
        records.append(Record(picture.rpartition(".")[0] or picture, split, int(label), picture, text))
    return unique(records, path)


def parse_words(path: Path) -> dict[str, tuple[str, ...]]:
    """By tweet id, the five words that a network said of its picture.

    Raises:
        AnnotationError: for a line of another form.
    """
    found: dict[str, tuple[str, ...]] = {}
    for number, line in lines_of(path):
        fields = _literal(path, number, line)
        if len(fields) != 1 + WORDS or not all(isinstance(field, str) for field in fields):
            raise bad_line(path, number, line, f"an id and {WORDS} words")
        found[fields[0]] = tuple(fields[1:])
    return found


def _literal(path: Path, number: int, line: str) -> list[Any]:
    try:
        fields = ast.literal_eval(line)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise bad_line(path, number, line, "a list of texts and numbers") from error
    if not isinstance(fields, list):
        raise bad_line(path, number, line, "a list of texts and numbers")
    return fields


def read_words(root: Path) -> dict[str, tuple[str, ...]]:
    """:func:`parse_words` of the file below ``root``; it covers every tweet of :func:`read` with ``mmsd``.

    Raises:
        DatasetNotFoundError: naming what was looked for.
    """
    path = first_of(root, _EXTRACT)
    if path is None:
        raise DatasetNotFoundError(f"no words of the pictures under {root}; looked for {', '.join(_EXTRACT)}.")
    return parse_words(path)


def read(root: Path, version: str = "mmsd") -> list[Record]:
    """All splits, 19816 / 2410 / 2409 tweets from the published lists (29040 to train before the filter).

    ``mmsd`` may also be the files of BSS (``train_data.json``) or AMSS (``train.tsv``), which need no validation
    split. One layout is read whole: the first that has a training and a test file.

    Args:
        root: the data root.
        version: one of :data:`VERSIONS`.

    Raises:
        DatasetNotFoundError: naming what was looked for.
    """
    check_choice("version", version, VERSIONS)
    looked: list[str] = []
    for names, parse in _layouts(version):
        paths = {split: first_of(root, names[split]) for split in _SPLITS}
        if paths["train"] is not None and paths["test"] is not None:
            records = [record for split, path in paths.items() if path is not None for record in parse(path, split)]
            return unique(records, root)
        looked += [name for split, path in paths.items() if path is None for name in names[split]]
    raise DatasetNotFoundError(f"no whole set of lists of {version} under {root}; looked for {', '.join(looked)}.")


def _layouts(version: str) -> list[tuple[dict[str, list[str]], Callable[[Path, str], list[Record]]]]:
    """The layouts of a version: spellings of each split's file, and what reads them."""
    if version != "mmsd":
        folder = _CLEANED[version]
        places = (f"data/{folder}/", f"{folder}/")
        return [({s: [f"{p}{stem}.json" for p in places for stem in _STEMS[s]] for s in _SPLITS}, parse_json)]
    return [
        ({s: [f"{f}{name}" for f in _FOLDERS for name in _LISTS[s]] for s in _SPLITS}, parse_list),
        ({s: [f"annotations/{stem}_data.json" for stem in _STEMS[s]] for s in _SPLITS}, parse_json),
        ({s: [f"annotations/{stem}.tsv" for stem in _STEMS[s]] for s in _SPLITS}, parse_tsv),
    ]
