"""``dus meta-train``: one policy over many runs, tasks and seeds, to be used by ``dus train --policy``."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium as gym
import tyro
from rich.console import Console
from rich.table import Table

from dus_gym import __version__
from dus_gym.agents import make_agent
from dus_gym.agents.base import Agent
from dus_gym.agents.loop import Episode, run_episode
from dus_gym.agents.transfer import ALGORITHMS, Transfer
from dus_gym.cli.options import changed, jsonable, parse, parse_seeds, with_options, word_after
from dus_gym.cli.tables import percent, progress_over
from dus_gym.cli.train import check
from dus_gym.errors import ConfigError, RunFolderError, check_at_least, check_choice
from dus_gym.experiments.run import RunRequest
from dus_gym.statistics import paired

FIRST_SEED = 100
"""Seeds below are the reports': a policy that has seen them can't be reported on them."""
PRINTING = ("--quiet", "--json", "--force")
"""Words that change nothing about the policy: they are left out of the command in its file."""
EDGE = 0.1
"""The first and last runs whose mean is shown, as a fraction of all."""


@dataclass(frozen=True)
class MetaTrainOptions:
    """Options of ``dus meta-train``."""

    envs: tyro.conf.Positional[str]
    """Registered ids, separated by commas; any numbers of modalities."""
    out: Path
    """The policy file."""
    method: str = "baseline"
    """What is minimised."""
    agent: str = "ppo"
    """How the policy learns: ppo or reinforce. Its other options are --agent.NAME."""
    runs: int = 300
    """Runs to learn from; they cycle through environments and seeds."""
    seeds: str = "100-119"
    """Seeds to learn on, 100 or above: a number (20 means 100 to 119), or the seeds themselves."""
    eval_seeds: str = "120-129"
    """Seeds, 100 or above and none of the others, on which the finished policy is set beside uniform."""
    seed: int = 0
    """Seed of the network's start and of its draws."""
    trainer: str | None = None
    """real, or fake: fitted learning curves instead of training, in milliseconds; each id's own if not given."""
    data_root: Path | None = None
    """Where the data sets' files lie."""
    force: bool = False
    """Replace the policy file."""
    json: bool = False
    """Print the result as one JSON object on the last line."""
    quiet: bool = False
    """Print nothing but errors and the --json line."""
    threads: int = 1
    """CPU threads of PyTorch. More help large networks only; another number may change the last bits."""


class AgainstUniform(gym.Wrapper[Any, Any, Any, Any]):
    """Subtracts from each reward what the uniform split got in the same step of the run of the same seed.

    That changes no policy's rank, and takes out of the return how lucky a seed is, which is the most of it.
    """

    def __init__(self, env: gym.Env[Any, Any], references: Mapping[int, Sequence[float]]) -> None:
        super().__init__(env)
        self._references = references
        self._reference: Sequence[float] = ()
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts the run of a seed that has a reference."""
        self._reference, self._steps = self._references[seed if seed is not None else -1], 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """The environment's step, its reward made relative; past a reference that diverged it stays."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        reference = self._reference[self._steps] if self._steps < len(self._reference) else 0.0
        self._steps += 1
        return observation, float(reward) - reference, terminated, truncated, info


