"""Twitter2015: sentiment of a tweet towards a target, from its text and picture."""

from __future__ import annotations

from pathlib import Path

from dus_gym.data.annotations.record import Record, bad_line, first_of, lines_of
from dus_gym.errors import DatasetNotFoundError

CLASSES = ("negative", "neutral", "positive")
TARGET = "$T$"
"""Stands in the sentence for the target."""
_POLARITIES = ("-1", "0", "1")
_NAMES = {"train": ("train",), "validation": ("dev", "valid", "val"), "test": ("test",)}
_FOLDERS = ("", "annotations/", "absa_data/twitter2015/", "twitter2015/", "Twitter15/annotations/", "Twitter15/")


def parse_tsv(path: Path, split: str) -> list[Record]:
    """One split of the TomBERT release: index, label, picture, sentence, target.

    The published test file has four names over its five columns, so the header is skipped and fields go by position;
    quotes are ordinary characters. A file whose header was rewritten (``Label``, ``ImageID``, ``String``: BSS, AMSS)
    is read by its names.

    Raises:
        AnnotationError: for a line of another form.
    """
    lines = list(lines_of(path))
    if not lines:
        raise DatasetNotFoundError(f"{path} is empty.")
    header = lines[0][1].split("\t")
    columns = {name: i for i, name in enumerate(header)} if {"Label", "ImageID", "String"} <= set(header) else None
    records = []
    for number, line in lines[1:]:
        fields = line.split("\t")
        if columns is not None:
            expected = "the columns of its header and a label from 0 to 2"
            if len(fields) != len(header):
                raise bad_line(path, number, line, expected)
            label, picture, text = (fields[columns[name]] for name in ("Label", "ImageID", "String"))
            target = fields[columns["Target"]] if "Target" in columns else ""
        else:
            expected = "index, label from 0 to 2, picture, sentence and target between tabs"
            if len(fields) != 5:
                raise bad_line(path, number, line, expected)
            _, label, picture, text, target = fields
        if label not in ("0", "1", "2") or not picture:
            raise bad_line(path, number, line, expected)
        # Targets of one tweet share its picture and sentence: the row number alone tells them apart.
        records.append(Record(f"{split}-{number - 2}", split, int(label), picture, text, target))
    return records


def parse_txt(path: Path, split: str) -> list[Record]:
    """The same split as TomBERT's other file has it, four lines a row: sentence, target, polarity (-1, 0, 1), picture.

    Raises:
        AnnotationError: for rows of another form.
    """
    lines = list(lines_of(path))
    records = []
    for first in range(0, len(lines), 4):
        (number, text), *rest = lines[first : first + 4]
        fields = [line.strip() for _, line in rest]
        if len(fields) != 3 or fields[1] not in _POLARITIES or not fields[2]:
            raise bad_line(path, number, text, "a sentence, and in three more lines target, polarity and picture")
        target, polarity, picture = fields
        label = _POLARITIES.index(polarity)
        records.append(Record(f"{split}-{first // 4}", split, label, picture, text.strip(), target))
    return records


def read(root: Path) -> list[Record]:
    """All three splits: 3179 / 1122 / 1037 rows, from ``.tsv`` files or, where there is none, ``.txt`` files.

    Raises:
        DatasetNotFoundError: naming what was looked for.
    """
    records: list[Record] = []
    for split, stems in _NAMES.items():
        names = [f"{folder}{stem}{ending}" for ending in _PARSERS for folder in _FOLDERS for stem in stems]
        path = first_of(root, names)
        if path is None:
            raise DatasetNotFoundError(f"no list of the {split} tweets under {root}; looked for {', '.join(names)}.")
        records += _PARSERS[path.suffix](path, split)
    return records


_PARSERS = {".tsv": parse_tsv, ".txt": parse_txt}
