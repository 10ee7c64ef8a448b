"""Every method under uniform, heuristic, reinforce and pi, beside the baseline; writes docs/methods-results.md.

    python -m dus_gym.benchmarks.methods            # about an hour on one core

Finished comparisons are kept in ``--out`` and not run again, and a killed one goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dus_gym.benchmarks.pages import Kept, arguments, difference, markdown_table, spread, write_page
from dus_gym.experiments.spec import get_env_task
from dus_gym.experiments.task_comparison import HEADLINE, TaskComparison
from dus_gym.methods import METHODS, method_class
from dus_gym.statistics import PairedTest, paired

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


def accuracies(part: TaskComparison, agent: str) -> Sequence[float] | None:
    """Return the test accuracy of the method's own predictor, one per seed; None if the agent did not run."""
    return part.agents[agent].by_seed[HEADLINE] if agent in part.agents else None


def clear(test: PairedTest) -> bool:
    """Return whether a difference is one."""
    return test.p is not None and test.p < CLEAR


def section(env: str, parts: Mapping[str, TaskComparison], commands: Sequence[str]) -> str:
    """Return one environment's table and what it says."""
    reference = accuracies(parts[REFERENCE], "uniform")
    assert reference is not None
    rows: list[list[str]] = []
    lost: list[str] = []
    gained: list[str] = []
    steered: list[str] = []
    for method, part in parts.items():
        uniform = accuracies(part, "uniform")
        assert uniform is not None
        row = [f"`{method}`", spread(uniform), ""]
        if method != REFERENCE:
            test = paired(uniform, reference)
            row[-1] = difference(test)
            if clear(test):
                (lost if test.points < 0 else gained).append(f"`{method}` {test.points:+.1f}")
        for agent in AGENTS[1:]:
            found = accuracies(part, agent)
            if found is None:
                row.append("–")
                continue
            test = paired(found, uniform)
            row.append(f"{spread(found)}<br>{difference(test)}")
            if clear(test):
                steered.append(f"`{method}` under `{agent}` {test.points:+.1f}")
        rows.append(row)
    said = [
        f"Below the baseline (p < {CLEAR}): {', '.join(lost) or 'none'}.",
        f"Above it: {', '.join(gained) or 'none'}.",
        f"Moved by an agent: {', '.join(steered) or 'none'}.",
    ]
    table = markdown_table(["method", "uniform", "vs baseline", *AGENTS[1:]], rows)
    return "\n".join([f"## {env}", "", *said, "", table, "", "```text", *commands, "```"])


def main() -> None:
    parser = arguments(__doc__, "methods", "methods-results")
    parser.add_argument("--methods", default=",".join(METHODS), help="methods to run; no page is written for a part")
    options = parser.parse_args()
    chosen = options.methods.split(",")
    sections = []
    for env in ENVS:
        kept, parts = Kept(options), {}
        m = len(get_env_task(env).modalities)
        for method in chosen:
            kind = method_class(method)
            if kind.max_modalities is not None and m > kind.max_modalities:
                continue
            agents = AGENTS if kind.supports_unpaired else AGENTS[:1]
            parts[method] = kept(f"{env}/{method}", env, agents, method=method, seeds=SEEDS)
        if set(chosen) == set(METHODS):
            sections.append(section(env, parts, kept.commands))
    if sections:
        write_page(options.page, INTRODUCTION, *sections)


if __name__ == "__main__":
    main()
