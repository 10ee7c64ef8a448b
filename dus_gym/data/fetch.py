"""Data sets that may be fetched: each file pinned to a commit and checked against a committed checksum."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dus_gym.data.archive import Files, open_files
from dus_gym.data.download import CHUNK, download
from dus_gym.data.manifest import Archive, Entry, Manifest
from dus_gym.data.registry import DATA_SETS
from dus_gym.errors import FetchError, unknown_name
from dus_gym.lock import FileLock

STAGING = ".dus-fetch"
"""Folder in the data root where files wait until all of them are there and right; removed at the end."""
CONNECTIONS = 8
"""Files fetched at the same time."""

Progress = Callable[[int, int, str], None]
"""Called with bytes done, bytes in all and the name of a file; from several threads, but never at once."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """The result of a call."""

    name: str
    root: Path
    new: tuple[str, ...]
    """Files that were put into the root, relative to it."""
    present: tuple[str, ...]
    """Files that were there before, as they should be."""


def manifest_of(name: str) -> Manifest:
    """Return the manifest of a data set.

    Raises:
        ConfigError: for a name without one; the message has the nearest.
    """
    manifest = DATA_SETS[name].source.manifest() if name in DATA_SETS else None
    if manifest is None:
        raise unknown_name(
            "data set to fetch", name, [word for word, known in DATA_SETS.items() if known.can_be_fetched]
        )
    return manifest


def fetch(name: str, root: str | Path, source: str | Path | None = None, progress: Progress | None = None) -> Fetched:
    """Put a data set's files into ``root``.

    Files appear there only when all of them have arrived and have the right checksum; until then they wait in a
    folder from which a later call goes on. A call for a data set that is there changes nothing.

    Args:
        name: a data set with a manifest.
        root: the data root; made if it is not there.
        source: a folder, zip or tar that holds the files, under any leading folders; nothing is downloaded then.
        progress: called while bytes arrive.

    Returns:
        Which files are new and which were there.

    Raises:
        ConfigError: for a name without a manifest.
        DatasetNotFoundError: if ``source`` is not there.
        FetchError: if a file can't be had, a checksum is wrong (naming file, expected and found), an archive is not
            safe, or another file has the name of one of the data set's. ``root`` then has none of the new files.
    """
    manifest = manifest_of(name)
    root = Path(root).expanduser()
    wanted = _missing(manifest, root)
    if wanted:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".dus-fetch-{name}.lock"):
            # Another process may have been faster.
            wanted = _missing(manifest, root)
            staging = root / STAGING / name
            staging.mkdir(parents=True, exist_ok=True)
            _stage(manifest, wanted, staging, None if source is None else Path(source).expanduser(), progress)
            _move(wanted, staging, root)
    new = {entry.path for entry in wanted}
    present = tuple(entry.path for entry in manifest.entries if entry.path not in new)
    return Fetched(name, root, tuple(entry.path for entry in wanted), present)


def _missing(manifest: Manifest, root: Path) -> list[Entry]:
    """Return the entries that are not in the root.

    Raises:
        FetchError: for a file of the same name and another content, which may be the user's own.
    """
    wanted = []
    for entry in manifest.entries:
        path = root / entry.path
        if not path.exists():
            wanted.append(entry)
        elif (found := _digest(path)) != entry.sha256:
            raise FetchError(
                f"{path} is there but is not the file of {manifest.name!r}: expected SHA-256 {entry.sha256}, found "
                f"{found}. Move it away, or give another root."
            )
    return wanted


def _stage(
    manifest: Manifest, wanted: list[Entry], staging: Path, source: Path | None, progress: Progress | None
) -> None:
    """Bring every wanted entry into the staging folder, under its checksum."""
    tally = _Tally(manifest.size - sum(entry.size for entry in wanted), manifest.size, progress)
    left = [entry for entry in wanted if not _staged(entry, staging)]
    tally.done += sum(entry.size for entry in wanted) - sum(entry.size for entry in left)
    if source is not None:
        with open_files(source) as files:
            missing = _take(left, files, staging, source, tally)
        if missing:
            raise FetchError(
                f"source={source} lacks {len(missing)} of the {len(manifest.entries)} files of {manifest.name!r}, "
                f"the first: {missing[0].remote!r}."
            )
        return
    if manifest.archive is not None and len(left) > CONNECTIONS:
        left = _take_archive(manifest.archive, left, staging, tally)
    _download_all(left, staging, tally)


class _Tally:
    """Bytes done, over all threads."""

    def __init__(self, done: int, total: int, progress: Progress | None) -> None:
        self.done, self.total, self.progress = done, total, progress
        self._lock = threading.Lock()

    def add(self, count: int, name: str) -> None:
        with self._lock:
            self.done += count
            if self.progress is not None:
                self.progress(self.done, self.total, name)


def _take(entries: Iterable[Entry], files: Files, staging: Path, named: Path, tally: _Tally) -> list[Entry]:
    """Copy entries out of a folder or archive; those it does not have are returned.

    Raises:
        FetchError: for a file of the right name and another content.
    """
    by_name: dict[str, list[str]] = {}
    for name in files.sizes:
        by_name.setdefault(name.rsplit("/", 1)[-1], []).append(name)
    missing = []
    for entry in entries:
        found, wrong = False, ""
        for name in _candidates(entry, by_name):
            if files.sizes[name] != entry.size:
                wrong = f"{named}, {name}: expected {entry.size} bytes, found {files.sizes[name]}."
                continue
            with files.open(name) as member:
                digest = _copy(member, staging / f"{entry.sha256}.part", entry.size)
            if digest == entry.sha256:
                os.replace(staging / f"{entry.sha256}.part", staging / entry.sha256)
                tally.add(entry.size, entry.path)
                found = True
                break
            (staging / f"{entry.sha256}.part").unlink()
            wrong = f"{named}, {name}: expected SHA-256 {entry.sha256}, found {digest}."
        if wrong and not found:
            raise FetchError(f"{wrong} It is not the file of this data set, or was damaged.")
        if not found:
            missing.append(entry)
    return missing


def _candidates(entry: Entry, by_name: dict[str, list[str]]) -> Iterator[str]:
    """Yield files that are called as the entry, here or where it comes from, under any leading folders."""
    for path in dict.fromkeys((entry.path, entry.remote)):
        for name in by_name.get(path.rsplit("/", 1)[-1], []):
            if name == path or name.endswith("/" + path):
                yield name


def _take_archive(archive: Archive, entries: list[Entry], staging: Path, tally: _Tally) -> list[Entry]:
    """Take entries from the archive that the host makes, in one request; what is left is returned."""
    path = staging / "archive.part"
    # The host packs it anew for each request: what an earlier call left is no beginning of it.
    path.unlink(missing_ok=True)
    try:
        start = tally.done
        download(archive.url, path, archive.most, exact=False, got=lambda n: tally.add(0, f"archive, {n >> 20} MiB"))
        with open_files(path) as files:
            return _take(entries, files, staging, Path(archive.url), tally)
    except FetchError as error:
        tally.done = start
        _log.warning("%s Going on file by file.", error)
        return [entry for entry in entries if not _staged(entry, staging)]
    finally:
        path.unlink(missing_ok=True)


def _download_all(entries: list[Entry], staging: Path, tally: _Tally) -> None:
    """Fetch entries one by one, several at a time; the first error ends it."""

    def one(entry: Entry) -> None:
        part = staging / f"{entry.sha256}.part"
        counted = 0

        def got(size: int) -> None:
            nonlocal counted
            tally.add(size - counted, entry.path)
            counted = size

        download(entry.url, part, entry.size, got=got)
        found = _digest(part)
        if found != entry.sha256:
            part.unlink()
            raise FetchError(
                f"{entry.path} from {entry.url}: expected SHA-256 {entry.sha256}, found {found}. It was not kept."
            )
        os.replace(part, staging / entry.sha256)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        futures = [pool.submit(one, entry) for entry in entries]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _move(entries: list[Entry], staging: Path, root: Path) -> None:
    """Move staged files to their names and remove what is no longer needed."""
    for entry in entries:
        target = root / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staging / entry.sha256, target)
    shutil.rmtree(staging)
    if not any(staging.parent.iterdir()):
        staging.parent.rmdir()


def _staged(entry: Entry, staging: Path) -> bool:
    path = staging / entry.sha256
    return path.is_file() and _digest(path) == entry.sha256


def _copy(member: IO[bytes], path: Path, size: int) -> str:
    """Copy at most ``size`` bytes, whatever the archive's table says, and return their SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        left = size
        while left and (chunk := member.read(min(CHUNK, left))):
            file.write(chunk)
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
