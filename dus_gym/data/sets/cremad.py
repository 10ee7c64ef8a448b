"""CREMA-D: six acted emotions, voice and face. Clips are named ``ActorID_Sentence_Emotion_Level``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dus_gym.data.audio_video import AudioVideoOptions, AudioVideoSource, Loop, without_validation
from dus_gym.data.media.layout import FOLDER, VIDEO_ENDINGS, Place
from dus_gym.data.record import Record, bad_line, lines_of, unique
from dus_gym.data.splits import split_groups
from dus_gym.data.task import Task
from dus_gym.errors import DatasetNotFoundError, check_choice

EMOTIONS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
"""Label order of OGM-GE and most repositories."""
MLA_EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
"""Label order of MLA: the full words sorted."""
LABELS = {"ogm": EMOTIONS, "mla": MLA_EMOTIONS}
_WORDS = {"Anger": "ANG", "Disgust": "DIS", "Fear": "FEA", "Happy": "HAP", "Neutral": "NEU", "Sad": "SAD"}
"""Emotions as MLA's lists spell them."""

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
    """Read one split file: ``clip,EMOTION`` (OGM-GE) or ``clip.flv Word`` (MLA).

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
        emotion = _WORDS.get(emotion, emotion)
        clip = _CLIP.fullmatch(name)
        if clip is None or clip[3] != emotion:
            raise bad_line(path, number, line, "ActorID_Sentence_Emotion_Level and the same emotion")
        records.append(Record(name, split, order.index(emotion), name, group=clip[1]))
    return unique(records, path)


def find_lists(root: Path) -> dict[str, Path]:
    """Return both split files of one repository below ``root``.

    Raises:
        DatasetNotFoundError: naming the files that were looked for.
    """
    for train, test in _LISTS:
        found = {"train": root / train, "test": root / test}
        if all(path.is_file() for path in found.values()):
            return found
    there = [name for names in _LISTS for name in names if (root / name).is_file()]
    looked = ", ".join(" with ".join(names) for names in _LISTS)
    only = f" Alone and of no use: {', '.join(there)}; lists of two repositories don't fit together." if there else ""
    raise DatasetNotFoundError(f"no lists of train and test clips under {root}; looked for {looked}.{only}")


def read_lists(root: Path, labels: str = "ogm") -> list[Record]:
    """Read both official splits: 6698 clips to train and 744 to test, all 91 actors in both.

    Raises:
        AnnotationError: for a clip in both.
    """
    records = [record for split, path in find_lists(root).items() for record in parse_list(path, split, labels)]
    return unique(records, root)


LOOPS = {"ogm3s": Loop(22_050, 3), "bss20s": Loop(22_050, 20, waveform=True)}
ACTORS = (56, 18, 17)
"""Actors that train, validate and test in a split that shares nobody."""
CLASS_NAMES = {"NEU": "neutral", "HAP": "happy", "SAD": "sad", "FEA": "fear", "DIS": "disgust", "ANG": "anger"}


@dataclass(frozen=True)
class CREMADOptions(AudioVideoOptions):
    """Options of CREMA-D."""

    loops = LOOPS
    audio: str = "ogm3s"
    """ogm3s: the sound repeated to 3 s at 22.05 kHz, log spectrogram 257 × 188 (OGM-GE, ReconBoost, AMSS, AGM); bss20s:
    repeated to 20 s, 257 × 1250 (BSS, LFM, AUG); fbank: Kaldi filter bank 1024 × 128 (MLA, BalanceBenchmark)."""
    labels: str = "ogm"
    """Order of the class ids. ogm: NEU HAP SAD FEA DIS ANG; mla: ANG DIS FEA HAP NEU SAD."""
    split: str = "official"
    """official: the lists under the data root, where every actor is in train and test; actors: 56, 18 and 17 actors
    train, validate and test, drawn by the run's seed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("labels", self.labels, LABELS)
        check_choice("split", self.split, ("official", "actors"))


class CremaD(AudioVideoSource):
    """7442 clips of 91 actors."""

    options_type = CREMADOptions
    dataset = "cremad"
    size = "3.0 GB: wav 0.6, flv 2.4"
    published: ClassVar[Mapping[str, int]] = {"train": 6698, "test": 744}
    class_names = tuple(CLASS_NAMES[emotion] for emotion in EMOTIONS)
    how_to_get = (
        "Clone github.com/CheyneyComputerScience/CREMA-D with Git LFS (ODbL; AudioWAV/ and VideoFlash/ are enough) and "
        "put train.csv and test.csv of OGM-GE's data/CREMAD beside them."
    )
    sounds = tuple(
        Place(folder, ending)
        for folder, ending in (
            ("AudioWAV", ".wav"),
            ("Audio", ".wav"),
            ("audio", ".wav"),
            ("audio/AudioWAV", ".wav"),
            ("AudioMP3", ".mp3"),
        )
    )
    banks = (Place("audio/{split}_fbank", ".npy"), Place("audio", ".npy"), Place("Audio", ".npy"))
    closed = ("Audio-1004", "Audio-299", "audio_spec", "audio")

    def pictures(self, fps: int) -> Sequence[Place]:
        """Return folders of frames before videos: they are what the published loaders read."""
        frames = f"Image-{fps:02d}-FPS"
        folders = (frames, f"visual/{frames}", f"visual/{{split}}_imgs/{frames}", "visual")
        videos = (Place(folder, (".flv", *VIDEO_ENDINGS)) for folder in ("VideoFlash", "video"))
        return (*(Place(folder, FOLDER) for folder in folders), *videos)

    def names(self, options: Any) -> tuple[str, ...]:
        """Return class names in the order asked for."""
        return tuple(CLASS_NAMES[emotion] for emotion in LABELS[options.labels])

    def records(self, options: Any, root: Path) -> list[Record]:
        """Return the clips of one repository's two lists."""
        return read_lists(root, options.labels)

    def carve(self, records: Sequence[Record], options: Any, rng: np.random.Generator) -> list[Record]:
        """Return records with a tenth of every class of train held out, or with splits that share no actor."""
        if options.split == "official":
            return super().carve(records, options, rng)
        parted = split_groups(records, rng, ACTORS)
        return without_validation(parted) if options.validation == "none" else parted


TASKS = (
    Task(
        name="CREMAD",
        modalities=("audio", "video"),
        num_classes=6,
        encoders=("resnet18", "resnet18"),
        lr=1e-2,
        schedule="plateau",
        epochs=100,
        summary="CREMA-D, 6 acted emotions, voice and face",
        source=CremaD(),
        train_size=6698,
    ),
)
