"""Pictures: a random crop, resized and perhaps mirrored, in training; the whole picture or its middle in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dus_gym.data.store.decoder import Array
from dus_gym.data.store.randomness import Keys
from dus_gym.data.transforms.batch import to_device
from dus_gym.data.transforms.crops import Boxes, middle_squares, random_boxes, whole_boxes
from dus_gym.data.transforms.resample import BICUBIC, BILINEAR, Kernel, Scaling, resized
from dus_gym.errors import check_choice

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ImageTransform:
    """Pictures ``(H, W, C)`` of bytes to ``(C, size, size)`` float32.

    Training takes torchvision's ``RandomResizedCrop`` and ``RandomHorizontalFlip``; evaluation resizes the whole
    picture, its aspect ignored, as OGM-GE, BSS and AMSS do, or a square in the middle, as CLIP does.
    """

    size: int = 224
    """Height and width of the result."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Of each channel, for values between 0 and 1."""
    std: tuple[float, ...] = IMAGENET_STD
    """As ``mean``."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Least and largest area of a crop, as parts of the picture."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Least and largest width / height of a crop."""
    flip: float = 0.5
    """Chance of mirroring in training; 0 where left and right mean something."""
    signed: tuple[int, ...] = ()
    """Channels that change their sign in a mirror, as motion to the right does."""
    crop: bool = True
    """Random crops in training; without them it sees what evaluation sees, mirrored or as it is."""
    augment: bool = True
    """Any difference between training and evaluation."""
    fit: str = "whole"
    """The part that evaluation sees: ``whole``, or ``centre``, the largest square in the middle."""
    kernel: Kernel = BILINEAR
    """``bilinear`` or ``bicubic``; both antialiased."""

    def __post_init__(self) -> None:
        check_choice("fit", self.fit, ("whole", "centre"))
        check_choice("kernel", self.kernel, (BILINEAR, BICUBIC))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one sample's result."""
        return len(self.mean), self.size, self.size

    def __call__(self, arrays: Array | list[Array], keys: Keys, train: bool, device: torch.device) -> Tensor:
        """Return a batch ``(k, C, size, size)`` on ``device``; see :class:`~dus_gym.data.store.split.Transform`."""
        sizes = np.array([array.shape[:2] for array in arrays], np.int64).reshape(len(arrays), 2)
        boxes, flips = self.choose(keys, sizes[:, 0], sizes[:, 1], train)
        pictures = to_device(arrays, device)
        if len(pictures) == 0:
            return torch.empty(0, *self.shape, device=device)
        return self.seen(pictures, boxes, flips)

    def seen(self, pictures: Sequence[Tensor] | Tensor, boxes: Boxes, flips: npt.NDArray[np.bool_]) -> Tensor:
        """Return the boxes of k pictures as the encoder takes them, ``(k, C, size, size)``; see :func:`resized`."""
        scaling = Scaling.of(self.mean, self.std)
        found = resized(pictures, boxes, flips, (self.size, self.size), scaling, self.kernel)
        mirrored = np.flatnonzero(flips)
        for channel in self.signed:
            found[mirrored, channel] *= -1
        return found

    def choose(
        self, keys: Keys, heights: npt.NDArray[np.int64], widths: npt.NDArray[np.int64], train: bool
    ) -> tuple[Boxes, npt.NDArray[np.bool_]]:
        """Return the crop box of each picture, ``(k, 4)``, and which are mirrored, ``(k,)``."""
        seen = (whole_boxes if self.fit == "whole" else middle_squares)(heights, widths)
        if not (train and self.augment):
            return seen, np.zeros(len(heights), np.bool_)
        boxes, coins = random_boxes(keys, heights, widths, self.scale, self.ratio)
        return boxes if self.crop else seen, coins < self.flip
