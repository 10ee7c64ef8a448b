"""Controls: splits that know nothing of the scores, or use them the wrong way round. A gain they share is not DUS's."""

from __future__ import annotations

import math
import re
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


def format_splits(splits: npt.ArrayLike) -> str:
    """Return splits ``(parts, m)`` as :func:`parse_splits` reads them, rounded to a thousandth."""
    return "+".join("/".join(f"{share:.3f}" for share in split) for split in np.atleast_2d(np.asarray(splits)))


def parse_splits(argument: str, text: str, num_modalities: int) -> npt.NDArray[np.float64]:
    """Return splits such as ``.25/.75+.5/.5``, one or more, as shares ``(parts, m)`` that sum to 1 in each.

    Args:
        argument: its name, for messages.
        text: one number per modality between slashes, splits between plus signs.
        num_modalities: m.

    Raises:
        ConfigError: for anything else.
    """
    m = num_modalities
    try:
        # The plus sign of 1e+2 parts no splits.
        found = [[float(number) for number in part.split("/")] for part in re.split(r"(?<![eE])\+", str(text))]
    except ValueError:
        found = [[]]
    if not all(len(row) == m and min(row) >= 0.0 < sum(row) < math.inf for row in found):
        raise ConfigError(
            f"{argument}={text!r} is not allowed; give {m} numbers that are not negative, such as "
            f"{'/'.join(['1'] * m)}."
        )
    values = np.array(found)
    shares: npt.NDArray[np.float64] = values / values.sum(axis=1, keepdims=True)
    return shares


class Fixed(Agent):
    """The same split in every step but the first, which is uniform for every agent."""

    name: ClassVar[str] = "fixed"
    summary: ClassVar[str] = "a constant split, given by its shares"
    options_type: ClassVar[type[AgentOptions]] = FixedOptions
    options: FixedOptions

    def __init__(self, num_modalities: int, seed: int = 0, options: AgentOptions | None = None) -> None:
        super().__init__(num_modalities, seed, options)
        self.shares = self.uniform_action()
        if self.options.shares is not None:
            splits = parse_splits("shares", self.options.shares, num_modalities)
            if len(splits) > 1:
                raise ConfigError(f"shares={self.options.shares!r} is not one split; use the agent schedule.")
            self.shares = splits[0].astype(np.float32)

    @property
    def equal_batches(self) -> bool:
        """True if the split is."""
        return bool((self.shares == self.shares[0]).all())

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return the split."""
        return self.shares.copy()


@dataclass(frozen=True)
class ScheduleOptions(AgentOptions):
    """Options of a schedule."""

    shares: str | None = None
    """The splits, such as 0.1/0.9+0.5/0.5 (two halves of the run), one number per modality in the task's order; uniform
    if not given."""


class Schedule(Agent):
    """Splits given beforehand, each for an equal part of the run; the first step is uniform for every agent."""

    name: ClassVar[str] = "schedule"
    summary: ClassVar[str] = "splits given beforehand, each for an equal part of the run"
    options_type: ClassVar[type[AgentOptions]] = ScheduleOptions
    options: ScheduleOptions

    def __init__(self, num_modalities: int, seed: int = 0, options: AgentOptions | None = None) -> None:
        super().__init__(num_modalities, seed, options)
        text = self.options.shares
        self.splits = self.uniform_action()[None] if text is None else parse_splits("shares", text, num_modalities)

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return the split of the part that the run is in, by ``epoch`` and ``epochs`` of ``info``."""
        part = min(len(self.splits) - 1, int(len(self.splits) * info["epoch"] / info["epochs"] + 1e-9))
        return np.asarray(self.splits[part], dtype=np.float32)


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
