"""Cells of a table: our mean and deviation beside the printed number and the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dus_gym.benchmarks.paper.item import Item, Summaries
from dus_gym.benchmarks.paper.plan import Plan, label_of, source_of
from dus_gym.benchmarks.paper.printed import FUSED, printed
from dus_gym.benchmarks.paper.rows import Row
from dus_gym.benchmarks.paper.settings import settings
from dus_gym.statistics import mean_std


@dataclass(frozen=True)
class Cell:
    """One number of a table."""

    dataset: str
    row: str
    modality: str
    """A printed modality, or ``multimodal``."""
    metric: str
    values: tuple[float, ...]
    """In per cent, one a seed; empty where the runs are missing."""
    printed: float | None
    printed_std: float | None
    note: str
    """Why there are no values or fewer than seeds, or what is wrong with them."""

    @property
    def mean(self) -> float | None:
        """In per cent."""
        return mean_std(self.values).mean if self.values else None

    @property
    def std(self) -> float | None:
        """Sample deviation; None for one seed."""
        return mean_std(self.values).std if self.values else None

    @property
    def difference(self) -> float | None:
        """Ours minus printed, in points."""
        return None if self.mean is None or self.printed is None else self.mean - self.printed

    def text(self) -> str:
        """Ours / printed (difference): ``68.9 ± 1.2 / 73.90 (-5.0)``; a dash where there are no runs."""
        deviation = "" if self.std is None else f" ± {self.std:.1f}"
        ours = "–" if self.mean is None else f"{self.mean:.1f}{deviation}"
        spread = "" if self.printed_std is None else f" ± {self.printed_std:.2f}"
        theirs = "" if self.printed is None else f" / {self.printed:.2f}{spread}"
        difference = "" if self.difference is None else f" ({self.difference:+.1f})"
        return ours + theirs + difference

    def as_json(self) -> dict[str, Any]:
        """Everything, with the values of each seed."""
        return {
            "dataset": self.dataset,
            "row": self.row,
            "modality": self.modality,
            "metric": self.metric,
            "values": list(self.values),
            "mean": self.mean,
            "std": self.std,
            "printed": self.printed,
            "printed_std": self.printed_std,
            "difference": self.difference,
            "note": self.note,
        }


def lines_of(item: Item, row: Row, dataset: str) -> list[str]:
    """The printed words of a row's lines: its modalities, ``multimodal``, or both."""
    own = list(settings()[dataset].modalities) if row.unimodal or item.modalities else []
    return own if row.unimodal else [*own, FUSED]


def cells(
    item: Item,
    plan: Plan,
    datasets: Sequence[str],
    rows: Sequence[Row],
    summaries: Summaries,
    notes: Mapping[tuple[str, str], str],
) -> list[Cell]:
    """Every cell of a table, those without runs among them.

    Args:
        item: the table.
        plan: what was run.
        datasets: as printed.
        rows: of the table.
        summaries: of the runs that there are.
        notes: why the others are not there, and what to know of those that are, by data set and row's folder.
    """
    found = []
    for dataset in datasets:
        setting = settings()[dataset]
        for row in rows:
            runs = summaries.get((dataset, row.folder), [])
            for word in lines_of(item, row, dataset):
                for metric in ("accuracy", setting.metric):
                    values = []
                    for run in runs:
                        scores = (
                            run["fused"]["method"]
                            if word == FUSED
                            else run["modalities"][source_of(plan, setting).modalities[word]]
                        )
                        values.append(100.0 * scores[metric])
                    number = printed().get((item.table or "", dataset, row.label, word, metric))
                    found.append(
                        Cell(
                            dataset,
                            row.label,
                            word,
                            metric,
                            tuple(values),
                            None if number is None else number.percent,
                            None if number is None else number.std,
                            notes.get((dataset, row.folder), ""),
                        )
                    )
    return found


def markdown(found: Sequence[Cell], plan: Plan) -> str:
    """The cells as tables, one a data set and its two metrics."""
    parts = []
    for dataset in dict.fromkeys(cell.dataset for cell in found):
        mine = [cell for cell in found if cell.dataset == dataset]
        metrics = list(dict.fromkeys(cell.metric for cell in mine))
        lines = ["| row | modality | " + " | ".join(metrics) + " |", "|---" * (2 + len(metrics)) + "|"]
        for row, word in dict.fromkeys((cell.row, cell.modality) for cell in mine):
            texts = [cell.text() for cell in mine if (cell.row, cell.modality) == (row, word)]
            lines.append(f"| {row} | {word} | " + " | ".join(texts) + " |")
        parts.append("\n".join([f"### {label_of(plan, settings()[dataset])}", "", *lines, "", *_notes(mine)]).rstrip())
    return "\n\n".join(parts)


def _notes(mine: Sequence[Cell]) -> list[str]:
    """A line a note of one data set, behind the rows that it is of, unless it is of all."""
    rows = list(dict.fromkeys(cell.row for cell in mine))
    found: dict[str, list[str]] = {}
    for cell in mine:
        of = found.setdefault(cell.note, [])
        if cell.row not in of:
            of.append(cell.row)
    return [f"- {note}" if of == rows else f"- {', '.join(of)}: {note}" for note, of in found.items() if note]
