"""Audio-visual digits: a spoken digit (Free Spoken Digit Dataset) with a noisy picture of the same digit.

The pictures are scikit-learn's; who speaks and what is written belong together by their class alone.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from dus_gym.data.annotations.record import first_of
from dus_gym.data.dataset import TaskData
from dus_gym.data.embedded import digits
from dus_gym.data.log_mel import RATE, log_mel
from dus_gym.data.small_source import Rows, SmallSource, in_memory, standardised
from dus_gym.data.source import DataOptions
from dus_gym.data.splits import stratified
from dus_gym.errors import DatasetNotFoundError, MediaError, check_choice

if TYPE_CHECKING:
    from dus_gym.data.tasks import Task
    from dus_gym.seeding import RunSeeds

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TEST_SPEAKERS = ("theo", "lucas")
VALIDATION_SPEAKER = "nicolas"
TAKES = 50
"""Recordings of each digit by each speaker."""
OFFICIAL_TEST = 5
"""The data set's own test split: takes 0 to 4."""
VALIDATION_PART = 0.15
TRAIN_PICTURES = 0.6
"""Part of each class's pictures that goes with training recordings; the others go with the test's."""
PICTURE_NOISE = 1.0
"""Factor on the standard deviation of all pictures."""
SCALES = ("feature", "scalar")

_FOLDERS = (
    "recordings",
    "avdigits/recordings",
    "fsdd/recordings",
    "free-spoken-digit-dataset*/recordings",
    "fsdd.zip",
    "free-spoken-digit-dataset*.zip",
)
_NAME = re.compile(rf"(?:.*/)?recordings/([0-9])_({'|'.join(SPEAKERS)})_([0-9]+)\.wav")


@dataclass(frozen=True)
class AVDigitsOptions(DataOptions):
    """Options of ``DUS-AVDigits-v0``."""

    validation: str = "none"
    """``none``: all 2000 recordings train; ``speaker``: one more speaker, nicolas, is held out; ``random``: 15 %."""
    standardise: str = "feature"
    """``feature``: each band and each pixel by itself; ``scalar``: one mean and one deviation a modality."""

    def __post_init__(self) -> None:
        check_choice("standardise", self.standardise, SCALES)
        check_choice("validation", self.validation, ("none", "speaker", "random"))


@dataclass(frozen=True)
class OfficialOptions(DataOptions):
    """Options of ``DUS-AVDigitsOfficial-v0``."""

    validation: str = "random"
    """``random``: 15 % of the training recordings; ``none``: all 2700 train."""
    standardise: str = "feature"
    """``feature``: each band and each pixel by itself; ``scalar``: one mean and one deviation a modality."""

    def __post_init__(self) -> None:
        check_choice("standardise", self.standardise, SCALES)
        check_choice("validation", self.validation, ("random", "none"))


@dataclass(frozen=True)
class Recordings:
    """All 3000 recordings, ordered by digit, speaker and take."""

    features: npt.NDArray[np.float32]
    """Shape ``(3000, 16, 16)``: time, mel band."""
    labels: Rows
    speakers: npt.NDArray[np.str_]
    takes: Rows


@lru_cache(maxsize=2)
def load(root: Path) -> Recordings:
    """Reads and transforms every recording; once a process.

    Raises:
        DatasetNotFoundError: naming what was looked for, or the first recording that is missing.
        MediaError: for a file that is no mono recording at 8 kHz.
    """
    where = first_of(root, _FOLDERS)
    if where is None:
        raise DatasetNotFoundError(f"no recordings under {root}; looked for {', '.join(_FOLDERS)}.")
    waves = {}
    for name, data in _files(where):
        match = _NAME.fullmatch(name)
        if match and int(match[3]) < TAKES:
            waves[int(match[1]), match[2], int(match[3])] = _decode(f"{where}: {name}", data)
    keys = [(digit, speaker, take) for digit in range(10) for speaker in SPEAKERS for take in range(TAKES)]
    missing = ["{}_{}_{}.wav".format(*key) for key in keys if key not in waves]
    if missing:
        raise DatasetNotFoundError(f"{where} lacks {len(missing)} of {len(keys)} recordings, the first: {missing[0]}.")
    labels, speakers, takes = zip(*keys, strict=True)
    return Recordings(
        features=log_mel([waves[key] for key in keys]),
        labels=np.array(labels, np.int64),
        speakers=np.array(speakers),
        takes=np.array(takes, np.int64),
    )


