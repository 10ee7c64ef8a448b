"""The pages of results in docs/: comparisons that are run once and kept, their commands, and the text around them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dus_gym.experiments.compare import compare, compare_command
from dus_gym.experiments.executors.executor import ScaleOptions
from dus_gym.experiments.storage.comparison_folder import read_comparison
from dus_gym.experiments.storage.run_folder import COMPARISON
from dus_gym.experiments.table import Table
from dus_gym.experiments.task_comparison import TaskComparison, figure_columns, short_columns
from dus_gym.statistics import PairedTest, mean_std

EMBEDDED = ("Digits", "Digits3", "DigitsControl", "DigitsRowsCols", "DigitsHalves")
"""The tasks that need no download."""
AGENTS = (
    "heuristic",
    "half",
    "score",
    "score:rule=softmax",
    "reinforce",
    "reinforce:policy=literal",
    "reinforce:preset=tuned",
    "pi",
    "overfit",
    "holdout",
    "random",
    "reversed",
    "lookahead",
    "best-fixed",
    "lr-matched:match=direct",
    "lr-matched:match=holdout",
)
"""Every agent and control of the pages."""


def arguments(doc: str | None, name: str, page: str = "") -> argparse.ArgumentParser:
    """Return a parser with ``--out``, ``--page`` and ``--workers``.

    Args:
        doc: the program's docstring.
        name: of its folder below ``runs/``.
        page: of its page below ``docs/``; named after the folder if not given.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs") / name, help="where finished runs are kept")
    parser.add_argument("--page", type=Path, default=Path("docs") / f"{page or name}.md")
    parser.add_argument("--workers", type=int, default=1, help="runs at once")
    return parser


class Kept:
    """Runs comparisons of one task under one method that are not there yet, and remembers their commands.

    Args:
        arguments: parsed by :func:`arguments`.
        data: a folder with one folder per data set, which commands show as ``DATA``.
    """

    def __init__(self, arguments: argparse.Namespace, data: Path | None = None) -> None:
        self.out: Path = arguments.out
        self.scale = ScaleOptions(workers=arguments.workers)
        self.data = data
        self.commands: list[str] = []

    def __call__(
        self, folder: str, env: str, agents: Sequence[str], *, data: str | None = None, **call: Any
    ) -> TaskComparison:
        """Return a comparison, run if it is not there, resumed if it is not finished.

        Args:
            folder: its name below the output folder.
            env: see :func:`dus_gym.compare`.
            agents: see there.
            data: the folder of its data set.
            call: see there.
        """
        path = self.out / folder
        root = None if data is None or self.data is None else self.data / data
        shown = None if data is None else f"DATA/{data}"
        self.commands.append(compare_command(env, agents, data_root=shown, **call))
        if (path / COMPARISON).is_file():
            found = read_comparison(path)
        else:
            found = compare(env, agents, out=path, resume=path.exists(), scale=self.scale, data_root=root, **call)
        print(folder, flush=True)
        return found.parts[0]


def comparison_section(title: str, command: str, part: TaskComparison) -> str:
    """Return a comparison as Markdown: its command, what it says, and every figure that a second run has again."""
    table = part.table_of(short_columns() | figure_columns(part), "")
    warnings = [f"Warning: {warning}" for warning in part.warnings]
    return "\n\n".join([f"## {title}", f"`{command}`", part.verdict, *warnings, table.markdown()]) + "\n"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows of text as a Markdown table."""
    return Table(head, [list(row) for row in rows], "", words=True).markdown()


def spread(values: Sequence[float]) -> str:
    """Return accuracies as mean ± standard deviation in per cent."""
    of = mean_std(values)
    return f"{100.0 * of.mean:.1f}" + ("" if of.std is None else f" ± {100.0 * of.std:.1f}")


def difference(test: PairedTest) -> str:
    """Return a difference in points with its p-value, which is not corrected."""
    p = "" if test.p is None else " (< .001)" if test.p < 0.001 else f" ({test.p:.3f})"
    return f"{test.points:+.1f}{p}"


def write_page(page: Path, *parts: str) -> None:
    """Write a page of parts with an empty line between them."""
    page.write_text("\n".join(part.strip() + "\n" for part in parts), encoding="utf-8")
    print(f"written to {page}", flush=True)
