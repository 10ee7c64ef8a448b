"""Videos: frames by number, as bytes, decoded by PyAV."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import Type as SideDataType
from PIL import Image

from dus_gym.data.media.container import opened
from dus_gym.data.media.image import DEEP_HELP, fitted
from dus_gym.errors import MediaError

Pixels = npt.NDArray[np.uint8]
Colour = Literal["rgb", "grey"]
PARAMETERS = {
    "video": "pyav, counted from the first frame, turned as its display matrix says",
    "resize": "pillow-bilinear",
}
"""Choices of this file that change pixels, for the parameters of a decoder; beside the versions of av and Pillow."""
MOST_BITS = 12
"""Of a sample of colour: cameras record up to so many, scaled to their full range. Grey ones may be measurements."""
_FORMATS: dict[Colour, str] = {"rgb": "rgb24", "grey": "gray"}


def read_window(
    path: Path, start: int, end: int, size: tuple[int, int] | None = None, colour: Colour = "rgb"
) -> Pixels:
    """Return frames ``start`` to ``end - 1`` of a video, counted from 0 in the order they are shown.

    Frames are counted by decoding from the first on: seeking lands on another frame in files whose index is wrong.
    They are turned by quarters as the file says, as OpenCV and every player show them.

    Args:
        path: the video file.
        start: the first frame wanted.
        end: the frame after the last.
        size: height and width that every frame is resized to (bilinear, antialiased, aspect ignored); None: as it is.
        colour: ``"rgb"`` (in this order) or ``"grey"``.

    Returns:
        Shape ``(end - start, height, width, 3)``, or ``(…, 1)`` for grey.

    Raises:
        MediaError: ``too-short`` if the video ends before ``end``; ``missing``, ``empty`` or ``undecodable``.
        ValueError: for a window that is none.
    """
    if not 0 <= start < end:
        raise ValueError(f"start={start}, end={end} is no window of frames; 0 <= start < end is needed.")
    found: list[Pixels] = []
    count = 0
    with _frames(path) as (frames, _):
        for count, frame in enumerate(frames, start=1):
            if count > start:
                found.append(_array(frame, colour, lambda pixels: _resized(pixels, size)))
            if count == end:
                break
    if count < end:
        raise MediaError("too-short", f"{path} has {count} frames; frames {start} to {end - 1} are wanted")
    return _stacked(found, path)


def read_every(path: Path, per_second: int, short_side: int | None = None) -> Pixels:
    """Return ``per_second`` evenly spaced frames of every second of a video.

    The frame rate is cut to an integer, and :func:`is_kept` chooses.

    Args:
        path: the video file.
        per_second: frames kept a second; all of them where the video has fewer.
        short_side: as of :func:`~dus_gym.data.media.image.read_image`.

    Returns:
        Shape ``(k, height, width, 3)``, k >= 1.

    Raises:
        MediaError: as :func:`read_window`.
    """
    with _frames(path) as (frames, rate):
        kept = [
            _array(frame, "rgb", lambda pixels: fitted(pixels, short_side))
            for number, frame in enumerate(frames)
            if is_kept(number, int(rate), per_second)
        ]
    if not kept:
        raise MediaError("too-short", f"{path} has no frame")
    return _stacked(kept, path)


def is_kept(number: int, rate: int, per_second: int) -> bool:
    """Tell whether frame ``number``, from 0, is kept at ``per_second`` of ``rate`` frames per second.

    As the script that OGM-GE publishes: of the frames of each second (numbers kr to kr + r - 1) every
    ``r // per_second``-th, ``per_second`` at most.
    """
    second = max(1, rate)
    step = max(1, second // per_second)
    return number % second % step == 0 and number % second // step < per_second


def read_pairs(path: Path, per_second: int, short_side: int | None = None) -> Pixels:
    """Return each frame that :func:`read_every` keeps with the one after it: what motion is computed from.

    A last frame that is kept stands second, after the one before it: nothing comes after it.

    Args:
        path: as of :func:`read_every`.
        per_second: as there.
        short_side: as there.

    Returns:
        Grey, shape ``(k, 2, height, width)``, k as of :func:`read_every`.

    Raises:
        MediaError: as :func:`read_window`; ``too-short`` for a video of less than two frames.
    """

    def grey(*two: av.VideoFrame) -> Pixels:
        shown = [_array(frame, "grey", lambda pixels: fitted(pixels[..., None], short_side))[..., 0] for frame in two]
        return _stacked(shown, path)

    pairs: list[Pixels] = []
    last, two = 0, None
    with _frames(path) as (frames, rate):
        for last, two in enumerate(pairwise(frames), start=1):
            if is_kept(last - 1, int(rate), per_second):
                pairs.append(grey(*two))
        if two is None:
            raise MediaError("too-short", f"{path} has less than two frames; motion needs two")
        if is_kept(last, int(rate), per_second):
            pairs.append(grey(*two))
    return _stacked(pairs, path)


@contextmanager
def _frames(path: Path) -> Iterator[tuple[Iterator[av.VideoFrame], float]]:
    """Yield the frames of the first video stream, and their number per second."""
    with opened(path) as container:
        if not container.streams.video:
            raise MediaError("undecodable", f"{path} has no video stream")
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # files are decoded side by side, by the store's workers
        yield _whole(container.decode(stream), path), float(stream.average_rate or stream.guessed_rate or 1)


def _whole(frames: Iterator[av.VideoFrame], path: Path) -> Iterator[av.VideoFrame]:
    for number, frame in enumerate(frames):
        if frame.is_corrupt:
            raise MediaError("undecodable", f"{path}: frame {number} is damaged")
        bits = max(component.bits for component in frame.format.components)
        if bits > (8 if frame.format.name.startswith("gray") else MOST_BITS):
            raise MediaError("undecodable", f"{path} has {bits} bits per sample, of which 8 would be left; {DEEP_HELP}")
        yield frame


def _array(frame: av.VideoFrame, colour: Colour, change: Callable[[Pixels], Pixels]) -> Pixels:
    pixels: Pixels = frame.to_ndarray(format=_FORMATS[colour]).astype(np.uint8, copy=False)
    array = change(np.ascontiguousarray(np.rot90(pixels, _quarter_turns(frame))))
    return array if array.ndim == 3 else array[..., None]


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Return the counter-clockwise quarter turns between how a frame is stored and how it is to be shown."""
    described: Any = frame.side_data  # PyAV declares a dict, and gives a container that is iterated over
    for data in described:
        if data.type is SideDataType.DISPLAYMATRIX:
            a, b = np.frombuffer(data, np.int32)[:2].astype(np.float64)
            return round(-math.atan2(b, a) / (math.pi / 2)) % 4
    return 0


def _resized(pixels: Pixels, size: tuple[int, int] | None) -> Pixels:
    if size is None:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def _stacked(frames: list[Pixels], path: Path) -> Pixels:
    if len({frame.shape for frame in frames}) > 1:
        raise MediaError("wrong-shape", f"{path} changes its size from frame to frame")
    stacked: Pixels = np.stack(frames)
    return stacked
