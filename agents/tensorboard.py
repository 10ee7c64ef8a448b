"""The environment's figures in stable-baselines3's log: TensorBoard, CSV, or whatever the model logs to."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from dus_gym.errors import check_at_least

# Of SB3's and Gymnasium's own, not of the environment.
SKIPPED = ("TimeLimit.truncated",)


def numeric(info: Mapping[str, Any]) -> dict[str, float]:
    """Return the entries of an ``info`` that are finite numbers; True counts as 1."""
    return {
        key: float(value)
        for key, value in info.items()
        if key not in SKIPPED and isinstance(value, numbers.Real) and math.isfinite(value)
    }


class InfoCallback(BaseCallback):
    """Writes ``info`` to the model's logger: ``model.learn(2000, callback=InfoCallback())``.

    ``info/KEY`` is each numeric entry of ``info``, and ``end/KEY`` the same at the end of a run, with
    ``end/return`` and ``end/length``; each is the mean over what happened since the last line, in all environments.
    Where it is written is the model's: ``tensorboard_log=DIR`` (needs ``pip install tensorboard``) or
    ``model.set_logger(stable_baselines3.common.logger.configure(DIR, ["csv"]))``.

    Args:
        every: steps of an environment between two lines; 1 writes a curve with a point for every epoch.

    Raises:
        ConfigError: for ``every`` below 1.
    """

    def __init__(self, every: int = 1) -> None:
        super().__init__()
        check_at_least("every", every, 1)
        self.every = every
        self._returns: list[float] = []
        self._lengths: list[int] = []

    def _on_training_start(self) -> None:
        count = self.training_env.num_envs
        self._returns, self._lengths = [0.0] * count, [0] * count

    def _on_step(self) -> bool:
        # At the end of a run, SB3's environments hand out the info of its last step, not of the reset after it.
        for i, info in enumerate(self.locals["infos"]):
            figures = numeric(info)
            self._record("info", figures)
            self._returns[i] += float(self.locals["rewards"][i])
            self._lengths[i] += 1
            if self.locals["dones"][i]:
                self._record("end", figures | {"return": self._returns[i], "length": self._lengths[i]})
                self._returns[i], self._lengths[i] = 0.0, 0
        if self.n_calls % self.every == 0:
            self.logger.dump(self.num_timesteps)
        return True

    def _record(self, group: str, figures: Mapping[str, float]) -> None:
        for key, value in figures.items():
            self.logger.record_mean(f"{group}/{key}", value)
