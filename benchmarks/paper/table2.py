"""Table 2: three modalities (NVGesture).

dus reproduce table2 --data-root DIR
"""

from dus_gym.benchmarks.paper.command import reproduce
from dus_gym.benchmarks.paper.item import Item
from dus_gym.benchmarks.paper.rows import rows

ITEM = Item(
    word="table2",
    title="Table 2: comparison on three modalities",
    datasets=("NVGesture",),
    rows=rows("Unimodal", "OGR-GB", "MSES", "AGM", "MSLR", "ReconBoost", "SMV", "MLA", "DUS/MLA"),
    table="2",
)

if __name__ == "__main__":
    reproduce(ITEM.word)
