"""Kinetics-Sounds: 31 actions that can be seen and heard. Clips are named after their YouTube id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dus_gym.data.audio_video import AudioVideoOptions, AudioVideoSource, Loop
from dus_gym.data.media.layout import FOLDER, VIDEO_ENDINGS, Place
from dus_gym.data.record import Record, bad_line, first_of, lines_of, rows_of, unique
from dus_gym.data.task import Task
from dus_gym.errors import AnnotationError, DatasetNotFoundError, first_line
from dus_gym.json_text import read_json

CLASSES = (
    "blowing nose",
    "blowing out candles",
    "bowling",
    "chopping wood",
    "dribbling basketball",
    "laughing",
    "mowing lawn",
    "playing accordion",
    "playing bagpipes",
    "playing bass guitar",
    "playing clarinet",
    "playing drums",
    "playing guitar",
    "playing harmonica",
    "playing keyboard",
    "playing organ",
    "playing piano",
    "playing saxophone",
    "playing trombone",
    "playing trumpet",
    "playing violin",
    "playing xylophone",
    "ripping paper",
    "shoveling snow",
    "shuffling cards",
    "singing",
    "stomping grapes",
    "tap dancing",
    "tapping guitar",
    "tapping pen",
    "tickling",
)
"""Class ids of OGM-GE's lists: alphabetical and fixed, so that a file that is missing renumbers nothing."""

_IDS = {name: i for i, name in enumerate(CLASSES)}
_SUBSETS = {"training": "train", "validation": "validation", "testing": "test"}
_LISTS = {
    "train": (
        "my_train.txt",
        "annotations/my_train.txt",
        "data/KineticSound/my_train.txt",
        "annotations/train.csv",
        "train.csv",
    ),
    "test": (
        "my_test.txt",
        "annotations/my_test.txt",
        "data/KineticSound/my_test.txt",
        "annotations/test.csv",
        "test.csv",
    ),
}
_JSON = ("KS_train_val.json", "annotations/KS_train_val.json", "code/dataset/KS_train_val.json")
YOUTUBE_ID = 11
"""Characters of a YouTube id, which may itself hold ``_`` and ``-``: a stem is never split at them."""


def class_id(name: str) -> int:
    """Return the id of a class by name, with spaces (Kinetics) or underscores (BML).

    Raises:
        AnnotationError: for a name that is none of the 31.
    """
    found = _IDS.get(name.replace("_", " ").strip())
    if found is None:
        raise AnnotationError(f"{name!r} is none of the 31 classes of Kinetics-Sounds.")
    return found


def parse_list(path: Path, split: str) -> list[Record]:
    """Read one split file: ``stem,seconds,id`` (OGM-GE), ``stem … id`` with spaces (BalanceBenchmark), or a csv with
    the columns ``label`` and ``youtube_id`` (BSS, AMSS, Kinetics).

    Raises:
        AnnotationError: for a line of another form or a class that is none of the 31.
    """
    lines = list(lines_of(path))
    if lines and "youtube_id" in lines[0][1]:
        return unique(_table(path, split), path)
    records = []
    for number, line in lines:
        fields = line.split(",") if "," in line else line.split()
        if len(fields) < 2 or not fields[-1].strip().isdecimal() or int(fields[-1]) >= len(CLASSES):
            raise bad_line(path, number, line, f"a clip and, last, its class from 0 to {len(CLASSES) - 1}")
        records.append(_record(fields[0].strip(), split, int(fields[-1])))
    return unique(records, path)


def _table(path: Path, split: str) -> list[Record]:
    (_, header), *rows = rows_of(path)
    records = []
    for number, fields in rows:
        row = dict(zip(header, fields, strict=False))
        if not row.get("youtube_id") or not row.get("label"):
            raise bad_line(path, number, ",".join(fields), "the columns label and youtube_id")
        records.append(_record(row["youtube_id"], split, class_id(row["label"])))
    return records


def parse_json(path: Path) -> list[Record]:
    """Read BML's ``KS_train_val.json``, which alone has a validation split.

    Raises:
        AnnotationError: if it is not that file.
    """
    try:
        database = read_json(path.read_bytes())["database"]
        return [_record(stem, _SUBSETS[entry["subset"]], class_id(entry["label"])) for stem, entry in database.items()]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise AnnotationError(f"{path} is not BML's list of Kinetics-Sounds ({first_line(error)}).") from error


