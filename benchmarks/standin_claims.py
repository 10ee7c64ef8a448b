"""The paper's claims on the stand-ins: paired differences between the rows of a reproduction.

    dus reproduce all --standin --seeds 5 --data-root DATA --out OUT
    python -m dus_gym.benchmarks.standin_claims OUT

Prints, for every pair whose runs are there, the difference in points by the method's own predictor, the p-value of a
paired t-test, not corrected, and the mean gap of the second and the first.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dus_gym.benchmarks.paper.tables import ROWS
from dus_gym.experiments.storage.run_folder import SUMMARY, read_object
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


def summaries(env: Path, label: str) -> dict[str, dict[str, Any]]:
    """The finished runs of a row, by the name of their seed's folder."""
    return {path.parent.name: read_object(path) for path in (env / ROWS[label].folder).glob(f"seed*/{SUMMARY}")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the output folder of a reproduction")
    for env in sorted((parser.parse_args().out / "runs").iterdir()):
        for label, reference in CLAIMS:
            mine, theirs = summaries(env, label), summaries(env, reference)
            seeds = sorted(mine.keys() & theirs.keys())
            if not seeds:
                continue
            values, others = ([runs[s]["fused"]["method"]["accuracy"] for s in seeds] for runs in (mine, theirs))
            gaps = [sum(runs[s]["gap"] for s in seeds) / len(seeds) for runs in (theirs, mine)]
            found = paired(values, others)
            p = "–" if found["p"] is None else f"{found['p']:.3f}"
            print(
                f"{env.name}: {label} against {reference}, {len(seeds)} seeds: {found['points']:+.1f} points (p {p}), "
                f"gap {gaps[0]:.3f} to {gaps[1]:.3f}"
            )


if __name__ == "__main__":
    main()
