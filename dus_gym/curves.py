"""The picture of a run, in an environment or in anybody's own loop: scores, and what each modality was given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Of modalities: Okabe and Ito's palette, told apart by colour-blind readers too."""


@dataclass(frozen=True)
class ModalityCurves:
    """Curves of one modality, one entry per step."""

    name: str
    cumulative: Sequence[float]
    """ŝ_t after the step."""
    own: Sequence[float]
    """The training score of the step alone."""
    validation: Sequence[float]
    """The validation score that the step ended with; NaN where there was none."""
    given: Sequence[float]
    """Samples per iteration, or the factor on the learning rate."""


def draw_curves(
    title: str, times: Sequence[float], modalities: Sequence[ModalityCurves], given: str, time: str
) -> Figure:
    """Draw the scores above (Figure 5 of the paper), and what each modality was given below (Figure 4), stacked.

    Args:
        title: stands above both panels.
        times: when each step ended; the first began at 0.
        modalities: in order.
        given: names the lower panel's axis.
        time: names the axis that both panels share.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # Letters that are still read where a phone shows the picture 350 points wide.
    figure = Figure(figsize=(5.25, 5.1), dpi=160)
    columns = min(4, len(modalities))
    rows = -(-len(modalities) // columns)
    # A fixed layout: fitting one draws the picture several times. The title above has up to three lines.
    figure.subplots_adjust(left=0.18, right=0.95, bottom=0.1, top=0.86 - 0.04 * rows, hspace=0.1)
    figure.suptitle(title, fontsize=10, wrap=True)
    scores, parts = figure.subplots(2, 1, sharex=True)
    edges, bottom = [0, *times], [0.0] * len(times)
    validated = not all(math.isnan(value) for one in modalities for value in one.validation)
    for j, one in enumerate(modalities):
        colour = COLOURS[j % len(COLOURS)]
        scores.plot(times, one.cumulative, color=colour, lw=2, label=one.name)
        scores.plot(times, one.own, color=colour, lw=1, alpha=0.45)
        if validated:
            scores.plot(times, one.validation, color=colour, lw=1, ls="--")
        tops = [b + h for b, h in zip(bottom, one.given, strict=True)]
        parts.fill_between(edges, [bottom[0], *bottom], [tops[0], *tops], step="pre", color=colour, alpha=0.85, lw=0)
        bottom = tops
    scores.set_ylim(0.0, 1.02)
    thin = "thin: last step alone" + (",\ndashed: validation" if validated else "")
    scores.set_ylabel(f"discrepancy score\n({thin})")
    # Above the panel, where it hides no curve.
    scores.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, fontsize=10, frameon=False,
        handlelength=1.0, columnspacing=1.0, borderaxespad=0.1,
    )  # fmt: skip
    for k in range(1, len(modalities)):
        equal = [whole * k / len(modalities) for whole in [bottom[0], *bottom]]
        parts.plot(edges, equal, drawstyle="steps-pre", color="black", lw=0.8, ls=":")
    parts.set_ylim(0.0, max(bottom) * 1.02)
    parts.set_xlim(0, edges[-1])
    parts.set_ylabel(f"{given}\n(dotted: equal split)")
    parts.set_xlabel(time)
    parts.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    for axes in (scores, parts):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