def main(words: list[str]) -> None:
    """Trains, evaluates on held-out seeds, writes the policy and prints its score."""
    arguments = with_options(MetaTrainOptions, word_after(words, "--method", "baseline"), Transfer.name)
    options: Any = parse(arguments, words, "meta-train", "Train one policy over many runs, tasks and seeds.")
    check_choice("agent", options.agent, ALGORITHMS)
    check_at_least("runs", options.runs, 1)
    seeds, held_out = tuning_seeds("seeds", options.seeds), tuning_seeds("eval_seeds", options.eval_seeds)
    if shared := sorted(set(seeds) & set(held_out)):
        raise ConfigError(
            f"eval_seeds={options.eval_seeds!r} is not allowed; {shared} are also learned on (seeds={options.seeds!r})."
        )
    if options.out.exists() and (options.out.is_dir() or not options.force):
        raise RunFolderError(f"out={options.out} is already there; give another file, or --force to replace a policy.")
    requests = _requests(options)
    for request in requests.values():
        check(request)
    agent = _policy(options, len(next(iter(requests.values())).task().modalities))
    console = Console(quiet=options.quiet)
    total = len(requests) * (len(seeds) + 2 * len(held_out)) + options.runs
    with progress_over(console, "meta-train", total) as advance:
        result = meta_train(requests, agent, options.runs, seeds, held_out, advance)
    agent.made = {
        "command": shlex.join(["dus", "meta-train", *(word for word in words if word not in PRINTING)]),
        "version": __version__,
        "method": options.method,
        "trainer": options.trainer or "each id's own",
        "algorithm": options.agent,
        "reward": options.run.reward,
        "settings": jsonable(changed(options.run)),
    } | result
    agent.save(options.out)
    if not options.quiet:
        _print(console, agent.made)
        console.print(f"written to {options.out}", soft_wrap=True)
    if options.json:
        print(json.dumps(agent.made | {"out": str(options.out)}, allow_nan=False))


def tuning_seeds(argument: str, text: str) -> list[int]:
    """Seeds from 100 on; a number alone counts from there.

    Raises:
        ConfigError: for seeds below 100, and for what is no list of seeds.
    """
    alone = text.isdecimal()
    seeds = [FIRST_SEED + seed for seed in parse_seeds(text)] if alone else parse_seeds(text)
    if min(seeds) < FIRST_SEED:
        raise ConfigError(
            f"{argument}={text!r} is not allowed; seeds below {FIRST_SEED} are kept for reports, which a policy that "
            "has learned on them would spoil. Write 100-119."
        )
    return seeds


def meta_train(
    requests: Mapping[str, RunRequest],
    agent: Transfer,
    runs: int,
    seeds: Sequence[int],
    held_out: Sequence[int],
    advance: Callable[[str], Any] = str,
) -> dict[str, Any]:
    """Lets ``agent`` learn, and scores it.

    Args:
        requests: the run of each environment; its seed is replaced.
        agent: learns in place.
        runs: how many runs, through environments first and seeds second.
        seeds: to learn on.
        held_out: to score the deterministic policy on, beside the uniform split.
        advance: called with a text after each run.

    Returns:
        JSON-able: what it learned on, mean return relative to uniform of the first and last runs, and ``score``
        by environment: returns and validation accuracies on the held-out seeds. No test split is looked at.
    """
    import torch

    torch.set_num_threads(next(iter(requests.values())).threads)
    envs = {name: request.make_env(agent) for name, request in requests.items()}
    uniform = {name: make_agent("uniform", len(requests[name].task().modalities)) for name in envs}
    references: dict[str, dict[int, list[float]]] = {name: {} for name in envs}
    order = [(names, seed) for seed, names in product(seeds, envs)]
    schedule = [order[i % len(order)] for i in range(runs)]
    for name, seed in dict.fromkeys(schedule):
        references[name][seed] = run_episode(envs[name], uniform[name], seed=seed).rewards
        advance(f"uniform on {name}, seed {seed}")
    against = {name: AgainstUniform(env, references[name]) for name, env in envs.items()}
    gains: list[float] = []
    for i, (name, seed) in enumerate(schedule):
        agent.begin_task(name, uniform[name].num_modalities)
        gains.append(run_episode(against[name], agent, seed=seed).reward)
        agent.end_run()
        advance(f"run {i + 1}, {name}")
    agent.update()
    agent.begin()
    score = {}
    for name, env in envs.items():
        agent.begin_task(name, uniform[name].num_modalities)
        ours, theirs = (_play(env, who, held_out, advance, name) for who in (agent, uniform[name]))
        score[name] = _score(ours, theirs)
    for env in envs.values():
        env.close()
    edge = max(1, math.ceil(EDGE * runs))
    return {
        "envs": list(envs),
        "seeds": sorted({seed for _, seed in schedule}),
        "eval_seeds": list(held_out),
        "runs": runs,
        "uniform_runs": len(set(schedule)) + len(envs) * len(held_out),
        "first_runs": math.fsum(gains[:edge]) / edge,
        "last_runs": math.fsum(gains[-edge:]) / edge,
        "edge": edge,
        "score": score,
    }


