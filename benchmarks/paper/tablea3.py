"""Table A3: what the score and the policy add (CREMA-D).

    dus reproduce tableA3 --data-root DIR

The rows that the paper calls Baseline have MLA's figures of Table 1: the ablation is of DUS/MLA.
"""

from dus_gym.benchmarks.paper.command import reproduce
from dus_gym.benchmarks.paper.item import Item
from dus_gym.benchmarks.paper.rows import MLA_AS_BASELINE, rows

ITEM = Item(
    word="tableA3",
    title="Table A3: ablation",
    datasets=("CREMA-D",),
    rows=(MLA_AS_BASELINE, *rows("DUS w/o RL", "DUS")),
    table="A3",
    modalities=True,
)

if __name__ == "__main__":
    reproduce(ITEM.word)
