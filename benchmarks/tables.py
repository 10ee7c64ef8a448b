"""Runs the comparisons of the embedded tasks and writes docs/results.md.

    python -m dus_gym.benchmarks.tables            # about an hour on one core

Finished comparisons are kept in ``--out`` and not run again, and a killed one goes on where it stopped.
"""

from __future__ import annotations

from pathlib import Path

from dus_gym.benchmarks.pages import AGENTS, EMBEDDED, Kept, arguments, comparison_section, write_page

COMPARISONS = (
    *((f"DUS-{task}-v0", norm, "baseline") for task in EMBEDDED for norm in ("mean", "fixed")),
    ("DUS-Digits-v0", "fixed", "mla"),
    ("DUS-DigitsControl-v0", "fixed", "mla"),
)

INTRODUCTION = """# Results on the embedded tasks

Written by `python -m dus_gym.benchmarks.tables`; do not edit by hand. Every figure is test accuracy of the last epoch
in per cent, mean ± standard deviation over seeds 0 to 9; beside it the paired difference to `uniform` on the same seeds
in points. The interval is of the method's own prediction, at the level at which Holm's correction for the tests of
one comparison tested it: without 0 it is a difference. All agents but `heuristic` and `half` train on the same number
of samples and iterations; these two see fewer samples, as the paper defines them. `reinforce:preset=tuned` decides
every 5 iterations. `extra runs` is what an agent spent on deciding, in whole training runs besides the one reported.

What the tables say:
"""


def main() -> None:
    parser = arguments(__doc__, "tables", "results")
    parser.add_argument("--only", default="", help="a part of the names of the comparisons to run; no page is written")
    parser.add_argument("--findings", type=Path, default=Path("docs/findings.md"), help="prose that opens the page")
    options = parser.parse_args()
    kept = Kept(options)
    sections = []
    for env, norm, method in COMPARISONS:
        if options.only in (name := f"{env}-{norm}-{method}"):
            part = kept(name, env, AGENTS, seeds=10, method=method, loss_norm=norm)
            sections.append(comparison_section(f"{env}, {method}, loss_norm {norm}", kept.commands[-1], part))
    if not options.only:
        write_page(options.page, INTRODUCTION, options.findings.read_text(encoding="utf-8"), *sections)


if __name__ == "__main__":
    main()
