"""The material of mocks: a plan of clips, media and sentences that follow from a clip's class, and their files."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dus_gym.data.store.decoder import Array
from dus_gym.errors import ConfigError

LEAST_CLIPS = 12
"""Two clips of two classes in each of three splits."""
MOST_CLIPS = 2_000
EACH = 2
"""Clips of each class in every split, at least."""


@dataclass(frozen=True)
class Clip:
    """One sample to make."""

    split: str
    label: int
    """Class id, from 0."""
    number: int
    """Within its split, from 0."""
    turn: int
    """Number of clips of its class before it in its split."""
    position: float
    """Place of its class among those used, from 0 to 1 (not 1 itself); its media follow from it."""


def plan(clips: int, num_classes: int, splits: Sequence[str]) -> list[Clip]:
    """Return the clips of every split, classes in turn.

    The first ``min(num_classes, clips // 6)`` classes are used; each split but ``train`` gets a fifth of the clips,
    and two of each class at least.

    Args:
        clips: in all.
        num_classes: of the data set.
        splits: names, ``train`` first.

    Raises:
        ConfigError: for too few or too many clips.
    """
    if not LEAST_CLIPS <= clips <= MOST_CLIPS:
        raise ConfigError(f"clips={clips} is not allowed; a mock has {LEAST_CLIPS} to {MOST_CLIPS} clips.")
    used = min(num_classes, clips // (3 * EACH))
    held = max(EACH * used, clips // 5)
    sizes = {splits[0]: clips - held * (len(splits) - 1)} | dict.fromkeys(splits[1:], held)
    return [
        Clip(split, number % used, number, number // used, (number % used) / used)
        for split, count in sizes.items()
        for number in range(count)
    ]


# -- media ---------------------------------------------------------------------------------------

LOWEST, HIGHEST = 200.0, 3500.0
"""Tones in Hz: within what a sound of 8 kHz can hold."""


def tone(position: float, seconds: float, rate: int, rng: np.random.Generator) -> Array:
    """Return a tone of the class's pitch in noise, float32 ``(seconds · rate,)`` within ±1."""
    pitch = LOWEST * (HIGHEST / LOWEST) ** position * rng.uniform(0.98, 1.02)
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.5 * np.sin(2 * np.pi * pitch * time + rng.uniform(0, 2 * np.pi))
    noisy: Array = (wave + 0.1 * rng.standard_normal(len(time))).clip(-1, 1).astype(np.float32)
    return noisy


def picture(position: float, height: int, width: int, rng: np.random.Generator) -> Array:
    """Return stripes of the class's colour and noise, uint8 ``(height, width, 3)``."""
    colour = np.array(colorsys.hsv_to_rgb(position, 0.8, 1.0))
    across = np.arange(width) * (2 + 6 * position) / width + rng.uniform()
    stripes = 0.6 + 0.4 * np.sin(2 * np.pi * across)
    image = stripes[None, :, None] * colour + 0.1 * rng.standard_normal((height, width, 3))
    return pixels(image)


def spot(position: float, frames: int, height: int, width: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return a spot that goes the class's way across the picture.

    Returns:
        Where it is, float ``(frames, height, width)`` from 0 to 1; and how it goes, in pixels per frame,
        ``(frames, height, width, 2)`` (across, down), 0 off the spot.
    """
    angle = 2 * np.pi * position
    way = np.array([np.cos(angle) * width, np.sin(angle) * height]) * 0.6 / frames
    steps = (np.arange(frames) - frames / 2)[:, None] * way
    centre = np.array([width, height]) * rng.uniform(0.45, 0.55, 2) + steps
    down, across = np.mgrid[:height, :width]
    distance = (across - centre[:, :1, None]) ** 2 + (down - centre[:, 1:, None]) ** 2
    there = np.exp(-distance / (0.02 * (height**2 + width**2)))
    return there, (there[..., None] > 0.3) * way


def pixels(values: Array) -> Array:
    """Return values from 0 to 1 as bytes; what lies beyond is cut."""
    found: Array = (255 * values.clip(0, 1)).astype(np.uint8)
    return found


# -- sentences -------------------------------------------------------------------------------------

TELLING = (
    ("sad", "awful", "lost", "grey"),
    ("today", "report", "meeting", "street"),
    ("happy", "great", "won", "sunny"),
)
"""Words that only one class uses."""
PLAIN = ("we", "are", "at", "the", "game", "with", "our", "team", "and", "see", "this", "city", "now", "so", "it", "is")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MARKS = ("$", "<", ">", "#", "@", "'", ".", ",", "!", "?", "t", "##t", "user", "num", "emoji")


def sentence(telling: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Return seven words, two of them from the words that tell the class."""
    words = [*rng.choice(telling, 2), *rng.choice(PLAIN, 5)]
    return [str(word) for word in rng.permutation(words)]


def vocabulary(telling: Sequence[Sequence[str]] = TELLING) -> list[str]:
    """Return the lines of a WordPiece vocabulary for sentences with these telling words."""
    every = (*SPECIAL, *MARKS, *PLAIN, *(word for words in telling for word in words))
    return list(dict.fromkeys(every))


VOCABULARY = "vocab.txt"


def write_vocabulary(root: Path, telling: Sequence[Sequence[str]] = TELLING) -> str:
    """Write the vocabulary of a folder; return the word of a small encoder for it."""
    words = vocabulary(telling)
    write_lines(root / VOCABULARY, words)
    return f"bert:weights=none:hidden=32:layers=1:heads=2:vocab={len(words)}:out=32:sep=3"


def text_image_settings(root: Path, telling: Sequence[Sequence[str]] = TELLING) -> dict[str, Any]:
    """Write the vocabulary of a folder of texts and pictures; return the folder's settings."""
    return {
        "encoders": [write_vocabulary(root, telling), "cnn:pool=mean"],
        "options": {"size": 32, "length": 16},
    }


# -- files -----------------------------------------------------------------------------------------


def write_wav(path: Path, wave: Array, rate: int) -> None:
    """Write a mono sound of 16 bits."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, subtype="PCM_16")


def write_jpg(path: Path, image: Array) -> None:
    """Write an RGB picture ``(height, width, 3)``."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=90)


SOUND_RATE = 16_000


def write_clip(path: Path, position: float, rng: np.random.Generator) -> None:
    """Write two seconds of pictures and a tone that follow from a class's position, as a small video with sound."""
    frames = np.stack([picture(position, 48, 64, rng) for _ in range(4)])
    write_video(path, frames, rate=2, wave=tone(position, 2.0, SOUND_RATE, rng))


def write_video(path: Path, frames: Array, rate: int = 30, wave: Array | None = None) -> None:
    """Write RGB frames ``(frames, height, width, 3)`` of uint8 as MPEG-4 video; height and width are even.

    ``wave``: a sound at :data:`SOUND_RATE`, written as AAC beside them.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"flags": "+bitexact", "qscale": "3"}
        sound = None if wave is None else container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
        if sound is not None and wave is not None:
            sound.options = {"flags": "+bitexact"}
            samples = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            samples.sample_rate = SOUND_RATE
            container.mux(sound.encode(samples))
            container.mux(sound.encode(None))


def write_npy(path: Path, array: Array) -> None:
    """Write an array, never pickled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=False)


def write_lines(path: Path, lines: Iterable[str], end: str = "\n") -> None:
    """Write UTF-8 lines with the line ends of the published file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())
