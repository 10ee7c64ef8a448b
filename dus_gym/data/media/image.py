"""Pictures: any file Pillow reads, as RGB bytes, decoded to the last pixel or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageFile, ImageOps

from dus_gym.data.media.reading import reading
from dus_gym.data.store import Row
from dus_gym.errors import ConfigError, MediaError

Pixels = npt.NDArray[np.uint8]
SHORT_SIDE = 256
LIBRARIES = ("Pillow", "torch")
SHRINK = "torch-bilinear-antialiased"
"""How :func:`fitted` resizes, for the parameters of a decoder."""
DEEP_HELP = "save it with 8 bits, scaled as you mean it, or as an .npy array"


def read_image(path: Path, short_side: int | None = SHORT_SIDE, *, as_shown: bool = False) -> Pixels:
    """Read one picture.

    Everything becomes RGB as Pillow's ``convert`` makes it: grey three times, CMYK by its inversion, a palette by its
    colours. More than 8 bits per sample are refused: which 8 of them matter, nothing tells. Of an animation the first
    picture is taken.

    Args:
        path: the file.
        short_side: a picture whose shorter side is longer than that is made smaller to it, keeping its aspect
            (bilinear, antialiased); no picture is made larger. None: as it is.
        as_shown: turned and mirrored as EXIF says, on white where it is transparent. If not, EXIF and transparency are
            ignored, as by every published loader of the paper's data sets.

    Returns:
        Shape ``(height, width, 3)``.

    Raises:
        MediaError: ``missing``, ``empty``, ``truncated`` or ``undecodable``.
        ConfigError: if ``LOAD_TRUNCATED_IMAGES`` is set, which would turn the missing part of a file grey.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ConfigError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, so that broken pictures would be read as grey ones; "
            "remove the line that sets it."
        )
    with reading(path), Image.open(path) as image:
        if image.mode in ("I", "F") or any(";16B" in str(tile) for tile in image.tile):
            raise MediaError("undecodable", f"{path} has more than 8 bits per sample; {DEEP_HELP}")
        image.load()  # a file that ends too early shows only now
        return fitted(np.array(_on_white(ImageOps.exif_transpose(image)) if as_shown else _as_rgb(image)), short_side)


def fitted(pixels: Pixels, short_side: int | None) -> Pixels:
    """Return a picture ``(H, W, C)`` with its shorter side at most ``short_side``; the longer one is rounded down, as
    torchvision does.

    PyTorch's kernel for bytes is Pillow's algorithm with shorter weights, in a fifth of the time: a byte in some
    hundreds differs, by one.
    """
    height, width = pixels.shape[:2]
    if short_side is None or min(width, height) <= short_side:
        return pixels
    size = (short_side * height // width, short_side) if width < height else (short_side, short_side * width // height)
    # The batch's axis first, then the channels' to its place: only so the kernel sees that channels come last.
    batch = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    small = F.interpolate(batch, size, mode="bilinear", antialias=True, align_corners=False)
    found: Pixels = small[0].permute(1, 2, 0).numpy()
    return found


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns on the direct way; the colours are the same
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return _as_rgb(image)
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


@dataclass(frozen=True)
class ImageDecoder:
    """One picture a row, ``(height, width, 3)`` uint8, ragged."""

    name: str = "image"
    short_side: int | None = SHORT_SIDE
    """See :func:`read_image`; None stores pictures as they are, which costs disk and equals the peers' crops."""
    libraries: tuple[str, ...] = LIBRARIES
    fixed_shape: None = None
    dtype: str = "uint8"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Options that change the result."""
        return {"short_side": self.short_side, "resize": SHRINK, "colour": "rgb", "exif": "ignored", "bits": 8}

    def __call__(self, row: Row) -> Pixels:
        """Return the row's picture."""
        return read_image(row.paths[0], self.short_side)
