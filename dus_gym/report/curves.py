"""Curves that the charts draw: the steps of one run, or means and bands over the seeds of an agent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dus_gym.report.chart import Chart, Series, evenly

Step = Mapping[str, Any]
MOST_POINTS = 150
"""Of one line; more than the eye tells apart on a chart of this width."""
MOST_LINES = 4
"""Of a comparison's chart, before anybody touches its switches."""
LARGEST_DRAWN = 1e150
"""Beyond it the arithmetic of bands and axes, which squares, overflows."""


def figure(key: str, entry: int | None = None, scale: float = 1.0) -> Callable[[Step], float | None]:
    """Return what a curve reads from each step: a number that can be drawn, else None.

    Args:
        key: of the record.
        entry: which of its numbers, where it is a list.
        scale: such as 100, for per cent.
    """

    def read(step: Step) -> float | None:
        value = step.get(key)
        if entry is not None and isinstance(value, list):
            value = value[entry]
        return scale * value if isinstance(value, int | float) and abs(value) <= LARGEST_DRAWN else None

    return read


@dataclass(frozen=True)
class Curve:
    """A figure over iterations: of one run, or the mean of several with their standard deviation."""

    iterations: list[int]
    mean: list[float | None]
    low: list[float | None] | None = None
    high: list[float | None] | None = None


def modalities_of(steps: Sequence[Step]) -> list[str]:
    """The modalities' names, in order; none before the first step."""
    return [key.removeprefix("size/") for key in steps[0] if key.startswith("size/")] if steps else []


def curve(steps: Sequence[Step], read: Callable[[Step], float | None]) -> Curve:
    """One run's curve."""
    return Curve([step["iterations"] for step in steps], [read(step) for step in steps])


def mean_curve(runs: Sequence[Sequence[Step]], read: Callable[[Step], float | None]) -> Curve:
    """The mean over runs, and one standard deviation to either side where there are two or more.

    Runs of one agent have the same steps, but one that diverged ends early: where some have ended, or lack the
    figure, the mean is over the others.
    """
    longest = max(runs, key=len, default=())
    values = [[read(run[k]) for run in runs if k < len(run)] for k in range(len(longest))]
    mean: list[float | None] = []
    low: list[float | None] = []
    high: list[float | None] = []
    for row in values:
        there = [value for value in row if value is not None]
        if not there:
            for column in (mean, low, high):
                column.append(None)
            continue
        middle = math.fsum(there) / len(there)
        spread = math.sqrt(math.fsum((v - middle) ** 2 for v in there) / (len(there) - 1)) if len(there) > 1 else 0.0
        mean.append(middle)
        low.append(middle - spread)
        high.append(middle + spread)
    return Curve([step["iterations"] for step in longest], mean, *((low, high) if len(runs) > 1 else ()))


def drawn(
    key: str, title: str, says: str, y_name: str, curves: Mapping[str, Curve], *, off: Sequence[str] = (), **look: Any
) -> str:
    """A chart over iterations, thinned to what the eye tells apart; nothing without a value.

    Args:
        key: unique on the page.
        title: of the chart.
        says: what is drawn.
        y_name: the ordinate, with its unit.
        curves: by name; those without a value are left out.
        off: names of series that are hidden at first.
        look: further fields of :class:`Chart`.
    """
    there = {name: one for name, one in curves.items() if any(value is not None for value in one.mean)}
    grid = sorted({x for one in there.values() for x in one.iterations})
    grid = [grid[k] for k in evenly(len(grid), MOST_POINTS)]
    series = [
        Series(
            name,
            _at(grid, one.iterations, one.mean),
            None if one.low is None else _at(grid, one.iterations, one.low),
            None if one.high is None else _at(grid, one.iterations, one.high),
            on=name not in off,
        )
        for name, one in there.items()
    ]
    return Chart(key, title, says, "iteration", y_name, grid, series, **look).html()


def _at(grid: Sequence[int], iterations: Sequence[int], values: Sequence[float | None]) -> list[float | None]:
    """The value at each place of the grid: the latest one not later; None outside the curve."""
    found: list[float | None] = []
    k = -1
    for x in grid:
        while k + 1 < len(iterations) and iterations[k + 1] <= x:
            k += 1
        found.append(values[k] if k >= 0 and x <= iterations[-1] else None)
    return found
