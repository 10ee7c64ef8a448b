"""Audio-visual digits: a spoken digit (Free Spoken Digit Dataset) with a noisy picture of the same digit.

The pictures are scikit-learn's; who speaks and what is written belong together by their class alone.
"""

from __future__ import annotations

import csv
import io
import math
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from dus_gym.data.dataset import Indices, TaskData
from dus_gym.data.manifest import Archive, Entry, Manifest
from dus_gym.data.record import one_of
from dus_gym.data.sets.embedded import digits
from dus_gym.data.small_source import Features, SmallSource, in_memory, standardised
from dus_gym.data.splits import stratified
from dus_gym.data.task import DataOptions, Task
from dus_gym.errors import DatasetNotFoundError, MediaError, check_choice

if TYPE_CHECKING:
    from dus_gym.seeding import RunSeeds

REPOSITORY = "Jakobovski/free-spoken-digit-dataset"
COMMIT = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TEST_SPEAKERS = ("theo", "lucas")
VALIDATION_SPEAKER = "nicolas"
TAKES = 50
"""Recordings of each digit by each speaker."""
OFFICIAL_TEST = 5
"""The data set's own test split: takes 0 to 4."""
VALIDATION_PART = 0.15
TRAIN_PICTURES = 0.6
"""Part of the pictures of each class that goes with training recordings; the others go with the test's."""
PICTURE_NOISE = 1.0
"""Factor on the standard deviation of all pictures."""
SCALES = ("feature", "scalar")

RATE = 8000
"""Samples per second."""
LENGTH = 6400
"""Samples that a recording is cut or padded to: 0.8 s."""
WINDOW, HOP, FRAMES = 256, 200, 32
BANDS, LOWEST, HIGHEST = 32, 60.0, 4000.0
"""Mel bands, and the frequencies in Hz between which they lie."""
FLOOR = 1e-3
POOL = 2
_CHUNK = 512
"""Recordings transformed at a time: all at once would take a gigabyte."""

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

    features: Features
    """Shape ``(3000, 16, 16)``: time, mel band."""
    labels: Indices
    speakers: npt.NDArray[np.str_]
    takes: Indices


@lru_cache(maxsize=2)
def load(root: Path) -> Recordings:
    """Read and transform every recording; once per process.

    Raises:
        DatasetNotFoundError: naming the places that were looked at, or the first recording that is missing.
        MediaError: for a file that is no mono recording at 8 kHz.
    """
    where = one_of("recordings", root, _FOLDERS)
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
    """Yield every wav by a name that ends with ``recordings/FILE``."""
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


def _decode(name: str, data: bytes) -> Features:
    """Return samples ``(n,)`` in [-1, 1]."""
    import soundfile

    try:
        wave, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise MediaError("undecodable", f"{name}: {error}") from error
    if rate != RATE or wave.shape[1] != 1 or not len(wave):
        raise MediaError("wrong-shape", f"{name}: {wave.shape} at {rate} Hz; expected one channel at {RATE} Hz.")
    return np.asarray(wave[:, 0])


