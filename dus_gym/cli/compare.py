"""``dus compare``: agents × methods × tasks × seeds, each agent against the uniform split on the same seeds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dus_gym.cli.arguments import Given, parse
from dus_gym.cli.console import open_console
from dus_gym.cli.progress import progress_over
from dus_gym.cli.run_options import METHOD, OWN_AGENT, TASK, OutputOptions, TaskOptions, beneath, call_arguments
from dus_gym.cli.tables import print_comparison, print_data, show_log
from dus_gym.config import RunConfig
from dus_gym.experiments.executors.executor import ScaleOptions
from dus_gym.experiments.storage.run_folder import latest, unused
from dus_gym.options import with_said

if TYPE_CHECKING:
    from dus_gym.experiments.compare import TaskPlan


@dataclass(frozen=True)
class CompareOptions:
    """The agents and their seeds."""

    agents: str | None = field(
        default=None,
        metadata={"common": "Agents, separated by commas; uniform is always added. All controls if not given."},
    )
    """Agents, separated by commas; uniform is always added as the reference. Options of one agent go behind
    colons: reinforce:policy=literal. A policy file is an agent too. If not given: heuristic, score, reinforce,
    steady and all controls."""
    seeds: str = field(default="5", metadata={"common": True})
    """A number of seeds (5 means 0 to 4), or the seeds themselves: 3,5,8 or 100-129."""
    full: bool = field(default=False, metadata={"common": "Print every column."})
    """Print every column: all predictors and modalities, gaps, p-values and costs."""


def main(words: list[str]) -> None:
    """Run every run and print the tables and what they say."""
    parsed = parse(
        words,
        "compare",
        "Compare agents over seeds, paired with uniform.",
        CompareOptions,
        TaskOptions,
        OutputOptions,
        ScaleOptions,
        RunConfig,
        groups={"method": METHOD, "task": TASK},
        beneath=_beneath,
        epilog=OWN_AGENT.format(flag="--agents"),
    )
    options, output = parsed.build(CompareOptions), parsed.build(OutputOptions)

    from dus_gym.experiments.compare import plan_comparison, run_comparison

    plans = plan_comparison(
        agents=options.agents,
        seeds=options.seeds,
        agent_runs=parsed.build(TaskOptions).agent_runs,
        **call_arguments(parsed),
    )
    console = open_console(quiet=output.quiet)
    show_log(console)
    for spec in {plan.first.env: plan.first for plan in plans}.values():
        print_data(console, spec)
    comparison = run_comparison(
        plans,
        partial(_folder, plans, output),
        resume=output.resume,
        force=output.force,
        scale=parsed.build(ScaleOptions),
        progress=partial(progress_over, console),
    )
    if not output.quiet:
        print_comparison(console, comparison, full=options.full)
        console.print(f"written to {comparison.folder}", soft_wrap=True)
    if output.json:
        print(json.dumps(comparison.to_json(), allow_nan=False))


def _beneath(given: Given) -> dict[str, Any]:
    """Return the settings of the file that ``--config`` names; the agent of one run is the one that is compared."""
    found = beneath(given)
    options = {key: found.pop(key) for key in [*found] if key.startswith("agent.")}
    agent, policy = found.pop("agent", None), found.pop("policy", None)
    found.pop("seed", None)
    if (word := policy or agent) is not None:
        found.setdefault("agents", with_said(word, {key.removeprefix("agent."): of for key, of in options.items()}))
    return found


def _folder(plans: list[TaskPlan], output: OutputOptions) -> Path:
    """The comparison's folder: the one that is named, or one of its own below runs/."""
    if output.out is not None:
        return output.out
    spec = plans[0].first
    name = f"compare-{len(plans)}-comparisons" if len(plans) > 1 else f"{spec.task_name}/compare-{spec.method}"
    return latest(Path("runs") / name) if output.resume else unused(Path("runs") / name)
