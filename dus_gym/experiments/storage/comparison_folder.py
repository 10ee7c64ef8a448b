"""The folder of a comparison: held by one process, cleared only where everything in it is ours."""

from __future__ import annotations

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
    as_json,
    clear,
    is_ours,
    listing,
    lock,
    read_object,
    writing,
)
from dus_gym.state import write_atomically


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
        if not is_ours(out, "compare"):
            raise RunFolderError(f"out={out} is not empty and holds no comparison; give another folder.")
        if not (resume or force):
            raise RunFolderError(
                f"out={out} holds another comparison; give another folder, --resume to continue it, "
                "or --force to replace its runs."
            )
    elif resume:
        raise RunFolderError(f"out={out} holds no comparison to resume; leave out --resume to start one.")
    try:
        held = lock(out)
    except OSError as error:
        if isinstance(error, RunFolderError):
            raise
        raise RunFolderError(f"out={out} can't be used ({error}); give another folder.") from error
    try:
        # From here on the old result does not belong to the runs beside it.
        (out / COMPARISON).unlink(missing_ok=True)
        if found and force:
            _clear_below(out)
        write_atomically(out / CONFIG, as_json(MARK | dict(settings)))
        yield
    finally:
        held.release()


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
