"""Frames of a clip: from a folder of numbered pictures, or straight from a video."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dus_gym.data.media.image import LIBRARIES, SHORT_SIDE, SHRINK, Pixels, read_image
from dus_gym.data.media.video import PARAMETERS, is_kept, read_every
from dus_gym.data.store import Row
from dus_gym.errors import MediaError, check_at_least, check_choice

FrameChoice = Literal["segment", "even", "peer_first"]
SEGMENT: FrameChoice = "segment"
EVEN: FrameChoice = "even"
FIRST: FrameChoice = "peer_first"
ALL = "all"
_PICTURES = {".jpg", ".jpeg", ".png"}
_NUMBER = re.compile(r"[0-9]+")


def places(
    counts: npt.NDArray[np.int64], frames: int, choice: FrameChoice, drawn: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.int64]:
    """Return the frames that each clip shows.

    Args:
        counts: frames that each clip has, at least 1, shape ``(k,)``.
        frames: T, frames to show. A clip that has fewer repeats some.
        choice: ``peer_first`` takes the first T; the others cut the clip into T equal segments and take the frame in
            the middle of each.
        drawn: numbers in [0, 1), shape ``(k, T)``: with them ``segment`` takes a random frame of each segment.

    Returns:
        Shape ``(k, T)``, never descending within a clip.
    """
    n, j = counts[:, None], np.arange(frames)
    if choice == FIRST:
        return np.minimum(j, n - 1)
    if choice == EVEN or drawn is None:
        return (2 * j + 1) * n // (2 * frames)
    low = j * n // frames
    high = np.maximum((j + 1) * n // frames, low + 1)
    found: npt.NDArray[np.int64] = low + np.floor(drawn * (high - low)).astype(np.int64)
    return found


def picture_files(folder: Path) -> list[Path]:
    """Return the pictures in a folder by the last number in their names: ``frame_2`` before ``frame_10``.

    Raises:
        MediaError: if the folder is not there, or has none.
    """
    if not folder.is_dir():
        raise MediaError("missing", f"{folder} is not there")
    found = [p for p in folder.iterdir() if p.suffix.lower() in _PICTURES and not p.name.startswith(".")]
    if not found:
        raise MediaError("empty", f"{folder} has no picture ({', '.join(sorted(_PICTURES))})")

    def order(path: Path) -> tuple[int, str]:
        numbers = _NUMBER.findall(path.stem)
        return (int(numbers[-1]) if numbers else -1), path.name

    return sorted(found, key=order)


def stacked(pictures: list[Pixels], folder: Path) -> Pixels:
    """Return the pictures of a folder as one array.

    Raises:
        MediaError: if they differ in size.
    """
    if len({picture.shape for picture in pictures}) > 1:
        raise MediaError("wrong-shape", f"{folder} holds pictures of different sizes")
    return np.stack(pictures)


@dataclass(frozen=True)
class FramesDecoder:
    """Frames of one clip, ``(F, height, width, 3)`` uint8, ragged.

    A row names a folder of pictures or a video file; of a video, ``per_second`` frames each second are looked at, as
    OGM-GE's script would have written them.
    """

    name: str = "video"
    keep: str = ALL
    """``all``, or ``even`` or ``peer_first``: only the frames that this choice of ``frames`` shows."""
    frames: int = 1
    """Frames kept, unless ``keep`` is ``all``."""
    per_second: int = 1
    """Of a video file."""
    rate: int | None = None
    """Frames a second of a folder that holds every frame of its video, of which ``per_second`` are then looked at; None
    for a folder that holds those already."""
    short_side: int | None = SHORT_SIDE
    """See :func:`~dus_gym.data.media.image.read_image`."""
    libraries: tuple[str, ...] = (*LIBRARIES, "av")
    fixed_shape: None = None
    dtype: str = "uint8"

    def __post_init__(self) -> None:
        check_choice("keep", self.keep, (ALL, EVEN, FIRST))
        check_at_least("frames", self.frames, 1)
        check_at_least("per_second", self.per_second, 1)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Options that change the result."""
        kept = {"keep": self.keep} if self.keep == ALL else {"keep": self.keep, "frames": self.frames}
        size = {"short_side": self.short_side, "resize": SHRINK}
        rate = {} if self.rate is None else {"rate": self.rate}
        return {**PARAMETERS, **kept, **size, **rate, "per_second": self.per_second, "exif": "ignored", "bits": 8}

    def __call__(self, row: Row) -> Pixels:
        """Return the row's frames."""
        path = row.paths[0]
        if path.is_file():
            every = read_every(path, self.per_second, self.short_side)
            return every[self.kept(len(every))]
        files = picture_files(path)
        return stacked([read_image(files[i], self.short_side) for i in self.kept_of_folder(len(files))], path)

    def kept_of_folder(self, count: int) -> list[int]:
        """Return the numbers of the pictures that are kept of a folder's ``count``."""
        seen = [i for i in range(count) if self.rate is None or is_kept(i, self.rate, self.per_second)]
        return [seen[i] for i in self.kept(len(seen))]

    def kept(self, count: int) -> list[int]:
        """Return the numbers of the frames that are kept of ``count`` that were looked at."""
        if self.keep == ALL:
            return list(range(count))
        choice = EVEN if self.keep == EVEN else FIRST
        return [int(place) for place in places(np.array([count]), self.frames, choice)[0]]
