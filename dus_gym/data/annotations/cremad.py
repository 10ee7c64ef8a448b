"""CREMA-D: acted emotions, clips named ``ActorID_Sentence_Emotion_Level``."""

from __future__ import annotations

import re
from pathlib import Path

from dus_gym.data.annotations.record import Record, bad_line, lines_of, unique
from dus_gym.errors import DatasetNotFoundError, check_choice

EMOTIONS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
"""Label order of OGM-GE and most repositories."""
MLA_EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
"""Label order of MLA: the full words sorted."""
LABELS = {"ogm": EMOTIONS, "mla": MLA_EMOTIONS}
WORDS = {"Anger": "ANG", "Disgust": "DIS", "Fear": "FEA", "Happy": "HAP", "Neutral": "NEU", "Sad": "SAD"}

_CLIP = re.compile(r"(10[0-9]{2})_([A-Z]{3})_(NEU|HAP|SAD|FEA|DIS|ANG)_(LO|MD|HI|XX|X)")

_LISTS = (
    ("train.csv", "test.csv"),
    ("annotations/train.csv", "annotations/test.csv"),
    ("data/CREMAD/train.csv", "data/CREMAD/test.csv"),
    ("my_train_cre.txt", "my_test_cre.txt"),
    ("data/my_train_cre.txt", "data/my_test_cre.txt"),
)
"""Both lists of one repository; OGM-GE's and MLA's are other draws and are never mixed."""


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
    """Both split files of one repository below ``root``.

    Raises:
        DatasetNotFoundError: naming what was looked for.
    """
    for train, test in _LISTS:
        found = {"train": root / train, "test": root / test}
        if all(path.is_file() for path in found.values()):
            return found
    there = [name for names in _LISTS for name in names if (root / name).is_file()]
    looked = ", ".join(" with ".join(names) for names in _LISTS)
    only = f" Alone and of no use: {', '.join(there)}; lists of two repositories don't fit together." if there else ""
    raise DatasetNotFoundError(f"no lists of train and test clips under {root}; looked for {looked}.{only}")


def read(root: Path, labels: str = "ogm") -> list[Record]:
    """Both official splits: 6698 clips to train and 744 to test, all 91 actors in both.

    Raises:
        AnnotationError: for a clip in both.
    """
    records = [record for split, path in find_lists(root).items() for record in parse_list(path, split, labels)]
    return unique(records, root)
