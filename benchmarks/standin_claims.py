"""The paper's claims on the stand-ins: paired differences between the rows of a reproduction.

    dus reproduce all --standin --seeds 5 --data-root DATA --out OUT
    python -m dus_gym.benchmarks.standin_claims OUT

Prints, for every pair whose runs are there, the difference in points by the method's own predictor, the p-value of a
paired t-test, not corrected, and the mean gap of the second and the first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dus_gym.benchmarks.paper.tables import ROWS
from dus_gym.experiments.results import Result
from dus_gym.experiments.storage.run_folder import read_result
from dus_gym.statistics import paired

CLAIMS = (
    ("DUS/MLA", "MLA"),
    ("DUS w/o RL", "MLA"),
    ("DUS", "DUS w/o RL"),
    ("DUS", "DUS w/o CS"),
    ("DUS/Baseline", "Baseline"),
    ("DUS/PMR", "PMR"),
    ("DUS/AGM", "AGM"),
    ("DUS/DI-MML", "DI-MML"),
    ("MLA-HB", "MLA"),
)


def results(env: Path, label: str) -> dict[str, Result]:
    """Return the finished runs of a row, by the name of their seed's folder."""
    folders = (env / ROWS[label].folder).glob("seed*")
    return {folder.name: result for folder in folders if (result := read_result(folder)) is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the output folder of a reproduction")
    for env in sorted((parser.parse_args().out / "runs").iterdir()):
        for label, reference in CLAIMS:
            mine, theirs = results(env, label), results(env, reference)
            seeds = sorted(mine.keys() & theirs.keys())
            if not seeds:
                continue
            values, others = (
                [accuracy for s in seeds if (accuracy := runs[s].accuracy) is not None] for runs in (mine, theirs)
            )
            gaps = [sum(runs[s].gap for s in seeds) / len(seeds) for runs in (theirs, mine)]
            found = paired(values, others)
            p = "–" if found.p is None else f"{found.p:.3f}"
            print(
                f"{env.name}: {label} against {reference}, {len(seeds)} seeds: {found.points:+.1f} points (p {p}), "
                f"gap {gaps[0]:.3f} to {gaps[1]:.3f}"
            )


if __name__ == "__main__":
    main()
