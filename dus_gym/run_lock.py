"""Who writes a folder of runs: one process at a time, by name."""

from __future__ import annotations

from pathlib import Path

from dus_gym.errors import RunFolderError
from dus_gym.lock import FileLock, LockHeldError

LOCK = ".lock"
"""There while a process writes the folder."""


def lock(path: Path) -> FileLock:
    """Holds a folder, so that no second process writes to it; release it when done.

    Raises:
        RunFolderError: if a living process holds it; the message names the process.
    """
    try:
        return FileLock(path / LOCK).take()
    except LockHeldError as error:
        raise held_by(path, str(error)) from error


def held_by(path: Path, who: str) -> RunFolderError:
    """The error for a folder that somebody else writes."""
    return RunFolderError(f"out={path} is being written by {who}; wait until it ends, or give another folder.")


def writer(path: Path) -> str | None:
    """The living process that writes to a folder, in words; None if there is none."""
    return FileLock(path / LOCK).holder()
