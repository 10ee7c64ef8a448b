"""UPMC Food-101 (Wang et al. 2015): dishes from a picture and the title of the page it was found on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dus_gym.data.record import Record, bad_line, class_table, one_of, rows_of, unique
from dus_gym.data.task import Task
from dus_gym.data.text_image import DEFAULT, Preset, TextImageOptions, TextImageSource

CLASSES = class_table("food101.txt")
"""Names of the folders of pictures, sorted, as every loader numbers them."""
_IDS = {name: i for i, name in enumerate(CLASSES)}
_FOLDERS = ("texts/", "", "annotations/", "text/", "meta_data/")


def parse_list(path: Path, split: str) -> list[Record]:
    """Read ``train_titles.csv`` or ``test_titles.csv``: name of the picture, title, class; a header is skipped.

    Titles may be empty. The same picture may have the same name in both splits.

    Raises:
        AnnotationError: for a line of another form or a class that is none of the 101.
    """
    records = []
    for number, row in rows_of(path):
        if number == 1 and [field.strip().lower() for field in row[1:]] == ["text", "label"]:
            continue
        if len(row) != 3 or not row[0] or row[2] not in _IDS:
            raise bad_line(path, number, ",".join(row), "name of the picture, title, and one of the 101 classes")
        picture, title, label = row
        place = f"{split}/{label}/{picture}"
        records.append(Record(place, split, _IDS[label], place, title))
    return unique(records, path)


def read_lists(root: Path) -> list[Record]:
    """Read both lists: 67972 titles to train and 22716 to test.

    Raises:
        DatasetNotFoundError: naming the files that were looked for.
    """
    records: list[Record] = []
    for split in ("train", "test"):
        names = [f"{folder}{split}_titles.csv" for folder in _FOLDERS]
        records += parse_list(one_of(f"list of the {split} titles", root, names), split)
    return records


BALANCE = Preset({"crop": False}, clean="title", length=40)
"""BalanceBenchmark: 40 tokens without links and ``#``; whole pictures, mirrored half the time. Its random turns by up
to 30° are left out."""


@dataclass(frozen=True)
class Food101Options(TextImageOptions):
    """Options of Food-101."""

    preset: str = "default"
    """The way titles and pictures are read: default, or balance (BalanceBenchmark, without its random turns)."""


class Food101(TextImageSource):
    """90 688 pictures of 101 dishes, each with the title of its page."""

    options_type = Food101Options
    dataset = "food101"
    size = "90 688 pictures"
    published: ClassVar[Mapping[str, int]] = {"train": 67972, "test": 22716}
    class_names = tuple(name.replace("_", " ") for name in CLASSES)
    how_to_get = (
        "The pictures and titles as Gallo et al. 2020 prepared them are the Kaggle data set gianmarco96/upmcfood101, "
        "which the README of artelab/Image-and-Text-fusion-for-UPMC-Food-101-using-BERT-and-CNNs links."
    )
    presets: ClassVar[Mapping[str, Preset]] = {"default": DEFAULT, "balance": BALANCE}
    folders = ("images", "data/images")

    def records(self, options: Any, root: Path) -> list[Record]:
        """Return the titles of both lists."""
        return read_lists(root)


TASKS = (
    Task(
        name="Food101",
        modalities=("text", "image"),
        num_classes=101,
        encoders=("bert", "resnet50:weights=imagenet"),
        lr=1e-5,
        optimizer="adam",
        schedule="plateau",
        epochs=100,
        summary="UPMC Food-101, 101 dishes, title and picture",
        source=Food101(),
        train_size=67972,
    ),
)
