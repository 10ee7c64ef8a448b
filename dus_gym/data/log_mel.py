"""Small log-mel pictures of short recordings, as AVDigits hears them; the media data sets have presets of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RATE = 8000
"""Samples a second."""
LENGTH = 6400
"""Samples a recording is cut or padded to: 0.8 s."""
WINDOW, HOP, FRAMES = 256, 200, 32
BANDS, LOWEST, HIGHEST = 32, 60.0, 4000.0
"""Mel bands, and the frequencies in Hz between which they lie."""
FLOOR = 1e-3
POOL = 2
_CHUNK = 512
"""Recordings transformed at a time: all at once would take a gigabyte."""

Array = npt.NDArray[np.float32]


def log_mel(waves: Sequence[Array]) -> Array:
    """Log-mel spectrograms, each cell the mean of 2 × 2.

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


def mel_bank() -> Array:
    """Triangles of height 1 with centres equally far apart in mel (2595 log10(1 + f/700)), ``(32, 129)``."""
    low_mel, high_mel = (2595.0 * math.log10(1.0 + frequency / 700.0) for frequency in (LOWEST, HIGHEST))
    mel = np.linspace(low_mel, high_mel, BANDS + 2)
    corners = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    frequencies = np.fft.rfftfreq(WINDOW, 1.0 / RATE)[None]
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    bank: Array = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    return bank
