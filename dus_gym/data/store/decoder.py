"""Decoding: rows that name media, a decoder that turns each into an array, and an estimate of what that takes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dus_gym.errors import MediaError

Array = npt.NDArray[Any]
Problem = tuple[str, str]
"""Kind, one of :data:`~dus_gym.errors.MEDIA_PROBLEMS`, and message."""
PROBES = 8
"""Rows that an estimate decodes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sample's media of one modality."""

    sample: str
    """Unique within the data set; the same in every modality."""
    paths: tuple[Path, ...]
    """Files, or folders whose files belong to the sample; empty if ``payload`` is all there is."""
    payload: str = ""
    """All else that decides the result: the text itself, or a window of the file such as ``100:180``."""


class Decoder(Protocol):
    """One modality in one preset. Deterministic; what changes its result stands in its attributes."""

    @property
    def name(self) -> str:
        """The modality; part of the folder's name."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Everything that changes the result, as JSON values."""
        ...

    @property
    def libraries(self) -> tuple[str, ...]:
        """Installed distributions whose version changes the result, such as ``Pillow``."""
        ...

    @property
    def fixed_shape(self) -> tuple[int, ...] | None:
        """The shape of every array; None where it differs from row to row (ragged)."""
        ...

    @property
    def dtype(self) -> str:
        """NumPy's name of the arrays' type, such as ``uint8`` or ``float16``."""
        ...

    def __call__(self, row: Row) -> Array:
        """Return the row's media as an array.

        Raises:
            MediaError: for media that can't be used.
        """
        ...


def checked(array: object, decoder: Decoder) -> Problem | None:
    """Return the problem of a decoded array as (kind, message), or None.

    Raises:
        TypeError: for what no file can be blamed for: no array, or one of another type.
    """
    if not isinstance(array, np.ndarray) or array.dtype != np.dtype(decoder.dtype):
        found = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"decoder {decoder.name!r} returned {found}; it declares an array of {decoder.dtype}.")
    if decoder.fixed_shape is not None and array.shape != tuple(decoder.fixed_shape):
        return "wrong-shape", f"decodes to shape {array.shape}, not {tuple(decoder.fixed_shape)}"
    if array.size == 0:
        return "empty", f"decodes to nothing (shape {array.shape})"
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return "not-finite", "decodes to values that are NaN, infinite or too large for " + decoder.dtype
    return None


def attempt(decoder: Decoder, row: Row) -> Array | Problem:
    """Return one row's array, or the problem of its media.

    Raises:
        Exception: whatever the decoder raises that no file is to blame for, with the row named in a note.
    """
    try:
        array = decoder(row)
        return checked(array, decoder) or array
    except MediaError as error:
        return error.kind, error.message
    except FileNotFoundError as error:
        return "missing", str(error)
    except PermissionError as error:
        return "undecodable", str(error)
    except Exception as error:
        error.add_note(f"while decoding sample {row.sample!r} ({', '.join(map(str, row.paths)) or 'no file'})")
        raise


@dataclass(frozen=True)
class Estimate:
    """Cost of decoding some rows."""

    bytes: int
    """On disk."""
    seconds: float
    """In one process."""
    probes: int
    """Rows that were decoded for it."""
    problems: tuple[tuple[Row, Problem], ...]
    """Those of them that can't be decoded."""


def estimate(decoder: Decoder, rows: Sequence[Row], probes: int = PROBES) -> Estimate:
    """Return size and time of a store, from decoding a few rows spread over all; writes nothing.

    Rows of the same files and payload count once. Where every probe is bad, only a fixed shape gives a size.
    """
    distinct = _distinct(rows)
    count = len(distinct)
    places = sorted({round(k * (count - 1) / max(probes - 1, 1)) for k in range(min(probes, count))})
    started = time.perf_counter()
    results = [(distinct[i], attempt(decoder, distinct[i])) for i in places]
    sizes = [found.nbytes for _, found in results if isinstance(found, np.ndarray)]
    problems = tuple((row, found) for row, found in results if not isinstance(found, np.ndarray))
    seconds = (time.perf_counter() - started) / max(len(places), 1)
    each = sum(sizes) / max(len(sizes), 1)
    if decoder.fixed_shape is not None:
        each = math.prod(decoder.fixed_shape) * np.dtype(decoder.dtype).itemsize
    return Estimate(math.ceil(each * count), seconds * count, len(places), problems)


def estimate_bytes(decoder: Decoder, rows: Sequence[Row], probes: int = PROBES) -> int:
    """Return the size part of :func:`estimate`; with a fixed shape nothing is decoded for it."""
    return estimate(decoder, rows, 0 if decoder.fixed_shape is not None else probes).bytes


def _distinct(rows: Sequence[Row]) -> list[Row]:
    return list({(row.paths, row.payload): row for row in rows}.values())
