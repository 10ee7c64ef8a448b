"""Scan of a data set for what can be decoded: files, samples of each split and class, size and time of decoding.

Every file is looked at, and a few of each modality are decoded. Writes nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dus_gym.data.manifest import Manifest
from dus_gym.data.media.reading import refuse_pointer
from dus_gym.data.media_source import CACHE, FolderSettings, MediaOptions, MediaSource, Stream
from dus_gym.data.record import SPLITS
from dus_gym.data.registry import DataSet
from dus_gym.data.store import estimate
from dus_gym.data.store.key import SurveyedRow, survey
from dus_gym.data.task import Task
from dus_gym.errors import AnnotationError, ConfigError, DatasetNotFoundError, MediaError, PretrainedNotFoundError
from dus_gym.seeding import RunSeeds

SHOWN = 20
"""Bad files that are named; the others are counted."""
MOST_OF_POINTER = 1024
"""Bytes that a pointer of Git LFS stays below."""


@dataclass(frozen=True)
class Part:
    """One modality's media, or the files of a data set that is fetched."""

    name: str
    files: int
    """Samples that have media of this kind, or files."""
    bad: Mapping[str, int]
    """What is wrong, and with how many."""
    first: tuple[str, ...]
    """The first bad paths, each with what is wrong."""
    cache_bytes: int = 0
    """What its decoded form takes on disk."""
    seconds: float = 0.0
    """Of decoding it in one process, from a few samples."""
    probes: int = 0
    """Samples that were decoded to see whether they can be."""


@dataclass(frozen=True)
class Scan:
    """Outcome of a scan."""

    name: str
    env: str
    root: str
    data_kind: str
    published: Mapping[str, int]
    """Samples of each split in the published lists."""
    counts: Mapping[str, Mapping[str, int]]
    """Samples found, by split and class."""
    parts: tuple[Part, ...] = ()
    problem: str | None = None
    """Why the lists can't be read."""
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """True if nothing is missing and nothing that was looked at is broken."""
        return self.problem is None and not any(part.bad for part in self.parts)


def scan(known: DataSet, root: Path, options: Mapping[str, Any] | None = None) -> Scan:
    """Look at a data root.

    Args:
        known: the data set.
        root: where its files should be.
        options: of its task, by name.

    Raises:
        ConfigError: if the root is no folder, or an option can't be.
    """
    if not root.is_dir():
        raise ConfigError(f"root={root} is no folder; give the one that holds {known.name}.")
    manifest = known.source.manifest()
    if manifest is not None:
        return _scan_fetched(known, manifest, root, options)
    task, source = media_task(known, root, options)
    assert isinstance(task.options, MediaOptions)
    kind = FolderSettings.read(root).data_kind
    counts: dict[str, dict[str, int]] = {}
    try:
        records = source.records(task.options, root)
        names = source.names(task.options)
        counts = _counts((record.split, names[record.label]) for record in records)
        streams = source.streams(task, task.options, root, records)
    except (DatasetNotFoundError, AnnotationError) as error:
        how = "" if isinstance(error, PretrainedNotFoundError) else f" {known.how()}"
        return Scan(known.name, known.env, str(root), kind, known.published, counts, problem=f"{error}{how}")
    parts = [_scan_stream(stream, root) for stream in streams]
    return Scan(known.name, known.env, str(root), kind, known.published, counts, tuple(parts))


def _scan_stream(stream: Stream, root: Path) -> Part:
    """Scan one modality: every file as the file system shows it, pointers of Git LFS, and a few samples decoded."""
    surveyed = survey(stream.rows, root / CACHE)
    problems = [entry.problem or _pointer(entry) for entry in surveyed]
    taken = estimate(stream.decoder, [e.row for e, problem in zip(surveyed, problems, strict=True) if problem is None])
    wrong = [problem for problem in problems if problem is not None]
    wrong += [problem for _, problem in taken.problems]
    return Part(
        stream.decoder.name,
        len(surveyed),
        dict(Counter(kind for kind, _ in wrong)),
        tuple(message for _, message in wrong[:SHOWN]),
        taken.bytes,
        taken.seconds,
        taken.probes,
    )


def _pointer(entry: SurveyedRow) -> tuple[str, str] | None:
    """Return kind and message where a file of a row is a pointer of Git LFS."""
    try:
        for _, file in entry.files:
            if file.stat().st_size < MOST_OF_POINTER:
                refuse_pointer(file)
    except MediaError as error:
        return error.kind, error.message
    except OSError as error:
        return "undecodable", f"{error.filename} can't be read ({error.strerror})"
    return None


def media_task(known: DataSet, root: Path, options: Mapping[str, Any] | None = None) -> tuple[Task, MediaSource]:
    """Return the task of a data set of media files, with its options, and its source.

    Raises:
        ConfigError: if it is none, or an option can't be.
    """
    if not isinstance(known.source, MediaSource):
        raise ConfigError(f"{known.name!r} has nothing to decode: it is read as it is, `dus train {known.env}`.")
    return known.task.configured(options, root), known.source


def _scan_fetched(known: DataSet, manifest: Manifest, root: Path, options: Mapping[str, Any] | None) -> Scan:
    """Check files against their checksums, and if all are right, the splits of a run."""
    wrong: list[tuple[str, str]] = []
    for entry in manifest.entries:
        path = root / entry.path
        if not path.is_file():
            wrong.append(("missing", f"{path} is not there"))
        elif hashlib.sha256(path.read_bytes()).hexdigest() != entry.sha256:
            wrong.append(("undecodable", f"{path} is not the published file (its SHA-256 differs)"))
    part = Part(
        "files",
        len(manifest.entries),
        dict(Counter(kind for kind, _ in wrong)),
        tuple(message for _, message in wrong[:SHOWN]),
    )
    counts: dict[str, dict[str, int]] = {}
    notes = [f"licence: {manifest.licence}", f"from {manifest.homepage}"]
    if not wrong:
        data = known.task.configured(options, root).data(RunSeeds(0), root)
        splits = {"train": data.train, "validation": data.validation, "test": data.test}
        counts = _counts((name, str(k)) for name, split in splits.items() if split for k in split.labels.tolist())
        notes.append("splits are those of a run with seed 0, which may hold out validation samples of train")
    return Scan(known.name, known.env, str(root), "real", known.published, counts, (part,), notes=tuple(notes))


def _counts(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    counted = Counter(pairs)
    found: dict[str, dict[str, int]] = {split: {} for split in SPLITS if any(s == split for s, _ in counted)}
    for (split, name), count in sorted(counted.items()):
        found[split][name] = count
    return found
