"""A window of a video, as bytes: some seconds around an event, such as a gesture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dus_gym.data.media import video
from dus_gym.data.store import Row

CHANNELS: dict[video.Colour, int] = {"rgb": 3, "grey": 1}


@dataclass(frozen=True)
class WindowDecoder:
    """Frames ``start`` to ``end - 1`` of a video, ``(frames, size, size, channels)`` uint8; the aspect is ignored.

    A row's payload is ``start:end``.
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
        """What changes the result."""
        return {"size": self.size, "colour": self.colour, **video.PARAMETERS}

    def __call__(self, row: Row) -> npt.NDArray[np.uint8]:
        """The row's frames.

        Raises:
            MediaError: as :func:`~dus_gym.data.media.video.read_window`; a video that ends too early is ``too-short``.
        """
        start, end = (int(part) for part in row.payload.split(":"))
        return video.read_window(row.paths[0], start, end, (self.size, self.size), self.colour)
