"""Optical flow: from .npy files as the field keeps them, or computed from a video; stored as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

from dus_gym.data.media import video
from dus_gym.data.media.frames import FramesDecoder, picture_files, stacked
from dus_gym.data.media.image import read_image
from dus_gym.data.media.reading import read_array
from dus_gym.data.media.window import read_frames
from dus_gym.data.store import Row
from dus_gym.errors import ConfigError, MediaError, check_choice

if TYPE_CHECKING:
    from types import ModuleType

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
LIMIT = 20.0
"""Pixels a frame; motion beyond it is cut, so that a byte can hold it."""
ZERO, STEPS = 128, 127
"""No motion is the byte 128, exactly; ``LIMIT`` is 127 steps from it, 0.16 pixels each."""
METHODS = ("dis", "farneback")
_OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")


def to_bytes(flow: Floats) -> Bytes:
    """Return flow in pixels a frame as bytes, same shape; at most 0.08 pixels off, and cut at ±20."""
    return np.asarray(np.rint(np.clip(flow, -LIMIT, LIMIT) * (STEPS / LIMIT)) + ZERO, np.uint8)


def resized(flow: Floats, size: int) -> Floats:
    """Return flow ``(T, H, W, 2)`` on a grid of ``size`` × ``size``: resampled (bilinear, antialiased), and its motion
    scaled with the picture.
    """
    height, width = flow.shape[1:3]
    if (height, width) == (size, size):
        return flow
    stacked = torch.from_numpy(np.ascontiguousarray(flow)).permute(0, 3, 1, 2)
    small = F.interpolate(stacked, (size, size), mode="bilinear", antialias=True, align_corners=False)
    found: Floats = small.permute(0, 2, 3, 1).numpy()
    return found * np.array([size / width, size / height], np.float32)


def of_all_frames(flow: Bytes, frames: int, path: Path) -> Bytes:
    """Return flow of every frame: the last one, which has no frame after it, moves as the one before.

    Args:
        flow: ``(T, H, W, 2)`` with T = ``frames`` or one less.
        frames: of the video.
        path: for the message.

    Raises:
        MediaError: for another T.
    """
    if len(flow) == frames:
        return flow
    if len(flow) == frames - 1:
        return np.concatenate([flow, flow[-1:]])
    raise MediaError("wrong-shape", f"{path} has the flow of {len(flow)} frames; {frames} or {frames - 1} are wanted")


@dataclass(frozen=True)
class FlowFileDecoder:
    """Flow ``(H, W, 2, T)`` in an .npy file, in pixels a frame, to ``(frames, size, size, 2)`` uint8: x, then y."""

    frames: int
    size: int
    naming: Mapping[str, Any]
    """The tie between a file and its sample, such as the digest of the list whose rows it is numbered by."""
    name: str = "flow"
    libraries: tuple[str, ...] = ("torch",)
    """It resizes."""
    dtype: str = "uint8"

    @property
    def fixed_shape(self) -> tuple[int, ...]:
        """``(frames, size, size, 2)``."""
        return (self.frames, self.size, self.size, 2)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Options that change the result."""
        return {"flow": "files", "size": self.size, "limit": LIMIT, "naming": dict(self.naming)}

    def __call__(self, row: Row) -> Bytes:
        """Return the row's flow.

        Raises:
            MediaError: for a file that is missing, damaged, of another shape or not finite. Loading runs no code.
        """
        path = row.paths[0]
        found = read_array(path)
        if found.ndim != 4 or found.shape[2] != 2 or found.dtype.kind != "f":
            shape = f"{found.dtype} {found.shape}"
            raise MediaError("wrong-shape", f"{path} holds {shape}; floats (height, width, 2, frames) are wanted")
        flow = np.asarray(found, np.float32).transpose(3, 0, 1, 2)
        if not np.isfinite(flow).all():
            raise MediaError("not-finite", f"{path} has motion that is NaN or infinite")
        return of_all_frames(to_bytes(resized(flow, self.size)), self.frames, path)


def opencv() -> ModuleType:
    """Return OpenCV, which computes flow.

    Raises:
        ConfigError: if it is not installed; says how to get it.
    """
    try:
        import cv2
    except ImportError as error:
        raise ConfigError(
            'computing optical flow needs OpenCV, which is not installed: pip install "dus-gym[flow]" (or '
            "opencv-python-headless)."
        ) from error
    module: ModuleType = cv2
    return module


