"""Pictures of kept runs: one run's curves, and many runs' shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dus_gym.curves import COLOURS, ModalityCurves, draw_curves


def draw_run(path: Path, title: str, modalities: Sequence[str], steps: Sequence[Mapping[str, Any]]) -> None:
    """Write the picture: scores above, below them the samples per iteration, or the learning rates where those move.

    Args:
        path: a PNG file.
        title: stands above both panels; it must state the trainer and the data's kind.
        modalities: names, in order.
        steps: lines of ``steps.jsonl``.
    """
    rates = any("rate/" + name in step for step in steps for name in modalities)
    kind, given = ("rate/", "factors on learning rates") if rates else ("size/", "samples per iteration")
    curves = [
        ModalityCurves(
            name,
            cumulative=[step["observation"][j] for step in steps],
            own=[step["train_score/" + name] for step in steps],
            validation=[float(step.get("val_score/" + name, "nan")) for step in steps],
            given=[float(step[kind + name]) for step in steps],
        )
        for j, name in enumerate(modalities)
    ]
    draw_curves(title, [step["iterations"] for step in steps], curves, given, "iteration").savefig(path)


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
