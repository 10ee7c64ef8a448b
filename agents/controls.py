"""Controls: splits that know nothing of the scores, or use them the wrong way round. A gain they share is not DUS's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from dus_gym.agents.base import Agent, AgentOptions, Array, Info
from dus_gym.agents.rules import SCORE_FLOOR, ScoreProportional, ScoreProportionalOptions
from dus_gym.errors import ConfigError


@dataclass(frozen=True)
class FixedOptions(AgentOptions):
    """Options of a constant split."""

    shares: str | None = None
    """The split, such as 0.25/0.75, one number a modality in the task's order; uniform if not given."""


class Fixed(Agent):
    """The same split in every step but the first, which is uniform for every agent."""

    name: ClassVar[str] = "fixed"
    summary: ClassVar[str] = "a constant split, given by its shares"
    options_type: ClassVar[type[AgentOptions]] = FixedOptions
    options: FixedOptions

    def __init__(self, num_modalities: int, seed: int = 0, options: AgentOptions | None = None) -> None:
        super().__init__(num_modalities, seed, options)
        self.shares = self.uniform_action() if self.options.shares is None else self._parsed(self.options.shares)

    def _parsed(self, text: str) -> Array:
        try:
            shares = np.array([float(part) for part in str(text).split("/")])
        except ValueError:
            shares = np.zeros(0)
        if len(shares) != self.num_modalities or not (np.isfinite(shares).all() and shares.min() >= 0 < shares.sum()):
            raise ConfigError(
                f"shares={text!r} is not allowed; give {self.num_modalities} numbers that are not negative, "
                f"such as {'/'.join(['1'] * self.num_modalities)}."
            )
        return np.asarray(shares / shares.sum(), dtype=np.float32)

    @property
    def equal_batches(self) -> bool:
        """True if the split is."""
        return bool((self.shares == self.shares[0]).all())

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return the split."""
        return self.shares.copy()


class Random(Agent):
    """A new split each step, drawn from Dirichlet(2, …, 2): any effect of moving the split about."""

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "a new Dirichlet(2) split each step"

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return a draw; its mean, the uniform split, if ``deterministic``."""
        if deterministic:
            return self.uniform_action()
        return self.rng.dirichlet(np.full(self.num_modalities, 2.0)).astype(np.float32)


class Reversed(Agent):
    """More for the modality that is ahead: if this helps as much, balancing is not what helps."""

    name: ClassVar[str] = "reversed"
    summary: ClassVar[str] = "shares proportional to the score: the wrong way round"

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return shares ∝ ŝ."""
        scores = np.maximum(np.asarray(observation, dtype=np.float64), SCORE_FLOOR)
        return np.asarray(scores / scores.sum(), dtype=np.float32)


@dataclass(frozen=True)
class DirectOptions(ScoreProportionalOptions):
    """Options of ``direct``."""

    rule: str = "softmax"
    """As for score."""


class Direct(ScoreProportional):
    """``score`` with the softmax rule, under a name of its own."""

    name: ClassVar[str] = "direct"
    summary: ClassVar[str] = "softmax(-score/temperature)"
    options_type: ClassVar[type[AgentOptions]] = DirectOptions
