"""Meta-training: one policy learned over many runs, tasks and seeds, scored beside the uniform split on other seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any

from dus_gym import __version__
from dus_gym.agents import make_agent
from dus_gym.agents.base import Agent
from dus_gym.agents.loop import Episode
from dus_gym.agents.transfer import ALGORITHMS, Transfer
from dus_gym.envs.dus_env import DUSEnv
from dus_gym.errors import ConfigError, TooManyRunsError, check_at_least, check_choice
from dus_gym.experiments.compare import Progress
from dus_gym.experiments.episodes import Episodes
from dus_gym.experiments.executors.executor import ScaleOptions
from dus_gym.experiments.serialize import to_json
from dus_gym.experiments.spec import RunSpec, make_spec, parse_seeds
from dus_gym.experiments.together import MOST_TOGETHER, most_together
from dus_gym.statistics import paired

FIRST_SEED = 100
"""Seeds below are the reports': a policy that has seen them can't be reported on them."""
EDGE = 0.1
"""The first and last runs whose mean is shown, as a fraction of all."""


def meta_train(
    envs: str | Sequence[str],
    *,
    algorithm: str = "ppo",
    runs: int = 300,
    seeds: str = "100-119",
    eval_seeds: str = "120-129",
    seed: int = 0,
    agent_options: Mapping[str, Any] | None = None,
    parallel_runs: str = "auto",
    progress: Progress | None = None,
    **settings: Any,
) -> Transfer:
    """Learn one policy over many runs, and score it.

    Args:
        envs: registered ids, any numbers of modalities; text lists them between commas.
        algorithm: ``ppo`` or ``reinforce``.
        runs: to learn from; they cycle through environments first and seeds second.
        seeds: to learn on, 100 or above.
        eval_seeds: on which the finished policy is set beside uniform; 100 or above, and none of the others.
        seed: of the network's start and of its draws.
        agent_options: the policy's, by name.
        parallel_runs: of one task and one batch (the policy's option ``batch``) that train as one computation: a
            number, or ``"auto"`` for up to 32 where task and method can.
        progress: shows how far it is.
        settings: as for :func:`dus_gym.train`.

    Returns:
        The policy; its ``made`` says how it came about: JSON-able, with its score by environment. No test split is
        looked at.

    Raises:
        DusError: for what can't be, before anything is trained.
    """
    import torch

    check_choice("agent", algorithm, ALGORITHMS)
    check_at_least("runs", runs, 1)
    learned_on, held_out = tuning_seeds("seeds", seeds), tuning_seeds("eval_seeds", eval_seeds)
    if shared := sorted(set(learned_on) & set(held_out)):
        raise ConfigError(f"eval_seeds={eval_seeds!r} is not allowed; {shared} are also learned on (seeds={seeds!r}).")
    names = envs.split(",") if isinstance(envs, str) else list(envs)
    names = [name.removeprefix("dus_gym:") for name in names if name]
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"envs={envs!r} is not allowed; name one or more ids, each once, as A,B.")
    specs = {name: make_spec(name, Transfer.name, seed=FIRST_SEED, **settings) for name in names}
    for spec in specs.values():
        spec.check()
    ScaleOptions(parallel_runs=parallel_runs)
    agent = _learner(specs[names[0]], algorithm, seed, agent_options or {})
    first = specs[names[0]]
    total = len(specs) * (len(learned_on) + 2 * len(held_out)) + runs
    torch.set_num_threads(first.threads)
    bar: Any = nullcontext(lambda _: None) if progress is None else progress("meta-train", total)
    with bar as advance:
        tasks = {name: _TaskRuns.of(spec, agent, parallel_runs, advance) for name, spec in specs.items()}
        result = _learn(tasks, agent, runs, learned_on, held_out)
    agent.policy_lever = first.run.lever
    agent.made = {
        "version": __version__,
        "method": first.method,
        "trainer": first.trainer or "each id's own",
        "algorithm": algorithm,
        "reward": first.run.reward,
        "settings": dict(first.settings),
    } | result
    return agent


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


@dataclass
class _TaskRuns:
    """Makes runs of one task, several as one computation."""

    name: str
    core: DUSEnv
    most: int
    """Runs as one computation."""
    may_split: bool
    """True if fewer may train together where memory has no room."""
    advance: Callable[[str], Any]
    """Called with a text after each run."""

    @classmethod
    def of(cls, spec: RunSpec, agent: Agent, parallel_runs: str, advance: Callable[[str], Any]) -> _TaskRuns:
        auto = parallel_runs == "auto"
        most = most_together(spec, parallel_runs)
        if spec.is_fake:
            most = MOST_TOGETHER if auto else int(parallel_runs)
        return cls(spec.env, spec.make_core(agent), most, auto, advance)

    @property
    def num_modalities(self) -> int:
        """Return m."""
        return len(self.core.modalities)

    def make(
        self, agents: Sequence[Agent], seeds: Sequence[int], what: str, references: Sequence[Sequence[float]] = ()
    ) -> list[Episode]:
        """Make a run with each agent and seed; rewards come back as they are, whatever the references.

        Raises:
            TooManyRunsError: if memory has no room for as many as were asked for.
            DusError: that of the first agent that failed.
        """
        found: list[Episode] = []
        while (start := len(found)) < len(seeds):
            part = slice(start, start + self.most)
            episodes = Episodes(self.core, agents[part], seeds[part], references[part])
            try:
                episodes.begin()
            except TooManyRunsError as error:
                if not self.may_split:
                    raise
                self.most = min(error.fits, self.most - 1)
                continue
            runs = [Episode() for _ in seeds[part]]
            while episodes.active:
                for step in episodes.step():
                    runs[step.run].rewards.append(step.reward)
                    runs[step.run].info = step.info
            for failed in episodes.errors.values():
                raise failed
            for _ in runs:
                self.advance(f"{what}, {self.name}")
            found += runs
        return found


def _learn(
    tasks: Mapping[str, _TaskRuns], agent: Transfer, runs: int, seeds: Sequence[int], held_out: Sequence[int]
) -> dict[str, Any]:
    """Let ``agent`` learn, and score it.

    From each reward what the uniform split got in the same step of the run of the same seed is subtracted. That changes
    no policy's rank, and takes out of the return how lucky a seed is, which is the most of it.

    Args:
        tasks: by name.
        agent: learns in place.
        runs: how many runs, through tasks first and seeds second.
        seeds: to learn on.
        held_out: to score the deterministic policy on, beside the uniform split.

    Returns:
        JSON-able: what it learned on, mean return relative to uniform of the first and last runs, and ``score``
        by environment: returns and validation accuracies on the held-out seeds. No test split is looked at.
    """
    order = [(name, seed) for seed, name in product(seeds, tasks)]
    schedule = [order[i % len(order)] for i in range(runs)]
    references: dict[tuple[str, int], list[float]] = {}
    uniform: dict[str, list[Episode]] = {}
    for name, task in tasks.items():
        wanted = [seed for one, seed in dict.fromkeys(schedule) if one == name]
        agents = [make_agent("uniform", task.num_modalities)] * (len(wanted) + len(held_out))
        found = task.make(agents, [*wanted, *held_out], "uniform")
        references |= {(name, seed): run.rewards for seed, run in zip(wanted, found, strict=False)}
        uniform[name] = found[len(wanted) :]
    gains: list[float] = []
    for start in range(0, runs, agent.options.batch):
        batch = schedule[start : start + agent.options.batch]
        twins = agent.twins([(name, tasks[name].num_modalities) for name, _ in batch])
        gained = [0.0] * len(batch)
        for name, task in tasks.items():
            mine = [i for i, (one, _) in enumerate(batch) if one == name]
            against = [references[batch[i]] for i in mine]
            found = task.make([twins[i] for i in mine], [batch[i][1] for i in mine], "learning", against)
            for i, run in zip(mine, found, strict=True):
                gained[i] = run.reward - sum(references[batch[i]][: len(run.rewards)])
        agent.learn_from(twins)
        gains += gained
    agent.update()
    score = {}
    for name, task in tasks.items():
        twins = agent.twins([(name, task.num_modalities)] * len(held_out), learn=False)
        score[name] = _score(task.make(twins, held_out, f"{agent.name} on held-out seeds"), uniform[name])
        task.core.close()
    edge = max(1, math.ceil(EDGE * runs))
    return {
        "envs": list(tasks),
        "seeds": sorted({seed for _, seed in schedule}),
        "eval_seeds": list(held_out),
        "runs": runs,
        "uniform_runs": len(set(schedule)) + len(tasks) * len(held_out),
        "first_runs": math.fsum(gains[:edge]) / edge,
        "last_runs": math.fsum(gains[-edge:]) / edge,
        "edge": edge,
        "score": score,
    }


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
        found["val_accuracy"] = {"policy": mean(mine), "uniform": mean(reference), **to_json(paired(mine, reference))}
    return found


def _learner(spec: RunSpec, algorithm: str, seed: int, options: Mapping[str, Any]) -> Transfer:
    """A new network, or the one of the option ``policy``."""
    if options.get("algorithm", algorithm) != algorithm:
        raise ConfigError(
            f"agent.algorithm={options['algorithm']!r} is not allowed with --agent {algorithm}; write one of them."
        )
    m = len(spec.task().modalities)
    agent = make_agent(Transfer.name, m, seed, {**options, "algorithm": algorithm, "learn": True})
    assert isinstance(agent, Transfer)
    return agent
