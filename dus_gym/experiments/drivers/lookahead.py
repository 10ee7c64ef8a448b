"""The greedy reference: try every split on a copy of the run, take the best. No policy sees further in one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from dus_gym.agents.base import AgentOptions, Array, Info
from dus_gym.errors import ConfigError, check_at_least
from dus_gym.experiments.drivers.driver import Driver

if TYPE_CHECKING:
    from dus_gym.envs.dus_env import DUSEnv
    from dus_gym.envs.vector_env import RealRuns

REACH = 0.6
"""The outermost splits give the dominant modality 1 - 0.6 and 1 + 0.6 of the equal share."""


def line(count: int, num_modalities: int, dominant: int) -> list[Array]:
    """Return splits on a line through the uniform one, from less to more for one modality.

    Args:
        count: how many, evenly spaced; odd, so that the uniform split is one of them.
        num_modalities: m.
        dominant: the modality whose share is 0.4/m … 1.6/m; the others share the rest equally. For m = 2 and five
            splits its shares are .2, .35, .5, .65 and .8.
    """
    m = num_modalities
    splits = []
    for factor in np.linspace(1.0 - REACH, 1.0 + REACH, count):
        share = factor / m
        split = np.full(m, (1.0 - share) / (m - 1), dtype=np.float32)
        split[dominant] = share
        splits.append(split)
    return splits


@dataclass(frozen=True)
class LookaheadOptions(AgentOptions):
    """Options of lookahead."""

    splits: int = 5
    """K, the splits tried at each step; odd."""

    def __post_init__(self) -> None:
        check_at_least("splits", self.splits, 3)
        if self.splits % 2 == 0:
            raise ConfigError(f"splits={self.splits} is not allowed; an odd number has the uniform split among them.")


class Lookahead(Driver):
    """Forks the run over K splits, trains each for one interval, and takes the one that validates best.

    The criterion is validation accuracy of the method's own prediction; of equal ones the split nearest to uniform.
    The environment must be one whose run can be forked (:meth:`dus_gym.envs.dus_env.DUSEnv.fork`), with a validation
    split. Costs K further training runs.
    """

    name: ClassVar[str] = "lookahead"
    summary: ClassVar[str] = "forks the run at each step and keeps the split that validates best; costs K runs more"
    options_type: ClassVar[type[AgentOptions]] = LookaheadOptions
    options: LookaheadOptions
    needs_validation: ClassVar[bool] = True

    def __init__(self, num_modalities: int, seed: int = 0, options: AgentOptions | None = None) -> None:
        super().__init__(num_modalities, seed, options)
        self._env: DUSEnv | None = None
        self._forked_steps = 0
        self._horizon = 1

    def begin(self) -> None:
        """Start a new run, which has cost nothing yet."""
        self._forked_steps = 0

    @property
    def training_runs(self) -> float:
        """Return K for every step that was looked ahead of, over the steps of a run."""
        return self._forked_steps / self._horizon

    def attach(self, env: gym.Env[Any, Any]) -> None:
        """Keep the environment to fork it.

        Raises:
            ConfigError: for an environment that can't be forked.
        """
        from dus_gym.envs.dus_env import DUSEnv

        core = env.unwrapped
        if not isinstance(core, DUSEnv):
            raise ConfigError(f"agent='lookahead' forks a DUS environment and got {type(core).__name__}.")
        self._env = core

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return the split of the best fork."""
        core = self._env
        if core is None:
            raise ConfigError("agent='lookahead' has no environment; call attach(env) first; dus_gym.train does.")
        if not core.run.has_validation:
            raise ConfigError("agent='lookahead' needs a validation split and this task has none.")
        self._horizon = core.horizon
        splits = line(self.options.splits, self.num_modalities, int(np.argmax(observation)))
        gains = [self._validated(core.fork(), split) for split in splits]
        self._forked_steps += len(splits)
        return splits[best_of(gains, splits)]

    @property
    def together(self) -> bool:
        """True: runs that train as one computation are forked as one."""
        return True

    @staticmethod
    def act_together(drivers: Sequence[Lookahead], group: RealRuns, observations: npt.NDArray[Any]) -> list[Array]:
        """Return each run's split of its best fork; a fork is of all runs, each with a split of its own line."""
        m, count = drivers[0].num_modalities, drivers[0].options.splits
        allocation = group.single.allocation
        lines = [line(count, m, int(np.argmax(observation))) for observation in observations]
        gains: list[list[float]] = [[] for _ in drivers]
        for i in range(count):
            fork = group.fork()
            both = [allocation(splits[i]) for splits in lines]
            fork.step(np.array([shares for shares, _ in both]).T, np.array([sizes for _, sizes in both]).T)
            figures = fork.runs.validate_all()
            assert figures is not None, "needs_validation is checked before"
            for of, found, diverged in zip(gains, figures, fork.runs.ended, strict=True):
                accuracy = None if diverged else found.fused["method"]
                of.append(-1.0 if accuracy is None else accuracy)
        for driver in drivers:
            driver._horizon = group.horizon
            driver._forked_steps += count
        return [splits[best_of(of, splits)] for of, splits in zip(gains, lines, strict=True)]

    @staticmethod
    def _validated(fork: DUSEnv, split: Array) -> float:
        """Return the validation accuracy one interval later; below every accuracy if the fork diverged."""
        fork.step(split)
        figures = fork.run.validate()
        accuracy = None if figures is None or fork.diverged else figures.fused["method"]
        return -1.0 if accuracy is None else accuracy

    def state_dict(self) -> dict[str, Any]:
        """Return what it has cost so far."""
        return super().state_dict() | {"forked_steps": self._forked_steps, "horizon": self._horizon}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned."""
        super().load_state_dict(state)
        self._forked_steps, self._horizon = int(state["forked_steps"]), int(state["horizon"])


def best_of(values: Sequence[float], splits: Sequence[Array]) -> int:
    """Return the index of the largest value; of equal ones the split nearest to uniform."""
    return max(range(len(values)), key=lambda i: (values[i], -float(np.ptp(splits[i]))))