def _record(stem: str, split: str, label: int) -> Record:
    return Record(stem, split, label, stem, group=stem[:YOUTUBE_ID])


def read_lists(root: Path) -> list[Record]:
    """Read every clip listed below ``root``: 14799 to train, 2597 to test, and 1320 to validate if BML's list is there.

    Raises:
        DatasetNotFoundError: naming the files that were looked for.
    """
    records: list[Record] = []
    for split, names in _LISTS.items():
        path = first_of(root, names)
        if path is not None:
            records += parse_list(path, split)
    listed = {record.split for record in records}
    extra = first_of(root, _JSON)
    if extra is not None:
        # Its training and test clips are the lists' own; what it adds is the validation split.
        records += [record for record in parse_json(extra) if record.split not in listed]
    missing = [split for split in _LISTS if split not in {record.split for record in records}]
    if missing:
        looked = ", ".join([*(name for split in missing for name in _LISTS[split]), *_JSON])
        raise DatasetNotFoundError(f"no list of the {' and '.join(missing)} clips under {root}; looked for {looked}.")
    return unique(records, root)


LOOPS = {"bss10s": Loop(35_400, 10)}
_VIDEOS = tuple(Place(folder, VIDEO_ENDINGS) for folder in ("{split}_video", "video", "videos", "{split}"))


@dataclass(frozen=True)
class KineticsSoundsOptions(AudioVideoOptions):
    """Options of Kinetics-Sounds."""

    loops = LOOPS
    audio: str = "bss10s"
    """bss10s: the sound repeated to 10 s at 35.4 kHz, log spectrogram 257 × 1003 (BSS); fbank: Kaldi filter bank
    1024 × 128 (MLA, BalanceBenchmark)."""
    frames_per_clip: int = 3
    """T."""


class KineticsSounds(AudioVideoSource):
    """17 396 clips of 10 s in the published lists, and 1320 more to validate in BML's.

    Class ids are those of a fixed table. A class without a file on the disk keeps its id, unlike in BSS and AMSS,
    whose ids are the order in which classes are met on the disk.
    """

    options_type = KineticsSoundsOptions
    dataset = "kinetics-sounds"
    size = "18 716 clips of 10 s"
    published: ClassVar[Mapping[str, int]] = {"train": 14799, "validation": 1320, "test": 2597}
    class_names = CLASSES
    how_to_get = (
        "Get Kinetics-400 by the scripts of github.com/cvdfoundation/kinetics-dataset, keep the clips of my_train.txt "
        "and my_test.txt of OGM-GE's data/KineticSound, and put both lists beside them."
    )
    sounds = (
        *(Place(folder, ".wav") for folder in ("{split}_wav", "audio/{split}_wav", "audio", "wav", "audio_wav")),
        *_VIDEOS,
    )
    banks = (
        Place("audio/{split}_fbank", ".npy"),
        Place("kinsound/audio/{split}_fbank", ".npy"),
        Place("audio", ".npy"),
    )
    closed = ("{split}_wav_pkl", "audio_spec", "KineticSound/audio_spec")

    def pictures(self, fps: int) -> Sequence[Place]:
        """Return folders of frames before videos: they are what the published loaders read."""
        frames = f"Image-{fps:02d}-FPS"
        folders = (
            f"{{split}}_img/{frames}",
            f"visual/{{split}}_imgs/{frames}",
            f"kinsound/visual/{{split}}_imgs/{frames}",
            frames,
            "visual",
            "KineticSound/visual",
            "{split}_img",
        )
        return (*(Place(folder, FOLDER) for folder in folders), *_VIDEOS)

    def records(self, options: Any, root: Path) -> list[Record]:
        """Return the clips of the lists."""
        return read_lists(root)


TASKS = (
    Task(
        name="KineticsSounds",
        modalities=("audio", "video"),
        num_classes=31,
        encoders=("resnet18", "resnet18"),
        lr=1e-2,
        schedule="plateau",
        epochs=100,
        summary="Kinetics-Sounds, 31 actions, sound and video",
        source=KineticsSounds(),
        train_size=14799,
    ),
)
