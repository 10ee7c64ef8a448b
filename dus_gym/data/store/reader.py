"""Reading a finished store: any sample at the cost of copying it."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from dus_gym.data.store.decoder import Array
from dus_gym.data.store.files import check_length, has_checksum, read_contents
from dus_gym.errors import ConfigError, StoreError

Bytes = npt.NDArray[np.uint8]
Allocate = Callable[[int], Bytes]
_READ_AHEAD = 1 << 20
"""From this many bytes on, the system is told what will be read, so that a cold disk gets all requests at once."""


@dataclass(frozen=True, slots=True)
class BadFile:
    """One row whose media could not be used."""

    sample: str
    path: str
    """Relative to the cache root."""
    modality: str
    kind: str
    """One of :data:`~dus_gym.errors.MEDIA_PROBLEMS`."""
    message: str


class Ragged(list[Array]):
    """Arrays of differing shapes that lie one after another in one memory, so that one copy takes all to a device."""

    def __init__(self, arrays: Iterable[Array], memory: Bytes) -> None:
        super().__init__(arrays)
        self.memory = memory


def new_bytes(size: int) -> Bytes:
    """Return memory for so many bytes."""
    return np.empty(size, np.uint8)


class Shards:
    """The shards of a finished store, read by offset from any thread, straight into the caller's memory.

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
        """Tell the system what will be read; it begins at once and this returns at once."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._files[shard], offset, length, os.POSIX_FADV_WILLNEED)

    def read(self, shard: int, offset: int, memory: Bytes) -> None:
        """Fill ``memory`` with the bytes at ``offset``.

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


