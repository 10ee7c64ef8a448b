"""Twitter2015: sentiment of a tweet towards a target, from its text and picture.

Read from the files of the TomBERT release or those of BSS and AMSS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dus_gym.data.record import Record, bad_line, lines_of, one_of
from dus_gym.data.task import Task
from dus_gym.data.text_image import (
    DEFAULT,
    DUS,
    INLINE,
    NO_TARGET,
    TARGETS,
    Preset,
    TextImageOptions,
    TextImageSource,
)
from dus_gym.errors import DatasetNotFoundError, check_choice

CLASSES = ("negative", "neutral", "positive")
TARGET = "$T$"
"""Stands in the sentence for the target."""
_POLARITIES = ("-1", "0", "1")
_NAMES = {"train": ("train",), "validation": ("dev", "valid", "val"), "test": ("test",)}
_FOLDERS = ("", "annotations/", "absa_data/twitter2015/", "twitter2015/", "Twitter15/annotations/", "Twitter15/")


def parse_tsv(path: Path, split: str) -> list[Record]:
    """Read one split of the TomBERT release: index, label, picture, sentence, target.

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
    """Read the same split from TomBERT's other file, which has four lines per row.

    They are sentence, target, polarity (-1, 0, 1) and picture.

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


def read_lists(root: Path) -> list[Record]:
    """Read all three splits: 3179 / 1122 / 1037 rows, from ``.tsv`` files or, where there is none, ``.txt`` files.

    Raises:
        DatasetNotFoundError: naming the files that were looked for.
    """
    records: list[Record] = []
    for split, stems in _NAMES.items():
        names = [f"{folder}{stem}{ending}" for ending in _PARSERS for folder in _FOLDERS for stem in stems]
        path = one_of(f"list of the {split} tweets", root, names)
        records += _PARSERS[path.suffix](path, split)
    return records


_PARSERS = {".tsv": parse_tsv, ".txt": parse_txt}


BSS = Preset(
    {"size": 384, "mean": (0.0,) * 3, "std": (1.0,) * 3, "augment": False},
    clean="bss_words",
    target=NO_TARGET,
    short_side=384,
)
"""Twenty plain words, pictures of 384² that are not normalised, nothing augmented."""
AMSS = Preset(
    {"mean": (0.42455, 0.44051, 0.47076), "std": (0.24485, 0.24617, 0.25451), "augment": False},
    length=128,
    special=False,
    target=NO_TARGET,
)
"""Wordpieces without [CLS] and [SEP], pictures with their own mean and deviation, nothing augmented."""


@dataclass(frozen=True)
class Twitter2015Options(TextImageOptions):
    """Options of Twitter2015."""

    target: str | None = None
    """Treatment of the target of the sentiment: pair (a second segment, as TomBERT; before the sentence where the
    encoder reads no pairs), inline (in place of $T$: the tweet as it was written, but then 277 of the 2101 training
    tweets have several right labels) or none ($T$ tells its place and nothing its name). The preset's if not given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target is not None:
            check_choice("target", self.target, TARGETS)


class Twitter2015(TextImageSource):
    """Sentiment of a tweet towards a target. Targets of one tweet share sentence and picture: each is stored once."""

    options_type = Twitter2015Options
    dataset = "twitter2015"
    size = "3502 pictures"
    published: ClassVar[Mapping[str, int]] = {"train": 3179, "validation": 1122, "test": 1037}
    class_names = CLASSES
    how_to_get = (
        "The lists are in the TomBERT repository (absa_data/twitter2015), whose README links the archive of pictures "
        "(research use)."
    )
    presets: ClassVar[Mapping[str, Preset]] = {"default": DEFAULT, "dus": DUS, "bss": BSS, "amss": AMSS}
    folders = (
        "twitter2015_images",
        "twitter15_images",
        "Twitter15/twitter2015_images",
        "IJCAI2019_data/twitter2015_images",
        "images",
    )

    def records(self, options: Any, root: Path) -> list[Record]:
        """Return the rows of the three lists."""
        return read_lists(root)

    def target_of(self, options: Any, preset: Preset) -> str:
        """Return the option, or the preset's."""
        return preset.target if options.target is None else str(options.target)

    def text_of(self, record: Record, target: str, pairs: bool) -> tuple[str, str]:
        """Return the sentence with ``$T$`` as published, or with the target in its place or beside it."""
        if not record.target or target == NO_TARGET:
            return record.text, ""
        if target == INLINE:
            return record.text.replace(TARGET, record.target), ""
        return (record.text, record.target) if pairs else (f"{record.target}: {record.text}", "")


TASKS = (
    Task(
        name="Twitter2015",
        modalities=("text", "image"),
        num_classes=3,
        encoders=("bert", "resnet50:weights=imagenet"),
        lr=1e-5,
        optimizer="adam",
        schedule="plateau",
        epochs=100,
        summary="Twitter2015, sentiment towards a target, text and image",
        metric="macro_f1",
        source=Twitter2015(),
        train_size=3179,
    ),
)
