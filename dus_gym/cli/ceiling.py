"""``dus ceiling``: the most that any allocation could gain on a task, and what each agent reaches of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from dus_gym.agents.controls import format_splits
from dus_gym.cli.arguments import parse
from dus_gym.cli.console import open_console
from dus_gym.cli.progress import progress_over
from dus_gym.cli.run_options import METHOD, OWN_AGENT, TASK, OutputOptions, TaskOptions, beneath, call_arguments
from dus_gym.cli.tables import print_data, print_line, print_prose, print_table, show_log
from dus_gym.config import RunConfig
from dus_gym.experiments.executors.executor import ScaleOptions
from dus_gym.experiments.search import SearchOptions
from dus_gym.experiments.spec import DEFAULT_AGENT
from dus_gym.experiments.storage.run_folder import CEILING_PICTURE, latest, unused

if TYPE_CHECKING:
    from dus_gym.experiments.ceiling import Ceiling


@dataclass(frozen=True)
class CeilingOptions:
    """The agents and their seeds."""

    agents: str | None = field(default=None, metadata={"common": True})
    """Agents to set beside the ceiling, separated by commas; the recommended one if not given."""
    seeds: str = field(default="64", metadata={"common": True})
    """Seeds that are reported: a number of them (64 means 0 to 63), or the seeds themselves. The search has others."""
    yes: bool = field(default=False, metadata={"common": True})
    """Search even if that takes more than half an hour."""


def main(words: list[str]) -> None:
    """Search, compare, and print the table and what it says."""
    parsed = parse(
        words,
        "ceiling",
        "Search for the best constant split and the best schedule, and set agents beside them.",
        CeilingOptions,
        SearchOptions,
        TaskOptions,
        OutputOptions,
        ScaleOptions,
        RunConfig,
        groups={"method": METHOD, "task": TASK},
        beneath=beneath,
        epilog=OWN_AGENT.format(flag="--agents"),
    )
    from dus_gym.experiments.ceiling import ceiling
    from dus_gym.experiments.compare import plan_comparison

    options, output = parsed.build(CeilingOptions), parsed.build(OutputOptions)
    call = call_arguments(parsed)
    first = plan_comparison(agents=options.agents or DEFAULT_AGENT, seeds=options.seeds, **call)[0].first
    console = open_console(quiet=output.quiet)
    show_log(console)
    print_data(console, first)
    found = ceiling(
        agents=options.agents,
        seeds=options.seeds,
        search=parsed.build(SearchOptions),
        out=_folder(first.task_name, output),
        resume=output.resume,
        force=output.force,
        yes=options.yes,
        scale=parsed.build(ScaleOptions),
        progress=partial(progress_over, console),
        **call,
    )
    if not output.quiet:
        _print(console, found)
    if output.json:
        print(json.dumps(found.to_json(), allow_nan=False))


def _print(console: Console, found: Ceiling) -> None:
    """Print the table, the verdict and where the picture is."""
    print_table(console, found.table())
    print_line(console, f"best constant {format_splits(found.constant)}, best schedule {format_splits(found.schedule)}")
    print_prose(console, f"Verdict: {found.verdict}", style="bold")
    assert found.folder is not None
    print_line(console, f"written to {found.folder}, with a picture of the splits in {CEILING_PICTURE}")


def _folder(task: str, output: OutputOptions) -> Path:
    """The folder that is named, or one of its own below runs/."""
    if output.out is not None:
        return output.out
    place = Path("runs") / f"{task}/ceiling"
    return latest(place) if output.resume else unused(place)
