"""Pictures with a row per agent: differences with their intervals, and stacked bars, on one axis.

Names and figures are text of the page, so that none is cut and all keep their size on a phone; what is drawn between
them is SVG in per cent of the width that is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from dus_gym.experiments.table import TONES
from dus_gym.report.chart import number, ticks

HEIGHT = 34
"""Of a row's drawing, in pixels."""
LONG = 34
"""Characters of a name that always stand in one line where the screen is wide."""
MOST_TICKS = 8
ROOM = 0.04
"""Of an axis beyond what is drawn, to either side."""
BEYOND = 4.0
"""Intervals are drawn up to so many times the largest difference; an arrow says that one goes on."""
LEAST_DRAWN = 2.0
"""Points up to which they always are."""

AGENT, CONTROL, ZERO = "agent", "control", "zero"
"""Kinds of marks, told apart by shape and colour."""
_SHAPES = {
    AGENT: '<circle class="mark" r="6"/>',
    CONTROL: '<rect class="mark" x="-5.5" y="-5.5" width="11" height="11"/>',
    ZERO: '<path class="mark" d="M0 -7.5L7.5 0L0 7.5L-7.5 0Z"/>',
}


@dataclass(frozen=True)
class Difference:
    """A row of :func:`differences`."""

    name: str
    kind: str
    points: float
    interval: tuple[float, float] | None
    seeds: Sequence[float]
    """Every seed's difference, points."""
    said: str
    """The figures in words."""
    outcome: str


@dataclass(frozen=True)
class Bar:
    """A row of :func:`bars`."""

    name: str
    parts: Sequence[float]
    said: str


def differences(
    key: str,
    title: str,
    says: str,
    groups: Mapping[str, Sequence[Difference]],
    *,
    reference: str,
    legend: Mapping[str, str],
) -> str:
    """Return the picture of differences to a reference, which stands at zero, in points of accuracy.

    Args:
        key: unique on the page; letters, digits and dashes.
        title: of the picture.
        says: what is drawn and how to read it.
        groups: rows by the title of their group, in order; a group without a title has no heading.
        reference: its name.
        legend: the meaning of each kind of mark, of ``interval`` and of ``seed``; those that are drawn are explained.
    """
    rows = [row for group in groups.values() for row in group]
    bound = max(LEAST_DRAWN, BEYOND * max(abs(row.points) for row in rows))
    values = [0.0, *(v for row in rows for v in (row.points, *(row.interval or ()), *row.seeds))]
    axis = _Axis(max(min(values), -bound), min(max(values), bound))
    cut = any(not axis.low <= v <= axis.high for v in values)
    body = []
    for name, group in groups.items():
        lines = "".join(
            f'<tr class="{row.kind}">{_name(row.name)}<td class="strip">{_mark(axis, row)}</td>'
            f'<td class="said">{escape(row.said)}</td>{_outcome(row.outcome)}</tr>'
            for row in group
        )
        heading = f'<tr><th class="group" colspan="4" scope="rowgroup">{escape(name)}</th></tr>' if name else ""
        body.append(f"<tbody>{heading}{lines}</tbody>")
    kinds = [kind for kind in _SHAPES if any(row.kind == kind for row in rows)]
    samples = {kind: _at("13", HEIGHT / 2, _SHAPES[kind]) for kind in kinds}
    if any(row.interval for row in rows):
        samples["interval"] = f'<line class="whisker" x1="2" x2="24" y1="{HEIGHT / 2}" y2="{HEIGHT / 2}"/>'
    if any(len(row.seeds) > 1 for row in rows):
        samples["seed"] = "".join(_at(x, HEIGHT / 2, '<circle class="seed" r="2.2"/>') for x in ("7", "13", "17"))
    meanings = [(kind if kind in kinds else "", picture, legend[kind]) for kind, picture in samples.items()]
    if cut:
        meanings.append(("", _at("13", HEIGHT / 2, _arrow(1)), "goes on beyond the picture"))
    ends = (
        f'<div class="ends"><span>← less accurate than {escape(reference)}</span>'
        f"<span>more accurate than {escape(reference)} →</span></div>"
    )
    head = ("agent", "", "points [95 % interval]", "outcome")
    foot = f'{ends}<p class="unit">points of accuracy; {escape(reference)} at 0</p>'
    return _figure(key, f"<h2>{escape(title)}</h2>", says, meanings, head, body, axis, foot)


