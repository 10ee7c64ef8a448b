"""Drivers act on whole runs; here also, any word, file or object becomes whoever decides the batch sizes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dus_gym.agents import AGENTS, DRIVERS, agent_class, class_at, made
from dus_gym.agents.adapters import as_agent
from dus_gym.agents.base import Agent
from dus_gym.agents.policy_files import agent_from_policy, shipped_policies
from dus_gym.errors import ConfigError, unknown_name
from dus_gym.experiments.drivers.driver import Driver, MakeEnv
from dus_gym.options import parse_pairs

__all__ = ["DRIVERS", "Driver", "MakeEnv", "agent_names", "agent_type", "resolve_agent", "split_word"]


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

    A file whose path holds the mark is taken whole; a name of the tables goes before a file, and ``./NAME`` is a file.

    Args:
        word: what the user wrote.
        mark: what separates options.

    Raises:
        ConfigError: for options of another form.
    """
    parts = word.split(mark)
    for cut in range(len(parts), 0, -1):
        head = mark.join(parts[:cut])
        if head in AGENTS or head in DRIVERS or Path(head).is_file():
            return head, parse_pairs(parts[cut:], word)
    if not any("=" in part for part in parts[1:]):
        # A file that is not there; whoever looks for it says so.
        return word, {}
    return parts[0], parse_pairs(parts[1:], word)


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
            (ours, or a ZIP of stable-baselines3), each with options behind colons; or anything that
            :func:`dus_gym.as_agent` takes.
        num_modalities: m of the run.
        seed: the run's.
        options: by name; together with those behind colons.
        trust: allows files of stable-baselines3, which hold pickles.

    Raises:
        ConfigError: for an unknown name, a file that is not there, or options that don't fit.
        CheckpointError: for a file that is damaged, of another version, or not trusted.
    """
    if not isinstance(who, str | Path):
        if options:
            raise ConfigError(f"options={dict(options)} go with an agent's name; {who!r} is made already.")
        return as_agent(who, num_modalities, seed=seed)
    name, behind = split_word(str(who))
    chosen = {**behind, **(options or {})}
    if name in AGENTS or name in DRIVERS:
        return made(agent_type(name), name, num_modalities, seed, chosen)
    shipped = shipped_policies()
    if name in shipped or Path(name).is_file():
        return agent_from_policy(name, num_modalities, seed, chosen, trust)
    if Path(name).suffix in (".safetensors", ".zip"):
        raise ConfigError(f"agent={name!r} is not there; give the path of a policy file.")
    raise unknown_name("agent, policy or file", name, [*agent_names(), *shipped])
