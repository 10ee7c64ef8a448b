"""Building: rows are decoded into shards, so that a crash at any moment costs at most the shard being written.

Arrays that an earlier store of the same recipe has are taken over from it.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dus_gym.data.store import files
from dus_gym.data.store.decoder import Array, Decoder, Problem, Row, attempt, estimate_bytes
from dus_gym.data.store.key import SurveyedRow, canonical, content_of
from dus_gym.errors import ConfigError, StoreError

SHARD_ROWS = 1024
SHARD_BYTES = 512 << 20
"""A shard ends at whichever comes first."""
SPARE_DISK = 10
"""Free disk needed beyond what the store is estimated to take: one part in so many."""
FEW_ROWS = 64

Progress = Callable[[int, int], None]
"""Called with the rows done and all rows."""
_log = logging.getLogger(__name__)


class TooManyBadError(Exception):
    """The build was given up because of bad files; carries their records."""

    def __init__(self, bad: list[dict[str, str]], done: int) -> None:
        super().__init__(bad, done)
        self.bad = bad
        self.done = done


@dataclass(frozen=True)
class Plan:
    """A store to build, and its place."""

    final: Path
    recipe: dict[str, Any]
    key: str
    sources: Sequence[SurveyedRow]
    decoder: Decoder
    most_bad: int
    """More bad files than this end the build."""
    workers: int = 0
    """Processes or threads that decode; 0: none, this thread decodes."""
    pool: str = "process"
    progress: Progress | None = None

    @property
    def folder(self) -> Path:
        """The folder in which the shards grow until the store is finished."""
        return self.final.with_name(files.PARTIAL + self.final.name)


_decoder_of_worker: list[Decoder] = []


def _start_worker(decoder: Decoder) -> None:
    _decoder_of_worker[:] = [decoder]


def _attempt_in_worker(row: Row) -> Array | Problem:
    return attempt(_decoder_of_worker[0], row)


@contextmanager
def _submitting(plan: Plan) -> Iterator[Callable[[Row], Callable[[], Array | Problem]]]:
    """Yield a call that starts decoding a row and returns a call that waits for the result."""
    if plan.workers == 0:
        yield lambda row: lambda: attempt(plan.decoder, row)
        return
    executor: Executor
    if plan.pool == "thread":
        executor = ThreadPoolExecutor(plan.workers, "decode")
    else:
        # Not fork: this process may have threads, whose locks a forked child would inherit locked.
        context = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(plan.workers, context, _start_worker, (plan.decoder,))
    try:
        if plan.pool == "thread":
            yield lambda row: executor.submit(attempt, plan.decoder, row).result
        else:
            yield lambda row: executor.submit(_attempt_in_worker, row).result
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


# -- arrays of earlier stores -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stored:
    """One array in a shard of that length and checksum."""

    file: Path
    length: int
    crc32: int
    offset: int
    shape: tuple[int, ...]


class Earlier:
    """Arrays of earlier stores, finished or given up, by the content they were made from.

    So a changed file costs one decode and not a whole build, and a damaged shard costs itself alone. A build that was
    given up because of bad files is used as well: once these are mended its key is another, its arrays are the same.

    Args:
        folders: stores, damaged and unfinished ones among them; only shards whose checksum is right are used.
        recipe: what they must have been made with.
    """

    def __init__(self, folders: Sequence[Path], recipe: dict[str, Any]) -> None:
        self._arrays: dict[bytes, list[_Stored]] = {}
        self._whole: dict[Path, bool] = {}
        self._dtype = np.dtype(recipe["dtype"])
        for folder in folders:
            arrays = _unfinished if folder.name.startswith(files.PARTIAL) else _finished
            try:
                for content, array in arrays(folder, recipe):
                    self._arrays.setdefault(content, []).append(array)
            except (StoreError, OSError, ValueError):
                continue

    def get(self, content: bytes) -> Array | None:
        """Return the array made from this content, if some store has it unharmed."""
        for stored in self._arrays.get(content, ()):
            if stored.file not in self._whole:
                self._whole[stored.file] = files.has_checksum(stored.file, stored.length, stored.crc32)
            if self._whole[stored.file]:
                count = int(np.prod(stored.shape, dtype=np.int64))
                try:
                    found: Array = np.fromfile(stored.file, self._dtype, count, offset=stored.offset)
                except FileNotFoundError:  # its builder has just finished it, under another name
                    continue
                return found.reshape(stored.shape)
        return None


def is_of(folder: Path, recipe: dict[str, Any]) -> bool:
    """Return whether an unfinished store was being made with this recipe."""
    try:
        found: Any = json.loads((folder / files.RESUME / files.RECIPE).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(found == recipe)


def _finished(folder: Path, recipe: dict[str, Any]) -> Iterator[tuple[bytes, _Stored]]:
    contents = files.read_contents(folder)
    if contents.manifest["recipe"] != recipe:
        return
    for entry in contents.media:
        shard = contents.manifest["shards"][int(entry["shard"])]
        shape = tuple(entry["shape"][: int(entry["rank"])].tolist())
        yield entry["content"].tobytes(), _stored(folder, shard, int(entry["offset"]), shape)


def _unfinished(folder: Path, recipe: dict[str, Any]) -> Iterator[tuple[bytes, _Stored]]:
    if not is_of(folder, recipe):
        return
    for path in sorted((folder / files.RESUME).glob("[0-9]*.json")):
        record = json.loads(path.read_bytes())
        for entry in record["media"]:
            yield bytes.fromhex(entry["content"]), _stored(folder, record["shard"], entry["offset"], entry["shape"])


def _stored(folder: Path, shard: Mapping[str, Any], offset: int, shape: Sequence[int]) -> _Stored:
    return _Stored(folder / shard["file"], shard["bytes"], shard["crc32"], offset, tuple(shape))


# -- one build --------------------------------------------------------------------------------------


@dataclass
class _Shard:
    """The record of one shard."""

    first: int
    media: list[dict[str, Any]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    """Each row's array by its number in the whole store, or -1."""
    bad: list[dict[str, str]] = field(default_factory=list)


