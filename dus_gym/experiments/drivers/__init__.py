"""Drivers act on whole runs; here also, any word, file or object becomes whoever decides the batch sizes."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from dus_gym.agents import AGENTS, agent_class, class_at, made
from dus_gym.agents.adapters import as_agent
from dus_gym.agents.base import Agent
from dus_gym.agents.policy_files import agent_from_policy, is_sb3_file, policy_path, read_policy, shipped_policies
from dus_gym.errors import ConfigError, unknown_name
from dus_gym.experiments.drivers.digest import digest_of
from dus_gym.experiments.drivers.driver import Driver, MakeEnv
from dus_gym.hub import is_address
from dus_gym.options import parse_pairs, with_said

DRIVERS = {
    "lookahead": "dus_gym.experiments.drivers.lookahead:Lookahead",
    "best-fixed": "dus_gym.experiments.drivers.best_fixed:BestFixed",
    "lr-matched": "dus_gym.experiments.drivers.lr_matched:LRMatched",
    "ppo": "dus_gym.experiments.drivers.sb3_training:PPODriver",
    "a2c": "dus_gym.experiments.drivers.sb3_training:A2CDriver",
    "sac": "dus_gym.experiments.drivers.sb3_training:SACDriver",
    "td3": "dus_gym.experiments.drivers.sb3_training:TD3Driver",
    "ddpg": "dus_gym.experiments.drivers.sb3_training:DDPGDriver",
    "dqn": "dus_gym.experiments.drivers.sb3_training:DQNDriver",
}
"""Name to ``module:class``; imported when asked for. None of them imports PyTorch before it has to."""

__all__ = [
    "DRIVERS",
    "Driver",
    "MakeEnv",
    "NamedAgent",
    "agent_names",
    "agent_type",
    "learns_in_runs",
    "name_agent",
    "resolve_agent",
    "split_word",
]


def agent_names() -> list[str]:
    """Return every word that names an agent or a driver."""
    return [*AGENTS, *DRIVERS]


def agent_type(name: str) -> type[Agent]:
    """Return the class that a word names: an agent's, or a driver's (a subclass of :class:`Driver`).

    Its ``name``, ``summary`` and ``options_type`` are what listings and help show.

    Raises:
        ConfigError: for an unknown name; the message has the nearest one.
    """
    return class_at(DRIVERS[name]) if name in DRIVERS else agent_class(name)


def split_word(word: str, mark: str = ":") -> tuple[str, dict[str, Any]]:
    """Split ``NAME:option=value:option=value`` into a name or a policy file, and options.

    A file whose path holds the mark is taken whole, and so is an address on the hub; a name of the tables goes before a
    file, and ``./NAME`` is a file.

    Args:
        word: what the user wrote.
        mark: what separates options.

    Raises:
        ConfigError: for options of another form.
    """
    # The colon of hf:// begins no option, also where the address is an option's value.
    parts = re.split(rf"{re.escape(mark)}(?!//)", word)
    for cut in range(len(parts), 0, -1):
        head = mark.join(parts[:cut])
        on_hub = is_address(head) and "=" not in parts[cut - 1]
        if head in AGENTS or head in DRIVERS or on_hub or Path(head).is_file():
            return head, parse_pairs(parts[cut:], word)
    if not any("=" in part for part in parts[1:]):
        # A file that is not there; whoever looks for it says so.
        return word, {}
    return parts[0], parse_pairs(parts[1:], word)


@dataclass(frozen=True)
class NamedAgent:
    """Whoever decides, as somebody named it."""

    name: str
    """A name of the tables; of a policy file the agent that it holds; of an object what it goes by."""
    options: Mapping[str, Any] = field(default_factory=dict)
    policy: str | None = None
    """A policy file, the name of one that comes with the package, or the address of one on the hub."""
    agent_object: Any = None
    """What :func:`dus_gym.as_agent` takes."""

    @property
    def word(self) -> str:
        """The name with its options, which tells it from the others of a comparison."""
        return with_said(self.policy or self.name, self.options)

    @property
    def digest(self) -> str | None:
        """A digest of a policy file's bytes, of an object or of a registered class; None where the name says it all."""
        if self.policy is not None:
            return hashlib.blake2b(policy_path(self.policy).read_bytes(), digest_size=16).hexdigest()
        registered = AGENTS.get(self.name)
        who = self.agent_object if self.agent_object is not None else registered
        return None if who is None or isinstance(who, str) else digest_of(who)

    def make(
        self, num_modalities: int, seed: int = 0, options: Mapping[str, Any] | None = None, *, trust: bool = False
    ) -> Agent:
        """Return the agent or driver, ready for a run; see :func:`resolve_agent`."""
        chosen = {**self.options, **(options or {})}
        if self.policy is not None:
            return agent_from_policy(self.policy, num_modalities, seed, chosen, trust)
        if self.agent_object is None:
            return made(agent_type(self.name), self.name, num_modalities, seed, chosen)
        if chosen:
            raise ConfigError(f"options={chosen} go with an agent's name; {self.name!r} is made already.")
        agent = as_agent(self.agent_object, num_modalities, self.name, seed=seed)
        if agent is not self.agent_object:
            return agent
        # What one run teaches an agent is not to reach the next run, whatever their order.
        twin: Agent = copy.deepcopy(agent)
        twin.rng = np.random.default_rng(np.random.SeedSequence([int(seed), num_modalities]))
        return twin


