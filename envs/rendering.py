"""Pictures of ``render()``: a table for terminals, two charts for pictures. Drawn with Pillow, never pyplot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dus_gym.curves import COLOURS

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT = 48, 624
"""Where both charts begin and end, in pixels; numbers stand to the left."""
SCORES, SIZES = (50, 190), (220, 360)
"""Top and bottom of the chart of scores and of that of sizes."""
INK, GUIDE = (70, 70, 70), (222, 222, 222)
DOTTED = 40
"""Steps up to which each has a dot of its own."""
MOST_SPLITS = 4
"""Modalities up to which the equal split is marked on the axis of sizes."""
LAST = 10


def table(modalities: Sequence[str], history: Sequence[dict[str, Any]], total_batch: int) -> str:
    """The last ten steps: cumulative score and batch size of each modality, and the reward."""
    widths = [max(14, len(name) + 2) for name in modalities]
    head = "step " + "".join(f"{name:>{w}}" for name, w in zip(modalities, widths, strict=True)) + "    reward"
    lines = [f"cumulative score / batch size ({total_batch} samples per iteration)", head]
    first = max(0, len(history) - LAST)
    for i, row in enumerate(history[first:], start=first + 1):
        cells = "".join(
            f"{f'{score:.3f} / {size}':>{w}}" for score, size, w in zip(row["state"], row["sizes"], widths, strict=True)
        )
        lines.append(f"{i:<5d}{cells}{row['reward']:>10.3f}")
    return "\n".join(lines) + "\n"


def draw(modalities: Sequence[str], history: Sequence[dict[str, Any]], total_batch: int) -> npt.NDArray[np.uint8]:
    """Draw the cumulative scores over the steps, and below them the sizes of the batches; ``(400, 640, 3)`` uint8."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(12)
    n, m = len(history), len(modalities)

    def across(step: float) -> float:
        """Where so many steps have gone by; the axis is one step long before the first."""
        return LEFT + (RIGHT - LEFT) * step / max(n, 1)

    def up(chart: tuple[int, int], part: float) -> int:
        """Where a value lies that is this part of its axis."""
        return round(chart[1] - part * (chart[1] - chart[0]))

    def write(place: tuple[float, float], text: str, anchor: str) -> None:
        pen.text(place, text, fill=INK, font=font, anchor=anchor)

    splits = m if m <= MOST_SPLITS else 1
    marks = {part: f"{total_batch * part:.0f}" for part in (k / splits for k in range(splits + 1))}
    for chart, name, ticks in (
        (SCORES, "cumulative score", {0.0: "0", 0.5: "0.5", 1.0: "1"}),
        (SIZES, "samples per iteration", marks),
    ):
        for part, text in ticks.items():
            pen.line((LEFT, up(chart, part), RIGHT, up(chart, part)), fill=GUIDE)
            write((LEFT - 6, up(chart, part)), text, "rm")
        write((LEFT, chart[0] - 6), name, "ls")
    for j in range(m):
        colour = COLOURS[j % len(COLOURS)]
        points = [(across(i + 0.5), up(SCORES, row["state"][j])) for i, row in enumerate(history)]
        if n > 1:
            pen.line(points, fill=colour, width=2)
        for x, y in points if n < DOTTED else points[-1:]:
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
        for i, row in enumerate(history):
            below, above = (sum(row["sizes"][:k]) / max(total_batch, 1) for k in (j, j + 1))
            if above > below:
                pen.rectangle((across(i), up(SIZES, above), across(i + 1), up(SIZES, below)), fill=colour)
    _legend(pen, font, modalities)
    for chart in (SCORES, SIZES):
        pen.line((LEFT, chart[0], LEFT, chart[1]), fill=INK)
        pen.line((LEFT, chart[1], RIGHT, chart[1]), fill=INK)
    for step in _round_steps(n):
        x = across(step - 0.5)
        for _, bottom in (SCORES, SIZES):
            pen.line((x, bottom, x, bottom + 4), fill=INK)
        write((x, SIZES[1] + 6), f"{step}", "mt")
    write(((LEFT + RIGHT) / 2, HEIGHT - 4), "step", "mb")
    return np.asarray(picture, dtype=np.uint8)


def _legend(pen: Any, font: Any, modalities: Sequence[str]) -> None:
    """Write the modalities' names in a line, each behind its colour; what does not fit is counted."""
    x = float(LEFT)
    for j, name in enumerate(modalities):
        rest = f"and {len(modalities) - j} more"
        # Room for the count of the others, unless this is the last.
        room = 0.0 if j == len(modalities) - 1 else 12 + pen.textlength(rest, font=font)
        if x + 16 + pen.textlength(name, font=font) + room > RIGHT:
            pen.text((x, 14), rest, fill=INK, font=font, anchor="lm")
            return
        pen.rectangle((x, 9, x + 10, 19), fill=COLOURS[j % len(COLOURS)])
        pen.text((x + 16, 14), name, fill=INK, font=font, anchor="lm")
        x += 28 + pen.textlength(name, font=font)


def _round_steps(n: int) -> list[int]:
    """Return at most eleven round numbers of steps: the first, then multiples of 1, 2, 5, 10, …"""
    each = next(of * 10**k for k in range(20) for of in (1, 2, 5) if n <= 10 * of * 10**k)
    return [1, *range(each, n + 1, each)] if each > 1 else [*range(1, n + 1)]
