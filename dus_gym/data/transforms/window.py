"""Clips as 3-D networks read them: one block of frames, height and width, cut out of what is stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dus_gym.data.store.decoder import Array
from dus_gym.data.store.randomness import Keys, uniforms
from dus_gym.data.transforms.batch import to_device
from dus_gym.data.transforms.resample import Scaling

_DRAWS = 3
"""Top, left and first frame, in this order: transforms given the same keys cut the same block."""


@dataclass(frozen=True)
class WindowTransform:
    """Clips ``(T, H, W, C)`` of bytes to ``(C, t, crop, crop)`` float32, never resized and never mirrored.

    Training cuts a random square and ``frames`` consecutive frames at a random place; evaluation the middle square
    and all T frames.
    """

    scaling: Scaling
    """Of each channel as it comes out."""
    crop: int = 224
    """Height and width of the result."""
    frames: int | None = 64
    """Frames of a training draw; None: all that are stored."""
    reverse: bool = False
    """Whether channels come out in reverse order: BGR, as OpenCV reads pictures."""

    def __call__(self, arrays: Array | list[Array], keys: Keys, train: bool, device: torch.device) -> Tensor:
        """Return a batch ``(k, C, t, crop, crop)`` on ``device``; see :class:`~dus_gym.data.store.split.Transform`."""
        clips = to_device(arrays, device)
        assert isinstance(clips, Tensor), "a fixed shape was stored"
        k, stored, height, width, channels = clips.shape
        t = self.frames if train and self.frames is not None else stored
        room = np.array([height - self.crop, width - self.crop, stored - t], np.int64)
        parts = uniforms(keys, _DRAWS) if train else np.full((k, _DRAWS), 0.5)
        places = np.floor(parts * (room + 1)).astype(np.int64)
        found = torch.empty(k, channels, t, self.crop, self.crop, device=device)
        # One copy of megabytes a clip: a gather over the batch would cost several times as much.
        for place, clip, (top, left, first) in zip(found, clips, places.tolist(), strict=True):
            block = clip[first : first + t, top : top + self.crop, left : left + self.crop]
            place.copy_(block.permute(3, 0, 1, 2))
        if self.reverse:
            found = found.flip(1)
        factor, offset = (column[:, None] for column in self.scaling.columns(device))
        return found.mul_(factor).add_(offset)
