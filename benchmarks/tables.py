"""Runs the comparisons of the embedded tasks and writes docs/results.md.

    python -m dus_gym.benchmarks.tables            # about an hour on one core

Finished runs are kept in ``--out`` and not run again, so a killed call goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from dus_gym.cli import main as dus
from dus_gym.experiments.storage.run_folder import COMPARISON
from dus_gym.records import FUSED_PREDICTORS

AGENTS = (
    "heuristic,half,score,score:rule=softmax,reinforce,reinforce:policy=literal,reinforce:preset=tuned,"
    "pi,overfit,holdout,random,reversed,lookahead,best-fixed,lr-matched:match=direct,lr-matched:match=holdout"
)
COMPARISONS = (
    *(
        (f"DUS-{task}-v0", norm, "baseline")
        for task in ("Digits", "Digits3", "DigitsControl", "DigitsRowsCols", "DigitsHalves")
        for norm in ("mean", "fixed")
    ),
    ("DUS-Digits-v0", "fixed", "mla"),
    ("DUS-DigitsControl-v0", "fixed", "mla"),
)

INTRODUCTION = """# Results on the embedded tasks

Written by `python -m dus_gym.benchmarks.tables`; do not edit by hand. Every figure is test accuracy of the last epoch
in per cent, mean ± standard deviation over seeds 0 to 9; below it the paired difference to `uniform` on the same seeds
in points, with the p-value of a paired t-test, not corrected for the number of comparisons: read p below .002. All
agents but `heuristic` and `half` train on the same number of samples and iterations; these two see fewer samples, as
the paper defines them. `reinforce:preset=tuned` decides every 5 iterations. The last column is what an agent spent
on deciding, in whole training runs besides the one reported.

What the tables say:

"""


def cell(figures: dict[str, Any] | None, against: dict[str, Any] | None, *, reference: bool) -> str:
    """Mean ± deviation, and below it the difference to uniform."""
    if figures is None or against is None:
        return "–"
    text = f"{100 * figures['accuracy']['mean']:.1f} ± {100 * figures['accuracy']['std']:.1f}"
    return text if reference else f"{text}<br>{against['points']:+.1f} ({against['p']:.3f})"


def table(result: dict[str, Any]) -> str:
    """One comparison as a Markdown table."""
    head = ["agent", *FUSED_PREDICTORS, "gap", "samples", "runs spent"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, row in result["agents"].items():
        cells = [cell(row["fused"][p], row["vs_uniform"][p], reference=name == "uniform") for p in FUSED_PREDICTORS]
        lines.append(
            "| "
            + " | ".join(
                [
                    f"`{name}`",
                    *cells,
                    f"{row['gap']['mean']:.3f}",
                    f"{row['samples']:.0f}",
                    f"{row['training_runs']:.3g}",
                ]
            )
            + " |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--only", default="", help="a part of the names of the comparisons to run; no page is written")
    parser.add_argument("--findings", type=Path, default=Path("docs/findings.md"), help="prose that opens the page")
    arguments = parser.parse_args()
    sections: list[str] = []
    for env, norm, method in COMPARISONS:
        if arguments.only not in f"{env}-{norm}-{method}":
            continue
        words = ["compare", env, "--agents", AGENTS, "--seeds", "10", "--loss-norm", norm, "--method", method]
        out = arguments.out / f"{env}-{norm}-{method}"
        resume = ["--resume"] if out.exists() else []
        dus([*words, "--out", str(out), "--quiet", *resume])
        result = json.loads((out / COMPARISON).read_text(encoding="utf-8"))
        print(env, norm, method, flush=True)
        sections.append(f"## {env}, {method}, loss_norm {norm}\n\n`{shlex.join(['dus', *words])}`\n\n{table(result)}\n")
    if arguments.only:
        return
    arguments.page.write_text(
        INTRODUCTION + arguments.findings.read_text(encoding="utf-8") + "\n" + "\n".join(sections), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
