"""Decoders of the files of somebody's own media folder: pictures, sounds, arrays, texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from dus_gym.data.media import audio, image
from dus_gym.data.media.audio import CHANNELS, RESAMPLER, read_wave
from dus_gym.data.media.image import read_image
from dus_gym.data.media.reading import read_array, reading, refuse_pointer
from dus_gym.data.store import Row
from dus_gym.data.store.decoder import Array
from dus_gym.errors import MediaError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
SOUNDS = (".wav", ".flac", ".ogg")
ARRAYS = (".npy",)
TEXTS = (".txt",)
RATE = 16_000
"""Samples a second that sounds are brought to."""
WINDOW, HOP, BANDS = 512, 256, 64
LOUDNESS_FLOOR = 1e-6


@dataclass(frozen=True)
class Picture:
    """A picture as RGB at one size, its aspect not kept: uint8 ``(3, size, size)``.

    It is turned as its EXIF data say, and white where it is transparent.
    """

    name: str
    size: int
    libraries: ClassVar[tuple[str, ...]] = image.LIBRARIES
    dtype: ClassVar[str] = "uint8"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Options that change the result."""
        return {"kind": "picture", "size": self.size, "exif": "turned", "transparent": "white", "bits": 8}

    @property
    def fixed_shape(self) -> tuple[int, ...]:
        """Of every picture."""
        return (3, self.size, self.size)

    def __call__(self, row: Row) -> Array:
        """Return the picture of a row."""
        whole = Image.fromarray(read_image(row.paths[0], None, as_shown=True))
        small = whole.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(small, np.uint8).transpose(2, 0, 1))


@dataclass(frozen=True)
class Sound:
    """The log spectrogram of the first seconds, in 64 bands of equal width up to 8 kHz: float16 ``(1, 64, T)``.

    Channels are averaged; what is shorter is followed by silence.
    """

    name: str
    seconds: float
    libraries: ClassVar[tuple[str, ...]] = audio.LIBRARIES
    dtype: ClassVar[str] = "float16"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Options that change the result."""
        sound = {"seconds": self.seconds, "rate": RATE, "channels": CHANNELS, "resampler": RESAMPLER, "clip": 1.0}
        return {"kind": "sound", **sound, "window": WINDOW, "hop": HOP, "bands": BANDS}

    @property
    def fixed_shape(self) -> tuple[int, ...]:
        """Of every sound."""
        return (1, BANDS, 1 + (max(self._samples, WINDOW) - WINDOW) // HOP)

    @property
    def _samples(self) -> int:
        return round(self.seconds * RATE)

    def __call__(self, row: Row) -> Array:
        """Return the spectrogram of a row."""
        mono = read_wave(row.paths[0], RATE)
        whole = np.zeros(max(self._samples, WINDOW), np.float32)
        whole[: min(len(mono), self._samples)] = mono[: self._samples]
        frames = np.lib.stride_tricks.sliding_window_view(whole, WINDOW)[::HOP] * np.hanning(WINDOW)
        power = np.abs(np.fft.rfft(frames, axis=1)[:, 1:]) ** 2
        bands = power.reshape(len(power), BANDS, -1).mean(axis=2)
        spectrogram: Array = np.log(bands + LOUDNESS_FLOOR).T[None].astype(np.float16)
        return spectrogram


@dataclass(frozen=True)
class ArrayFile:
    """A .npy file of one sample, all of one shape: float32."""

    name: str
    fixed_shape: tuple[int, ...]
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)
    dtype: ClassVar[str] = "float32"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Options that change the result."""
        return {"kind": "array"}

    def __call__(self, row: Row) -> Array:
        """Return the array of a row."""
        found = np.atleast_1d(load_plain(row.paths[0]))
        with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, which the store reports
            return found.astype(np.float32)


@dataclass(frozen=True)
class Text:
    """A UTF-8 text, as its bytes."""

    name: str
    libraries: ClassVar[tuple[str, ...]] = ()
    dtype: ClassVar[str] = "uint8"
    fixed_shape: ClassVar[tuple[int, ...] | None] = None

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Options that change the result."""
        return {"kind": "text"}

    def __call__(self, row: Row) -> Array:
        """Return the text of a row."""
        with reading(row.paths[0]):
            refuse_pointer(row.paths[0])
            content = row.paths[0].read_bytes()
            content.decode("utf-8-sig")
        return np.frombuffer(content, np.uint8)


def load_plain(path: Path) -> Array:
    """Load a .npy file of numbers.

    Raises:
        MediaError: for anything else; a pickle is never loaded.
    """
    found = read_array(path)
    if found.dtype.kind not in "biuf":
        raise MediaError("undecodable", f"{path} is of type {found.dtype}, not of numbers")
    return found