def name_agent(who: Any) -> NamedAgent:
    """Return what a word or an object names; policy files are opened to see whose they are.

    Args:
        who: see :func:`resolve_agent`.

    Raises:
        ConfigError: for an unknown name, a file that is not there, or options of another form.
        CheckpointError: for a file that is no policy.
    """
    if who is None:
        raise ConfigError("agent=None is not allowed; give a name, a policy file, a model or a function.")
    if not isinstance(who, str | Path):
        label = who.name if isinstance(who, Agent) else getattr(who, "__name__", type(who).__name__)
        return NamedAgent(str(label), agent_object=who)
    name, options = split_word(str(who))
    if name in AGENTS or name in DRIVERS:
        return NamedAgent(name, options)
    if Path(name).suffix == ".py":
        raise ConfigError(
            f"agent={name!r} is not allowed; a module registers its agents by name: --import {Path(name).stem}, from "
            "its folder, and the name."
        )
    if is_address(name) or name in shipped_policies() or Path(name).is_file():
        holds = "sb3" if is_sb3_file(policy_path(name)) else str(read_policy(name)["agent"])
        return NamedAgent(holds, options, policy=name)
    if Path(name).suffix in (".safetensors", ".zip"):
        raise ConfigError(f"agent={name!r} is not there; give the path of a policy file.")
    unknown = unknown_name("agent, policy or file", name, [*agent_names(), *shipped_policies()])
    raise ConfigError(f"{unknown} One of your own is registered first: dus_gym.register_agent, and --import MODULE.")


def resolve_agent(
    who: Any,
    num_modalities: int,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    *,
    trust: bool = False,
) -> Agent:
    """Return whoever decides, ready for a run.

    Args:
        who: the name of an agent or driver, that of a policy that comes with the package, the path of a policy file
            (ours, or a ZIP of stable-baselines3), or the address of one on the hub, each with options behind colons; or
            anything that :func:`dus_gym.as_agent` takes.
        num_modalities: m of the run.
        seed: the run's.
        options: by name; together with those behind colons.
        trust: allows files of stable-baselines3, which hold pickles.

    Raises:
        ConfigError: for an unknown name, a file that is not there, or options that don't fit.
        CheckpointError: for a file that is damaged, of another version, or not trusted.
    """
    return name_agent(who).make(num_modalities, seed, options, trust=trust)


def learns_in_runs(name: str) -> bool:
    """Return whether an agent learns in a number of training runs of its own, which its option ``runs`` sets."""
    return name in agent_names() and "runs" in {option.name for option in fields(agent_type(name).options_type)}
