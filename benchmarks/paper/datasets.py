"""The paper's data sets: their names in its tables, what stands in for them, and the size of a rehearsal.

Modalities, encoders, optimiser, learning rate, schedule, batch and metric are those of the registered task. By the
paper (Section 4) are all but the number of epochs (100), which is ours everywhere, and for Twitter2015 and Sarcasm the
schedule and the ImageNet weights, which are ours too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dus_gym.data.registry import DataSet, data_set
from dus_gym.errors import ConfigError, unknown_name


@dataclass(frozen=True)
class Standin:
    """A small real data set in place of one of the paper's; its modalities are in the same order."""

    word: str
    """Its name in ``dus data``, and its folder below the data root."""
    task_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PaperDataset:
    """One data set of the paper."""

    name: str
    """As printed."""
    word: str
    """Its name in ``dus data``, and its folder below the data root."""
    modalities: tuple[str, ...]
    """As printed, in the order of the task's."""
    standin: Standin | None
    smoke_clips: int = 48
    """Samples of a rehearsal on made-up media."""

    @property
    def known(self) -> DataSet:
        """The data set as ``dus data`` knows it."""
        return data_set(self.word)

    @property
    def metrics(self) -> tuple[str, str]:
        """The two metrics of its tables: accuracy, and MAP or macro-F1."""
        return "accuracy", self.known.task.metric


SMOKE_RUN = {"epochs": 2, "iterations": 2}
"""Settings of the runs of a rehearsal."""

DATASETS: dict[str, PaperDataset] = {
    dataset.name: dataset
    for dataset in (
        # No small data set is like Twitter2015.
        PaperDataset("Twitter2015", "twitter2015", ("text", "image"), None),
        # Five words for the picture in place of the picture.
        PaperDataset("Sarcasm", "sarcasm", ("text", "image"), Standin("sarcasm-tags")),
        # How people rated the voice and the face of the same clips.
        PaperDataset("CREMA-D", "cremad", ("audio", "video"), Standin("cremad-ratings")),
        # Spoken digits by unknown speakers, and pictures of digits.
        PaperDataset(
            "Kinetics-Sounds", "kinetics-sounds", ("audio", "video"), Standin("avdigits", {"validation": "speaker"})
        ),
        # Three views of handwritten numerals.
        PaperDataset("NVGesture", "nvgesture", ("rgb", "depth", "optical_flow"), Standin("mfeat"), smoke_clips=24),
    )
}
"""By the printed name, in the order of the printed tables."""


def datasets_named(words: str | None, among: tuple[str, ...]) -> tuple[str, ...]:
    """Return the printed names of the data sets that comma-separated words name.

    Args:
        words: names as printed or as in ``dus data``; None for all of ``among``.
        among: the printed names to choose from.

    Raises:
        ConfigError: for a word that names none of them.
    """
    if words is None:
        return among
    known = {name.lower(): name for name in among} | {DATASETS[name].word: name for name in among}
    names = []
    for word in filter(None, map(str.strip, words.split(","))):
        if word.lower() not in known:
            raise unknown_name("data set", word, known)
        names.append(known[word.lower()])
    if not names:
        raise ConfigError(f"datasets={words!r} is not allowed; it names no data set. Choose from {', '.join(among)}.")
    return tuple(dict.fromkeys(names))
