"""Figure 1: accuracy and each modality's score against its average batch size (Kinetics-Sounds).

dus reproduce fig1 --data-root DIR
"""

from __future__ import annotations

from pathlib import Path

from dus_gym.benchmarks.paper.command import reproduce
from dus_gym.benchmarks.paper.curves import MARKERS, average_sizes, fused
from dus_gym.benchmarks.paper.item import Drawing, Item
from dus_gym.benchmarks.paper.rows import rows
from dus_gym.experiments.picture import COLOURS


def draw(path: Path, what: Drawing) -> list[str]:
    """Two panels: fused accuracy against samples an iteration, each modality's score against its batch size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.2), layout="constrained", dpi=120)
    figure.suptitle(what.title, fontsize=9)
    accuracy, score = figure.subplots(1, 2)
    said = []
    for i, row in enumerate(what.rows):
        runs = what.summaries[row.folder]
        sizes, found = average_sizes(runs, what.modalities), fused(runs)
        colour = COLOURS[i % len(COLOURS)]
        spread = found.std(ddof=1) if len(found) > 1 else 0.0
        accuracy.errorbar(
            sizes.sum(),
            found.mean(),
            yerr=spread,
            fmt=MARKERS[i % len(MARKERS)],
            mfc="none",
            ms=8,
            color=colour,
            capsize=3,
            label=row.label,
        )
        for j, name in enumerate(what.modalities):
            mean = sum(run["modalities"][name]["score"] for run in runs) / len(runs)
            score.plot(sizes[j], mean, MARKERS[j % len(MARKERS)], mfc="none", ms=8, color=colour)
        shown = ", ".join(f"{name} {size:.1f}" for name, size in zip(what.modalities, sizes, strict=True))
        said.append(f"{row.label}: average batch {shown}; fused accuracy {found.mean():.1f}.")
    for j, name in enumerate(what.modalities):
        score.plot([], [], MARKERS[j % len(MARKERS)], color="grey", label=name)
    accuracy.set_xlabel("samples an iteration, all modalities")
    accuracy.set_ylabel("test accuracy, fused, per cent")
    score.set_xlabel("average batch size of the modality")
    score.set_ylabel("score of the last epoch")
    for axes in (accuracy, score):
        axes.legend(fontsize=8)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    best = max(what.rows, key=lambda row: fused(what.summaries[row.folder]).mean())
    return [*said, f"The most accurate here is {best.label}."]


ITEM = Item(
    word="fig1",
    title="Figure 1: accuracy and scores against average batch size",
    datasets=("Kinetics-Sounds",),
    rows=rows("Baseline", "MLA", "MLA-HB", "DUS/Baseline", "DUS/MLA"),
    shape="No number is printed. By Table 1, DUS/MLA (74.87) should lie above MLA (70.04) and DUS/Baseline (70.26) "
    "above Baseline (67.13), with fewer samples of the modality that is ahead.",
    draw=draw,
)

if __name__ == "__main__":
    reproduce(ITEM.word)
