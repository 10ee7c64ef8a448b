"""Table 3: three methods with and without DUS (Kinetics-Sounds).

dus reproduce table3 --data-root DIR
"""

from dus_gym.benchmarks.paper.command import reproduce
from dus_gym.benchmarks.paper.item import Item
from dus_gym.benchmarks.paper.rows import rows

ITEM = Item(
    word="table3",
    title="Table 3: DUS plugged into other methods",
    datasets=("Kinetics-Sounds",),
    rows=rows("PMR", "DUS/PMR", "AGM", "DUS/AGM", "DI-MML", "DUS/DI-MML"),
    table="3",
)

if __name__ == "__main__":
    reproduce(ITEM.word)
