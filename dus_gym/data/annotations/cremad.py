"""CREMA-D: acted emotions, clips named ``ActorID_Sentence_Emotion_Level``."""

from __future__ import annotations

import re
from pathlib import Path

from dus_gym.data.annotations.record import Record, bad_line, first_of, lines_of, unique
from dus_gym.errors import DatasetNotFoundError, check_choice

EMOTIONS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
"""Label order of OGM-GE and most repositories."""
MLA_EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
"""Label order of MLA: the full words sorted."""
LABELS = {"ogm": EMOTIONS, "mla": MLA_EMOTIONS}
WORDS = {"Anger": "ANG", "Disgust": "DIS", "Fear": "FEA", "Happy": "HAP", "Neutral": "NEU", "Sad": "SAD"}

_CLIP = re.compile(r"(10[0-9]{2})_([A-Z]{3})_(NEU|HAP|SAD|FEA|DIS|ANG)_(LO|MD|HI|XX|X)")

_LISTS = {
    "train": (
        "train.csv",
        "annotations/train.csv",
        "data/CREMAD/train.csv",
        "my_train_cre.txt",
        "data/my_train_cre.txt",
    ),
    "test": ("test.csv", "annotations/test.csv", "data/CREMAD/test.csv", "my_test_cre.txt", "data/my_test_cre.txt"),
}


def parse_list(path: Path, split: str, labels: str = "ogm") -> list[Record]:
    """One split file: ``clip,EMOTION`` (OGM-GE) or ``clip.flv Word`` (MLA).

    MLA's 10 % test clips are another draw: most of them are training clips of OGM-GE. The two must never be mixed.

    Args:
        path: the file; CRLF and a byte-order mark are accepted.
        split: what the records belong to.
        labels: ``"ogm"`` or ``"mla"``, the order of the class ids.

    Raises:
        AnnotationError: for a line of another form, or an emotion that is not the one in the clip's name.
    """
    check_choice("labels", labels, LABELS)
    order, records = LABELS[labels], []
    for number, line in lines_of(path):
        name, _, emotion = line.partition(",") if "," in line else line.partition(" ")
        name, emotion = name.removesuffix(".flv").strip(), emotion.strip()
        emotion = WORDS.get(emotion, emotion)
        clip = _CLIP.fullmatch(name)
        if clip is None or clip[3] != emotion:
            raise bad_line(path, number, line, "ActorID_Sentence_Emotion_Level and the same emotion")
        records.append(Record(name, split, order.index(emotion), name, group=clip[1]))
    return unique(records, path)


def find_lists(root: Path) -> dict[str, Path]:
    """The split files below ``root``, whatever the repository they came from.

    Raises:
        DatasetNotFoundError: naming what was looked for.
    """
    found = {split: first_of(root, names) for split, names in _LISTS.items()}
    missing = [split for split, path in found.items() if path is None]
    if missing:
        looked = ", ".join(name for split in missing for name in _LISTS[split])
        raise DatasetNotFoundError(f"no list of the {' and '.join(missing)} clips under {root}; looked for {looked}.")
    return {split: path for split, path in found.items() if path is not None}


def read(root: Path, labels: str = "ogm") -> list[Record]:
    """Both official splits: 6698 clips to train and 744 to test, all 91 actors in both."""
    return [record for split, path in find_lists(root).items() for record in parse_list(path, split, labels)]
