"""Tables and figures as the reproduction sees them: which rows on which data sets, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dus_gym.benchmarks.paper.plan import Plan, label_of, source_of
from dus_gym.benchmarks.paper.rows import Row
from dus_gym.benchmarks.paper.settings import settings

Summaries = Mapping[tuple[str, str], list[dict[str, Any]]]
"""Data set and row's folder to the summaries of its runs, one a seed; without the rows that could not be run."""


@dataclass(frozen=True)
class Drawing:
    """What the picture of one data set is drawn from; every row has runs."""

    title: str
    """Stands above the picture: the item, the data set, the protocol."""
    modalities: tuple[str, ...]
    """The environment's names, in order."""
    rows: tuple[Row, ...]
    summaries: Mapping[str, list[dict[str, Any]]]
    """Row's folder to the summaries of its runs, one a seed."""
    steps: Mapping[str, list[list[dict[str, Any]]]]
    """As the summaries: the lines of every run's ``steps.jsonl``."""


@dataclass(frozen=True)
class Item:
    """One table or figure of the paper."""

    word: str
    """``table1``, ``fig4`` and so on."""
    title: str
    datasets: tuple[str, ...]
    """As printed; a figure can be had of every other data set too."""
    rows: tuple[Row, ...]
    table: str | None = None
    """The table's number in the file of printed figures; None for a figure, which prints none."""
    modalities: bool = False
    """Whether every row has a line a modality beside the fused one."""
    shape: str = ""
    """What the paper's figure is to show, in words; figures have no printed numbers."""
    draw: Callable[[Path, Drawing], list[str]] | None = None
    """Draws a figure; returns what ours shows, in sentences."""


def drawing(
    item: Item,
    plan: Plan,
    dataset: str,
    rows: Sequence[Row],
    summaries: Summaries,
    steps: Mapping[tuple[str, str], list[list[dict[str, Any]]]],
) -> Drawing | None:
    """One data set of a figure; None where no row of it could be run."""
    there = tuple(row for row in rows if (dataset, row.folder) in summaries)
    if not there:
        return None
    return Drawing(
        title=f"{item.title} · {label_of(plan, settings()[dataset])}\n{plan.protocol}",
        modalities=tuple(source_of(plan, settings()[dataset]).modalities.values()),
        rows=there,
        summaries={row.folder: summaries[dataset, row.folder] for row in there},
        steps={row.folder: steps[dataset, row.folder] for row in there},
    )
