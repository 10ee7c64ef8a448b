"""Every method under uniform and under the recommended agent on either lever; writes docs/methods-results.md.

    dus data fetch avdigits --root DATA/avdigits      # and cremad-ratings
    python -m dus_gym.benchmarks.methods DATA --workers 2         # an hour and a half of processor time

``DATA`` holds a folder for each data set. Finished comparisons are kept in ``--out`` and not run again, and a killed
one goes on where it stopped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dus_gym.agents import RECOMMENDED
from dus_gym.benchmarks.method_cost import measure, ratios
from dus_gym.benchmarks.pages import Kept, arguments, difference, markdown_table, spread, write_page
from dus_gym.experiments.spec import get_env_task
from dus_gym.experiments.task_comparison import HEADLINE, TaskComparison
from dus_gym.methods import METHODS, method_class
from dus_gym.statistics import PairedTest, paired

SEEDS = 20
REFERENCE = "baseline"
CLEAR = 0.001
"""A difference is called one when its p-value, not corrected, is below this: a table has about sixty."""
SAMPLES: dict[str, Any] = {"loss_norm": "fixed"}
RATES: dict[str, Any] = {"lever": "rates"}
"""Settings of the two levers; ``uniform`` trains alike under both."""
COST_EPOCHS, COST_ITERATIONS = 40, 30
"""Length of the runs whose cost is measured."""


@dataclass(frozen=True)
class Place:
    """A task of the page."""

    env: str
    data: str | None = None
    """The folder of its data below ``DATA``."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    cost: str | None = None
    """The task on which the cost of a method is measured."""


PLACES = (
    Place("DUS-Digits-v0", cost="Digits"),
    Place("DUS-Digits3-v0", cost="Digits3"),
    Place("DUS-AVDigits-v0", "avdigits", {"task_options": {"validation": "speaker"}}),
    Place("DUS-CREMADRatings-v0", "cremad-ratings"),
)

INTRODUCTION = f"""# Methods on four tasks

Written by `python -m dus_gym.benchmarks.methods DATA`; do not edit by hand. Test accuracy of the last epoch in per
cent by each method's own predictor, mean ± standard deviation over seeds 0 to {SEEDS - 1}. `vs {REFERENCE}` is the
paired difference to `{REFERENCE}` under `uniform` on the same seeds in points, with the p-value of a paired t-test; the
columns of `{RECOMMENDED}`, the recommended agent, are the paired difference to the same method under `uniform`, by
samples (`loss_norm="fixed"`) and by learning rates (`lever="rates"`). No p-value is corrected for the number of
comparisons, about sixty in a table: what is said above it reads p below {CLEAR}. A dash: the method needs every sample
in all modalities, so that samples can't be moved. `cost` is the process time of a whole run over that of
`{REFERENCE}`, one run at a time ({COST_EPOCHS} epochs of {COST_ITERATIONS} iterations, all methods in turn in one
process). All other settings are the task's and the methods' defaults. Why a method loses is said in
[methods.md](methods.md).
"""


def accuracies(part: TaskComparison, agent: str) -> Sequence[float] | None:
    """Return the test accuracy of the method's own predictor, one per seed; None if the agent did not run."""
    return part.agents[agent].by_seed[HEADLINE] if agent in part.agents else None


def clear(test: PairedTest) -> bool:
    """Return whether a difference is one."""
    return test.p is not None and test.p < CLEAR


@dataclass(frozen=True)
class Parts:
    """Comparisons of one method on one task."""

    samples: TaskComparison | None
    """By samples; None for a method that needs equal batches."""
    rates: TaskComparison
    """By learning rates."""

    def steered(self) -> list[tuple[str, PairedTest | None]]:
        """Return what the recommended agent changes under each lever."""
        found: list[tuple[str, PairedTest | None]] = []
        for lever, part in (("samples", self.samples), ("rates", self.rates)):
            ours = None if part is None else accuracies(part, RECOMMENDED)
            theirs = None if part is None else accuracies(part, "uniform")
            found.append((lever, None if ours is None or theirs is None else paired(ours, theirs)))
        return found


