"""The easiest problem with the environment's interface, to see whether an agent learns at all."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from dus_gym.allocation import normalise, read_action
from dus_gym.errors import ConfigError

Array = npt.NDArray[np.float32]


class BestSplit(gym.Env[Array, Array]):
    """One split is best, always the same one, and the reward says how close a step came to it.

    The reward is 1 - ½ Σ_j |share_j - best_j|: 1 at the best split, and ``1 - max(1 - best)`` or more anywhere.
    Observations and actions are those of :class:`dus_gym.envs.dus_env.DUSEnv`: scores in [0, 1] that grow with the
    samples a modality got, and shares. The scores tell nothing about the best split. Nothing is trained: a step
    takes microseconds. Not registered; construct it.

    Args:
        best: the best split, ``(m,)`` non-negative numbers, normalised.
        horizon: steps of one episode.

    Raises:
        ConfigError: for a split of fewer than two modalities or a malformed one, or no step.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own form

    def __init__(self, best: npt.ArrayLike = (0.2, 0.8), horizon: int = 20) -> None:
        m = np.size(best)
        if m < 2:
            raise ConfigError(f"best={best!r} is not allowed; a split needs at least 2 shares.")
        if horizon < 1:
            raise ConfigError(f"horizon={horizon!r} is not allowed; it must be at least 1.")
        self.best = np.array(normalise(read_action(best, m)))
        self.horizon = horizon
        self.observation_space = gym.spaces.Box(0.0, 1.0, (m,), np.float32)
        self.action_space = gym.spaces.Box(0.0, 1.0, (m,), np.float32)
        self._scores = np.zeros(m)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Starts at scores drawn from [0, 0.2]."""
        super().reset(seed=seed, options=options)
        self._scores = self.np_random.uniform(0.0, 0.2, len(self.best))
        self._steps = 0
        return self._scores.astype(np.float32), {"epoch": 0, "epochs": self.horizon}

    def step(self, action: npt.ArrayLike) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Rewards the split.

        Raises:
            ConfigError: for a malformed action.
        """
        shares = np.array(normalise(read_action(action, len(self.best))))
        self._scores += 0.1 * shares * (1.0 - self._scores)
        self._steps += 1
        distance = 0.5 * float(np.abs(shares - self.best).sum())
        info = {"epoch": self._steps, "epochs": self.horizon, "distance": distance}
        # Bounded against rounding: two points of the simplex are at most 1 apart.
        reward = max(0.0, 1.0 - distance)
        return self._scores.astype(np.float32), reward, self._steps >= self.horizon, False, info
