"""Log spectrograms of sound files, in the presets of the published loaders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dus_gym.data.media.audio import CHANNELS, LIBRARIES, RESAMPLER, looped, read_wave
from dus_gym.data.store import Row

Spectrogram = npt.NDArray[np.float16]


@dataclass(frozen=True)
class STFT:
    """``log(|STFT| + 1e-7)`` with a Hann window, centred on zero-padded samples: librosa's ``stft`` since 0.10.

    353 is the hop: 3 s at 22 050 Hz give 257 × 188, 20 s give 257 × 1250, 10 s at 35 400 Hz give 257 × 1003.
    """

    n_fft: int = 512
    hop: int = 353
    floor: float = 1e-7

    def shape(self, samples: int) -> tuple[int, int]:
        """Return bins and frames of so many samples."""
        return self.n_fft // 2 + 1, samples // self.hop + 1

    def __call__(self, waves: Tensor) -> Tensor:
        """Turn samples ``(k, n)`` into ``(k, bins, frames)``."""
        window = torch.hann_window(self.n_fft, device=waves.device)
        found = torch.stft(
            waves, self.n_fft, self.hop, window=window, center=True, pad_mode="constant", return_complex=True
        )
        return found.abs().add_(self.floor).log_()


@dataclass(frozen=True)
class SpectrogramDecoder:
    """One sound file, repeated to a length and cut there, as its log spectrogram in float16.

    Float16 is exact to 0.008 for the values from log(1e-7) = -16.1 up.
    """

    name: str = "audio"
    rate: int = 22_050
    samples: int = 66_150
    """Length that a sound is repeated to."""
    stft: STFT = field(default_factory=STFT)
    libraries: tuple[str, ...] = (*LIBRARIES, "torch")
    dtype: str = "float16"

    @property
    def fixed_shape(self) -> tuple[int, int]:
        """Bins and frames."""
        return self.stft.shape(self.samples)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Options that change the result."""
        sound = {"rate": self.rate, "samples": self.samples, "channels": CHANNELS, "resampler": RESAMPLER, "clip": 1.0}
        return {**sound, "stft": {**asdict(self.stft), "window": "hann", "pad": "constant"}}

    def __call__(self, row: Row) -> Spectrogram:
        """Return the row's spectrogram."""
        wave = looped(read_wave(row.paths[0], self.rate, self.stft.n_fft), self.samples)
        found: Spectrogram = self.stft(torch.from_numpy(wave)[None])[0].half().contiguous().numpy()
        return found
