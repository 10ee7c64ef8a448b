"""Every method under uniform, heuristic, reinforce and pi, beside the baseline; writes docs/methods-results.md.

    python -m dus_gym.benchmarks.methods            # about an hour on one core

Finished runs are kept in ``--out`` and not run again, so a killed call goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from dus_gym.cli import main as dus
from dus_gym.experiments.run import RunRequest
from dus_gym.experiments.storage.run_folder import COMPARISON
from dus_gym.methods import METHODS, method_class
from dus_gym.statistics import PairedTest, mean_std, paired

ENVS = ("DUS-Digits-v0", "DUS-Digits3-v0")
AGENTS = ("uniform", "heuristic", "reinforce", "pi")
SEEDS = 5
REFERENCE = "baseline"
CLEAR = 0.05
"""A difference is called one when its p-value, not corrected, is below this."""

INTRODUCTION = f"""# Methods on two embedded tasks

Written by `python -m dus_gym.benchmarks.methods`; do not edit by hand. Test accuracy of the last epoch in per cent by
each method's own predictor, mean ± standard deviation over seeds 0 to {SEEDS - 1}. `vs {REFERENCE}` is the paired
difference to `{REFERENCE}` under `uniform` on the same seeds in points, with the p-value of a paired t-test; the
columns of the other agents give the method under that agent and the paired difference to the same method under
`uniform`. No p-value is corrected for the number of comparisons: with {SEEDS} seeds and this many, read p below .001.
A dash: the method needs every sample in all modalities, so DUS can't steer it. All settings are the task's and the
methods' defaults, `loss_norm="mean"`.
"""


def accuracies(out: Path, method: str, agent: str) -> list[float] | None:
    """Test accuracy of the method's own predictor, one a seed; None if the agent did not run."""
    found = []
    for seed in range(SEEDS):
        summary = out / method / agent / f"seed{seed}" / "summary.json"
        if not summary.is_file():
            return None
        found.append(json.loads(summary.read_text(encoding="utf-8"))["fused"]["method"]["accuracy"])
    return found


def cell(values: list[float], against: list[float] | None) -> str:
    """Mean ± deviation, and the paired difference."""
    of = mean_std(values)
    text = f"{100 * of.mean:.1f} ± {100 * (of.std or 0.0):.1f}"
    return text if against is None else f"{text}<br>{difference(paired(values, against))}"


def difference(test: PairedTest) -> str:
    """As a table has it."""
    return f"{test.points:+.1f} ({test.p:.3f})"


def clear(test: PairedTest) -> bool:
    """Whether a difference is one."""
    return test.p is not None and test.p < CLEAR


def section(env: str, out: Path, commands: list[str]) -> str:
    """One environment's table and what it says."""
    reference = accuracies(out, REFERENCE, "uniform")
    assert reference is not None
    lines = ["| method | uniform | vs baseline | " + " | ".join(AGENTS[1:]) + " |", "|---" * (len(AGENTS) + 2) + "|"]
    lost: list[str] = []
    gained: list[str] = []
    steered: list[str] = []
    for method in METHODS:
        uniform = accuracies(out, method, "uniform")
        if uniform is None:
            continue
        row = [f"`{method}`", cell(uniform, None)]
        if method == REFERENCE:
            row.append("")
        else:
            test = paired(uniform, reference)
            row.append(difference(test))
            if clear(test):
                (lost if test.points < 0 else gained).append(f"`{method}` {test.points:+.1f}")
        for agent in AGENTS[1:]:
            found = accuracies(out, method, agent)
            row.append("–" if found is None else cell(found, uniform))
            if found is None:
                continue
            test = paired(found, uniform)
            if clear(test):
                steered.append(f"`{method}` under `{agent}` {test.points:+.1f}")
        lines.append("| " + " | ".join(row) + " |")
    said = [
        f"Below the baseline (p < {CLEAR}): {', '.join(lost) or 'none'}.",
        f"Above it: {', '.join(gained) or 'none'}.",
        f"Moved by an agent: {', '.join(steered) or 'none'}.",
    ]
    return "\n".join([f"## {env}", "", *said, "", *lines, "", "```text", *commands, "```", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--page", type=Path, default=Path("docs/methods-results.md"))
    parser.add_argument("--methods", default=",".join(METHODS), help="methods to run; no page is written for a part")
    arguments = parser.parse_args()
    chosen = arguments.methods.split(",")
    sections = []
    for env in ENVS:
        commands = []
        m = len(RunRequest(env).task().modalities)
        for method in chosen:
            most = method_class(method).max_modalities
            if most is not None and m > most:
                continue
            agents = AGENTS if method_class(method).supports_unpaired else AGENTS[:1]
            words = ["compare", env, "--method", method, "--agents", ",".join(agents), "--seeds", str(SEEDS)]
            out = arguments.out / env / method
            dus([*words, "--out", str(out), "--quiet", *(["--resume"] if (out / COMPARISON).parent.exists() else [])])
            print(env, method, flush=True)
            commands.append(shlex.join(["dus", *words]))
        if set(chosen) == set(METHODS):
            sections.append(section(env, arguments.out / env, commands))
    if sections:
        arguments.page.write_text(INTRODUCTION + "\n" + "\n".join(sections), encoding="utf-8")


if __name__ == "__main__":
    main()
