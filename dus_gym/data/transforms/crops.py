"""Which part of a picture is seen: crop boxes of a whole batch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dus_gym.data.store.randomness import Keys, uniforms

Boxes = npt.NDArray[np.int64]
"""Shape ``(k, 4)``: top, left, height, width."""
TRIES = 10
_EACH = 4
"""Numbers a try takes: area, ratio, top, left."""


def whole_boxes(heights: npt.NDArray[np.int64], widths: npt.NDArray[np.int64]) -> Boxes:
    """Return the boxes of whole pictures."""
    return np.stack([np.zeros_like(heights), np.zeros_like(widths), heights, widths], axis=1)


def middle_squares(heights: npt.NDArray[np.int64], widths: npt.NDArray[np.int64]) -> Boxes:
    """Return the largest squares in the middle of pictures."""
    sides = np.minimum(heights, widths)
    return np.stack([(heights - sides) // 2, (widths - sides) // 2, sides, sides], axis=1)


def random_boxes(
    keys: Keys,
    heights: npt.NDArray[np.int64],
    widths: npt.NDArray[np.int64],
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[Boxes, npt.NDArray[np.float64]]:
    """Return boxes as torchvision's ``RandomResizedCrop`` draws them, and a coin each for flips.

    Ten tries of an area and an aspect (uniform in its logarithm); the first that fits the picture is taken, and where
    none does the largest box in the middle whose aspect is allowed.

    Args:
        keys: shape ``(k,)``.
        heights: of the pictures, ``(k,)``.
        widths: of the pictures, ``(k,)``.
        scale: least and largest area, as parts of the picture.
        ratio: least and largest width / height.

    Returns:
        Boxes ``(k, 4)``, and for each picture a number in [0, 1) that nothing else depends on, ``(k,)``.
    """
    drawn = uniforms(keys, TRIES * _EACH + 1)
    tries, coins = drawn[:, :-1].reshape(len(keys), TRIES, _EACH), drawn[:, -1]
    area = (scale[0] + (scale[1] - scale[0]) * tries[..., 0]) * (heights * widths)[:, None]
    low, high = np.log(ratio)
    aspect = np.exp(low + (high - low) * tries[..., 1])
    width = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    height = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    fits = (width > 0) & (width <= widths[:, None]) & (height > 0) & (height <= heights[:, None])
    first = fits.argmax(axis=1)
    every = np.arange(len(keys))
    height, width = height[every, first], width[every, first]
    top = np.floor(tries[every, first, 2] * (heights - height + 1)).astype(np.int64)
    left = np.floor(tries[every, first, 3] * (widths - width + 1)).astype(np.int64)
    boxes = np.where(
        fits.any(axis=1)[:, None], np.stack([top, left, height, width], axis=1), _middle(heights, widths, ratio)
    )
    return boxes, coins


def _middle(heights: npt.NDArray[np.int64], widths: npt.NDArray[np.int64], ratio: tuple[float, float]) -> Boxes:
    aspect = widths / heights
    width = np.where(aspect > ratio[1], np.rint(heights * ratio[1]), widths).astype(np.int64)
    height = np.where(aspect < ratio[0], np.rint(widths / ratio[0]), heights).astype(np.int64)
    return np.stack([(heights - height) // 2, (widths - width) // 2, height, width], axis=1)
