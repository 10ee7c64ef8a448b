"""Charts as SVG inside HTML figures: switches, a slider that reads values, a text alternative and a data table.

Everything is drawn here, so a page without JavaScript, on paper or in a reader still has it; ``page.js`` adds the
switches and the reading of values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from dus_gym.experiments.table import Table

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 34, 46
COLOURS = 8
"""How many series colours ``page.css`` has; dashes tell series apart that share one."""
DASHES = ("", "7 3", "2 3", "9 3 2 3")
MOST_ROWS = 25
"""Of a chart's data table; the points between are in the chart."""


@dataclass(frozen=True)
class Series:
    """One line or one mark."""

    name: str
    y: Sequence[float | None]
    """A value for every x of the chart; None where there is none."""
    low: Sequence[float | None] | None = None
    """Lower edge of the band around the line or of the whisker through the mark."""
    high: Sequence[float | None] | None = None
    on: bool = True
    """Whether it is shown before anybody touches the switches."""


@dataclass(frozen=True)
class Chart:
    """Series over a common abscissa."""

    key: str
    """Unique on the page; letters, digits and dashes."""
    title: str
    says: str
    """What is drawn and how to read it, in a sentence or two."""
    x_name: str
    y_name: str
    x: Sequence[float]
    series: Sequence[Series]
    decimals: int = 3
    """Of the values in tip and table."""
    y_range: tuple[float, float] | None = None
    """None: from the values."""
    kind: str = "lines"
    """lines, or marks: one point a series, at the x of its own place in the list."""

    def html(self) -> str:
        """The figure; nothing where there is nothing to draw."""
        if not self.x or not any(value is not None for one in self.series for value in one.y):
            return ""
        return _Drawing(self).html()


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers that cover a range, at most ``most + 1`` of them."""
    span = high - low
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _range(values: list[float]) -> tuple[float, float]:
    """A little more than the values need."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - (0.0 if 0.0 <= low < room else room), high + room


