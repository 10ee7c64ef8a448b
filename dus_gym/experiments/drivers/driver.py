"""The base class of drivers: agents that need whole training runs beside the one that counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym

from dus_gym.agents.base import Agent

if TYPE_CHECKING:
    from dus_gym.envs.dus_env import DUSEnv

MakeEnv = Callable[..., Any]
"""Makes the environment of the run that counts, or with ``num_envs`` a vector environment of as many like it, with
same-step autoreset; other keyword arguments replace settings of :class:`dus_gym.config.RunConfig`."""

MakeCore = Callable[..., "DUSEnv"]
"""Makes an environment, without wrappers, for the agent that is its argument; keyword arguments replace settings."""

ActTogether = Callable[..., Sequence[Any]]
"""From drivers, the group of their runs and its observations to one action per run."""


class Driver(Agent):
    """An agent that acts on runs and not only in one: it trains, forks or repeats them."""

    def prepare(self, make_env: MakeEnv, seed: int) -> dict[str, Any]:
        """Make whatever training runs are needed before the one that counts.

        Args:
            make_env: makes environments like that of the run that counts.
            seed: the seed of the run that counts.

        Returns:
            Settings that the run that counts is to have, such as ``{"lever": "rates"}``.
        """
        return {}

    @property
    def planned_runs(self) -> int:
        """Return how many training runs :meth:`prepare` is going to make."""
        return 0

    act_together: ClassVar[ActTogether | None] = None
    """Decides for many runs that train as one computation; None: :meth:`act` does, one by one."""

    @property
    def together(self) -> bool:
        """True if many of them can prepare and decide for runs that train as one computation."""
        return False

    @classmethod
    def prepare_together(
        cls, drivers: Sequence[Any], make_core: MakeCore, seeds: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Do for many runs at once what :meth:`prepare` does for one; only where :attr:`together` is true.

        Args:
            drivers: of this class and with the same options, one a run.
            make_core: returns an environment of the runs' settings for an agent; keyword arguments replace settings.
            seeds: of the runs.

        Returns:
            What :meth:`prepare` returns, by run; the same for all.
        """
        del make_core, seeds
        return [{} for _ in drivers]

    def attach(self, env: gym.Env[Any, Any]) -> None:
        """Take the environment of the coming run, before its reset."""

    @property
    def training_runs(self) -> float:
        """Return the cost of deciding so far, in whole training runs, the one that counts not included."""
        return 0.0