@dataclass(frozen=True)
class FlowDecoder:
    """Flow computed from the grey frames of a video's window, ``(frames, size, size, 2)`` uint8: x, then y.

    ``dis``: Kroeger et al. 2016, OpenCV's medium preset; ``farneback``: Farnebäck 2003 with OpenCV's usual settings.
    TV-L1, which I3D's published weights saw, is not in plain OpenCV. A row's payload is ``start:end``.
    """

    method: str
    frames: int
    size: int
    name: str = "flow"
    dtype: str = "uint8"

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        opencv()

    @property
    def fixed_shape(self) -> tuple[int, ...]:
        """``(frames, size, size, 2)``."""
        return (self.frames, self.size, self.size, 2)

    @property
    def libraries(self) -> tuple[str, ...]:
        """OpenCV under whichever name it was installed, and what decodes the video."""
        return (*_opencv_names(), "av", "Pillow")

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Options that change the result."""
        return {"flow": self.method, "size": self.size, "limit": LIMIT, **video.PARAMETERS}

    def __call__(self, row: Row) -> Bytes:
        """Return the row's flow.

        Raises:
            MediaError: as :func:`~dus_gym.data.media.window.read_frames`.
        """
        start, end = (int(part) for part in row.payload.split(":"))
        grey = read_frames(row.paths[0], start, end, self.size, "grey")[..., 0]
        flow = np.stack([between(first, second, self.method) for first, second in pairwise(grey)])
        return of_all_frames(to_bytes(flow), self.frames, row.paths[0])


def between(first: Bytes, second: Bytes, method: str) -> Floats:
    """Return the motion from one grey picture ``(H, W)`` to the next, in pixels: ``(H, W, 2)``, x, then y."""
    cv2 = opencv()
    if method == "dis":
        found: Floats = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, second, None)
    else:
        found = cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    return found


@dataclass(frozen=True)
class ClipFlowDecoder(FramesDecoder):
    """Flow at the frames of a clip that :class:`~dus_gym.data.media.frames.FramesDecoder` would keep, ``(F, height,
    width, 2)`` uint8, ragged: x, then y, in pixels of the pictures it was computed on.

    A row names two folders of pictures of all frames, x and y, as the field keeps flow (bytes from -20 to 20 pixels,
    whose zero lies half a step beside ours: 0.08 pixels); or the video, or the folder of all its frames, that it is
    computed from.
    """

    name: str = "flow"
    method: str | None = None
    """Of :data:`METHODS`; None: it is not computed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method is not None:
            check_choice("method", self.method, METHODS)
            opencv()
            object.__setattr__(self, "libraries", (*self.libraries, *_opencv_names()))

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Options that change the result."""
        how = {"flow": "pictures"} if self.method is None else {"flow": self.method, "limit": LIMIT}
        return {**super().parameters, **how}

    def __call__(self, row: Row) -> Bytes:
        """Return the row's flow.

        Raises:
            MediaError: for files that can't be read, or x and y of different numbers or sizes.
        """
        if self.method is None:
            return self._of_pictures(*row.paths)
        pairs = self._pairs(row.paths[0])
        return to_bytes(np.stack([between(first, second, self.method) for first, second in pairs]))

    def _of_pictures(self, across: Path, down: Path) -> Bytes:
        files = picture_files(across), picture_files(down)
        if len(files[0]) != len(files[1]):
            raise MediaError("wrong-shape", f"{across} has {len(files[0])} pictures and {down} has {len(files[1])}")
        chosen = self.kept_of_folder(len(files[0]))
        both = [[read_image(file[i], self.short_side)[..., :1] for i in chosen] for file in files]
        x, y = np.split(stacked(both[0] + both[1], across), 2)
        return np.concatenate([x, y], axis=-1)

    def _pairs(self, path: Path) -> Bytes:
        if path.is_file():
            pairs = video.read_pairs(path, self.per_second, self.short_side)
            return pairs[self.kept(len(pairs))]
        files = picture_files(path)
        if len(files) < 2:
            raise MediaError("too-short", f"{path} has one frame; motion needs two")
        # A last frame stands second, as in a video.
        firsts = [min(i, len(files) - 2) for i in self.kept_of_folder(len(files))]
        grey = [
            np.asarray(Image.fromarray(read_image(files[i + j], self.short_side)).convert("L"))
            for i in firsts
            for j in (0, 1)
        ]
        return stacked(grey, path).reshape(len(firsts), 2, *grey[0].shape)


def _opencv_names() -> list[str]:
    """Return the distributions of OpenCV that are installed."""

    def installed(name: str) -> bool:
        try:
            version(name)
        except PackageNotFoundError:
            return False
        return True

    return [name for name in _OPENCV if installed(name)]