def section(env: str, parts: Mapping[str, Parts], costs: Mapping[str, float], commands: Sequence[str]) -> str:
    """Return one task's table and what it says."""
    reference = accuracies(parts[REFERENCE].rates, "uniform")
    assert reference is not None
    rows: list[list[str]] = []
    lost: list[str] = []
    gained: list[str] = []
    moved: list[str] = []
    for method, part in parts.items():
        uniform = accuracies(part.rates, "uniform")
        assert uniform is not None
        row = [f"`{method}`", spread(uniform), ""]
        if method != REFERENCE:
            test = paired(uniform, reference)
            row[-1] = difference(test)
            if clear(test):
                (lost if test.points < 0 else gained).append(f"`{method}` {test.points:+.1f}")
        for lever, changed in part.steered():
            row.append("–" if changed is None else difference(changed))
            if changed is not None and clear(changed):
                moved.append(f"`{method}` by {lever} {changed.points:+.1f}")
        if costs:
            row.append(f"{costs[method]:.2f}")
        rows.append(row)
    said = [
        f"Below the baseline (p < {CLEAR}): {', '.join(lost) or 'none'}.",
        f"Above it: {', '.join(gained) or 'none'}.",
        f"Moved by `{RECOMMENDED}`: {', '.join(moved) or 'none'}.",
    ]
    head = ["method", "uniform", f"vs {REFERENCE}", f"{RECOMMENDED}, samples", f"{RECOMMENDED}, rates"]
    table = markdown_table(head + (["cost"] if costs else []), rows)
    return "\n\n".join([f"## {env}", *said, table, "\n".join(["```text", *shortened(commands), "```"])])


def shortened(commands: Sequence[str]) -> list[str]:
    """Return commands with ``METHOD`` in the place of the method, each once; those without one are its default."""
    found = (re.sub(r"--method \S+", "--method METHOD", command) for command in commands if "--method " in command)
    return list(dict.fromkeys(found))


def run_costs(task: str, methods: Sequence[str]) -> dict[str, float]:
    """Return the cost of a whole run of each method over that of the reference."""
    found = measure(task, list(dict.fromkeys([REFERENCE, *methods])), COST_EPOCHS, COST_ITERATIONS)
    return {method: ratios(found[method], found[REFERENCE])["all"][1] for method in methods}


def main() -> None:
    parser = arguments(__doc__, "methods", "methods-results")
    parser.add_argument("data", type=Path, help="the folder with avdigits and cremad-ratings")
    parser.add_argument("--methods", default=",".join(METHODS), help="methods to run; no page is written for a part")
    parser.add_argument("--only", default="", help="a part of an id: runs these alone, writes no page")
    options = parser.parse_args()
    chosen = options.methods.split(",")
    sections = []
    for place in PLACES:
        if options.only not in place.env:
            continue
        kept, parts = Kept(options, options.data.expanduser()), {}
        m = len(get_env_task(place.env).modalities)
        for method in chosen:
            kind = method_class(method)
            if kind.max_modalities is not None and m > kind.max_modalities:
                continue
            found = {
                name: kept(
                    f"{place.env}/{method}-{name}",
                    place.env,
                    ["uniform", RECOMMENDED],
                    data=place.data,
                    method=method,
                    seeds=SEEDS,
                    **place.settings,
                    **lever,
                )
                for name, lever in (("samples", SAMPLES), ("rates", RATES))
                if name == "rates" or kind.supports_unpaired
            }
            parts[method] = Parts(found.get("samples"), found["rates"])
        if set(chosen) == set(METHODS) and not options.only:
            costs = {} if place.cost is None else run_costs(place.cost, list(parts))
            sections.append(section(place.env, parts, costs, kept.commands))
    if sections:
        write_page(options.page, INTRODUCTION, *sections)


if __name__ == "__main__":
    main()
