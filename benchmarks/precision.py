"""Accuracy under another number format than float32, on the same seeds; prints the table of docs/benchmarks.md.

    dus data fetch avdigits --root DATA/avdigits
    python -m dus_gym.benchmarks.precision DATA --workers 2

``DATA`` holds a folder for each data set. Finished comparisons are kept in ``--out`` and not run again.
"""

from __future__ import annotations

from pathlib import Path

from dus_gym.benchmarks.methods import accuracies
from dus_gym.benchmarks.pages import Kept, arguments, difference, markdown_table, spread
from dus_gym.precision import PRECISIONS
from dus_gym.statistics import paired

PLACES = (("DUS-Digits-v0", None), ("DUS-AVDigits-v0", "avdigits"))
"""Tasks, small dense and convolutional networks, and the folders of their data."""
REFERENCE = "float32"


def main() -> None:
    parser = arguments(__doc__, "precision")
    parser.add_argument("data", type=Path, help="the folder with avdigits")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--formats", default="bfloat16", help=f"of {', '.join(PRECISIONS[1:])}, with commas between")
    options = parser.parse_args()
    kept, rows = Kept(options, options.data.expanduser()), []
    for env, data in PLACES:
        found = {
            precision: accuracies(
                kept(
                    f"{env}/{precision}",
                    env,
                    ["uniform"],
                    data=data,
                    seeds=options.seeds,
                    precision=precision,
                    device=options.device,
                ),
                "uniform",
            )
            for precision in (REFERENCE, *options.formats.split(","))
        }
        reference = found.pop(REFERENCE)
        assert reference is not None, "the baseline predicts"
        for precision, values in found.items():
            assert values is not None, "and in every format"
            changed = difference(paired(values, reference))
            rows.append([env, precision, spread(reference), spread(values), changed])
    head = ["task", "format", f"{REFERENCE}, %", "in the format, %", "difference, points (p)"]
    print(markdown_table(head, rows))


if __name__ == "__main__":
    main()
