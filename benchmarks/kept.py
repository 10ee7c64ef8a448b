"""A comparison that is run once: found again when it is finished, gone on with when it was killed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dus_gym.cli import main as dus
from dus_gym.experiments.storage.run_folder import COMPARISON, read_object


def kept_comparison(words: Sequence[str], folder: Path) -> dict[str, Any]:
    """The content of a comparison's ``comparison.json``.

    Args:
        words: of ``dus``, from ``compare`` on, without ``--out``.
        folder: where the comparison is kept.
    """
    if not (folder / COMPARISON).is_file():
        resume = ["--resume"] if folder.exists() else []
        dus([*words, "--out", str(folder), "--quiet", *resume])
    return read_object(folder / COMPARISON)
