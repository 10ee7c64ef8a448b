"""Figure 4: the batch size of every modality over training (DUS/MLA).

dus reproduce fig4 --data-root DIR
"""

from __future__ import annotations

from pathlib import Path

from dus_gym.benchmarks.paper.command import reproduce
from dus_gym.benchmarks.paper.curves import iterations, over_seeds
from dus_gym.benchmarks.paper.item import Drawing, Item
from dus_gym.benchmarks.paper.rows import rows
from dus_gym.experiments.picture import COLOURS


def draw(path: Path, what: Drawing) -> list[str]:
    """One line a modality, mean over seeds, with a band of one standard deviation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.8), layout="constrained", dpi=120)
    figure.suptitle(what.title, fontsize=9)
    axes = figure.subplots()
    runs = what.steps[what.rows[0].folder]
    said = []
    for j, name in enumerate(what.modalities):
        mean, spread = over_seeds(runs, f"size/{name}")
        axes.plot(iterations(runs), mean, color=COLOURS[j], lw=2, label=name)
        axes.fill_between(iterations(runs), mean - spread, mean + spread, color=COLOURS[j], alpha=0.2, lw=0)
        said.append(f"{name}: from {mean[0]:.1f} to {mean[-1]:.1f} samples an iteration.")
    axes.set_xlabel("iteration")
    axes.set_ylabel("batch size")
    axes.set_ylim(bottom=0.0)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    return said


ITEM = Item(
    word="fig4",
    title="Figure 4: batch size over training",
    datasets=("Kinetics-Sounds",),
    rows=rows("DUS/MLA"),
    shape="No number is printed. The sizes begin equal (Algorithm 1, line 1); by the method's aim the size of the "
    "modality that is ahead falls and the other's rises.",
    draw=draw,
)

if __name__ == "__main__":
    reproduce(ITEM.word)
