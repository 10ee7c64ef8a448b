"""Files as libraries read them: whatever a library raises over a file becomes what is wrong with that file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dus_gym.errors import DusError, MediaError, first_line

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""What a file begins with that Git LFS has not fetched yet."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Read a file in this block: any error but our own becomes a MediaError that names the file.

    Libraries raise all kinds of errors over damaged files, ``SystemError`` and ``MemoryError`` among them; one such
    file must not end the build of a data set.

    Raises:
        MediaError: ``missing``, ``empty`` or ``undecodable``; of a Git LFS pointer it says so.
    """
    try:
        yield
    except DusError as error:
        if isinstance(error, MediaError) and error.kind in ("undecodable", "truncated"):
            refuse_pointer(path)
        raise
    except FileNotFoundError as error:
        raise MediaError("missing", f"{path} is not there") from error
    except Exception as error:
        if path.is_file() and path.stat().st_size == 0:
            raise MediaError("empty", f"{path} has no bytes") from error
        refuse_pointer(path)
        # Pillow has no error of its own for a file that ends too early.
        short = isinstance(error, EOFError) or "truncated" in str(error).replace(str(path), "")
        kind = "truncated" if short else "undecodable"
        raise MediaError(kind, f"{path} can't be decoded ({first_line(error)})") from error


def refuse_pointer(path: Path) -> None:
    """Raise MediaError ``undecodable`` if a file is a pointer of Git LFS in the place of the file itself."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise MediaError(
                "undecodable", f"{path} is a Git LFS pointer and not the file itself; run `git lfs pull` in its clone"
            )


def read_array(path: Path) -> npt.NDArray[Any]:
    """Return the array of an .npy file, mapped into memory; nothing is allocated for what its header claims.

    Raises:
        MediaError: for anything else; a pickle is never loaded.
    """
    with reading(path):
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise MediaError("undecodable", f"{path} holds no array of the .npy format")
        return found