class Builder:
    """Builds one store. The caller holds its lock.

    Args:
        plan: the store to build.
        earlier: arrays that need no decoding.
        still_ours: raises if the lock was lost; called before anything is made final.
    """

    def __init__(self, plan: Plan, earlier: Earlier, still_ours: Callable[[], None]) -> None:
        self.plan = plan
        self.earlier = earlier
        self.still_ours = still_ours
        self.shards: list[dict[str, Any]] = []
        self.media: list[dict[str, Any]] = []
        self.rows: list[int] = []
        self.bad: list[dict[str, str]] = []
        self.failed: dict[bytes, Problem] = {}
        self.numbers: dict[bytes, int] = {}
        self._records = 0
        self._shard = _Shard(0)
        self._file: files.NewFile | None = None

    def build(self) -> None:
        """Go on where an earlier build of the same store stopped, and finish it.

        Raises:
            TooManyBadError: for more bad files than allowed.
            StoreError: if the disk is full, or would be.
        """
        plan = self.plan
        with files.disk_errors(plan.folder):
            (plan.folder / files.RESUME).mkdir(parents=True, exist_ok=True)
            files.write(plan.folder / files.RESUME / files.RECIPE, canonical(plan.recipe))
            self._resume()
            self._check_bad()
            self._check_disk()
            total, done = len(plan.sources), len(self.rows)
            _log.info("%s: decoding %d of %d rows", plan.final, total - done, total)
            if plan.progress is not None:
                plan.progress(done, total)
            try:
                self._decode(done)
                self._finish()
            finally:
                if self._file is not None:
                    self._file.discard()

    # -- going on ----------------------------------------------------------------------------------

    def _resume(self) -> None:
        """Take over the shards that are whole, in order, and remove everything else."""
        folder = self.plan.folder
        while (record := self._record(self._records)) is not None:
            self._take(record)
        known = {shard["file"] for shard in self.shards}
        records = {files.RECIPE, *(f"{number:05d}.json" for number in range(self._records))}
        for place, kept in ((folder, known | {files.RESUME}), (folder / files.RESUME, records)):
            for path in place.iterdir():
                if path.name not in kept:
                    path.unlink()

    def _record(self, number: int) -> dict[str, Any] | None:
        path = self.plan.folder / files.RESUME / f"{number:05d}.json"
        try:
            record: dict[str, Any] = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        shard = record["shard"]
        if shard is None or files.has_checksum(self.plan.folder / shard["file"], shard["bytes"], shard["crc32"]):
            return record
        return None

    def _take(self, record: dict[str, Any]) -> None:
        for entry in record["media"]:
            self.numbers[bytes.fromhex(entry["content"])] = len(self.media)
            self.media.append(entry)
        self.rows += record["rows"]
        self.bad += record["bad"]
        if record["shard"] is not None:
            self.shards.append(record["shard"])
        self._records += 1
        self._shard = _Shard(len(self.rows))

    def _check_bad(self) -> None:
        if len(self.bad) + len(self._shard.bad) > self.plan.most_bad:
            raise TooManyBadError([*self.bad, *self._shard.bad], len(self.rows) + len(self._shard.rows))

    def _check_disk(self) -> None:
        left = self.plan.sources[len(self.rows) :]
        if self.plan.decoder.fixed_shape is None and len(left) < FEW_ROWS:
            return  # looking first would mean decoding most of them twice
        needed = estimate_bytes(self.plan.decoder, [s.row for s in left if s.problem is None])
        needed += needed // SPARE_DISK
        free = shutil.disk_usage(self.plan.folder).free
        if needed > free:
            raise StoreError(
                f"{self.plan.final} needs about {needed / 2**30:.2f} GiB and {free / 2**30:.2f} GiB are free; free "
                "some space, or give another cache= folder."
            )

    # -- decoding ----------------------------------------------------------------------------------

    def _decode(self, start: int) -> None:
        plan = self.plan
        window = 2 * plan.workers
        with _submitting(plan) as submit:
            waiting: deque[tuple[SurveyedRow, bytes | None, Callable[[], Array | Problem | None]]] = deque()
            under_way: set[bytes] = set()
            for source in plan.sources[start:]:
                content, result = self._begin(source, under_way, submit)
                waiting.append((source, content, result))
                if len(waiting) > window:
                    self._add(*waiting.popleft(), under_way)
            while waiting:
                self._add(*waiting.popleft(), under_way)
        if self._shard.rows:
            self._commit()

    def _begin(
        self, source: SurveyedRow, under_way: set[bytes], submit: Callable[[Row], Callable[[], Array | Problem]]
    ) -> tuple[bytes | None, Callable[[], Array | Problem | None]]:
        """Start on a row; return its content's digest, and a call for its array (None: the array is there already)."""
        problem = source.problem
        try:
            content = None if problem is not None else content_of(source)
        except OSError as error:
            problem, content = ("undecodable", f"{error.filename} can't be read ({error.strerror})"), None
        if content is None:
            return None, lambda: problem
        if content in self.numbers or content in self.failed or content in under_way:
            return content, lambda: None
        under_way.add(content)
        found = self.earlier.get(content)
        return content, submit(source.row) if found is None else lambda: found

    def _add(
        self,
        source: SurveyedRow,
        content: bytes | None,
        result: Callable[[], Array | Problem | None],
        under_way: set[bytes],
    ) -> None:
        """Add the next row of the store, in order."""
        shard = self._shard
        found = result()
        if content is not None:
            under_way.discard(content)
            if isinstance(found, np.ndarray):
                self._append(content, found)
            elif found is not None:
                self.failed[content] = found
            found = self.failed.get(content)
        if isinstance(found, tuple):
            kind, message = found
            shard.bad.append(
                {
                    "sample": source.row.sample,
                    "path": source.shown,
                    "modality": self.plan.decoder.name,
                    "kind": kind,
                    "message": message,
                }
            )
        shard.rows.append(-1 if content is None else self.numbers.get(content, -1))
        self._check_bad()
        done = len(self.rows) + len(shard.rows)
        if len(shard.rows) >= SHARD_ROWS or (self._file is not None and self._file.length >= SHARD_BYTES):
            self._commit()
        if self.plan.progress is not None:
            self.plan.progress(done, len(self.plan.sources))

    def _append(self, content: bytes, array: Array) -> None:
        if array.ndim > files.MAX_RANK:
            raise ConfigError(f"decoder {self.plan.decoder.name!r} returned {array.ndim} axes; at most 6 are stored.")
        if self._file is None:
            self._file = files.NewFile(self.plan.folder / files.shard_name(len(self.shards)))
        offset = self._file.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        self.numbers[content] = len(self.media) + len(self._shard.media)
        entry = {"shard": len(self.shards), "offset": offset, "shape": list(array.shape), "content": content.hex()}
        self._shard.media.append(entry)

    def _commit(self) -> None:
        """Make the shard final: first its bytes, then the record that says so."""
        self.still_ours()
        shard, file = self._shard, self._file
        record: dict[str, Any] = {"media": shard.media, "rows": shard.rows, "bad": shard.bad, "shard": None}
        if file is not None:
            file.commit()
            record["shard"] = {"file": file.path.name, "bytes": file.length, "crc32": file.crc32}
            self._file = None
        files.write(self.plan.folder / files.RESUME / f"{self._records:05d}.json", canonical(record))
        self.media += shard.media
        self.rows += shard.rows
        self.bad += shard.bad
        if record["shard"] is not None:
            self.shards.append(record["shard"])
        self._records += 1
        self._shard = _Shard(len(self.rows))

    # -- the end -----------------------------------------------------------------------------------

    def _finish(self) -> None:
        plan = self.plan
        samples = [source.row.sample for source in plan.sources]
        rows = np.zeros(len(samples), files.rows_type(max((len(sample) for sample in samples), default=1)))
        rows["sample"] = samples
        rows["source"] = np.frombuffer(b"".join(s.digest for s in plan.sources), np.uint8).reshape(-1, 16)
        rows["media"] = self.rows
        media = np.zeros(len(self.media), files.MEDIA_TYPE)
        for place, entry in zip(media, self.media, strict=True):
            place["shard"], place["offset"], place["rank"] = entry["shard"], entry["offset"], len(entry["shape"])
            place["shape"][: len(entry["shape"])] = entry["shape"]
            place["content"] = np.frombuffer(bytes.fromhex(entry["content"]), np.uint8)
        self.still_ours()
        files.write_contents(plan.folder, plan.recipe, plan.key, rows, media, self.bad, self.shards)
        files.sync_folder(plan.folder)
        aside = plan.final.with_name(f".damaged-{plan.final.name}")
        shutil.rmtree(aside, ignore_errors=True)
        if plan.final.exists():  # damaged, or of files whose content changed unseen: this one replaces it
            os.rename(plan.final, aside)
        os.rename(plan.folder, plan.final)
        files.sync_folder(plan.final.parent)
        # Last, so that a crash before this line costs nothing.
        shutil.rmtree(plan.final / files.RESUME, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)
