"""The base class of drivers: agents that need whole training runs beside the one that counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from dus_gym.agents.base import Agent

MakeEnv = Callable[..., "gym.Env[Any, Any]"]
"""Makes the environment of the run that counts; keyword arguments replace settings of
:class:`dus_gym.config.RunConfig`."""


class Driver(Agent):
    """An agent that acts on runs and not only in one: it trains, forks or repeats them."""

    def prepare(self, make_env: MakeEnv, seed: int) -> dict[str, Any]:
        """Make whatever training runs are needed before the one that counts.

        Args:
            make_env: makes environments like that of the run that counts.
            seed: the seed of the run that counts.

        Returns:
            Settings that the run that counts is to have, such as ``{"lr_scale": (0.5, 1.5)}``.
        """
        return {}

    def attach(self, env: gym.Env[Any, Any]) -> None:
        """Take the environment of the coming run, before its reset."""

    @property
    def training_runs(self) -> float:
        """Return the cost of deciding so far, in whole training runs, the one that counts not included."""
        return 0.0