class Store:
    """One modality of a data set in one preset, decoded.

    Rows are numbered in the order of their samples' ids. Reading is safe from several threads.

    Args:
        path: a store's folder.

    Raises:
        StoreError: unless the store is finished, its manifest is the one it was finished with, and every shard has
            the length it had.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        contents = read_contents(path)
        self.manifest = contents.manifest
        recipe: dict[str, Any] = self.manifest["recipe"]
        self.modality: str = recipe["decoder"]
        self.dtype = np.dtype(recipe["dtype"])
        self.fixed_shape: tuple[int, ...] | None = (
            None if recipe["fixed_shape"] is None else tuple(recipe["fixed_shape"])
        )
        self.samples: list[str] = contents.rows["sample"].tolist()
        self.bad = [BadFile(**entry) for entry in contents.bad]
        self.substitutes = False
        self._sources: npt.NDArray[np.uint8] = contents.rows["source"]
        self._media_of: npt.NDArray[np.int64] = contents.rows["media"].copy()
        self._content: npt.NDArray[np.uint8] = contents.media["content"]
        media = contents.media
        self._shard_of, self._offset_of = media["shard"].copy(), media["offset"].copy()
        self._shape_of: list[tuple[int, ...]] = [
            tuple(shape[:rank]) for shape, rank in zip(media["shape"].tolist(), media["rank"].tolist(), strict=True)
        ]
        self._number_of = {sample: number for number, sample in enumerate(self.samples)}
        self._blank: tuple[int, ...] | None = self.fixed_shape
        self._shards = Shards(path, self.manifest["shards"])

    def __len__(self) -> int:
        return len(self.samples)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # nobody changes it

    def __reduce__(self) -> Any:
        return _again, (self.path, self.substitutes, self._blank)

    def rows_of(self, samples: Iterable[str]) -> npt.NDArray[np.int64]:
        """Return row numbers of samples.

        Raises:
            ConfigError: for a sample that is not in the store.
        """
        try:
            return np.fromiter((self._number_of[sample] for sample in samples), np.int64)
        except KeyError as error:
            raise ConfigError(f"sample {error.args[0]!r} is not in the store {self.path}.") from error

    def usable(self, rows: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return which rows can be gathered: those with media, or all of them when bad ones are substituted."""
        numbers = np.asarray(rows, np.int64)
        return np.ones(numbers.shape, np.bool_) if self.substitutes else self._media_of[numbers] >= 0

    def substituting(self, samples: Iterable[str]) -> Self:
        """Return the store with zeros for bad rows, of the fixed shape or of the first good one among ``samples``."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.substitutes = True
        if self.fixed_shape is None:
            good = (number for number in self._media_of[self.rows_of(sorted(samples))].tolist() if number >= 0)
            other._blank = next((self._shape_of[number] for number in good), None)
        return other

    def shape_of(self, row: int) -> tuple[int, ...]:
        """Return the shape of one row's array."""
        number = int(self._media_of[row])
        shape = self._shape_of[number] if number >= 0 else self._blank
        if shape is None or (number < 0 and not self.substitutes):
            raise StoreError(f"sample {self.samples[row]!r} has no usable media in {self.path}; see its errors.jsonl.")
        return shape

    def gather(
        self,
        which: Sequence[str] | npt.ArrayLike,
        allocate: Allocate = new_bytes,
        parts: npt.NDArray[np.int64] | None = None,
    ) -> Array | Ragged:
        """Return copies of rows, in the order asked for.

        Args:
            which: samples' ids or row numbers, shape ``(k,)``.
            allocate: gives memory for that many bytes; pinned memory speeds up the way to an accelerator.
            parts: shape ``(k, t)``; of row i only these along its first axis are read, such as some frames of a clip.

        Returns:
            An array ``(k, *fixed_shape)``, or for a ragged store a :class:`Ragged` list of k arrays. With ``parts``
            the first axis of each has length t.

        Raises:
            StoreError: for a row whose media is bad, unless the store substitutes.
        """
        named = isinstance(which, list | tuple) and len(which) > 0 and isinstance(which[0], str)
        rows = self.rows_of(which) if named else np.asarray(which, np.int64)  # type: ignore[arg-type]
        shapes = [self.shape_of(row) for row in rows.tolist()]
        if parts is not None:
            shapes = [(parts.shape[1], *shape[1:]) for shape in shapes]
        sizes = [math.prod(shape) * self.dtype.itemsize for shape in shapes]
        ends = list(accumulate(sizes, initial=0))
        memory = allocate(ends[-1])
        media = self._media_of[rows]
        if parts is None:
            self._copy(media, np.zeros_like(media), ends, memory)
        else:
            each = [size // parts.shape[1] for size in sizes]
            starts = [first + i * step for first, step in zip(ends, each, strict=False) for i in range(parts.shape[1])]
            offsets = (parts * np.asarray(each)[:, None]).reshape(-1)
            self._copy(np.repeat(media, parts.shape[1]), offsets, [*starts, ends[-1]], memory)
        if self.fixed_shape is not None:
            tail = self.fixed_shape if parts is None else (parts.shape[1], *self.fixed_shape[1:])
            whole: Array = memory.view(self.dtype).reshape(len(rows), *tail)
            return whole
        places = zip(pairwise(ends), shapes, strict=True)
        return Ragged((memory[first:end].view(self.dtype).reshape(shape) for (first, end), shape in places), memory)

    def verify(self) -> None:
        """Read every shard.

        Raises:
            StoreError: naming the shards whose checksum is not what it was when they were written.
        """
        wrong = [
            record["file"]
            for record in self.manifest["shards"]
            if not has_checksum(self.path / record["file"], record["bytes"], record["crc32"])
        ]
        if wrong:
            raise StoreError(f"{self.path}: {', '.join(wrong)} changed since they were written (CRC32 differs).")

    def digest_of(self, sample: str) -> bytes | None:
        """Return the digest of a sample's file names, sizes and times when it was decoded; None if it is not here."""
        number = self._number_of.get(sample)
        return None if number is None else self._sources[number].tobytes()

    def content_of(self, sample: str) -> bytes | None:
        """Return the SHA-256 of what a sample was decoded from; None if it could not be."""
        number = int(self._media_of[self._number_of[sample]])
        return None if number < 0 else self._content[number].tobytes()

    def _copy(
        self, media: npt.NDArray[np.int64], skip: npt.NDArray[np.int64], ends: Sequence[int], memory: Bytes
    ) -> None:
        """Fill ``memory[ends[i]:ends[i + 1]]`` from array ``media[i]``, ``skip[i]`` bytes in; zeros where there is
        none.
        """
        todo: list[tuple[int, int, int, int]] = []  # shard, offset in it, from and to in memory
        for i in np.argsort(media, kind="stable").tolist():  # as they lie on the disk
            if media[i] < 0:
                memory[ends[i] : ends[i + 1]] = 0
            else:
                number = media[i]
                offset = int(self._offset_of[number] + skip[i])
                todo.append((int(self._shard_of[number]), offset, ends[i], ends[i + 1]))
        if len(memory) >= _READ_AHEAD:
            for shard, offset, first, end in todo:
                self._shards.announce(shard, offset, end - first)
        for shard, offset, first, end in todo:
            self._shards.read(shard, offset, memory[first:end])


def _again(path: Path, substitutes: bool, blank: tuple[int, ...] | None) -> Store:
    store = Store(path)
    store.substitutes, store._blank = substitutes, blank
    return store
