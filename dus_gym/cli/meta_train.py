"""``dus meta-train``: one policy over many runs, tasks and seeds, to be used by ``dus train --policy``."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from dus_gym.cli.arguments import Given, Group, Owner, parse
from dus_gym.cli.console import open_console
from dus_gym.cli.progress import progress_over
from dus_gym.cli.run_options import METHOD, TRAINERS
from dus_gym.cli.tables import print_line, print_table
from dus_gym.config import RunConfig
from dus_gym.errors import RunFolderError
from dus_gym.experiments.drivers import agent_type
from dus_gym.experiments.spec import DEFAULT_METHOD
from dus_gym.experiments.table import Table, percent

PRINTING = ("--quiet", "--json", "--force")
"""Words that change nothing about the policy: they are left out of the command in its file."""


@dataclass(frozen=True)
class MetaTrainOptions:
    """Runs to learn from."""

    envs: str = field(metadata={"positional": True, "common": True})
    """Registered ids, separated by commas; any numbers of modalities."""
    out: Path = field(metadata={"common": True})
    """The policy file."""
    method: str = DEFAULT_METHOD
    """What is minimised."""
    agent: str = field(default="ppo", metadata={"common": True, "choices": ("ppo", "reinforce")})
    """The algorithm by which the policy learns. Its other options are --agent.NAME."""
    runs: int = field(default=300, metadata={"common": True})
    """Runs to learn from; they cycle through environments and seeds."""
    seeds: str = field(default="100-119", metadata={"common": True})
    """Seeds to learn on, 100 or above: a number (20 means 100 to 119), or the seeds themselves."""
    eval_seeds: str = field(default="120-129", metadata={"common": True})
    """Seeds, 100 or above and none of the others, on which the finished policy is set beside uniform."""
    seed: int = 0
    """Seed of the network's start and of its draws."""
    trainer: str | None = field(default=None, metadata={"choices": TRAINERS})
    """real, or fake: fitted learning curves instead of training, in milliseconds; each id's own if not given."""
    data_root: Path | None = None
    """Where the data sets' files lie."""
    force: bool = field(default=False, metadata={"common": True})
    """Replace the policy file."""
    json: bool = False
    """Print the result as one JSON object on the last line."""
    quiet: bool = False
    """Print nothing but errors and the --json line."""
    parallel_runs: str = "auto"
    """Runs of one task and one batch (--agent.batch) that train as one computation: a number, 1 for one by one, or
    auto: up to 32 where task and method can."""
    threads: int = 1
    """CPU threads of PyTorch. More help large networks only; another number may change the last bits."""


def main(words: list[str]) -> None:
    """Train, evaluate on held-out seeds, write the policy and print its score."""
    parsed = parse(
        words,
        "meta-train",
        "Train one policy over many runs, tasks and seeds.",
        MetaTrainOptions,
        RunConfig,
        groups={"agent": Group(("agent",), _policy_owner), "method": METHOD},
    )
    options = parsed.build(MetaTrainOptions)
    if options.out.exists() and (options.out.is_dir() or not options.force):
        raise RunFolderError(f"out={options.out} is already there; give another file, or --force to replace a policy.")

    from dus_gym.experiments.meta_train import meta_train

    console = open_console(quiet=options.quiet)
    agent = meta_train(
        options.envs,
        algorithm=options.agent,
        runs=options.runs,
        seeds=options.seeds,
        eval_seeds=options.eval_seeds,
        seed=options.seed,
        agent_options=parsed.group("agent"),
        parallel_runs=options.parallel_runs,
        progress=partial(progress_over, console),
        method=options.method,
        method_options=parsed.group("method"),
        trainer=options.trainer,
        data_root=options.data_root,
        threads=options.threads,
        **parsed.given(RunConfig),
    )
    command = shlex.join(["dus", "meta-train", *(word for word in words if word not in PRINTING)])
    agent.made = {"command": command} | agent.made
    agent.save(options.out)
    _print(console, agent.made)
    print_line(console, f"written to {options.out}")
    if options.json:
        print(json.dumps(agent.made | {"out": str(options.out)}, allow_nan=False))


def _policy_owner(_given: Given) -> Owner:
    """Return the options of the policy, whatever it learns by."""
    return "the policy", agent_type("transfer").options_type


def _print(console: Console, made: dict[str, Any]) -> None:
    """Print what was learned from and how well the policy does on the held-out seeds."""
    print_line(
        console,
        f"{made['algorithm']}, reward {made['reward']}, {made['runs']} runs (and {made['uniform_runs']} uniform ones "
        f"beside them), trainer {made['trainer']}",
    )
    print_line(
        console,
        f"mean return above uniform: first {made['edge']} runs {made['first_runs']:+.4f}, "
        f"last {made['edge']} runs {made['last_runs']:+.4f}",
    )
    n = len(made["eval_seeds"])
    head = ["held-out", "return", "uniform", "difference (p)", "validation accuracy, %", "points (p)"]
    rows = []
    for name, row in made["score"].items():
        accuracy = row.get("val_accuracy")
        rows.append(
            [
                name,
                f"{row['return']:.4f}",
                f"{row['uniform']:.4f}",
                f"{row['difference']:+.4f}{_p(row['p'])}",
                percent(None if accuracy is None else accuracy["policy"]),
                "–" if accuracy is None else f"{accuracy['points']:+.1f}{_p(accuracy['p'])}",
            ]
        )
    print_table(console, Table(head, rows, f"The policy beside uniform on {n} held-out seed{'s' if n > 1 else ''}"))


def _p(p: float | None) -> str:
    """A p-value behind a figure; no smaller one is written than three digits show."""
    return "" if p is None else " (< 0.001)" if p < 0.001 else f" ({p:.3f})"
