"""Table A2: with and without the cumulative score of Eq. 3 (Kinetics-Sounds).

dus reproduce tableA2 --data-root DIR
"""

from dus_gym.benchmarks.paper.command import reproduce
from dus_gym.benchmarks.paper.item import Item
from dus_gym.benchmarks.paper.rows import rows

ITEM = Item(
    word="tableA2",
    title="Table A2: the cumulative score",
    datasets=("Kinetics-Sounds",),
    rows=rows("DUS w/o CS", "DUS"),
    table="A2",
    modalities=True,
)

if __name__ == "__main__":
    reproduce(ITEM.word)
