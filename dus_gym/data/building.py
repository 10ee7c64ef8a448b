"""All stores of a data set of media files, built before any run needs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dus_gym.data.media_source import CACHE, MediaOptions, MediaSource, Stream
from dus_gym.data.store import BadFile
from dus_gym.data.store.builder import Progress
from dus_gym.data.store.key import survey
from dus_gym.data.tasks import Task
from dus_gym.errors import check_choice


@dataclass(frozen=True)
class BuiltModality:
    """One modality's store."""

    name: str
    rows: int
    bad: tuple[BadFile, ...]
    """Every file that can't be used."""
    store: str | None
    """Its folder; None where bad files were known before anything was decoded, and are not to be skipped."""


def build_stores(
    task: Task,
    source: MediaSource,
    root: Path,
    on_error: str = "fail",
    workers: int = 0,
    progress_of: Callable[[str], Progress] | None = None,
) -> list[BuiltModality]:
    """Decodes all modalities of a task, and finds every bad file: one of them does not end the build.

    Args:
        task: configured, see :meth:`~dus_gym.data.tasks.Task.configured`.
        source: its source.
        root: the data root.
        on_error: ``"fail"``: where files are missing or empty, nothing is decoded. ``"skip"``: the others are.
        workers: processes that decode; 0: none but this one.
        progress_of: by modality, what is called with the rows done and all rows.

    Raises:
        DatasetNotFoundError: if the lists are not there.
        StoreError: if the disk is full, or would be.
    """
    check_choice("on_error", on_error, ("fail", "skip"))
    options = task.options
    assert isinstance(options, MediaOptions)
    root = source.root_of(task, root)
    streams = source.streams(task, options, root, source.records(options, root))
    missing = {stream.decoder.name: _missing(stream, root / CACHE) for stream in streams}
    if on_error == "fail" and any(missing.values()):
        return [BuiltModality(s.decoder.name, len(s.rows), missing[s.decoder.name], None) for s in streams]
    built = []
    for stream in streams:
        name = stream.decoder.name
        # What a bad file means is decided by who reads the store: here all are wanted, by name.
        progress = None if progress_of is None else progress_of(name)
        store = source.store(stream, options, root, on_error="skip", max_bad=1.0, workers=workers, progress=progress)
        built.append(BuiltModality(name, len(stream.rows), tuple(store.bad), str(store.path)))
    return built


def _missing(stream: Stream, cache: Path) -> tuple[BadFile, ...]:
    """What can be told without decoding."""
    return tuple(
        BadFile(found.row.sample, found.shown, stream.decoder.name, *found.problem)
        for found in survey(stream.rows, cache)
        if found.problem is not None
    )