def _play(
    env: gym.Env[Any, Any], agent: Agent, seeds: Sequence[int], advance: Callable[[str], Any], name: str
) -> list[Episode]:
    found = []
    for seed in seeds:
        found.append(run_episode(env, agent, seed=seed, learn=False, deterministic=True))
        advance(f"{agent.name} on {name}, held-out seed {seed}")
    return found


def _score(ours: Sequence[Episode], theirs: Sequence[Episode]) -> dict[str, Any]:
    """Returns and, where there is a validation split, its accuracy after the last epoch; paired over seeds."""

    def mean(values: Sequence[float]) -> float:
        return math.fsum(values) / len(values)

    mine, reference = [e.reward for e in ours], [e.reward for e in theirs]
    against = paired(mine, reference)
    found: dict[str, Any] = {
        "return": mean(mine),
        "uniform": mean(reference),
        "difference": against.points / 100.0,
        "p": against.p,
    }
    key = "val_fused/method"
    if all(key in e.info for e in [*ours, *theirs]):
        mine, reference = [e.info[key] for e in ours], [e.info[key] for e in theirs]
        found["val_accuracy"] = {"policy": mean(mine), "uniform": mean(reference), **asdict(paired(mine, reference))}
    return found


def _requests(options: Any) -> dict[str, RunRequest]:
    """One request an environment."""
    names = [name.removeprefix("dus_gym:") for name in options.envs.split(",") if name]
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"envs={options.envs!r} is not allowed; name one or more ids, each once, as A,B.")
    return {
        name: RunRequest(
            env=name,
            agent=Transfer.name,
            method=options.method,
            method_options=changed(options.method_options) if hasattr(options, "method_options") else {},
            seed=FIRST_SEED,
            trainer=options.trainer,
            data_root=None if options.data_root is None else str(options.data_root),
            run=options.run,
            threads=options.threads,
        )
        for name in names
    }


def _policy(options: Any, num_modalities: int) -> Transfer:
    """The learner: a new network, or the one of ``--agent.policy``."""
    chosen = changed(options.agent_options)
    if chosen.get("algorithm", options.agent) != options.agent:
        raise ConfigError(
            f"agent.algorithm={chosen['algorithm']!r} is not allowed with --agent {options.agent}; write one of them."
        )
    agent = make_agent(
        Transfer.name, num_modalities, options.seed, chosen | {"algorithm": options.agent, "learn": True}
    )
    assert isinstance(agent, Transfer)
    return agent


def _print(console: Console, made: dict[str, Any]) -> None:
    console.print(
        f"[bold]{made['algorithm']}[/], reward {made['reward']}, {made['runs']} runs (and {made['uniform_runs']} "
        f"uniform ones beside them), trainer {made['trainer']}"
    )
    console.print(
        f"mean return above uniform: first {made['edge']} runs {made['first_runs']:+.4f}, "
        f"last {made['edge']} runs {made['last_runs']:+.4f}"
    )
    n = len(made["eval_seeds"])
    table = Table(box=None, header_style="bold")
    for column in (f"held-out, {n} seed{'s' if n > 1 else ''}", "return", "uniform", "Δ (p)", "val. accuracy", "Δ (p)"):
        table.add_column(column, justify="left" if column.startswith("held") else "right")
    for name, row in made["score"].items():
        accuracy = row.get("val_accuracy")
        table.add_row(
            name,
            f"{row['return']:.4f}",
            f"{row['uniform']:.4f}",
            f"{row['difference']:+.4f}{_p(row['p'])}",
            percent(None if accuracy is None else accuracy["policy"]),
            "–" if accuracy is None else f"{accuracy['points']:+.1f}{_p(accuracy['p'])}",
        )
    console.print(table)


def _p(p: float | None) -> str:
    return "" if p is None else f" ({p:.3f})"
