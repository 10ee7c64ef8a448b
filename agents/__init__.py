"""Agents: whoever decides how many samples each modality gets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from dus_gym.agents.base import Agent, AgentOptions, load_agent
from dus_gym.errors import unknown_name

AGENTS: dict[str, str] = {
    "uniform": "dus_gym.agents.rules:Uniform",
    "heuristic": "dus_gym.agents.rules:Heuristic",
    "half": "dus_gym.agents.rules:Half",
    "score": "dus_gym.agents.rules:ScoreProportional",
    "direct": "dus_gym.agents.controls:Direct",
    "fixed": "dus_gym.agents.controls:Fixed",
    "random": "dus_gym.agents.controls:Random",
    "reversed": "dus_gym.agents.controls:Reversed",
    "pi": "dus_gym.agents.controllers:PI",
    "overfit": "dus_gym.agents.controllers:Overfit",
    "holdout": "dus_gym.agents.controllers:Holdout",
    "lookahead": "dus_gym.agents.lookahead:Lookahead",
    "best-fixed": "dus_gym.agents.drivers:BestFixed",
    "lr-matched": "dus_gym.agents.drivers:LRMatched",
    "reinforce": "dus_gym.agents.reinforce:Reinforce",
    "transfer": "dus_gym.agents.transfer:Transfer",
}
"""Name to ``module:class``; imported when asked for."""

__all__ = ["AGENTS", "Agent", "AgentOptions", "agent_class", "load_agent", "make_agent"]


def agent_class(name: str) -> type[Agent]:
    """The class of the agent called ``name``.

    Raises:
        ConfigError: for an unknown name; the message has the nearest one.
    """
    if name not in AGENTS:
        raise unknown_name("agent", name, AGENTS)
    module, _, attribute = AGENTS[name].partition(":")
    found: type[Agent] = getattr(import_module(module), attribute)
    return found


def make_agent(name: str, num_modalities: int, seed: int = 0, options: Mapping[str, Any] | None = None) -> Agent:
    """An agent with its options.

    Args:
        name: such as ``"reinforce"``.
        num_modalities: m.
        seed: of its own random numbers.
        options: field of the agent's options to value; defaults where absent.

    Raises:
        ConfigError: for an unknown agent or option.
    """
    found = agent_class(name)
    fields = {field.name for field in dataclasses.fields(found.options_type)}
    for option in options or {}:
        if option not in fields:
            raise unknown_name(f"option of agent {name!r}:", option, fields or {"(it has none)"})
    return found(num_modalities, seed, found.options_type(**(options or {})))
