"""Every run below a folder as one row each, and the index that saves reading finished ones again.

The folders are the truth. The index, a file of JSON lines in the root, remembers the rows of finished runs with the
size and time of the files they came from; a row whose files have changed is read again. So it may be stale, damaged,
of another version or gone: that costs time and nothing else. It is replaced whole, so many processes may list at once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dus_gym.errors import RunFolderError
from dus_gym.experiments.results import RunHead
from dus_gym.experiments.serialize import from_json
from dus_gym.experiments.storage.run_folder import (
    CONFIG,
    STEPS,
    SUMMARY,
    holds_runs,
    is_ours,
    parse_steps,
    read_object,
    read_result,
    writer,
)
from dus_gym.json_text import read_json
from dus_gym.options import with_said
from dus_gym.state import write_atomically

INDEX = ".dus-index.jsonl"
INDEX_FORMAT = 2
STATUSES = ("finished", "running", "stopped", "damaged")
"""finished: has a summary; running: a process holds it; stopped: neither; damaged: can't be read, or of a newer
version."""
_log = logging.getLogger(__name__)


def find_runs(root: Path) -> Iterator[Path]:
    """The run folders at and below a folder, in order; a comparison's or reproduction's own folder is none.

    Raises:
        RunFolderError: if the root is not there.
    """
    if not root.is_dir():
        raise RunFolderError(f"root={root} is no folder; give the folder that holds the runs.")
    for place, folders, files in os.walk(root):
        folders.sort()
        if CONFIG in files and _is_run(Path(place)):
            yield Path(place)


def _is_run(path: Path) -> bool:
    """Return whether a folder with a config is a run of ours; one with a damaged config counts, so that it is shown."""
    try:
        return not holds_runs(read_object(path / CONFIG)) and is_ours(path)
    except OSError:
        return is_ours(path)


@dataclass(frozen=True)
class RunRow:
    """One run as a flat row of text and numbers; what is not known yet is None."""

    run: str
    """Its folder, relative to the root."""
    status: str
    """One of :data:`STATUSES`."""
    env: str | None = None
    agent: str | None = None
    """With its options, as ``method``."""
    method: str | None = None
    seed: int | None = None
    trainer: str | None = None
    data_kind: str | None = None
    data_name: str | None = None
    """Of own data."""
    select: str | None = None
    accuracy_method: float | None = None
    accuracy_concat: float | None = None
    accuracy_sum: float | None = None
    accuracy_entropy: float | None = None
    gap: float | None = None
    diverged: bool | None = None
    epoch: int | None = None
    epochs: int | None = None
    iterations: int | None = None
    samples: int | None = None
    training_runs: float | None = None
    seconds: float | None = None
    changed: str | None = None
    problem: str | None = None
    """What is wrong with a damaged run."""


COPIED = (
    "trainer", "data_kind", "select", "gap", "diverged", "epochs", "iterations", "samples", "training_runs", "seconds",
)  # fmt: skip


def read_row(path: Path, root: Path) -> dict[str, Any]:
    """Return one run as :class:`RunRow` has it, by name.

    Args:
        path: a run folder.
        root: what ``run`` is relative to.
    """
    row: dict[str, Any] = {}
    try:
        file = path / CONFIG
        head = from_json(RunHead, read_object(file), str(file))
        row |= {"env": head.env, "seed": head.seed, "trainer": head.trainer, "data_name": head.data_name}
        row["agent"] = with_said(head.agent, head.agent_options)
        row["method"] = with_said(head.method, head.method_options)
        result = read_result(path)
        if result is None:
            last = last_step(path) or {}
            row["status"] = "running" if writer(path) else "stopped"
            row |= {key: last.get(key) for key in ("epoch", "epochs", "iterations", "gap")}
        else:
            row["status"] = "finished"
            row |= {key: getattr(result, key) for key in COPIED} | {"epoch": result.epochs}
            for name, scores in result.fused.items():
                row[f"accuracy_{name}"] = None if scores is None else scores.accuracy
        changed = path / (CONFIG if result is None else SUMMARY)
        row["changed"] = datetime.fromtimestamp(changed.stat().st_mtime, UTC).isoformat(timespec="seconds")
    except (OSError, OverflowError, ValueError) as error:
        # The last two: a time of change that no calendar has.
        row |= {"status": "damaged", "problem": str(error)}
    return asdict(RunRow(run=path.relative_to(root).as_posix(), **row))


def last_step(path: Path) -> dict[str, Any] | None:
    """Return the last whole line of a run's ``steps.jsonl``, without reading the others; None before the first.

    Raises:
        RunFolderError: if it is no record of a step.
    """
    file = path / STEPS
    if not file.is_file():
        return None
    with file.open("rb") as lines:
        end = lines.seek(0, os.SEEK_END)
        lines.seek(max(0, end - 65536))
        whole = lines.read().rpartition(b"\n")[0].rpartition(b"\n")[2]
    return next(parse_steps([whole], file), None) if whole else None


def list_runs(root: Path, *, rebuild: bool = False) -> list[dict[str, Any]]:
    """A row for every run below ``root``, from the index where it is still right; brings the index up to date.

    Args:
        root: a folder.
        rebuild: reads every folder again.

    Raises:
        RunFolderError: if the root is not there. Trouble with the index is logged, never raised.
    """
    found = {} if rebuild else _read_index(root)
    known = found or {}
    rows, kept = [], {}
    for path in find_runs(root):
        name, stamp = path.relative_to(root).as_posix(), _stamp(path)
        entry = known.get(name)
        row = entry["row"] if entry is not None and entry["stamp"] == stamp else read_row(path, root)
        rows.append(row)
        if row["status"] == "finished":
            kept[name] = {"stamp": stamp, "row": row}
    if found is not None and (rebuild or kept != known):
        _write_index(root, kept)
    return rows


def _stamp(path: Path) -> list[int]:
    """Size and time of the files that a finished run's row is made of."""
    found = [file.stat() for name in (CONFIG, SUMMARY) if (file := path / name).is_file()]
    return [number for stat in found for number in (stat.st_size, stat.st_mtime_ns)]


def _read_index(root: Path) -> dict[str, Any] | None:
    """Stamps and rows by run; nothing where there is no index that can be used, None where it is not ours to touch."""
    file = root / INDEX
    try:
        first, _, rest = file.read_bytes().partition(b"\n")
        head = read_json(first)
        if head["format"] > INDEX_FORMAT:
            _log.warning(
                "%s is of a newer dus-gym (format %s) and is left alone; the folders are read.", file, head["format"]
            )
            return None
        if head["format"] < INDEX_FORMAT:
            return {}
        if hashlib.sha256(rest).hexdigest() != head["sha256"]:
            raise ValueError("its SHA-256 differs")
        entries = [read_json(line) for line in rest.splitlines()]
        return {entry["row"]["run"]: entry for entry in entries}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s is damaged (%s); it is made anew from the folders.", file, error)
        return {}


def _write_index(root: Path, entries: Mapping[str, Any]) -> None:
    rows = "".join(json.dumps(entry) + "\n" for entry in entries.values()).encode()
    head = {"written_by": "dus-gym", "format": INDEX_FORMAT, "sha256": hashlib.sha256(rows).hexdigest()}
    try:
        write_atomically(root / INDEX, json.dumps(head).encode() + b"\n" + rows)
    except OSError as error:
        _log.warning("%s can't be written (%s); the list is right, and the next one will be slower.", root, error)
