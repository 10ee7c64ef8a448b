"""Agents: whoever decides how many samples each modality gets."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from dus_gym.agents.base import Agent, AgentOptions, load_agent
from dus_gym.errors import unknown_name
from dus_gym.options import build_options
from dus_gym.seeding import RunSeeds

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
    "ppo": "dus_gym.agents.sb3:PPOAgent",
    "a2c": "dus_gym.agents.sb3:A2CAgent",
    "sac": "dus_gym.agents.sb3:SACAgent",
    "td3": "dus_gym.agents.sb3:TD3Agent",
    "ddpg": "dus_gym.agents.sb3:DDPGAgent",
    "dqn": "dus_gym.agents.sb3:DQNAgent",
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
        ConfigError: for an unknown agent or option, or a value of another type.
    """
    found = agent_class(name)
    chosen = build_options(found.options_type, options, f"option of agent {name!r}:")
    return found(num_modalities, RunSeeds(seed).seed, chosen)
