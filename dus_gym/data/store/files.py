"""The files of a store, written so that none is ever half there, and checked when they are read.

<root>/<dataset>/<modality>-<first 16 digits of the key>/
    shard-00000.bin …   arrays in C order, one after another
    media.npy           where each distinct array lies: shard, offset, shape, and the content it was made from
    rows.npy            each sample's array (-1: none), and the digest of its files' names, sizes and times
    errors.jsonl        every file that could not be used
    manifest.json       recipe, key, and length and checksum of everything above
    DONE                the manifest's SHA-256; written last
    resume/             while building: one record per shard, and the recipe
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from dus_gym.data.store.decoder import Array
from dus_gym.data.store.key import FORMAT, canonical
from dus_gym.errors import StoreError
from dus_gym.json_text import read_json

MANIFEST, DONE, ROWS, MEDIA, ERRORS, RESUME, RECIPE = (
    "manifest.json",
    "DONE",
    "rows.npy",
    "media.npy",
    "errors.jsonl",
    "resume",
    "recipe.json",
)
PARTIAL = ".partial-"
"""Begins the name of a store's folder until it is finished."""
UNFINISHED = ".tmp"
MAX_RANK = 6
MEDIA_TYPE = np.dtype(
    [("shard", "<i8"), ("offset", "<i8"), ("rank", "<i8"), ("shape", "<i8", (MAX_RANK,)), ("content", "u1", (32,))]
)
Structured = npt.NDArray[np.void]
"""Records of :data:`MEDIA_TYPE` or :func:`rows_type`."""


def rows_type(longest: int) -> np.dtype[np.void]:
    """Return the type of one record per row, for sample ids of at most ``longest`` characters."""
    return np.dtype([("sample", f"<U{max(longest, 1)}"), ("source", "u1", (16,)), ("media", "<i8")])


def shard_name(number: int) -> str:
    """Return the file name of shard ``number``."""
    return f"shard-{number:05d}.bin"


def append(file: BinaryIO, data: memoryview | bytes) -> None:
    """Write bytes; every byte of a store is written here."""
    file.write(data)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class NewFile:
    """A file that takes its name only when it is whole and on the disk.

    Args:
        path: what it will be called.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.length = 0
        self.crc32 = 0
        self._beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{UNFINISHED}")
        self._file = self._beside.open("wb")

    def append(self, data: memoryview | bytes) -> int:
        """Write bytes; return the offset they lie at."""
        append(self._file, data)
        offset, self.length = self.length, self.length + len(data)
        self.crc32 = zlib.crc32(data, self.crc32)
        return offset

    def commit(self) -> None:
        """Make the file durable and give it its name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._beside, self.path)
        sync_folder(self.path.parent)

    def discard(self) -> None:
        """Leave nothing behind; do nothing to a committed file."""
        with contextlib.suppress(OSError):
            self._file.close()  # on a full disk this fails again
        with contextlib.suppress(OSError):
            self._beside.unlink(missing_ok=True)


def write(path: Path, data: bytes) -> None:
    """Write a small file, replaced whole."""
    file = NewFile(path)
    try:
        file.append(data)
        file.commit()
    finally:
        file.discard()


def npy(table: Array) -> bytes:
    """Return the bytes of an .npy file."""
    buffer = BytesIO()
    np.save(buffer, table, allow_pickle=False)
    return buffer.getvalue()


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk into an error that says what to do; what was written whole stays for the next try."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise StoreError(
            f"{folder} can't be written: {error.strerror}. Free some space, or give another cache= folder; finished "
            "shards are kept and the next try goes on from there."
        ) from error


@dataclass(frozen=True)
class Contents:
    """The small files of a finished store."""

    path: Path
    manifest: dict[str, Any]
    rows: Structured
    media: Structured
    bad: list[dict[str, str]]


def read_contents(path: Path) -> Contents:
    """Read everything but the shards.

    Raises:
        StoreError: unless ``DONE`` and the manifest agree, every small file has the checksum it had, and each is what
            this version writes. Tables of Python objects, which could run code, are refused.
    """
    try:
        done = (path / DONE).read_text(encoding="utf-8").strip()
        text = (path / MANIFEST).read_bytes()
        if hashlib.sha256(text).hexdigest() != done:
            raise StoreError(f"{path / MANIFEST} is not the one that {DONE} was written for; delete {path}.")
        manifest = read_json(text)
        if manifest["recipe"]["format"] != FORMAT:
            raise StoreError(f"{path} has format {manifest['recipe']['format']}; this version reads {FORMAT}.")
        small: dict[str, bytes] = {}
        for name, digest in manifest["files"].items():
            small[name] = (path / name).read_bytes()
            if hashlib.sha256(small[name]).hexdigest() != digest:
                raise StoreError(f"{path / name} is damaged (its SHA-256 differs); delete {path}.")
        rows, media = (np.load(BytesIO(small[name]), allow_pickle=False) for name in (ROWS, MEDIA))
        bad = [read_json(line) for line in small[ERRORS].decode().splitlines()]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{path} is no finished store: {Path(str(error.filename)).name} is missing.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged, or no store of this version ({error}); delete it.") from error
    return Contents(path, manifest, rows, media, bad)


def check_length(path: Path, record: dict[str, Any]) -> None:
    """Raise StoreError unless a shard is there and as long as the manifest says."""
    file = path / record["file"]
    try:
        found = file.stat().st_size
    except FileNotFoundError:
        found = -1
    if found != record["bytes"]:
        what = "is missing" if found < 0 else f"has {found} bytes instead of {record['bytes']}"
        raise StoreError(f"{file} {what}: the store is damaged or was copied in part; delete {path}.")


def has_checksum(file: Path, length: int, crc32: int) -> bool:
    """Return whether a shard is whole; reads it."""
    found, seen = 0, 0
    try:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                found = zlib.crc32(block, found)
                seen += len(block)
    except FileNotFoundError:
        return False
    return seen == length and found == crc32


def write_contents(
    path: Path, recipe: dict[str, Any], key: str, rows: Structured, media: Structured, bad: list[Any], shards: list[Any]
) -> None:
    """Write everything but the shards; ``DONE`` comes last."""
    small = {ROWS: npy(rows), MEDIA: npy(media), ERRORS: b"".join(canonical(entry) + b"\n" for entry in bad)}
    for name, data in small.items():
        write(path / name, data)
    manifest = {
        "recipe": recipe,
        "key": key,
        "rows": len(rows),
        "media": len(media),
        "bad": len(bad),
        "shards": shards,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in small.items()},
    }
    text = canonical(manifest) + b"\n"
    write(path / MANIFEST, text)
    write(path / DONE, hashlib.sha256(text).hexdigest().encode() + b"\n")
