"""What a store is built from: rows that name media, and a decoder that turns each into an array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dus_gym.errors import MediaError

Array = npt.NDArray[Any]
Problem = tuple[str, str]
"""Kind, one of :data:`~dus_gym.errors.MEDIA_PROBLEMS`, and message."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sample's media of one modality."""

    sample: str
    """Unique within the data set; the same in every modality."""
    paths: tuple[Path, ...]
    """Files, or folders whose files belong to the sample; empty if ``payload`` is all there is."""
    payload: str = ""
    """What else decides the result: the text itself, or a window of the file such as ``100:180``."""


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
        """The row's media.

        Raises:
            MediaError: for media that can't be used.
        """
        ...


def checked(array: object, decoder: Decoder) -> Problem | None:
    """What is wrong with a decoded array as (kind, message), or None.

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
    """One row's array, or what is wrong with its media.

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
