"""Clips: some of the frames that are stored, each then treated as a picture."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dus_gym.data.media.frames import EVEN, FIRST, SEGMENT, FrameChoice, places
from dus_gym.data.store.decoder import Array
from dus_gym.data.store.randomness import Keys, split_keys, uniforms
from dus_gym.data.transforms.batch import to_device
from dus_gym.data.transforms.image import ImageTransform
from dus_gym.errors import check_at_least, check_choice


@dataclass(frozen=True)
class ClipTransform:
    """Stored frames ``(F, H, W, C)`` of bytes, F of any number, to ``(C, T, size, size)``, or ``(C, size, size)`` for
    T = 1.
    """

    frames: int
    """T. A clip that has fewer repeats some, in order."""
    choice: FrameChoice = SEGMENT
    """``segment``: a random frame of each of T equal segments in training, their middle ones in evaluation; ``even``:
    the middle ones always; ``peer_first``: the first T."""
    image: ImageTransform = field(default_factory=ImageTransform)
    """What becomes of a frame."""
    shared: bool = False
    """One draw of crop and mirror for all frames of a clip; the peers draw anew for each."""

    def __post_init__(self) -> None:
        check_at_least("frames", self.frames, 1)
        check_choice("choice", self.choice, (SEGMENT, EVEN, FIRST))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample's result."""
        channels, height, width = self.image.shape
        return (channels, height, width) if self.frames == 1 else (channels, self.frames, height, width)

    def parts(self, lengths: npt.NDArray[np.int64], keys: Keys, train: bool) -> npt.NDArray[np.int64]:
        """Return the frames of each clip that are seen, ``(k, T)``; all of them in order of a clip that has T."""
        # Number T is no frame's: which frames are seen depends on no frame's crop.
        drawn = uniforms(split_keys(keys, self.frames), self.frames) if train and self.choice == SEGMENT else None
        return places(lengths, self.frames, self.choice, drawn)

    def __call__(self, arrays: Array | list[Array], keys: Keys, train: bool, device: torch.device) -> Tensor:
        """Return a batch ``(k, *shape)`` on ``device``; see :class:`~dus_gym.data.store.split.Transform`."""
        k, t = len(arrays), self.frames
        if k == 0:
            return torch.empty(0, *self.shape, device=device)
        sizes = np.array([array.shape[:3] for array in arrays], np.int64)
        chosen = self.parts(sizes[:, 0], keys, train)
        clips = to_device(arrays, device)
        pictures = [clip[place] for clip, row in zip(clips, chosen.tolist(), strict=True) for place in row]
        of_frames = np.repeat(keys, t) if self.shared else split_keys(keys[:, None], np.arange(t)).reshape(-1)
        boxes, flips = self.image.choose(of_frames, np.repeat(sizes[:, 1], t), np.repeat(sizes[:, 2], t), train)
        seen = self.image.seen(pictures, boxes, flips)
        return seen if t == 1 else seen.view(k, t, *seen.shape[1:]).transpose(1, 2)
