"""Makes every file of a table or figure a program of its own: ``python -m dus_gym.benchmarks.paper.table1``."""

from __future__ import annotations

import sys


def reproduce(word: str) -> None:
    """``dus reproduce WORD`` with the words of this process's command line."""
    from dus_gym.cli import main

    main(["reproduce", word, *sys.argv[1:]])
