"""Pictures of ``render()``: a table for terminals, a strip for pictures. Drawn with Pillow, never pyplot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT, MARGIN = 480, 240, 12
COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0))
LAST = 10


def table(modalities: Sequence[str], history: Sequence[dict[str, Any]], total_batch: int) -> str:
    """The last ten steps: cumulative score and batch size of each modality, and the reward."""
    widths = [max(14, len(name) + 2) for name in modalities]
    head = "step " + "".join(f"{name:>{w}}" for name, w in zip(modalities, widths, strict=True)) + "    reward"
    lines = [f"cumulative score / batch size (N_B = {total_batch})", head]
    first = max(0, len(history) - LAST)
    for i, row in enumerate(history[first:], start=first + 1):
        cells = "".join(
            f"{f'{score:.3f} / {size}':>{w}}" for score, size, w in zip(row["state"], row["sizes"], widths, strict=True)
        )
        lines.append(f"{i:<5d}{cells}{row['reward']:>10.3f}")
    return "\n".join(lines) + "\n"


def draw(modalities: Sequence[str], history: Sequence[dict[str, Any]], total_batch: int) -> npt.NDArray[np.uint8]:
    """Scores over the steps above, the split of N_B below; ``(240, 480, 3)`` uint8."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(picture)
    half = HEIGHT // 2
    left, right = MARGIN, WIDTH - MARGIN
    for top, bottom in ((MARGIN, half - 4), (half + 4, HEIGHT - MARGIN)):
        pen.rectangle((left, top, right, bottom), outline=(190, 190, 190))
    n = len(history)
    for j, name in enumerate(modalities):
        colour = COLOURS[j % len(COLOURS)]
        pen.text((left + 6 + 90 * j, MARGIN + 3), name, fill=colour)
        if not n:
            continue
        step = (right - left) / n
        points = [
            (left + step * (i + 0.5), half - 4 - row["state"][j] * (half - 4 - MARGIN)) for i, row in enumerate(history)
        ]
        if n > 1:
            pen.line(points, fill=colour, width=2)
        for x, y in points if n < 40 else points[-1:]:
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
        scale = (HEIGHT - MARGIN - half - 4) / max(total_batch, 1)
        for i, row in enumerate(history):
            below = sum(row["sizes"][:j]) * scale
            height = row["sizes"][j] * scale
            base = HEIGHT - MARGIN - below
            x = left + step * i
            pen.rectangle((x, base - height, max(x, x + step - 1), base), fill=colour)
    return np.asarray(picture, dtype=np.uint8)
