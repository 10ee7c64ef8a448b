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
from PIL import Image, ImageFile, UnidentifiedImageError

from dus_gym.data.store import Row
from dus_gym.errors import ConfigError, MediaError

Pixels = npt.NDArray[np.uint8]
SHORT_SIDE = 256
LIBRARIES = ("Pillow", "torch")
SHRINK = "torch-bilinear-antialiased"
"""How :func:`fitted` resizes, for the parameters of a decoder."""
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")


def read_image(path: Path, short_side: int | None = SHORT_SIDE) -> Pixels:
    """One picture.

    Everything becomes RGB as Pillow's ``convert`` makes it: grey three times, CMYK by its inversion, a palette by its
    colours, transparency dropped; 16-bit grey keeps its upper byte. EXIF orientation is ignored, as by every published
    loader of these data sets. Of an animation the first picture is taken.

    Args:
        path: the file.
        short_side: a picture whose shorter side is longer than that is made smaller to it, keeping its aspect
            (bilinear, antialiased); no picture is made larger. None: as it is.

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
    try:
        with Image.open(path) as image:
            image.load()  # a file that ends too early shows only now
            return fitted(np.array(_as_rgb(image, path)), short_side)
    except FileNotFoundError as error:
        raise MediaError("missing", f"{path} is not there") from error
    except UnidentifiedImageError as error:
        if path.stat().st_size == 0:
            raise MediaError("empty", f"{path} has no bytes") from error
        raise MediaError("undecodable", f"{path} is no picture that Pillow knows") from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        # Pillow has no error of its own for a file that ends too early.
        kind = "truncated" if "truncated" in str(error) or isinstance(error, EOFError) else "undecodable"
        raise MediaError(kind, f"{path} can't be decoded ({error})") from error


def fitted(pixels: Pixels, short_side: int | None) -> Pixels:
    """A picture ``(H, W, C)`` with its shorter side at most ``short_side``; the longer one is rounded down, as
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


def _as_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode in _DEEP:
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise MediaError("undecodable", f"{path} has 32-bit samples, whose range nothing tells; save it with 8 bits")
    if image.mode == "RGB":
        return image
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns on the direct way; the colours are the same
    return image.convert("RGB")


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
        """What changes the result."""
        return {"short_side": self.short_side, "resize": SHRINK, "colour": "rgb", "exif": "ignored"}

    def __call__(self, row: Row) -> Pixels:
        """The row's picture."""
        return read_image(row.paths[0], self.short_side)
