"""The shards of a finished store, read at any place by any thread."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dus_gym.data.store.files import check_length
from dus_gym.errors import StoreError

Bytes = npt.NDArray[np.uint8]


class Shards:
    """Open files that are read by offset, straight into the caller's memory.

    Beside a memory map that saves the faults of every page on its first touch, half of the time; and what was read
    never counts as memory of this process.

    Args:
        path: the store's folder.
        records: the manifest's shards.

    Raises:
        StoreError: unless every shard has the length it had.
    """

    def __init__(self, path: Path, records: Sequence[dict[str, Any]]) -> None:
        self._path = path
        self._names = [record["file"] for record in records]
        self._files: list[int] = []
        weakref.finalize(self, _close, self._files)
        for record in records:
            check_length(path, record)
            self._files.append(os.open(path / record["file"], os.O_RDONLY))

    def announce(self, shard: int, offset: int, length: int) -> None:
        """Tells the system what will be read; it begins at once and this returns at once."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._files[shard], offset, length, os.POSIX_FADV_WILLNEED)

    def read(self, shard: int, offset: int, memory: Bytes) -> None:
        """Fills ``memory`` with what lies at ``offset``.

        Raises:
            StoreError: if the shard ends before; it was cut off since it was opened.
        """
        left = memory.data
        while len(left):
            count = os.preadv(self._files[shard], [left], offset)
            if count == 0:
                raise StoreError(f"{self._path / self._names[shard]} was cut off while it was read; delete the store.")
            left, offset = left[count:], offset + count


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)