def log_mel(waves: Sequence[Features]) -> Features:
    """Return log-mel spectrograms, each cell the mean of 2 × 2.

    A recording is scaled to unit root mean square, centred in 0.8 s (cut or padded with zeros at both ends), and
    transformed by a periodic Hann window of 256 every 200 samples; ``log(power in 32 bands + 0.001)``.

    Args:
        waves: samples at 8 kHz, each of shape ``(n,)`` with n > 0.

    Returns:
        Shape ``(len(waves), 16, 16)``: time, band.
    """
    signals = np.zeros((len(waves), LENGTH), np.float32)
    for row, wave in zip(signals, waves, strict=True):
        # A silent recording stays silent.
        loudness = np.sqrt(np.mean(np.square(wave, dtype=np.float64))) or 1.0
        cut = max(0, len(wave) - LENGTH) // 2
        kept = wave[cut : cut + LENGTH]
        start = (LENGTH - len(kept)) // 2
        row[start : start + len(kept)] = kept / loudness
    edge = (FRAMES - 1) * HOP + WINDOW - LENGTH
    signals = np.pad(signals, ((0, 0), (edge // 2, edge - edge // 2)))
    window = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)
    bank = mel_bank().T
    parts = []
    for start in range(0, len(signals), _CHUNK):
        frames = np.lib.stride_tricks.sliding_window_view(signals[start : start + _CHUNK], WINDOW, axis=1)[:, ::HOP]
        power = np.square(np.abs(np.fft.rfft(frames * window, axis=2))).astype(np.float32)
        cells = np.log(power @ bank + FLOOR)
        halves = (FRAMES // POOL, POOL, BANDS // POOL, POOL)
        parts.append(cells.reshape(len(cells), *halves).mean(axis=(2, 4)))
    return np.concatenate(parts)


def mel_bank() -> Features:
    """Return triangles of height 1 with centres equally far apart in mel (2595 log10(1 + f/700)), ``(32, 129)``."""
    low_mel, high_mel = (2595.0 * math.log10(1.0 + frequency / 700.0) for frequency in (LOWEST, HIGHEST))
    mel = np.linspace(low_mel, high_mel, BANDS + 2)
    corners = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    frequencies = np.fft.rfftfreq(WINDOW, 1.0 / RATE)[None]
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    bank: Features = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    return bank


class AVDigits(SmallSource):
    """Test recordings are of speakers that training never hears: audio is learned by heart, pictures are not."""

    dataset = "avdigits"
    published: ClassVar[Mapping[str, int]] = {"train": 2000, "test": 1000}
    options_type: ClassVar[type[DataOptions]] = AVDigitsOptions

    def manifest(self) -> Manifest:
        """Return the 3000 recordings; their sizes and checksums stand in the file beside this one."""
        table = files("dus_gym.data.sets").joinpath("avdigits.csv").read_text(encoding="utf-8")
        commit = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/"
        return Manifest(
            name=self.dataset,
            title="Free Spoken Digit Dataset, 3000 recordings of six speakers",
            licence="CC BY-SA 4.0",
            homepage=f"https://github.com/{REPOSITORY}",
            entries=tuple(
                Entry.of(
                    f"recordings/{row['file']}", commit, f"recordings/{row['file']}", int(row["size"]), row["sha256"]
                )
                for row in csv.DictReader(table.splitlines())
            ),
            archive=Archive(f"https://github.com/{REPOSITORY}/archive/{COMMIT}.zip", most=64 << 20),
        )

    def is_test(self, recordings: Recordings) -> npt.NDArray[np.bool_]:
        """Return which recordings test, shape ``(3000,)``."""
        return np.isin(recordings.speakers, TEST_SPEAKERS)

    def read(self, options: Any, root: Path) -> Any:
        """Return what the files hold."""
        return load(root)

    def splits(self, task: Task, options: Any, seeds: RunSeeds, root: Path) -> TaskData:
        """Return one run's splits.

        The seed draws which pictures go with which split, each recording's picture, the pictures' noise and a random
        validation split. No picture is in two splits.
        """
        recordings = load(root)
        labels = recordings.labels
        test = self.is_test(recordings)
        pool = np.flatnonzero(~test)
        parts: list[Indices | None] = [pool, None, np.flatnonzero(test)]
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
        """Return which recordings test, shape ``(3000,)``."""
        return recordings.takes < OFFICIAL_TEST


def _pictures(labels: Indices, parts: list[Indices | None], seeds: RunSeeds) -> npt.NDArray[np.float64]:
    """Return a noisy picture for every recording, ``(n, 8, 8)``.

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


TASKS = (
    Task(
        name="AVDigits",
        modalities=("audio", "image"),
        num_classes=10,
        encoders=("cnn", "cnn"),
        lr=1e-2,
        epochs=20,
        summary="spoken digits by unknown speakers, noisy pictures: audio is memorised",
        source=AVDigits(),
        train_size=2000,
    ),
    Task(
        name="AVDigitsOfficial",
        modalities=("audio", "image"),
        num_classes=10,
        encoders=("cnn", "cnn"),
        lr=1e-2,
        epochs=20,
        summary="the same with known speakers: audio is simply better",
        source=AVDigitsOfficial(),
        train_size=2300,
        regime="DigitsControl",
    ),
)