def bars(key: str, title: str, says: str, parts: Sequence[str], rows: Sequence[Bar], *, unit: str) -> str:
    """Return the picture of stacked bars; the ends of the first row's parts are marked in all of them.

    Args:
        key: unique on the page.
        title: of the picture; none if empty.
        says: what is drawn.
        parts: names of a bar's parts.
        rows: in order.
        unit: of the axis.
    """
    axis = _Axis(0.0, max(sum(row.parts) for row in rows), room=(0.0, ROOM))
    first = [sum(rows[0].parts[: k + 1]) for k in range(len(parts) - 1)]
    lines = []
    for row in rows:
        drawn = "".join(
            f'<rect class="part s{j % 8}" x="{axis.at(sum(row.parts[:j]))}" y="7" height="{HEIGHT - 14}" '
            f'width="{axis.width(part)}"/>'
            for j, part in enumerate(row.parts)
        )
        marks = "".join(_upright("split", axis.at(end)) for end in first)
        lines.append(
            f'<tr>{_name(row.name)}<td class="strip">{_svg(axis.guides() + drawn + marks)}</td>'
            f'<td class="said">{escape(row.said)}</td></tr>'
        )
    legend = [
        (f"s{j % 8}", f'<rect class="part" x="4" y="{HEIGHT / 2 - 6}" width="18" height="12"/>', name)
        for j, name in enumerate(parts)
    ]
    legend.append(("", f'<line class="split" x1="13" x2="13" y1="6" y2="{HEIGHT - 6}"/>', f"split of {rows[0].name}"))
    head = ("agent", "", ", ".join(parts))
    body = [f"<tbody>{''.join(lines)}</tbody>"]
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    return _figure(key, heading, says, legend, head, body, axis, f'<p class="unit">{escape(unit)}</p>')


class _Axis:
    """A range of values, drawn from 0 to 100 per cent."""

    def __init__(self, low: float, high: float, room: tuple[float, float] = (ROOM, ROOM)) -> None:
        self.low, self.high = low, high if high > low else low + 1.0
        span = self.high - low
        self._from, self._to = self.low - room[0] * span, self.high + room[1] * span

    def at(self, value: float) -> str:
        return self.width(min(max(value, self.low), self.high) - self._from)

    def width(self, length: float) -> str:
        return f"{100 * length / (self._to - self._from):.2f}%"

    def ticks(self) -> list[float]:
        return ticks(self.low, self.high, MOST_TICKS)

    def guides(self) -> str:
        return "".join(_upright("guide", self.at(value)) for value in self.ticks())


def _mark(axis: _Axis, row: Difference) -> str:
    """Draw one difference: guides, the reference's line, every seed, the interval and the mean."""
    middle = HEIGHT / 2
    drawn = [axis.guides(), _upright("zero", axis.at(0.0))]
    drawn += [
        _at(axis.at(value), middle - 9, '<circle class="seed" r="2.2"/>')
        for value in (row.seeds if len(row.seeds) > 1 else ())
        if axis.low <= value <= axis.high
    ]
    if row.interval is not None:
        low, high = row.interval
        line = f'<line class="whisker" x1="{axis.at(low)}" x2="{axis.at(high)}" y1="{middle}" y2="{middle}"/>'
        ends = ((low, low < axis.low, -1), (high, high > axis.high, 1))
        drawn += [line, *(_at(axis.at(end), middle, _arrow(side)) for end, beyond, side in ends if beyond)]
    drawn.append(_at(axis.at(row.points), middle, _SHAPES[row.kind]))
    return _svg("".join(drawn))


def _name(name: str) -> str:
    """Return the cell that names a row; a long name is broken where there is no room for it."""
    return f'<th scope="row"{" class=long" if len(name) > LONG else ""}>{escape(name)}</th>'


def _at(x: str, y: float, shape: str) -> str:
    """Put a shape around a place that is given in per cent or pixels."""
    return f'<svg x="{x}" y="{y:g}" width="1" height="1" overflow="visible">{shape}</svg>'


def _arrow(side: int) -> str:
    """Draw a tip to the right (1) or left (-1)."""
    return f'<path class="arrow" d="M{-5 * side} -5L{3 * side} 0L{-5 * side} 5"/>'


def _upright(kind: str, x: str, height: int = HEIGHT) -> str:
    return f'<line class="{kind}" x1="{x}" x2="{x}" y1="0" y2="{height}"/>'


def _svg(drawn: str, height: int = HEIGHT) -> str:
    return f'<svg class="row" width="100%" height="{height}" aria-hidden="true">{drawn}</svg>'


def _outcome(word: str) -> str:
    tone = TONES.get(word)
    return f'<td class="outcome{f" {tone}" if tone else ""}">{escape(word)}</td>'


def _figure(
    key: str,
    heading: str,
    says: str,
    legend: Sequence[tuple[str, str, str]],
    head: Sequence[str],
    body: Sequence[str],
    axis: _Axis,
    foot: str,
) -> str:
    """Return the whole picture: a table, of which screen readers read the words."""
    listed = "".join(
        f'<li class="{kind}"><svg width="26" height="{HEIGHT}" aria-hidden="true">{picture}</svg>{escape(words)}</li>'
        for kind, picture, words in legend
    )
    columns = "".join(f'<th scope="col">{escape(name)}</th>' if name else '<td class="strip"></td>' for name in head)
    numbers = "".join(
        f'{_upright("tick", axis.at(value), 5)}<text x="{axis.at(value)}" y="18">{number(value)}</text>'
        for value in axis.ticks()
    )
    return (
        f'<figure class="rows" id="{key}" aria-labelledby="{key}-says">'
        f'<figcaption>{heading}<p id="{key}-says">{escape(says)}</p></figcaption>'
        f'<ul class="legend">{listed}</ul>'
        f"<table><thead><tr>{columns}</tr></thead>{''.join(body)}"
        f'<tfoot><tr><td></td><td class="strip">{_svg(numbers, 26)}{foot}</td>'
        f"{'<td></td>' * (len(head) - 2)}</tr></tfoot></table></figure>"
    )
