"""A window of a video, as bytes: some seconds around an event, such as a gesture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from dus_gym.data.media import video
from dus_gym.data.media.frames import picture_files
from dus_gym.data.media.image import read_image
from dus_gym.data.store import Row
from dus_gym.errors import MediaError

CHANNELS: dict[video.Colour, int] = {"rgb": 3, "grey": 1}


def read_frames(path: Path, start: int, end: int, size: int, colour: video.Colour) -> npt.NDArray[np.uint8]:
    """Return frames ``start`` to ``end - 1`` of a video, or of a folder that holds all its frames as numbered pictures.

    Args:
        path: the video, or the folder (as hampiholi's repository has it: ``frame00000.jpg`` and so on).
        start: the first frame wanted, from 0.
        end: the frame after the last.
        size: height and width of the result; the aspect is ignored.
        colour: ``"rgb"`` or ``"grey"``.

    Returns:
        Shape ``(end - start, size, size, channels)``.

    Raises:
        MediaError: as :func:`~dus_gym.data.media.video.read_window`; ``too-short`` for a folder of fewer pictures.
    """
    if not path.is_dir():
        return video.read_window(path, start, end, (size, size), colour)
    files = picture_files(path)
    if len(files) < end:
        raise MediaError("too-short", f"{path} has {len(files)} frames; frames {start} to {end - 1} are wanted")
    found = np.empty((end - start, size, size, CHANNELS[colour]), np.uint8)
    for place, file in zip(found, files[start:end], strict=True):
        image = Image.fromarray(read_image(file, None))
        image = image.convert("L") if colour == "grey" else image
        place[...] = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)).reshape(place.shape)
    return found


@dataclass(frozen=True)
class WindowDecoder:
    """Frames ``start`` to ``end - 1`` of a video or a folder of frames, ``(frames, size, size, channels)`` uint8.

    The aspect is ignored. A row's payload is ``start:end``.
    """

    name: str
    frames: int
    size: int
    colour: video.Colour = "rgb"
    libraries: tuple[str, ...] = ("av", "Pillow")
    dtype: str = "uint8"

    @property
    def fixed_shape(self) -> tuple[int, ...]:
        """``(frames, size, size, channels)``."""
        return (self.frames, self.size, self.size, CHANNELS[self.colour])

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Options that change the result."""
        return {"size": self.size, "colour": self.colour, **video.PARAMETERS}

    def __call__(self, row: Row) -> npt.NDArray[np.uint8]:
        """Return the row's frames.

        Raises:
            MediaError: as :func:`read_frames`; a video that ends too early is ``too-short``.
        """
        start, end = (int(part) for part in row.payload.split(":"))
        return read_frames(row.paths[0], start, end, self.size, self.colour)
