"""Sound: stored spectrograms as numbers a network reads, or stored waveforms turned into spectrograms on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dus_gym.data.media.spectrogram import STFT
from dus_gym.data.store.decoder import Array
from dus_gym.data.store.randomness import Keys
from dus_gym.data.transforms.batch import to_device


@dataclass(frozen=True)
class SpectrogramTransform:
    """Spectrograms ``(…)`` in any float type to ``(1, …)`` float32, after one multiply-add."""

    factor: float = 1.0
    offset: float = 0.0

    def __call__(self, arrays: Array | list[Array], keys: Keys, train: bool, device: torch.device) -> Tensor:
        """Return a batch ``(k, 1, …)`` on ``device``; see :class:`~dus_gym.data.store.split.Transform`."""
        stored = to_device(arrays, device)
        assert isinstance(stored, Tensor), "a fixed shape was stored"
        found = stored[:, None].to(torch.float32)
        return found if (self.factor, self.offset) == (1.0, 0.0) else found.mul_(self.factor).add_(self.offset)


@dataclass(frozen=True)
class WaveformTransform:
    """Waveforms of any length, repeated to one length, to log spectrograms ``(1, bins, frames)``.

    A loop of 20 s holds a clip of 2.5 s eight times over: stored as a waveform it takes a twelfth of the disk.
    """

    stft: STFT
    samples: int
    """Length that a waveform is repeated to and cut at."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one sample's result."""
        return 1, *self.stft.shape(self.samples)

    def __call__(self, arrays: Array | list[Array], keys: Keys, train: bool, device: torch.device) -> Tensor:
        """Return a batch ``(k, *shape)`` on ``device``; see :class:`~dus_gym.data.store.split.Transform`."""
        waves = to_device(arrays, device)
        if len(waves) == 0:
            return torch.empty(0, *self.shape, device=device)
        lengths = torch.tensor([len(array) for array in arrays]).to(device, non_blocking=True)
        padded = torch.nn.utils.rnn.pad_sequence(list(waves), batch_first=True)
        looped = padded.gather(1, torch.arange(self.samples, device=device)[None] % lengths[:, None])
        return self.stft(looped)[:, None]
