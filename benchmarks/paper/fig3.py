"""Figure 3: sensitivity to N_B and to the policy's learning rate (DUS/MLA).

    dus reproduce fig3 --data-root DIR

N_B is the total over modalities; the lower end of the paper's learning rates is unreadable, ours is 1e-5.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dus_gym.benchmarks.paper.command import reproduce
from dus_gym.benchmarks.paper.curves import fused
from dus_gym.benchmarks.paper.item import Drawing, Item
from dus_gym.benchmarks.paper.rows import ROWS
from dus_gym.experiments.picture import COLOURS

TOTALS = (16, 32, 64, 128)
RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
_BY_TOTAL = tuple(replace(ROWS["DUS/MLA"], label=f"N_B = {total}", run={"total_batch": total}) for total in TOTALS)
_BY_RATE = tuple(replace(ROWS["DUS/MLA"], label=f"lr = {rate:g}", agent_options={"lr": rate}) for rate in RATES)


def draw(path: Path, what: Drawing) -> list[str]:
    """Two panels: accuracy over N_B and over the learning rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.8), layout="constrained", dpi=120)
    figure.suptitle(what.title, fontsize=9)
    said = []
    for axes, series, name, values in zip(
        figure.subplots(1, 2, sharey=True),
        (_BY_TOTAL, _BY_RATE),
        ("N_B, samples an iteration", "learning rate of the policy"),
        (TOTALS, RATES),
        strict=True,
    ):
        there = [(value, row) for value, row in zip(values, series, strict=True) if row in what.rows]
        found = [fused(what.summaries[row.folder]) for _, row in there]
        means = [float(runs.mean()) for runs in found]
        spreads = [float(runs.std(ddof=1)) if len(runs) > 1 else 0.0 for runs in found]
        axes.errorbar([value for value, _ in there], means, yerr=spreads, fmt="o-", color=COLOURS[0], capsize=3)
        axes.set_xscale("log", base=2 if values is TOTALS else 10)
        axes.set_xlabel(name)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if means:
            shown = ", ".join(f"{row.label} {mean:.1f}" for (_, row), mean in zip(there, means, strict=True))
            said.append(f"{shown}: from lowest to highest {max(means) - min(means):.1f} points.")
    figure.axes[0].set_ylabel("test accuracy, fused, per cent")
    figure.savefig(path)
    return said


ITEM = Item(
    word="fig3",
    title="Figure 3: N_B and the policy's learning rate",
    datasets=("Kinetics-Sounds",),
    rows=(*_BY_TOTAL, *_BY_RATE),
    shape="No number is printed. The paper calls the accuracy insensitive to learning rates below 1e-1.",
    draw=draw,
)

if __name__ == "__main__":
    reproduce(ITEM.word)
