"""CMU-MOSEI (Zadeh et al. 2018): the sentiment of a spoken sentence from its words, its sound and the face.

Read from the raw clips and the ``label.csv`` of MMSA; its features are Python pickles and are never loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from dus_gym.data.audio_video import AudioVideoOptions, AudioVideoSource, Loop
from dus_gym.data.media.layout import VIDEO_ENDINGS, Place
from dus_gym.data.media_source import Stream
from dus_gym.data.record import Record, bad_line, one_of, rows_of, unique
from dus_gym.data.task import DataOptions, Task
from dus_gym.data.text_image import Preset, TextOptions, text_stream
from dus_gym.errors import AnnotationError, check_choice

CLASSES = {
    "three": ("negative", "neutral", "positive"),
    "two": ("negative", "not negative"),
    "seven": ("-3", "-2", "-1", "0", "1", "2", "3"),
}
"""Ways to make classes of a sentiment between -3 and 3, and their names."""
_LISTS = ("label.csv", "MOSEI/label.csv", "CMU-MOSEI/label.csv", "annotations/label.csv")
_COLUMNS = ("video_id", "clip_id", "text", "label", "mode")
_MODES = {"train": "train", "valid": "validation", "test": "test"}


def class_id(sentiment: float, classes: str = "three") -> int:
    """Return the class of a sentiment.

    three: its sign; two: below 0 or not (CMU-MultimodalSDK's negative/non-negative); seven: away from 0 to a whole
    number (its ``cmumosei_round``).
    """
    if classes == "two":
        return int(sentiment >= 0)
    if classes == "three":
        return (sentiment > 0) - (sentiment < 0) + 1
    return 3 + (math.floor(sentiment) if sentiment < 0 else math.ceil(sentiment))


def parse_list(path: Path, classes: str = "three") -> list[Record]:
    """Read MMSA's ``label.csv``, whose header names its columns: video_id, clip_id, text, label and mode count.

    Its column ``annotation`` is not read: classes follow from ``label`` alone.

    Raises:
        AnnotationError: for a header without these names, or a line of another form.
    """
    rows = list(rows_of(path))
    header = [name.strip() for name in rows[0][1]] if rows else []
    if not set(_COLUMNS) <= set(header):
        raise AnnotationError(f"{path} needs the columns {', '.join(_COLUMNS)}; its first line has {header}.")
    places = [header.index(name) for name in _COLUMNS]
    records = []
    for number, row in rows[1:]:
        found = [row[place].strip() for place in places] if len(row) == len(header) else []
        sentiment = _sentiment(found[3]) if found else None
        if sentiment is None or not found[0] or not found[1] or found[4] not in _MODES:
            raise bad_line(path, number, ",".join(row), "its header's columns, a label from -3 to 3, and a mode")
        video, clip, text, _, mode = found
        name = f"{video}/{clip}"
        records.append(Record(name, _MODES[mode], class_id(sentiment, classes), name, text, group=video))
    return unique(records, path)


def _sentiment(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if -3 <= value <= 3 else None


def read_lists(root: Path, classes: str = "three") -> list[Record]:
    """Read the list: 16326 sentences to train, 1871 to validate and 4659 to test.

    Raises:
        DatasetNotFoundError: naming the files that were looked for.
    """
    return parse_list(one_of("list of the sentences", root, _LISTS), classes)


_CLIPS = tuple(Place(folder, VIDEO_ENDINGS) for folder in ("Raw", "MOSEI/Raw", "CMU-MOSEI/Raw"))


@dataclass(frozen=True)
class CMUMOSEIOptions(AudioVideoOptions, TextOptions):
    """Options of CMU-MOSEI."""

    loops: ClassVar[Mapping[str, Loop]] = {"loop10s": Loop(16_000, 10)}
    classes: str = "three"
    """three: negative, neutral, positive (0 alone is neutral); two: below 0 or not (BalanceBenchmark); seven: -3 to 3,
    rounded away from 0."""
    audio: str = "loop10s"
    """loop10s: the sound repeated to 10 s at 16 kHz, log spectrogram 257 × 454; fbank: Kaldi filter bank 1024 × 128."""
    frames_per_clip: int = 3
    """T."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("classes", self.classes, CLASSES)


class CMUMOSEI(AudioVideoSource):
    """22 856 spoken sentences, each a clip of its own."""

    options_type = CMUMOSEIOptions
    dataset = "cmu-mosei"
    size = "22 856 clips of 7 s"
    published: ClassVar[Mapping[str, int]] = {"train": 16326, "validation": 1871, "test": 4659}
    how_to_get = (
        "label.csv and Raw/VIDEO/CLIP.mp4 are in the archive MOSEI that the wiki of thuiar's MMSA-FET links, page "
        "Dataset-and-Structure."
    )
    sounds = (Place("Audio", ".wav"), *_CLIPS)
    closed = ("Processed", "MOSEI/Processed", "CMU-MOSEI/Processed")

    def pictures(self, fps: int) -> Sequence[Place]:
        """Return the places of the clips."""
        return _CLIPS

    def names(self, options: Any) -> tuple[str, ...]:
        """Return the names of the classes asked for."""
        return CLASSES[options.classes]

    def records(self, options: Any, root: Path) -> list[Record]:
        """Return the sentences of the list."""
        return read_lists(root, options.classes)

    def configure(self, task: Task, options: DataOptions, root: Path | None) -> Task:
        """Return the task with the classes asked for."""
        assert isinstance(options, CMUMOSEIOptions)
        return replace(super().configure(task, options, root), num_classes=len(CLASSES[options.classes]))

    def streams(self, task: Task, options: Any, root: Path, records: Sequence[Record]) -> list[Stream]:
        """Return the streams of words, sound and frames."""
        texts = text_stream(task.encoders[0], options, Preset({}), root, records)
        return [texts, *super().streams(task, options, root, records)]


TASKS = (
    Task(
        name="CMUMOSEI",
        modalities=("text", "audio", "video"),
        num_classes=3,
        encoders=("bert", "resnet18", "resnet18"),
        lr=1e-4,
        optimizer="adam",
        schedule="plateau",
        epochs=100,
        summary="CMU-MOSEI, sentiment of a spoken sentence, text, sound and video",
        metric="macro_f1",
        source=CMUMOSEI(),
        train_size=16326,
        regime="Digits3",
    ),
)
