"""The two loops: one run with an agent that learns while it goes on, and many runs in a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from dus_gym.agents.adapters import as_agent
from dus_gym.agents.base import Agent
from dus_gym.costs import Stopwatch
from dus_gym.errors import ConfigError

OnStep = Callable[[npt.NDArray[Any], float, dict[str, Any]], None]


@dataclass
class Episode:
    """One run under an agent."""

    rewards: list[float] = field(default_factory=list)
    """One reward per step."""
    observation: npt.NDArray[Any] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    """The last observation, ``(m,)``."""
    info: dict[str, Any] = field(default_factory=dict)
    """The environment's last figures."""

    @property
    def reward(self) -> float:
        """Return the undiscounted return."""
        return sum(self.rewards)


def check_fit(env: gym.Env[Any, Any], agent: Agent) -> None:
    """Raise ConfigError if the agent speaks another kind of action than the environment takes."""
    if not env.has_wrapper_attr("allocation"):
        return
    mode = env.get_wrapper_attr("allocation").mode
    if mode != agent.action_mode:
        raise ConfigError(
            f"action_mode={mode!r} does not fit agent {agent.name!r}, which speaks {agent.action_mode!r}; "
            f'make the environment with action_mode="{agent.action_mode}".'
        )


def run_episode(
    env: gym.Env[Any, Any],
    agent: Any,
    *,
    seed: int | None = None,
    learn: bool = True,
    deterministic: bool = False,
    resume: tuple[npt.NDArray[Any], dict[str, Any]] | None = None,
    on_step: OnStep | None = None,
    watch: Stopwatch | None = None,
) -> Episode:
    """Make one run, the agent learning after every step (Algorithm 1).

    The first action is uniform whatever the agent, and is not learned from: it was not the policy's.

    Args:
        env: any environment with an ``(m,)`` Box of actions.
        agent: acts, and learns if it can; also what :func:`dus_gym.as_agent` takes.
        seed: of the environment's reset.
        learn: False: the agent is only asked.
        deterministic: the policy's mean instead of draws.
        resume: observation and info of a restored environment; the run goes on from there, and so does the agent.
        on_step: called after each step with observation, reward and info.
        watch: adds up the seconds the agent takes to decide and to learn.
    """
    agent = _as_agent(env, agent)
    check_fit(env, agent)
    episode = Episode()
    watch = Stopwatch() if watch is None else watch
    if resume is None:
        agent.begin()
        observation, info = env.reset(seed=seed)
        # Algorithm 1, line 1: a_1 = N_B / m each.
        action = agent.uniform_action()
        chosen = False
    else:
        observation, info = resume
        with watch:
            action = agent.act(observation, info, deterministic=deterministic)
        chosen = True
    # Algorithm 1, lines 16 and 17: t counts the steps of the environment until the last epoch.
    while True:
        # Algorithm 1, line 12: the state ŝ_t, after the training loop's own lines.
        observation, reward, terminated, truncated, info = env.step(action)
        # Algorithm 1, lines 14 and 15: the reward (Eq. 5) of the choice just trained on, then the policy (Eq. 6).
        if learn and chosen:
            with watch:
                agent.learn(float(reward))
        episode.rewards.append(float(reward))
        episode.observation, episode.info = observation, info
        if on_step is not None:
            on_step(observation, float(reward), info)
        if terminated or truncated:
            return episode
        # Algorithm 1, line 13: the next action from the policy, rounded to sizes by Eq. 4 in the environment.
        with watch:
            action = agent.act(observation, info, deterministic=deterministic)
        chosen = True


def _as_agent(env: gym.Env[Any, Any], who: Any) -> Agent:
    """Return an agent as it is, and anything else as :func:`dus_gym.as_agent` reads it.

    Raises:
        ConfigError: for a word: it takes options and a seed, which :func:`dus_gym.make_agent` has.
    """
    if isinstance(who, Agent):
        return who
    if isinstance(who, str):
        raise ConfigError(
            f"agent={who!r} is a word; make the agent by make_agent(name, num_modalities) or load_agent(file), or use "
            "dus_gym.train, which takes words."
        )
    shape = env.action_space.shape
    if shape is None or len(shape) != 1:
        raise ConfigError(f"action_space={env.action_space} is not allowed; an agent acts in a Box of shape (m,).")
    return as_agent(who, shape[0])


def run_episodes(
    env: gym.Env[Any, Any], agent: Any, seeds: Iterable[int], *, on_episode: Callable[[Episode], None] | None = None
) -> list[Episode]:
    """Make runs one after another; what the agent learned in one it takes into the next.

    Args:
        env: see :func:`run_episode`.
        agent: learns over all runs.
        seeds: one per run.
        on_episode: called after each run.
    """
    agent = _as_agent(env, agent)
    episodes = []
    for seed in seeds:
        episode = run_episode(env, agent, seed=seed)
        episodes.append(episode)
        if on_episode is not None:
            on_episode(episode)
    return episodes
