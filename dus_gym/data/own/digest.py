"""Digest of own data, wherever it lies: a run is only continued on the data it began with."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from dus_gym.data.own.arrays import is_arrays
from dus_gym.data.own.folder import LIST, modality_folders
from dus_gym.data.store.key import canonical


def digest_of(root: Path) -> str:
    """Return 16 hex digits: of the contents of arrays and of ``labels.csv``; of media files their names and sizes.

    Nothing is opened where no file has changed since the last call.
    """
    files = [root]
    if root.is_dir():
        if is_arrays(root):
            inside = list(root.glob("*.npy"))
        else:
            inside = [*root.glob(LIST), *(path for name in modality_folders(root) for path in (root / name).rglob("*"))]
        files = sorted(path for path in inside if path.is_file())
    return _digest(root, tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files))


@lru_cache(maxsize=1)
def _digest(root: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    whole = hashlib.sha256()
    for path, size, _ in files:
        name = path.relative_to(root).as_posix() if path != root else ""
        content = ""
        if path.parent == root or path == root:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(canonical([name, size, content]))
    return whole.hexdigest()[:16]