class _Drawing:
    """One chart with its scales."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        shown = [v for one in chart.series for part in (one.y, one.low or (), one.high or ()) for v in part]
        self.y_low, self.y_high = chart.y_range or _range([v for v in shown if v is not None])
        if chart.kind == "lines":
            self.x_low, self.x_high = min(0.0, chart.x[0]), chart.x[-1] if chart.x[-1] > 0 else 1.0
        else:
            self.x_low, self.x_high = _range(list(chart.x))

    def px(self, x: float) -> float:
        """The abscissa's place, in units of the drawing."""
        return round(LEFT + (x - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT), 1)

    def py(self, y: float) -> float:
        """The ordinate's place."""
        return round(HEIGHT - BOTTOM - (y - self.y_low) / (self.y_high - self.y_low) * (HEIGHT - TOP - BOTTOM), 1)

    def html(self) -> str:
        chart, key = self.chart, self.chart.key
        bodies = [
            self._line(one) if chart.kind == "lines" else self._mark(i, one) for i, one in enumerate(chart.series)
        ]
        drawn = "".join(
            f'<g class="series s{i % COLOURS}{"" if one.on else " off"}" data-series="{i}" '
            f'style="--dash:{DASHES[i % len(DASHES)] or "none"}">{body}</g>'
            for i, (one, body) in enumerate(zip(chart.series, bodies, strict=True))
        )
        return (
            f'<figure class="chart" id="{key}">'
            f"<figcaption><h3>{escape(chart.title)}</h3><p>{escape(chart.says)}</p></figcaption>"
            f"{self._switches()}"
            f'<div class="plot"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}" '
            f'aria-describedby="{key}-alt">{self._axes()}{drawn}'
            f'<line class="rule" y1="{TOP}" y2="{HEIGHT - BOTTOM}" x1="0" x2="0"/><g class="dots"></g></svg>'
            f'<div class="tip" aria-hidden="true"></div></div>'
            f'<label class="read" for="{key}-reader">Slide, or point at the chart, to read values</label>'
            f'<input class="reader" id="{key}-reader" type="range" min="0" max="{len(chart.x) - 1}" '
            f'value="{len(chart.x) - 1}" '
            f'aria-label="Read values of: {escape(chart.title)}" '
            f'style="--from:{100 * LEFT / WIDTH:.2f}%;--to:{100 * RIGHT / WIDTH:.2f}%">'
            f'<p class="alt" id="{key}-alt">{escape(self._words())}</p>'
            f'<script type="application/json">{self._data()}</script>'
            f"<details><summary>Data<span class=alt> of: {escape(chart.title)}</span></summary>"
            f"{self._table().html()}</details></figure>"
        )

    def _switches(self) -> str:
        if len(self.chart.series) < 2:
            return ""
        mark = "circle" if self.chart.kind == "marks" else "line"
        buttons = "".join(
            f'<button type="button" class="s{i % COLOURS}" data-series="{i}" aria-pressed="{str(one.on).lower()}" '
            f'style="--dash:{DASHES[i % len(DASHES)] or "none"}">'
            f'<svg viewBox="0 0 26 10" aria-hidden="true">{_sample(mark, i)}</svg>{escape(one.name)}</button>'
            for i, one in enumerate(self.chart.series)
        )
        every = '<button type="button" class="every" aria-pressed="false">all</button>'
        return (
            f'<div class="switches" role="group" aria-label="Series of: {escape(self.chart.title)}">'
            f"{buttons}{every if len(self.chart.series) > 4 else ''}</div>"
        )

    def _axes(self) -> str:
        chart, bottom, right = self.chart, HEIGHT - BOTTOM, WIDTH - RIGHT
        parts = []
        for y in ticks(self.y_low, self.y_high):
            parts.append(f'<line class="guide" x1="{LEFT}" x2="{right}" y1="{self.py(y)}" y2="{self.py(y)}"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{self.py(y)}" class="end">{number(y)}</text>')
        for x in ticks(self.x_low, self.x_high, 5):
            parts.append(f'<line class="tick" x1="{self.px(x)}" x2="{self.px(x)}" y1="{bottom}" y2="{bottom + 4}"/>')
            parts.append(f'<text x="{self.px(x)}" y="{bottom + 16}" class="middle">{number(x)}</text>')
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
        middle = (LEFT + right) / 2
        parts.append(f'<text x="{middle:g}" y="{HEIGHT - 9}" class="middle name">{escape(chart.x_name)}</text>')
        parts.append(f'<text x="2" y="13" class="name">{escape(chart.y_name)}</text>')
        return f'<g class="axes" aria-hidden="true">{"".join(parts)}</g>'

    def _line(self, one: Series) -> str:
        """The path of a line, broken where there is no value, over its band."""
        points = [(self.px(x), None if y is None else self.py(y)) for x, y in zip(self.chart.x, one.y, strict=True)]
        band = ""
        if one.low is not None and one.high is not None:
            edge = [
                (self.px(x), self.py(low), self.py(high))
                for x, low, high in zip(self.chart.x, one.low, one.high, strict=True)
                if low is not None and high is not None
            ]
            if len(edge) > 1:
                there = " ".join(f"{x:g},{high:g}" for x, _, high in edge)
                back = " ".join(f"{x:g},{low:g}" for x, low, _ in reversed(edge))
                band = f'<polygon class="band" points="{there} {back}"/>'
        words, pen = [], "M"
        for x, y in points:
            if y is None:
                pen = "M"
            else:
                words.append(f"{pen}{x:g} {y:g}")
                pen = "L"
        return f'{band}<path class="line" d="{"".join(words)}"/>'

    def _mark(self, i: int, one: Series) -> str:
        """One point with its whisker."""
        place, value = self._place(i)
        if value is None:
            return ""
        whisker = ""
        if one.low is not None and one.high is not None:
            low, high = one.low[self._at(i)], one.high[self._at(i)]
            if low is not None and high is not None:
                x = self.px(place)
                whisker = f'<line class="whisker" x1="{x:g}" y1="{self.py(low):g}" x2="{x:g}" y2="{self.py(high):g}"/>'
        return whisker + _shape(i, self.px(place), self.py(value), 5.5)

    def _at(self, i: int) -> int:
        """The place of the only value of series ``i``."""
        return next((k for k, value in enumerate(self.chart.series[i].y) if value is not None), 0)

    def _place(self, i: int) -> tuple[float, float | None]:
        k = self._at(i)
        return self.chart.x[k], self.chart.series[i].y[k]

    def _value(self, one: Series, k: int) -> str:
        """The text of a value, with its band."""
        value = one.y[k]
        if value is None:
            return ""
        text = f"{value:.{self.chart.decimals}f}"
        if one.low is not None and one.high is not None:
            low, high = one.low[k], one.high[k]
            if low is not None and high is not None and high > low:
                text += f" ± {(high - low) / 2:.{self.chart.decimals}f}"
        return text.replace("-", "−")

    def _label(self, k: int) -> str:
        chart = self.chart
        if chart.kind == "lines":
            return f"{chart.x_name} {number(chart.x[k])}"
        return f"{chart.x_name} {chart.x[k]:.1f}"

    def _data(self) -> str:
        """Return what ``page.js`` reads: places and texts of every value."""
        count = range(len(self.chart.x))
        found = {
            "marks": self.chart.kind == "marks",
            "x": [self.px(x) for x in self.chart.x],
            "labels": [self._label(k) for k in count],
            "series": [
                {
                    "name": one.name,
                    "y": [None if y is None else self.py(y) for y in one.y],
                    "text": [self._value(one, k) for k in count],
                }
                for one in self.chart.series
            ],
        }
        return json.dumps(found, separators=(",", ":")).replace("<", "\\u003c")

    def _words(self) -> str:
        """The text alternative."""
        chart = self.chart
        if chart.kind == "marks":
            said = [f"{one.name}: {self._value(one, self._at(i))}" for i, one in enumerate(chart.series)]
            return f"{chart.y_name}. " + "; ".join(said) + "."
        said = []
        for one in chart.series:
            there = [y for y in one.y if y is not None]
            if there:
                first, last = (f"{y:.{chart.decimals}f}" for y in (there[0], there[-1]))
                least, most = (f"{y:.{chart.decimals}f}" for y in (min(there), max(there)))
                said.append(f"{one.name} goes from {first} to {last} (least {least}, most {most})")
        return f"{chart.y_name} over {chart.x_name}: " + "; ".join(said) + ". Every value is in the table below."

    def _table(self) -> Table:
        chart = self.chart
        if chart.kind == "marks":
            rows = [
                [one.name, f"{self._place(i)[0]:.1f}", self._value(one, self._at(i))]
                for i, one in enumerate(chart.series)
            ]
            return Table(["series", chart.x_name, chart.y_name], rows, caption=chart.title)
        places = evenly(len(chart.x), MOST_ROWS)
        rows = [[number(chart.x[k]), *(self._value(one, k) for one in chart.series)] for k in places]
        caption = chart.title + (f", {len(places)} of {len(chart.x)} points" if len(places) < len(chart.x) else "")
        return Table([chart.x_name, *(one.name for one in chart.series)], rows, caption=caption)


def evenly(count: int, most: int) -> list[int]:
    """At most ``most`` of the indices below ``count``, evenly spaced, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def number(value: float) -> str:
    """Return the text of a tick."""
    if abs(value) >= 10000:
        return f"{value / 1000:g}k"
    return f"{value:.6g}".replace("-", "−")


def _sample(mark: str, i: int) -> str:
    """Return what stands on a switch."""
    return '<path class="line" d="M1 5L25 5"/>' if mark == "line" else _shape(i, 13, 5, 4.5)


def _shape(i: int, x: float, y: float, r: float) -> str:
    """Circle, square, triangle or diamond, in turn."""
    corners = {
        1: ((-r, -r), (r, -r), (r, r), (-r, r)),
        2: ((0, -1.2 * r), (1.2 * r, r), (-1.2 * r, r)),
        3: ((0, -1.3 * r), (1.3 * r, 0), (0, 1.3 * r), (-1.3 * r, 0)),
    }.get(i % 4)
    if corners is None:
        return f'<circle class="mark" cx="{x:g}" cy="{y:g}" r="{r:g}"/>'
    return f'<polygon class="mark" points="{" ".join(f"{x + dx:g},{y + dy:g}" for dx, dy in corners)}"/>'
