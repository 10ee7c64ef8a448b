"""Agents: whoever decides how many samples each modality gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from dus_gym.agents.base import Agent, AgentOptions
from dus_gym.errors import ConfigError, unknown_name
from dus_gym.options import build_options
from dus_gym.seeding import RunSeeds

AGENTS: dict[str, str | type[Agent]] = {
    "uniform": "dus_gym.agents.rules:Uniform",
    "heuristic": "dus_gym.agents.rules:Heuristic",
    "half": "dus_gym.agents.rules:Half",
    "score": "dus_gym.agents.rules:ScoreProportional",
    "direct": "dus_gym.agents.controls:Direct",
    "fixed": "dus_gym.agents.controls:Fixed",
    "schedule": "dus_gym.agents.controls:Schedule",
    "random": "dus_gym.agents.controls:Random",
    "reversed": "dus_gym.agents.controls:Reversed",
    "pi": "dus_gym.agents.controllers:PI",
    "overfit": "dus_gym.agents.controllers:Overfit",
    "holdout": "dus_gym.agents.controllers:Holdout",
    "steady": "dus_gym.agents.steady:Steady",
    "reinforce": "dus_gym.agents.reinforce:Reinforce",
    "transfer": "dus_gym.agents.transfer:Transfer",
}
"""Name to ``module:class``, imported when asked for, or to the class of :func:`register_agent`."""

RECOMMENDED = "steady"
"""Default agent of a run."""

DRIVER_NAMES = ("lookahead", "best-fixed", "lr-matched", "ppo", "a2c", "sac", "td3", "ddpg", "dqn")
"""The words of the drivers, whose table lies above this package: no agent may take one."""

Factory = Callable[[int, int], Any]
"""``(num_modalities, seed)`` to an agent or to anything that :func:`dus_gym.as_agent` takes."""

__all__ = [
    "AGENTS",
    "DRIVER_NAMES",
    "Agent",
    "AgentOptions",
    "Factory",
    "agent_class",
    "make_agent",
    "recommended_agent",
    "register_agent",
]


def recommended_agent() -> str:
    """Return the name of the agent that the tables of docs/ceiling.md recommend; runs use it if none is named."""
    return RECOMMENDED


def class_at(place: str) -> type[Agent]:
    """Import the class at ``module:class``."""
    module, _, attribute = place.partition(":")
    found: type[Agent] = getattr(import_module(module), attribute)
    return found


def agent_class(name: str) -> type[Agent]:
    """Return the class of the agent called ``name``.

    Raises:
        ConfigError: for an unknown name (the message has the nearest one), or a driver's.
    """
    if name not in AGENTS:
        if name in DRIVER_NAMES:
            raise ConfigError(
                f"agent={name!r} is a driver: it trains or forks whole runs beside the one that counts, which takes an "
                "environment to make them in. Use `dus train --agent` or dus_gym.train, or train a model of "
                "stable-baselines3 with dus_gym.agents.sb3.make_sb3 and hand it to dus_gym.as_agent."
            )
        raise unknown_name("agent", name, [*AGENTS, *DRIVER_NAMES])
    found = AGENTS[name]
    return class_at(found) if isinstance(found, str) else found


def make_agent(
    name: str, num_modalities: int, seed: int = 0, options: Mapping[str, Any] | None = None, **named: Any
) -> Agent:
    """Make an agent: ``make_agent("reinforce", 2, lr=1e-2)``.

    Args:
        name: such as ``"reinforce"``.
        num_modalities: m.
        seed: of its own random numbers.
        options: field of the agent's options to value; defaults where absent.
        named: the same as keywords.

    Raises:
        ConfigError: for an unknown agent or option, a driver, a value of another type, or an option given twice.
    """
    return made(agent_class(name), name, num_modalities, seed, merged(options, named))


def made(
    found: type[Agent], name: str, num_modalities: int, seed: int = 0, options: Mapping[str, Any] | None = None
) -> Agent:
    """Make an agent of a class, with the options checked; ``name`` is for messages."""
    chosen = build_options(found.options_type, options, f"option of agent {name!r}:")
    return found(num_modalities, RunSeeds(seed).seed, chosen)


def merged(options: Mapping[str, Any] | None, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of both.

    Raises:
        ConfigError: for one that is in both.
    """
    if twice := sorted(set(options or {}) & set(named)):
        raise ConfigError(f"{', '.join(twice)} stands in options and as a keyword; give each option once.")
    return {**(options or {}), **named}


def register_agent(name: str, agent: Any = None, summary: str = "", *, factory: Factory | None = None) -> None:
    """Register an agent of your own, in this process, under a word for ``make_agent`` and the command line.

        dus_gym.register_agent("mine", lambda observation, info: 1.0 - observation)  # in mine.py
        dus compare DUS-Digits-v0 --agents mine,steady --import mine

    Other processes must register it too; ``--import`` sees to that.

    Args:
        name: letters, digits, ``-`` and ``_``.
        agent: a subclass of :class:`Agent`, whose options become the command line's, or what :func:`dus_gym.as_agent`
            takes: a function of ``(observation, info)`` that returns shares, a network, a trained model.
        summary: one line for listings; the subclass's own if not given.
        factory: in place of ``agent``, a function of ``(num_modalities, seed)`` that makes one, or what
            :func:`dus_gym.as_agent` takes, anew for each run.

    Raises:
        ConfigError: for a name that exists or can't be a word, or for what makes no agent.
    """
    if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
        raise ConfigError(f"name={name!r} is not allowed; give letters, digits, - and _.")
    if name in AGENTS or name in DRIVER_NAMES:
        raise ConfigError(f"name={name!r} is not allowed; there is an agent of this name already, choose another.")
    if (agent is None) == (factory is None):
        raise ConfigError(f"agent={agent!r} and factory={factory!r} are not allowed; give one of the two.")
    if isinstance(agent, type) and issubclass(agent, Agent):
        # A subclass, so that the caller's class stays as it is and its files name the registered word.
        own = {"name": name, "summary": summary or agent.summary, "__doc__": agent.__doc__}
        AGENTS[name] = type(agent.__name__, (agent,), own)
        return
    if factory is None:
        if isinstance(agent, type | Agent) or not (callable(agent) or hasattr(agent, "predict")):
            raise ConfigError(
                f"agent={agent!r} is not allowed; give a subclass of dus_gym.Agent, a function of (observation, info), "
                "a network or a model of stable-baselines3, or factory=."
            )
        AGENTS[name] = _class_of(lambda _num_modalities, _seed: agent, name, summary)
    elif isinstance(factory, type) or not callable(factory):
        raise ConfigError(f"factory={factory!r} is not allowed; give a function of (num_modalities, seed).")
    else:
        AGENTS[name] = _class_of(factory, name, summary)


def _class_of(factory: Factory, word: str, line: str) -> type[Agent]:
    """Return a class whose constructor calls ``factory``: what asks a class for its options asks this one too."""

    class Registered(Agent):
        name = word
        summary = line

        def __new__(cls, num_modalities: int, seed: int = 0, _options: object = None) -> Agent:  # type: ignore[misc]
            from dus_gym.agents.adapters import as_agent

            return as_agent(factory(num_modalities, seed), num_modalities, word, seed=seed)

    return Registered
