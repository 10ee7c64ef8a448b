"""Tables and figures as the reproduction sees them: which rows on which data sets, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dus_gym.benchmarks.paper.plan import Plan
from dus_gym.benchmarks.paper.rows import Row

Summaries = Mapping[tuple[str, str], list[dict[str, Any]]]
"""Data set and row's folder to the summaries of its runs, one a seed; without the rows that could not be run."""


@dataclass(frozen=True)
class Item:
    """One table or figure of the paper."""

    word: str
    """``table1``, ``fig4`` and so on."""
    title: str
    datasets: tuple[str, ...]
    """As printed."""
    rows: tuple[Row, ...]
    table: str | None = None
    """The table's number in the file of printed figures; None for a figure, which prints none."""
    modalities: bool = False
    """Whether every row has a line a modality beside the fused one."""
    draw: Callable[[Path, Drawing], list[str]] | None = None
    """A figure's picture; returns what the picture shows, in sentences."""
    series: Mapping[str, str] = field(default_factory=dict)
    """Row's folder to the name of the panel it belongs to, where a figure has several."""


@dataclass(frozen=True)
class Drawing:
    """What a figure is drawn from."""

    item: Item
    plan: Plan
    datasets: Sequence[str]
    rows: Sequence[Row]
    summaries: Summaries
    steps: Mapping[tuple[str, str], list[list[dict[str, Any]]]]
    """As the summaries: the lines of every run's ``steps.jsonl``."""
