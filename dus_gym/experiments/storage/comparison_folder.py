"""The folder of a comparison: held by one process, cleared only where everything in it is ours."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dus_gym.errors import RunFolderError
from dus_gym.experiments.comparison import Comparison
from dus_gym.experiments.storage.run_folder import (
    COMPARISON,
    CONFIG,
    MARK,
    STEPS,
    as_json,
    check_same,
    clear,
    holds_runs,
    is_ours,
    listing,
    lock,
    read_object,
    writing,
)
from dus_gym.state import write_atomically

OF_AGENTS = ("agent", "policy", "seed")
"""How the names of settings begin that differ within one comparison."""


@contextmanager
def hold_folder(out: Path, settings: Mapping[str, Any], *, resume: bool = False, force: bool = False) -> Iterator[None]:
    """Holds a folder without a result, ready for runs, for as long as the block takes.

    Args:
        out: made if it is not there.
        settings: what its config says.
        resume: runs that are there stay.
        force: they are deleted.

    Raises:
        RunFolderError: if the folder holds something else, can't be made, or another process holds it.
    """
    found = listing(out)
    if found:
        if not is_ours(out, "compare") or not _holds_comparison(out, force):
            raise RunFolderError(f"out={out} is not empty and holds no comparison; give another folder.")
        if not (resume or force):
            raise RunFolderError(
                f"out={out} holds another comparison; give another folder, --resume to continue it, "
                "or --force to replace its runs."
            )
        if not force:
            _check_same(out, settings)
    elif resume:
        raise RunFolderError(f"out={out} holds no comparison to resume; leave out --resume to start one.")
    try:
        held = lock(out)
    except OSError as error:
        if isinstance(error, RunFolderError):
            raise
        raise RunFolderError(f"out={out} can't be used ({error}); give another folder.") from error
    try:
        if found and force:
            (out / COMPARISON).unlink(missing_ok=True)
            _clear_below(out)
        write_atomically(out / CONFIG, as_json(MARK | dict(settings)))
        yield
    finally:
        held.release()


def _holds_comparison(out: Path, force: bool) -> bool:
    """Return whether a folder of ours is a comparison's and not a run's; a damaged one counts if it is to be replaced.

    Raises:
        RunFolderError: for a damaged or newer config, unless ``force``.
    """
    try:
        return holds_runs(read_object(out / CONFIG))
    except RunFolderError:
        if force and not (out / STEPS).exists():
            return True
        raise


def _check_same(out: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to go on with a comparison of other settings; other agents and seeds are more of the same.

    Raises:
        RunFolderError: naming what differs, before anything is changed.
    """
    before, now = (_specs(config) for config in (read_object(out / CONFIG), json.loads(as_json(dict(settings)))))
    for one, other in zip(before, now, strict=False):
        check_same(out, one, other)
    if len(before) != len(now):
        raise RunFolderError(
            f"out={out} holds {len(before)} tasks and methods, and {len(now)} are asked for; give another folder."
        )


def _specs(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings of each part of a comparison, but for its agents and seeds."""
    specs = config.get("comparisons") or [config.get("first", {})]
    return [{name: value for name, value in spec.items() if not name.startswith(OF_AGENTS)} for spec in specs]


def _clear_below(out: Path) -> None:
    """Deletes the runs and comparisons in a comparison's folder, and every folder that is empty then."""
    for name, _, _ in os.walk(out, topdown=False):
        place = Path(name)
        if place == out:
            continue
        if is_ours(place):
            clear(place)
        if not listing(place):
            # What is left is a dead process's lock.
            for file in place.iterdir():
                file.unlink()
            place.rmdir()


def delete_comparison(out: Path) -> None:
    """Delete a comparison with its runs; nothing that is not ours, and nothing if there is none.

    Raises:
        RunFolderError: if another process writes it.
    """
    if not is_ours(out):
        return
    held = lock(out)
    try:
        (out / COMPARISON).unlink(missing_ok=True)
        _clear_below(out)
        clear(out)
    finally:
        held.release()
    if not listing(out):
        out.rmdir()


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Writes what came out; from now on the comparison is finished."""
    with writing(folder / COMPARISON):
        write_atomically(folder / COMPARISON, as_json(comparison.to_json()))


def read_comparison(path: Path) -> Comparison:
    """Return the finished comparison of a folder, or of a ``comparison.json`` alone.

    Raises:
        FileNotFoundError: if there is none.
        RunFolderError: if its file is damaged.
    """
    file = path / COMPARISON if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{path} holds no finished comparison; run dus compare --out {path} --resume.")
    return Comparison.from_json(read_object(file), str(file), folder=file.parent if path.is_dir() else None)
