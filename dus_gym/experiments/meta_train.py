"""Meta-training: one policy learned over many runs, tasks and seeds, scored beside the uniform split on other seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from itertools import product
from typing import Any

import gymnasium as gym

from dus_gym import __version__
from dus_gym.agents import make_agent
from dus_gym.agents.base import Agent
from dus_gym.agents.loop import Episode, run_episode
from dus_gym.agents.transfer import ALGORITHMS, Transfer
from dus_gym.errors import ConfigError, check_at_least, check_choice
from dus_gym.experiments.compare import Progress
from dus_gym.experiments.serialize import to_json
from dus_gym.experiments.spec import RunSpec, make_spec, parse_seeds
from dus_gym.statistics import paired

FIRST_SEED = 100
"""Seeds below are the reports': a policy that has seen them can't be reported on them."""
EDGE = 0.1
"""The first and last runs whose mean is shown, as a fraction of all."""


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


def meta_train(
    envs: str | Sequence[str],
    *,
    algorithm: str = "ppo",
    runs: int = 300,
    seeds: str = "100-119",
    eval_seeds: str = "120-129",
    seed: int = 0,
    agent_options: Mapping[str, Any] | None = None,
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
        progress: shows how far it is.
        settings: as for :func:`dus_gym.train`.

    Returns:
        The policy; its ``made`` says how it came about: JSON-able, with its score by environment. No test split is
        looked at.

    Raises:
        DusError: for what can't be, before anything is trained.
    """
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
    agent = _learner(specs[names[0]], algorithm, seed, agent_options or {})
    first = specs[names[0]]
    total = len(specs) * (len(learned_on) + 2 * len(held_out)) + runs
    bar: Any = nullcontext(lambda _: None) if progress is None else progress("meta-train", total)
    with bar as advance:
        result = _learn(specs, agent, runs, learned_on, held_out, advance)
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


def _learn(
    specs: Mapping[str, RunSpec],
    agent: Transfer,
    runs: int,
    seeds: Sequence[int],
    held_out: Sequence[int],
    advance: Callable[[str], Any],
) -> dict[str, Any]:
    """Lets ``agent`` learn, and scores it.

    Args:
        specs: the run of each environment; its seed is replaced.
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

    torch.set_num_threads(next(iter(specs.values())).threads)
    envs = {name: spec.make_env(agent) for name, spec in specs.items()}
    modalities = {name: len(spec.task().modalities) for name, spec in specs.items()}
    uniform = {name: make_agent("uniform", modalities[name]) for name in envs}
    references: dict[str, dict[int, list[float]]] = {name: {} for name in envs}
    order = [(names, seed) for seed, names in product(seeds, envs)]
    schedule = [order[i % len(order)] for i in range(runs)]
    for name, seed in dict.fromkeys(schedule):
        references[name][seed] = run_episode(envs[name], uniform[name], seed=seed).rewards
        advance(f"uniform on {name}, seed {seed}")
    against = {name: AgainstUniform(env, references[name]) for name, env in envs.items()}
    gains: list[float] = []
    for i, (name, seed) in enumerate(schedule):
        agent.begin_task(name, modalities[name])
        gains.append(run_episode(against[name], agent, seed=seed).reward)
        agent.end_run()
        advance(f"run {i + 1}, {name}")
    agent.update()
    agent.begin()
    score = {}
    for name, env in envs.items():
        agent.begin_task(name, modalities[name])
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
