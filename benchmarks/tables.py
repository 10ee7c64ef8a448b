"""Runs the comparisons of the embedded tasks and writes docs/results.md.

    python -m dus_gym.benchmarks.tables            # about an hour on one core

Finished runs are kept in ``--out`` and not run again, so a killed call goes on where it stopped.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from dus_gym.cli import main as dus
from dus_gym.experiments.comparison import Comparison
from dus_gym.experiments.storage.run_folder import COMPARISON, read_object

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
in per cent, mean ± standard deviation over seeds 0 to 9; beside it the paired difference to `uniform` on the same seeds
in points. Interval and corrected p are of the method's own prediction and corrected (Holm) for the tests of one
comparison; `p` is not corrected. All agents but `heuristic` and `half` train on the same number of samples and
iterations; these two see fewer samples, as the paper defines them. `reinforce:preset=tuned` decides every 5 iterations.
`extra runs` is what an agent spent on deciding, in whole training runs besides the one reported.

What the tables say:

"""


def section(comparison: Comparison) -> str:
    """One comparison as Markdown: what it says, and every figure."""
    table = comparison.table(full=True)
    return "\n".join([comparison.verdict, "", table.markdown(), ""])


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
        comparison = Comparison.from_json(read_object(out / COMPARISON), str(out / COMPARISON), out)
        print(env, norm, method, flush=True)
        sections.append(
            f"## {env}, {method}, loss_norm {norm}\n\n`{shlex.join(['dus', *words])}`\n\n{section(comparison)}"
        )
    if arguments.only:
        return
    arguments.page.write_text(
        INTRODUCTION + arguments.findings.read_text(encoding="utf-8") + "\n" + "\n".join(sections), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
