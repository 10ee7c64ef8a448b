"""Table A1: mean and standard deviation of DUS/MLA over three runs, on all five data sets.

dus reproduce tableA1 --data-root DIR
"""

from dus_gym.benchmarks.paper.command import reproduce
from dus_gym.benchmarks.paper.item import Item
from dus_gym.benchmarks.paper.rows import rows

ITEM = Item(
    word="tableA1",
    title="Table A1: scatter over runs",
    datasets=("Twitter2015", "Sarcasm", "CREMA-D", "Kinetics-Sounds", "NVGesture"),
    rows=rows("DUS/MLA"),
    table="A1",
)

if __name__ == "__main__":
    reproduce(ITEM.word)
