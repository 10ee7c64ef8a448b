"""Table 1: eleven rebalancing methods, unimodal and joint training, and DUS on four data sets.

dus reproduce table1 --data-root DIR
"""

from dus_gym.benchmarks.paper.command import reproduce
from dus_gym.benchmarks.paper.item import Item
from dus_gym.benchmarks.paper.rows import rows

ITEM = Item(
    word="table1",
    title="Table 1: comparison on two modalities",
    datasets=("Twitter2015", "Sarcasm", "CREMA-D", "Kinetics-Sounds"),
    rows=rows(
        "Unimodal",
        "Baseline",
        "OGR-GB",
        "OGM",
        "DOMFN",
        "MSES",
        "PMR",
        "AGM",
        "MSLR",
        "ReconBoost",
        "SMV",
        "DI-MML",
        "MLA",
        "DUS/Baseline",
        "DUS-H/MLA",
        "DUS/MLA",
    ),
    table="1",
)

if __name__ == "__main__":
    reproduce(ITEM.word)
