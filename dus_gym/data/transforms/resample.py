"""Boxes of pictures resized to one size and scaled: antialiased, as Pillow and torchvision do it.

On the CPU every box goes through PyTorch's own kernel for bytes, which is Pillow's algorithm; a picture of 150 kB stays
in the processor's cache from there to the scaled result. Channels stay last in memory all the way, as they are stored:
no pass is spent on rearranging them, and convolutions on the CPU are faster for it. On an accelerator the same weights
are two matrix products over the whole batch: no picture is handled on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from dus_gym.data.transforms.crops import Boxes

Kernel = Literal["bilinear", "bicubic"]
BILINEAR: Kernel = "bilinear"
BICUBIC: Kernel = "bicubic"


@dataclass(frozen=True)
class Scaling:
    """One multiply-add a channel: bytes to normalised numbers."""

    factor: tuple[float, ...]
    offset: tuple[float, ...]

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float]) -> Scaling:
        """Return the scaling for a mean and deviation of values between 0 and 1."""
        return cls(tuple(1.0 / (255.0 * s) for s in std), tuple(-m / s for m, s in zip(mean, std, strict=True)))

    def columns(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return factor and offset, ``(channels, 1, 1)`` each."""
        factor, offset = (
            torch.tensor(values).to(device, non_blocking=True)[:, None, None] for values in (self.factor, self.offset)
        )
        return factor, offset


def resized(
    pictures: Sequence[Tensor] | Tensor,
    boxes: Boxes,
    flips: npt.NDArray[np.bool_],
    size: tuple[int, int],
    scaling: Scaling,
    kernel: Kernel = BILINEAR,
) -> Tensor:
    """Return one box of each picture, resized, mirrored where asked, scaled.

    Args:
        pictures: k pictures ``(H, W, C)`` of bytes on one device, each of its own size.
        boxes: shape ``(k, 4)``: top, left, height, width.
        flips: which are mirrored left to right, ``(k,)``.
        size: height and width of the result.
        scaling: of its C channels.
        kernel: of the resampling.

    Returns:
        Shape ``(k, C, *size)``, float32, on the pictures' device; in ``torch.channels_last`` order on the CPU.
    """
    if pictures[0].device.type == "cpu":
        return _one_by_one(pictures, boxes, flips, size, scaling, kernel)
    return _at_once(pictures, boxes, flips, size, scaling, kernel)


def _one_by_one(
    pictures: Sequence[Tensor] | Tensor,
    boxes: Boxes,
    flips: npt.NDArray[np.bool_],
    size: tuple[int, int],
    scaling: Scaling,
    kernel: Kernel = BILINEAR,
) -> Tensor:
    # Tiled to a line of pixels: one long contiguous axis is what vector instructions need.
    factor, offset = (torch.tensor(values).repeat(size[1]) for values in (scaling.factor, scaling.offset))
    whole = torch.empty(len(pictures), *size, len(scaling.factor))
    for place, picture, (top, left, height, width), flip in zip(
        whole, pictures, boxes.tolist(), flips.tolist(), strict=True
    ):
        # The batch's axis first, then the channels' to its place: only so the kernel sees that channels come last.
        box = picture[top : top + height, left : left + width][None].permute(0, 3, 1, 2)
        small = F.interpolate(box, size, mode=kernel, antialias=True, align_corners=False)[0].permute(1, 2, 0)
        place.copy_(small.flip(1) if flip else small)
        place.view(size[0], -1).mul_(factor).add_(offset)
    return whole.permute(0, 3, 1, 2)


def _at_once(
    pictures: Sequence[Tensor] | Tensor,
    boxes: Boxes,
    flips: npt.NDArray[np.bool_],
    size: tuple[int, int],
    scaling: Scaling,
    kernel: Kernel = BILINEAR,
) -> Tensor:
    canvas = _canvas(pictures)
    device = canvas.device
    k, height, width, channels = canvas.shape
    # Not waiting for small copies keeps the host ahead of the device.
    where = torch.from_numpy(boxes).float().to(device, non_blocking=True)
    mirrored = torch.from_numpy(flips).to(device, non_blocking=True)[:, None, None]
    rows = _weights(where[:, 0], where[:, 2], size[0], height, kernel)
    columns = _weights(where[:, 1], where[:, 3], size[1], width, kernel)
    columns = torch.where(mirrored, columns.flip(1), columns)
    lines = torch.bmm(rows, canvas.float().view(k, height, width * channels)).view(k, size[0], width, channels)
    whole = torch.matmul(lines.permute(0, 3, 1, 2), columns.transpose(1, 2)[:, None])
    if kernel == BICUBIC:
        whole.clamp_(0.0, 255.0)  # it overshoots at edges; bytes can't
    factor, offset = scaling.columns(device)
    return whole.mul_(factor).add_(offset)


def _canvas(pictures: Sequence[Tensor] | Tensor) -> Tensor:
    """Return the pictures in the top left corners of one array ``(k, H, W, C)``; the rest is never looked at."""
    if isinstance(pictures, Tensor):
        return pictures
    if len({picture.shape for picture in pictures}) == 1:
        return torch.stack(list(pictures))
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    canvas = pictures[0].new_zeros(len(pictures), height, width, pictures[0].shape[2])
    for place, picture in zip(canvas, pictures, strict=True):
        place[: picture.shape[0], : picture.shape[1]] = picture
    return canvas


def _weights(start: Tensor, length: Tensor, out: int, length_of_canvas: int, kernel: Kernel) -> Tensor:
    """Return what each of ``out`` pixels takes from each pixel of a line, ``(k, out, length_of_canvas)``.

    A curve as wide as one or two pixels of the result to either side, but no narrower than of the source, cut off at
    the box and made to sum to one: Pillow's and PyTorch's antialiased filters.
    """
    step = (length / out)[:, None, None]
    reach = step.clamp(min=1.0)
    at = torch.arange(length_of_canvas, device=start.device) - start[:, None, None]
    middle = (torch.arange(out, device=start.device)[:, None] + 0.5) * step
    inside = (at >= 0) & (at < length[:, None, None])
    away = (at + 0.5 - middle).abs() / reach
    weights = ((1.0 - away).clamp(min=0.0) if kernel == BILINEAR else _cubic(away)) * inside
    return weights / weights.sum(dim=2, keepdim=True)


def _cubic(away: Tensor) -> Tensor:
    """Return Keys' cubic convolution with a = -0.5, by distance in pixels."""
    near = (1.5 * away - 2.5) * away * away + 1.0
    far = ((-0.5 * away + 2.5) * away - 4.0) * away + 2.0
    return torch.where(away < 1.0, near, torch.where(away < 2.0, far, 0.0))
