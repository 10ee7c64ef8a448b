"""The picture of a run: cumulative scores and batch sizes over time (Figures 5 and 4 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dus_gym.envs.rendering import COLOURS


def draw_run(path: Path, title: str, modalities: Sequence[str], steps: Sequence[Mapping[str, Any]]) -> None:
    """Write the picture: scores above, below them the samples per iteration, or the learning rates where those move.

    Args:
        path: a PNG file.
        title: stands above both panels; it must state the trainer and the data's kind.
        modalities: names, in order.
        steps: lines of ``steps.jsonl``.
    """
    from matplotlib.figure import Figure

    iterations = [0, *(step["iterations"] for step in steps)]
    # Letters that are still read where a phone shows the picture 350 points wide.
    figure = Figure(figsize=(5.25, 5.1), dpi=160)
    columns = min(4, len(modalities))
    rows = -(-len(modalities) // columns)
    # A fixed layout: fitting one draws the picture several times. The title above has up to three lines.
    figure.subplots_adjust(left=0.16, right=0.95, bottom=0.1, top=0.86 - 0.04 * rows, hspace=0.1)
    figure.suptitle(title, fontsize=10, wrap=True)
    scores, parts = figure.subplots(2, 1, sharex=True)
    rates = any("rate/" + name in step for step in steps for name in modalities)
    kind = "rate/" if rates else "size/"
    bottom = [0.0] * len(steps)
    for j, name in enumerate(modalities):
        colour = COLOURS[j % len(COLOURS)]
        scores.plot(iterations[1:], [step["observation"][j] for step in steps], color=colour, lw=2, label=name)
        epoch = [step["train_score/" + name] for step in steps]
        scores.plot(iterations[1:], epoch, color=colour, lw=1, alpha=0.45)
        heights = [float(step[kind + name]) for step in steps]
        tops = [b + h for b, h in zip(bottom, heights, strict=True)]
        parts.fill_between(
            iterations, [bottom[0], *bottom], [tops[0], *tops], step="pre", color=colour, alpha=0.85, lw=0
        )
        bottom = tops
    scores.set_ylim(0.0, 1.02)
    scores.set_ylabel("discrepancy score\n(thin: last step alone)")
    # Above the panel, where it hides no curve.
    scores.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, fontsize=10, frameon=False,
        handlelength=1.0, columnspacing=1.0, borderaxespad=0.1,
    )  # fmt: skip
    for k in range(1, len(modalities)):
        equal = [whole * k / len(modalities) for whole in [bottom[0], *bottom]]
        parts.plot(iterations, equal, drawstyle="steps-pre", color="black", lw=0.8, ls=":")
    parts.set_ylim(0.0, max(bottom) * 1.02)
    parts.set_xlim(0, iterations[-1])
    what = "factors on learning rates" if rates else "samples per iteration"
    parts.set_ylabel(f"{what}\n(dotted: equal split)")
    parts.set_xlabel("iteration")
    parts.locator_params(axis="x", nbins=6)
    for axes in (scores, parts):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def draw_shares(
    path: Path, title: str, modalities: Sequence[str], panels: Mapping[str, Sequence[Sequence[float]]]
) -> None:
    """Write a picture of who got which share over the run, a panel per agent.

    Args:
        path: a PNG file.
        title: stands above the panels.
        modalities: names, in order.
        panels: by agent, one list of shares over its steps for each modality.
    """
    from matplotlib.figure import Figure

    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.3 * rows + 0.6), dpi=120, layout="constrained")
    figure.suptitle(title, fontsize=10)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (name, shares) in zip(grid.flat, panels.items(), strict=False):
        # Agents decide more or less often: what they share is the run.
        steps = len(shares[0])
        edges = [step / steps for step in range(steps + 1)]
        axes.stackplot(
            edges,
            [[of[0], *of] for of in shares],
            labels=modalities,
            colors=[COLOURS[j % len(COLOURS)] for j in range(len(modalities))],
            alpha=0.85,
            step="pre",
            lw=0,
        )
        axes.axhline(1.0 / len(modalities), color="black", lw=0.6, ls=":")
        axes.set_title(name, fontsize=9)
        axes.set_ylim(0.0, 1.0)
        axes.set_xlim(0.0, 1.0)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("share of the whole")
    for axes in grid[-1]:
        axes.set_xlabel("part of the run")
    grid.flat[0].legend(loc="upper right", fontsize=7)
    figure.savefig(path)
