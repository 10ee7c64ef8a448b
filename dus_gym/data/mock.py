"""Mocks: data roots of made-up media in the layouts of published data sets, written whole or not at all."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np

from dus_gym.data.media_source import SETTINGS, FolderSettings
from dus_gym.data.registry import DATA_SETS
from dus_gym.errors import ConfigError, DusError, RunFolderError, RunWriteError, check_at_least, unknown_name
from dus_gym.lock import is_alive

MOCKS = tuple(name for name, known in DATA_SETS.items() if known.has_mock)
"""Data sets that have a file in ``dus_gym/data/sets/mock/``."""


def make_mock(name: str, root: Path, clips: int, seed: int = 0) -> Path:
    """Write a mock of a data set; the same seed gives the same bytes.

    An earlier mock in ``root`` is replaced; anything else is left alone.

    Args:
        name: one of :data:`MOCKS`.
        root: the folder, made if it is not there.
        clips: samples in all splits together, 12 or more.
        seed: 0 or above.

    Raises:
        ConfigError: for a name, number or seed that can't be.
        RunFolderError: if the folder holds something that is no mock.
        RunWriteError: if it can't be written; an earlier mock is still there.
    """
    if name not in MOCKS:
        raise unknown_name("mock data set", name, MOCKS)
    check_at_least("seed", seed, 0)
    root = root.expanduser().absolute()
    if root.exists() and not root.is_dir():
        raise RunFolderError(f"root={root} is a file; give a folder.")
    if root.is_dir() and any(root.iterdir()) and not is_mock(root):
        raise RunFolderError(f"root={root} is not empty and holds no mock; give another folder.")
    module = import_module(DATA_SETS[name].mock_module)
    root.parent.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    fresh = root.with_name(f".{root.name}.new-{os.getpid()}")
    try:
        fresh.mkdir()
        settings = module.write(fresh, clips, np.random.default_rng(seed))
        text = json.dumps({"data_kind": "mock"} | settings, indent=2) + "\n"
        (fresh / SETTINGS).write_text(text, encoding="utf-8")
        _put(fresh, root)
    except DusError:
        raise
    except OSError as error:
        raise RunWriteError(
            f"{root} can't be written ({error.strerror or error}); make room, then try again."
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return root


def _sweep(root: Path) -> None:
    """Delete what killed processes left beside a root."""
    for path in root.parent.glob(f".{glob.escape(root.name)}.*-*"):
        found = re.fullmatch(r"(?:new|old)-(\d+)", path.name.removeprefix(f".{root.name}."))
        if found is not None and not is_alive(int(found[1])):
            shutil.rmtree(path, ignore_errors=True)


def is_mock(root: Path) -> bool:
    """Return whether a folder says of itself that it is a mock."""
    try:
        return FolderSettings.read(root).data_kind == "mock"
    except ConfigError:
        return False


def _put(fresh: Path, root: Path) -> None:
    """Move the new folder to its place; an old one goes when the new one stands."""
    aside = root.with_name(f".{root.name}.old-{os.getpid()}")
    if root.exists():
        os.rename(root, aside)
    os.rename(fresh, root)
    shutil.rmtree(aside, ignore_errors=True)
