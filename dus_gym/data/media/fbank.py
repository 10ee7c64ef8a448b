"""Kaldi's log mel filter bank, as MLA and the GeWu group's loaders take it from torchaudio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from dus_gym.data.media.audio import CHANNELS, LIBRARIES, RESAMPLER, Wave, read_wave
from dus_gym.data.media.reading import read_array
from dus_gym.data.store import Row

Bank = npt.NDArray[np.float16]
FRAME_SECONDS, SHIFT_SECONDS = 0.025, 0.010
LOWEST = 20.0
PRE_EMPHASIS = 0.97
EPSILON = float(np.finfo(np.float32).eps)
GEWU_MEAN, GEWU_STD = -4.503877, 5.141276
"""BalanceBenchmark standardises with (x - mean) / (2 · std)."""


def fbank(wave: Wave, rate: int, mels: int) -> npt.NDArray[np.float32]:
    """Return log energies of mel bands.

    Frames of 25 ms every 10 ms, none beyond the edges; of each the mean is removed, then pre-emphasis 0.97, a
    symmetric Hann window, the power spectrum of the next power of two, triangles on the mel scale from 20 Hz up.

    Args:
        wave: shape ``(n,)``, at least one frame long.
        rate: samples a second.
        mels: bands.

    Returns:
        Shape ``(frames, mels)``.
    """
    length, shift = int(rate * FRAME_SECONDS), int(rate * SHIFT_SECONDS)
    frames = np.lib.stride_tricks.sliding_window_view(wave, length)[::shift].astype(np.float64)
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = (frames - PRE_EMPHASIS * before) * np.hanning(length)
    points = 1 << (length - 1).bit_length()
    power = np.abs(np.fft.rfft(frames, points)) ** 2
    energies = power[:, :-1] @ _triangles(rate, points, mels).T
    found: npt.NDArray[np.float32] = np.log(np.maximum(energies, EPSILON)).astype(np.float32)
    return found


@lru_cache(maxsize=4)
def _triangles(rate: int, points: int, mels: int) -> npt.NDArray[np.float64]:
    """Return weights ``(mels, points // 2)``; the highest bin has none."""

    def mel(hertz: Any) -> Any:
        return 1127.0 * np.log1p(hertz / 700.0)

    low, high = mel(LOWEST), mel(rate / 2)
    step = (high - low) / (mels + 1)
    left = low + np.arange(mels)[:, None] * step
    bins = mel(rate / points * np.arange(points // 2))[None]
    found: npt.NDArray[np.float64] = np.maximum(0.0, np.minimum(bins - left, left + 2 * step - bins) / step)
    return found


@dataclass(frozen=True)
class FbankDecoder:
    """One sound file as ``(frames, mels)`` float16, cut or filled up with zeros at the end.

    A row may also name an ``.npy`` file that holds such an array already, as MLA and BalanceBenchmark write them.
    """

    name: str = "audio"
    rate: int = 16_000
    frames: int = 1024
    mels: int = 128
    libraries: tuple[str, ...] = LIBRARIES
    dtype: str = "float16"

    @property
    def fixed_shape(self) -> tuple[int, int]:
        """Frames and bands."""
        return self.frames, self.mels

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Options that change the result."""
        kaldi = {"window": "hanning", "frame": FRAME_SECONDS, "shift": SHIFT_SECONDS, "low": LOWEST}
        sound = {"rate": self.rate, "channels": CHANNELS, "resampler": RESAMPLER, "clip": 1.0, "mean": "removed"}
        return {**sound, **kaldi, "pre_emphasis": PRE_EMPHASIS}

    def __call__(self, row: Row) -> Bank:
        """Return the row's filter bank."""
        path = row.paths[0]
        if path.suffix == ".npy":
            stored: Bank = read_array(path).astype(np.float16)
            return stored
        wave = read_wave(path, self.rate, int(self.rate * FRAME_SECONDS))
        found = fbank(wave - wave.mean(), self.rate, self.mels)[: self.frames]
        whole: Bank = np.zeros(self.fixed_shape, np.float16)
        whole[: len(found)] = found
        return whole