def _files(where: Path) -> Iterator[tuple[str, bytes]]:
    """Every wav by a name that ends with ``recordings/FILE``."""
    if where.is_dir():
        for path in sorted(where.glob("*.wav")):
            yield f"recordings/{path.name}", path.read_bytes()
        return
    try:
        with zipfile.ZipFile(where) as archive:
            for name in archive.namelist():
                if name.endswith(".wav"):
                    yield name, archive.read(name)
    except zipfile.BadZipFile as error:
        raise DatasetNotFoundError(f"{where} is no readable zip archive ({error}).") from error


def _decode(name: str, data: bytes) -> npt.NDArray[np.float32]:
    """Samples ``(n,)`` in [-1, 1]."""
    import soundfile

    try:
        wave, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise MediaError("undecodable", f"{name}: {error}") from error
    if rate != RATE or wave.shape[1] != 1 or not len(wave):
        raise MediaError("wrong-shape", f"{name}: {wave.shape} at {rate} Hz; expected one channel at {RATE} Hz.")
    return np.asarray(wave[:, 0])


class AVDigits(SmallSource):
    """Test recordings are of speakers that training never hears: audio is learned by heart, pictures are not."""

    dataset = "avdigits"
    options_type: ClassVar[type[DataOptions]] = AVDigitsOptions

    def is_test(self, recordings: Recordings) -> npt.NDArray[np.bool_]:
        """Which recordings test."""
        return np.isin(recordings.speakers, TEST_SPEAKERS)

    def splits(self, task: Task, options: Any, seeds: RunSeeds, root: Path) -> TaskData:
        """One run's splits.

        The seed draws which pictures go with which split, each recording's picture, the pictures' noise and a random
        validation split. No picture is in two splits.
        """
        recordings = load(root)
        labels = recordings.labels
        test = self.is_test(recordings)
        pool = np.flatnonzero(~test)
        parts: list[Rows | None] = [pool, None, np.flatnonzero(test)]
        if options.validation != "none":
            if options.validation == "speaker":
                held = np.flatnonzero(recordings.speakers[pool] == VALIDATION_SPEAKER)
            else:
                held = stratified(labels[pool].tolist(), VALIDATION_PART, seeds.generator("data/split"))
            parts[:2] = np.delete(pool, held), pool[held]
        pictures, train = _pictures(labels, parts, seeds), parts[0]
        assert train is not None
        each = options.standardise == "feature"
        views = [standardised(view, train, each)[:, None] for view in (recordings.features, pictures)]
        return in_memory(views, labels, parts, root)


class AVDigitsOfficial(AVDigits):
    """The data set's own test split: every speaker is heard in training."""

    options_type = OfficialOptions

    def is_test(self, recordings: Recordings) -> npt.NDArray[np.bool_]:
        """Which recordings test."""
        return recordings.takes < OFFICIAL_TEST


def _pictures(labels: Rows, parts: list[Rows | None], seeds: RunSeeds) -> npt.NDArray[np.float64]:
    """A noisy picture for every recording, ``(n, 8, 8)``.

    Args:
        labels: of the recordings.
        parts: rows of the recordings that train, validate and test.
        seeds: the run's generators.
    """
    images, classes = digits()
    rng = seeds.generator("data/pictures")
    chosen = np.zeros(len(labels), np.int64)
    train, validation, test = (np.zeros(0, np.int64) if rows is None else rows for rows in parts)
    held = len(validation) / (len(train) + len(validation))
    for digit in range(10):
        order = rng.permutation(np.flatnonzero(classes == digit))
        first = round(TRAIN_PICTURES * len(order))
        second = round(TRAIN_PICTURES * (1.0 - held) * len(order))
        pools = (order[:second], order[second:first], order[first:])
        for rows, pictures in zip((train, validation, test), pools, strict=True):
            spoken = rows[labels[rows] == digit]
            if len(spoken):
                chosen[spoken] = rng.choice(pictures, len(spoken))
    noise = seeds.generator("data/noise/image").standard_normal((len(labels), *images.shape[1:]))
    found: npt.NDArray[np.float64] = images[chosen] + PICTURE_NOISE * images.std() * noise
    return found


SPEAKER_SPLIT = AVDigits()
OFFICIAL_SPLIT = AVDigitsOfficial()
