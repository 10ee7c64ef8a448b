"""Cells of a table: our mean and deviation beside the printed number and the difference."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from dus_gym.benchmarks.paper.datasets import PaperDataset
from dus_gym.benchmarks.paper.tables import Item, PaperRow, RowRuns
from dus_gym.experiments.results import Result
from dus_gym.records import Scores
from dus_gym.statistics import mean_std

FUSED = "multimodal"
"""The printed tables' word for the fused prediction."""


@dataclass(frozen=True)
class PrintedNumber:
    """One number that the paper prints."""

    percent: float
    std: float | None
    """Standard deviation over three runs; Table A1 alone has it."""


PrintedKey = tuple[str, str, str, str, str]
"""Table, data set, row, modality (or ``multimodal``) and metric."""


@lru_cache(maxsize=1)
def printed() -> dict[PrintedKey, PrintedNumber]:
    """Return every number of Tables 1 to 4 and A1 to A4.

    Three are restored from a damaged scan or doubtful in the paper itself; they are marked in the file.
    """
    lines = (files(__package__) / "printed.csv").read_text(encoding="utf-8").splitlines()
    return {
        (line["table"], line["dataset"], line["row"], line["modality"], line["metric"]): PrintedNumber(
            float(line["percent"]), float(line["std"]) if line["std"] else None
        )
        for line in csv.DictReader(lines)
    }


@dataclass(frozen=True)
class PaperCell:
    """One number of a table, ours and the printed one."""

    dataset: str
    row: str
    modality: str
    """A printed modality, or ``multimodal``."""
    metric: str
    values: tuple[float, ...]
    """In per cent, one per seed; empty where the runs are missing."""
    printed: float | None
    printed_std: float | None
    note: str
    """See :class:`RowRuns`."""

    @property
    def mean(self) -> float | None:
        """Mean in per cent."""
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
        """Return ours / printed (difference): ``68.9 ± 1.2 / 73.90 (-5.0)``; a dash where there are no runs."""
        deviation = "" if self.std is None else f" ± {self.std:.1f}"
        ours = "–" if self.mean is None else f"{self.mean:.1f}{deviation}"
        spread = "" if self.printed_std is None else f" ± {self.printed_std:.2f}"
        theirs = "" if self.printed is None else f" / {self.printed:.2f}{spread}"
        difference = "" if self.difference is None else f" ({self.difference:+.1f})"
        return ours + theirs + difference

    def as_json(self) -> dict[str, Any]:
        """Return everything, with the values of each seed."""
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


def lines_of(item: Item, row: PaperRow, dataset: PaperDataset) -> list[str]:
    """Return the printed words of a row's lines: its modalities, ``multimodal``, or both."""
    own = list(dataset.modalities) if row.unimodal or item.by_modality else []
    return own if row.unimodal else [*own, FUSED]


def cells_of(item: Item, rows: Sequence[RowRuns]) -> list[PaperCell]:
    """Return every cell of a table, those without runs among them."""
    found = []
    for of in rows:
        dataset, label = of.dataset, of.row.label
        for line in lines_of(item, of.row, dataset):
            for metric in dataset.metrics:
                values = tuple(100.0 * getattr(_scores(of, result, line), metric) for result in of.results)
                number = printed().get((item.table or "", dataset.name, label, line, metric))
                percent, std = (None, None) if number is None else (number.percent, number.std)
                found.append(PaperCell(dataset.name, label, line, metric, values, percent, std, of.note))
    return found


def _scores(of: RowRuns, result: Result, line: str) -> Scores:
    """Return a run's figures on the test split, fused or of the modality that a line stands for."""
    if line != FUSED:
        return result.modalities[of.modalities[of.dataset.modalities.index(line)]]
    scores = result.fused["method"]
    assert scores is not None, "every method of the paper has a prediction of its own"
    return scores


def markdown(cells: Sequence[PaperCell], labels: Mapping[str, str]) -> str:
    """Return the cells as tables, one per data set.

    Args:
        cells: of one item.
        labels: a heading for every data set, by its printed name.
    """
    parts = []
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        mine = [cell for cell in cells if cell.dataset == dataset]
        metrics = list(dict.fromkeys(cell.metric for cell in mine))
        lines = ["| row | modality | " + " | ".join(metrics) + " |", "|---" * (2 + len(metrics)) + "|"]
        for row, modality in dict.fromkeys((cell.row, cell.modality) for cell in mine):
            texts = [cell.text() for cell in mine if (cell.row, cell.modality) == (row, modality)]
            lines.append(f"| {row} | {modality} | " + " | ".join(texts) + " |")
        parts.append("\n".join([f"### {labels[dataset]}", "", *lines, "", *_notes(mine)]).rstrip())
    return "\n\n".join(parts)


def _notes(mine: Sequence[PaperCell]) -> list[str]:
    """Return one line per note of a data set, behind the rows it is of, unless it is of all."""
    rows = list(dict.fromkeys(cell.row for cell in mine))
    by_note: dict[str, list[str]] = {}
    for cell in mine:
        noted = by_note.setdefault(cell.note, [])
        if cell.row not in noted:
            noted.append(cell.row)
    return [f"- {note}" if of == rows else f"- {', '.join(of)}: {note}" for note, of in by_note.items() if note]
