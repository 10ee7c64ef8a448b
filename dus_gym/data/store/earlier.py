"""Arrays taken over from stores that were made with the same recipe, finished or given up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dus_gym.data.store.decoder import Array
from dus_gym.data.store.files import PARTIAL, RECIPE, RESUME, has_checksum, read_contents
from dus_gym.errors import StoreError


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one array lies, in a shard of that length and checksum."""

    file: Path
    length: int
    crc32: int
    offset: int
    shape: tuple[int, ...]


class Earlier:
    """Finds arrays by the content they were made from.

    So a changed file costs one decode and not a whole build, and a damaged shard costs itself alone. A build that was
    given up because of bad files is used as well: once these are mended its key is another, its arrays are the same.

    Args:
        folders: stores, damaged and unfinished ones among them; only shards whose checksum is right are used.
        recipe: what they must have been made with.
    """

    def __init__(self, folders: Sequence[Path], recipe: dict[str, Any]) -> None:
        self._places: dict[bytes, list[_Place]] = {}
        self._whole: dict[Path, bool] = {}
        self._dtype = np.dtype(recipe["dtype"])
        for folder in folders:
            places = _unfinished if folder.name.startswith(PARTIAL) else _finished
            try:
                for content, place in places(folder, recipe):
                    self._places.setdefault(content, []).append(place)
            except (StoreError, OSError, ValueError):
                continue

    def get(self, content: bytes) -> Array | None:
        """The array made from this content, if some store has it unharmed."""
        for place in self._places.get(content, ()):
            if place.file not in self._whole:
                self._whole[place.file] = has_checksum(place.file, place.length, place.crc32)
            if self._whole[place.file]:
                count = int(np.prod(place.shape, dtype=np.int64))
                try:
                    found: Array = np.fromfile(place.file, self._dtype, count, offset=place.offset)
                except FileNotFoundError:  # its builder has just finished it, under another name
                    continue
                return found.reshape(place.shape)
        return None


def is_of(folder: Path, recipe: dict[str, Any]) -> bool:
    """Whether an unfinished store was being made with this recipe."""
    try:
        found: Any = json.loads((folder / RESUME / RECIPE).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(found == recipe)


def _finished(folder: Path, recipe: dict[str, Any]) -> Iterator[tuple[bytes, _Place]]:
    contents = read_contents(folder)
    if contents.manifest["recipe"] != recipe:
        return
    for entry in contents.media:
        shard = contents.manifest["shards"][int(entry["shard"])]
        shape = tuple(entry["shape"][: int(entry["rank"])].tolist())
        yield entry["content"].tobytes(), _place(folder, shard, int(entry["offset"]), shape)


def _unfinished(folder: Path, recipe: dict[str, Any]) -> Iterator[tuple[bytes, _Place]]:
    if not is_of(folder, recipe):
        return
    for path in sorted((folder / RESUME).glob("[0-9]*.json")):
        record = json.loads(path.read_bytes())
        for entry in record["media"]:
            yield bytes.fromhex(entry["content"]), _place(folder, record["shard"], entry["offset"], entry["shape"])


def _place(folder: Path, shard: Mapping[str, Any], offset: int, shape: Sequence[int]) -> _Place:
    return _Place(folder / shard["file"], shard["bytes"], shard["crc32"], offset, tuple(shape))
