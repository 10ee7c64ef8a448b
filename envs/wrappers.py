"""The split as actions that other algorithms can handle: symmetric logits, or a list of splits to choose from."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils import RecordConstructorArgs

from dus_gym.allocation import SOFTMAX_SCALE, lattice, softmax_shares
from dus_gym.errors import ConfigError

Array = npt.NDArray[np.float32]


def modalities_of(env: gym.Env[Any, Any], wrapper: str) -> int:
    """Return the number of modalities of an environment whose actions are shares.

    Raises:
        ConfigError: if its actions are something else.
    """
    space = env.action_space
    mode = env.get_wrapper_attr("allocation").mode if env.has_wrapper_attr("allocation") else "shares"
    if mode != "shares":
        raise ConfigError(f'action_mode={mode!r} is not allowed under {wrapper}; use action_mode="shares".')
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1 or space.low.any() or (space.high != 1).any():
        raise ConfigError(
            f"action_space={space} is not allowed under {wrapper}; wrap an environment of Box(0, 1, (m,))."
        )
    return space.shape[0]


class SoftmaxAction(gym.ActionWrapper[Any, Array, Array], RecordConstructorArgs):
    """Logits instead of shares: ``Box(-1, 1, (m,))``, times ``scale``, through a softmax.

    For algorithms that want a symmetric box, such as SAC, TD3 and DDPG. ``scale`` bounds how far a split can
    go: of two modalities one gets a share between 1 / (1 + e^{2·scale}) and the rest, which is [.12, .88] with
    scale 1 and [.0025, .9975] with the default 3. Adding a constant to all logits changes nothing, so a policy's
    log-probability belongs to the logits and not to the shares.

    Args:
        env: an environment whose actions are shares.
        scale: what a logit of 1 stands for.

    Raises:
        ConfigError: for another kind of environment, or a scale that is not positive and finite.
    """

    def __init__(self, env: gym.Env[Any, Array], scale: float = SOFTMAX_SCALE) -> None:
        RecordConstructorArgs.__init__(self, scale=scale)
        gym.ActionWrapper.__init__(self, env)
        if not 0.0 < scale < float("inf"):
            raise ConfigError(f"scale={scale!r} is not allowed; it must be positive and finite.")
        self.scale = scale
        self.action_space = gym.spaces.Box(-1.0, 1.0, (modalities_of(env, "SoftmaxAction"),), np.float32)

    def action(self, action: Array) -> Array:
        """Return the shares ``(m,)`` of logits ``(m,)``."""
        return softmax_shares(action, self.scale)


class DiscreteShares(gym.ActionWrapper[Any, np.int64, Array], RecordConstructorArgs):
    """A choice among fixed splits: ``Discrete(n)``, for DQN and bandits.

    Action i is the split ``splits[i]``, one of the points of :func:`lattice`: nine splits from .1/.9 to .9/.1
    for two modalities, a lattice on the simplex for more. No modality is ever left out.

    Args:
        env: an environment whose actions are shares.
        resolution: parts of the whole that each split distributes; see :func:`lattice` for the default.

    Raises:
        ConfigError: for another kind of environment, or fewer parts than modalities.
    """

    def __init__(self, env: gym.Env[Any, Array], resolution: int | None = None) -> None:
        RecordConstructorArgs.__init__(self, resolution=resolution)
        gym.ActionWrapper.__init__(self, env)
        self.splits = lattice(modalities_of(env, "DiscreteShares"), resolution)
        """Shares ``(n, m)``."""
        self.action_space = gym.spaces.Discrete(len(self.splits))

    def action(self, action: np.int64) -> Array:
        """Return the shares ``(m,)`` of a split's number.

        Raises:
            ConfigError: for a number that is not in the space.
        """
        if not self.action_space.contains(action):
            raise ConfigError(f"action={action!r} is not allowed; it must be a whole number below {len(self.splits)}.")
        return np.array(self.splits[int(action)])
