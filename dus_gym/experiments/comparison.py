"""The outcome of one request for comparisons: one or several tasks and methods, tested as one family."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

from dus_gym.errors import RunFolderError
from dus_gym.experiments.serialize import from_json
from dus_gym.experiments.spec import REFERENCE
from dus_gym.experiments.table import Table
from dus_gym.experiments.task_comparison import (
    HEADLINE,
    TaskComparison,
    compare_results,
    equal_total,
    interval_text,
    signed,
    spread_text,
)
from dus_gym.experiments.verdict import correct, direct_tests, overall, state, warn

__all__ = ["REFERENCE", "Comparison", "TaskComparison", "compare_results", "conclude", "equal_total"]

PARTS = "comparisons"
"""Key of several comparisons in ``comparison.json``."""


@dataclass(frozen=True)
class Comparison:
    """Agents compared over seeds: on one task under one method, or on several."""

    parts: tuple[TaskComparison, ...]
    folder: Path | None = field(default=None, compare=False)
    """The folder of the comparison and its runs; None if they are not kept."""
    scratch: Any = field(default=None, compare=False, repr=False)
    """The temporary folder, if that is where; it is deleted with this object."""

    @property
    def verdict(self) -> str:
        """The outcome in a few sentences: a comparison's own, or how often which agent differs in several."""
        return self.parts[0].verdict if len(self.parts) == 1 else overall(self.parts)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Cautions to read before believing the table; of several comparisons, each after its title."""
        if len(self.parts) == 1:
            return self.parts[0].warnings
        return tuple(f"{part.title}: {warning}" for part in self.parts for warning in part.warnings)

    def table(self, full: bool = False) -> Table:
        """Return the outcome as a table: a row per agent or, of several comparisons, a row per comparison.

        Args:
            full: also every predictor and modality, p-values and costs; of several comparisons, the intervals.
        """
        if len(self.parts) == 1:
            return self.parts[0].table(full)
        names = list(dict.fromkeys(name for part in self.parts for name in part.others))
        rows = [
            [part.title, spread_text(part.uniform, HEADLINE), *(_outcome(part, name, full) for name in names)]
            for part in self.parts
        ]
        caption = (
            f"Test accuracy of {REFERENCE} in %, ± standard deviation over seeds, and each agent's difference to it in "
            "points"
        )
        return Table(["comparison", REFERENCE, *names], rows, caption)

    def report(self, path: str | Path) -> Path:
        """Write the comparison as one HTML page and return its path.

        Raises:
            RunWriteError: if the file can't be written.
        """
        # Reports read comparisons, so this package can't import them when it is loaded; it alone looks upward, here.
        written: Path = importlib.import_module("dus_gym.report.comparison").write_comparison_page(self, Path(path))
        return written

    def to_json(self) -> dict[str, Any]:
        """Return what ``comparison.json`` holds: one comparison, or several under ``comparisons``."""
        if len(self.parts) == 1:
            return self.parts[0].to_json()
        return {PARTS: [part.to_json() for part in self.parts], "verdict": self.verdict}

    @classmethod
    def from_json(
        cls, found: Mapping[str, Any], where: str = "the comparison", folder: Path | None = None
    ) -> Comparison:
        """Return the comparison that :meth:`to_json` wrote.

        Args:
            found: the JSON object.
            where: what is read, for messages, such as the file.
            folder: where its runs are.

        Raises:
            RunFolderError: for anything else; the message names the key.
        """
        several = found.get(PARTS, [found])
        try:
            if not isinstance(several, list) or not several:
                raise RunFolderError(f"{where} is damaged ({PARTS} is not a list of comparisons).")
            parts = tuple(from_json(TaskComparison, part, where) for part in several)
            for part in parts:
                part.check(where)
        except RunFolderError as error:
            raise RunFolderError(f"{error} If it is a comparison, dus compare --resume makes it again.") from None
        return cls(parts, folder)

    def _repr_html_(self) -> str:
        """Show verdict, warnings and tables in a notebook."""
        several = len(self.parts) > 1
        said = [f"<p><strong>{escape(self.verdict)}</strong></p>"]
        said += [f"<p>Warning: {escape(warning)}</p>" for warning in self.warnings]
        said += [self.table().html()] if several else []
        for part in self.parts:
            said += [f"<p>{escape(part.title)}: {escape(part.verdict)}</p>"] if several else []
            said.append(part.table().html())
        return "".join(said)


def conclude(parts: Sequence[TaskComparison], folder: Path | None = None) -> Comparison:
    """Return the outcome of one request: tests corrected over all its comparisons, verdicts and warnings.

    Args:
        parts: of :func:`compare_results`, one or more.
        folder: where the runs are kept.
    """
    corrected = correct(parts)
    direct = direct_tests(corrected)
    return Comparison(
        tuple(
            replace(
                part,
                statements=state(part, corrected, [test for test in direct if test.part == i]),
                warnings=warn(part),
            )
            for i, part in enumerate(corrected)
        ),
        folder,
    )


def _outcome(part: TaskComparison, name: str, full: bool) -> str:
    """A cell of the table of several comparisons."""
    row = part.agents.get(name)
    if row is None or row.test is None:
        return "–"
    ends = row.interval_corrected if full else None
    return f"{signed(row.test.points)}{f' {interval_text(ends)}' if ends is not None else ''} {row.outcome}"
