"""Figure 5: the cumulative score of every modality over training, and the gap between them.

dus reproduce fig5 --data-root DIR
"""

from __future__ import annotations

from pathlib import Path

from dus_gym.benchmarks.paper.command import reproduce
from dus_gym.benchmarks.paper.curves import iterations, over_seeds, scores
from dus_gym.benchmarks.paper.item import Drawing, Item
from dus_gym.benchmarks.paper.rows import rows
from dus_gym.experiments.picture import COLOURS


def draw(path: Path, what: Drawing) -> list[str]:
    """A panel a method with one line a modality, and a last one with every method's gap."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * (len(what.rows) + 1), 3.6), layout="constrained", dpi=120)
    figure.suptitle(what.title, fontsize=9)
    *panels, last = figure.subplots(1, len(what.rows) + 1, squeeze=False)[0]
    said = []
    for i, (axes, row) in enumerate(zip(panels, what.rows, strict=True)):
        runs = what.steps[row.folder]
        for j, name in enumerate(what.modalities):
            mean, spread = scores(runs, j)
            axes.plot(iterations(runs), mean, color=COLOURS[j], lw=2, label=name)
            axes.fill_between(iterations(runs), mean - spread, mean + spread, color=COLOURS[j], alpha=0.2, lw=0)
        axes.set_title(row.label, fontsize=9)
        axes.set_ylim(0.0, 1.02)
        gap, _ = over_seeds(runs, "gap")
        last.plot(iterations(runs), gap, color=COLOURS[i + len(what.modalities)], lw=2, label=row.label)
        said.append(f"{row.label}: gap {gap.mean():.3f} on average, {gap[-1]:.3f} at the end.")
    panels[0].set_ylabel("cumulative score")
    panels[0].legend(fontsize=8)
    last.set_title("gap", fontsize=9)
    last.legend(fontsize=8)
    for axes in (*panels, last):
        axes.set_xlabel("iteration")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    return said


ITEM = Item(
    word="fig5",
    title="Figure 5: cumulative scores over training",
    datasets=("Kinetics-Sounds",),
    rows=rows("Baseline", "MLA", "DUS/MLA"),
    shape="No number is printed. By the method's aim the gap under DUS/MLA is smaller than under MLA and Baseline.",
    draw=draw,
)

if __name__ == "__main__":
    reproduce(ITEM.word)
