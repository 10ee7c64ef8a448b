"""The paper's Figures 1, 3, 4 and 5, drawn from finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dus_gym.curves import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dus_gym.benchmarks.paper.tables import RowRuns

Array = npt.NDArray[np.float64]

MARKERS = ("o", "s", "^", "D", "v", "P")


def draw_figure1(path: Path, title: str, rows: Sequence[RowRuns]) -> list[str]:
    """Draw fused accuracy against samples per iteration, and each modality's score against its batch size."""
    figure = _figure(title, width=9.0, height=4.2)
    accuracy, score = figure.subplots(1, 2)
    modalities = rows[0].modalities
    said = []
    for i, of in enumerate(rows):
        sizes, fused = _average_sizes(of), _fused(of)
        colour = COLOURS[i % len(COLOURS)]
        accuracy.errorbar(
            sizes.sum(),
            fused.mean(),
            yerr=_deviation(fused),
            fmt=MARKERS[i % len(MARKERS)],
            mfc="none",
            ms=8,
            color=colour,
            capsize=3,
            label=of.row.label,
        )
        for j, name in enumerate(modalities):
            mean = sum(run.modalities[name].score for run in of.results) / len(of.results)
            score.plot(sizes[j], mean, MARKERS[j % len(MARKERS)], mfc="none", ms=8, color=colour)
        shown = ", ".join(f"{name} {size:.1f}" for name, size in zip(modalities, sizes, strict=True))
        said.append(f"{of.row.label}: average batch {shown}; fused accuracy {fused.mean():.1f}.")
    for j, name in enumerate(modalities):
        score.plot([], [], MARKERS[j % len(MARKERS)], color="grey", label=name)
    accuracy.set_xlabel("samples per iteration, all modalities")
    accuracy.set_ylabel("test accuracy, fused, per cent")
    score.set_xlabel("average batch size of the modality")
    score.set_ylabel("score of the last epoch")
    accuracy.legend(fontsize=8)
    score.legend(fontsize=8)
    _save(figure, path)
    best = max(rows, key=lambda of: _fused(of).mean())
    return [*said, f"The most accurate here is {best.row.label}."]


def draw_figure3(path: Path, title: str, rows: Sequence[RowRuns]) -> list[str]:
    """Draw accuracy over the samples per iteration and over the policy's learning rate."""
    figure = _figure(title, width=9.0, height=3.8)
    said = []
    for axes, label, base, series in zip(
        figure.subplots(1, 2, sharey=True),
        ("N_B, samples per iteration", "learning rate of the policy"),
        (2, 10),
        (
            [(of.row.run["total_batch"], of) for of in rows if "total_batch" in of.row.run],
            [(of.row.agent_options["lr"], of) for of in rows if "lr" in of.row.agent_options],
        ),
        strict=True,
    ):
        fused = [_fused(of) for _, of in series]
        means = [float(values.mean()) for values in fused]
        spreads = [_deviation(values) for values in fused]
        axes.errorbar([value for value, _ in series], means, yerr=spreads, fmt="o-", color=COLOURS[0], capsize=3)
        axes.set_xscale("log", base=base)
        axes.set_xlabel(label)
        if means:
            shown = ", ".join(f"{of.row.label} {mean:.1f}" for (_, of), mean in zip(series, means, strict=True))
            said.append(f"{shown}: from lowest to highest {max(means) - min(means):.1f} points.")
    figure.axes[0].set_ylabel("test accuracy, fused, per cent")
    _save(figure, path)
    return said


def draw_figure4(path: Path, title: str, rows: Sequence[RowRuns]) -> list[str]:
    """Draw the batch size of every modality over training, under the first row."""
    figure = _figure(title, width=7.0, height=3.8)
    axes = figure.subplots()
    of = rows[0]
    said = []
    for j, name in enumerate(of.modalities):
        sizes = _by_step(of, f"size/{name}")
        _curve(axes, of, sizes, color=COLOURS[j], label=name)
        mean = sizes.mean(axis=0)
        said.append(f"{name}: from {mean[0]:.1f} to {mean[-1]:.1f} samples per iteration.")
    axes.set_xlabel("iteration")
    axes.set_ylabel("batch size")
    axes.set_ylim(bottom=0.0)
    axes.legend(fontsize=8)
    _save(figure, path)
    return said


def draw_figure5(path: Path, title: str, rows: Sequence[RowRuns]) -> list[str]:
    """Draw the cumulative scores over training, one panel per row, and in a last panel every row's gap."""
    figure = _figure(title, width=3.2 * (len(rows) + 1), height=3.6)
    *panels, last = figure.subplots(1, len(rows) + 1, squeeze=False)[0]
    said = []
    for i, (axes, of) in enumerate(zip(panels, rows, strict=True)):
        for j, name in enumerate(of.modalities):
            _curve(axes, of, _by_step(of, "observation", j), color=COLOURS[j], label=name)
        axes.set_title(of.row.label, fontsize=9)
        axes.set_ylim(0.0, 1.02)
        gap = _by_step(of, "gap").mean(axis=0)
        last.plot(_iterations(of), gap, color=COLOURS[i + len(of.modalities)], lw=2, label=of.row.label)
        said.append(f"{of.row.label}: gap {gap.mean():.3f} on average, {gap[-1]:.3f} at the end.")
    panels[0].set_ylabel("cumulative score")
    panels[0].legend(fontsize=8)
    last.set_title("gap", fontsize=9)
    last.legend(fontsize=8)
    for axes in (*panels, last):
        axes.set_xlabel("iteration")
    _save(figure, path)
    return said


def _figure(title: str, *, width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    figure.suptitle(title, fontsize=9)
    return figure


def _save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _curve(axes: Axes, of: RowRuns, values: Array, *, color: str, label: str) -> None:
    """Draw the mean over seeds with a band of one deviation; ``values`` are ``(seeds, steps)``."""
    mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1) if len(values) > 1 else 0.0
    axes.plot(_iterations(of), mean, color=color, lw=2, label=label)
    axes.fill_between(_iterations(of), mean - spread, mean + spread, color=color, alpha=0.2, lw=0)


def _by_step(of: RowRuns, key: str, modality: int | None = None) -> Array:
    """Return one value of every step, or a modality's entry of it, ``(seeds, steps)``.

    Runs of differing length (one that diverged) are cut to the shortest.
    """
    length = min(len(steps) for steps in of.steps)

    def value(step: dict[str, Any]) -> float:
        found: float = step[key] if modality is None else step[key][modality]
        return found

    return np.array([[value(step) for step in steps[:length]] for steps in of.steps], dtype=np.float64)


def _iterations(of: RowRuns) -> list[int]:
    """Return the iterations done at every step, of the shortest run."""
    return [step["iterations"] for step in min(of.steps, key=len)]


def _average_sizes(of: RowRuns) -> Array:
    """Return the mean batch size of every modality over whole runs and seeds, ``(m,)``."""
    each = [[run.modalities[name].samples / run.iterations for name in of.modalities] for run in of.results]
    return np.asarray(np.mean(each, axis=0))


def _fused(of: RowRuns) -> Array:
    """Return the test accuracy in per cent by the method's own predictor, one per seed."""
    return np.array([100.0 * run.accuracy for run in of.results if run.accuracy is not None])


def _deviation(values: Array) -> float:
    """Return the sample deviation; 0 for one seed."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
