"""NVGesture: 25 hand gestures seen by several sensors in a car."""

from __future__ import annotations

import re
from pathlib import Path

from dus_gym.data.annotations.record import Record, bad_line, first_of, lines_of, unique
from dus_gym.errors import DatasetNotFoundError

NUM_CLASSES = 25
_ENDINGS = ("correct_cvpr2016_v2", "correct_v2", "correct")
_FOLDERS = ("", "annotations/", "meta/", "nvgesture/meta/")
_SUBJECT = re.compile(r"(subject[0-9]+)_r[0-9]+")


def parse_list(path: Path, split: str) -> list[Record]:
    """One split file of ``key:value`` words, such as ``path:./Video_data/class_01/subject3_r0 … label:1``.

    The label is the word ``label``, from 1 in the file; it is not the folder, which disagrees with it in 23 rows.

    Raises:
        AnnotationError: for a line of another form.
    """
    records = []
    for number, line in lines_of(path):
        words = dict(word.partition(":")[::2] for word in line.split())
        folder, label = words.pop("path", ""), words.pop("label", "")
        subject = _SUBJECT.fullmatch(folder.rpartition("/")[2])
        windows = {name: value.split(":") for name, value in words.items()}
        if (
            subject is None
            or not label.isdecimal()
            or not 1 <= int(label) <= NUM_CLASSES
            or any(len(w) != 3 or not (w[1].isdecimal() and w[2].isdecimal()) for w in windows.values())
        ):
            raise bad_line(path, number, line, "path, sensors with first and last frame, and label from 1 to 25")
        media = folder.removeprefix("./")
        sample = "/".join(media.split("/")[-2:])
        frames = tuple((name, int(start), int(end)) for name, (_, start, end) in windows.items())
        records.append(Record(sample, split, int(label) - 1, media, windows=frames, group=subject[1]))
    return unique(records, path)


def find_lists(root: Path) -> dict[str, Path]:
    """The split files below ``root``, in any of the spellings in use.

    Raises:
        DatasetNotFoundError: naming what was looked for.
    """
    found: dict[str, Path] = {}
    for split in ("train", "test"):
        names = [f"{folder}nvgesture_{split}_{ending}.lst" for ending in _ENDINGS for folder in _FOLDERS]
        path = first_of(root, names)
        if path is None:
            raise DatasetNotFoundError(f"no list of the {split} clips under {root}; looked for {', '.join(names)}.")
        found[split] = path
    return found


def read(root: Path) -> list[Record]:
    """Both splits, 1050 and 482 clips, which share no subject."""
    return [record for split, path in find_lists(root).items() for record in parse_list(path, split)]
