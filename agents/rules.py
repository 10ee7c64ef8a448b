"""Agents that don't learn: the reference, the paper's heuristic and its ablation without RL."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from dus_gym.agents.base import Agent, AgentOptions, Array, Info
from dus_gym.errors import ConfigError, check_at_least, check_choice

SCORE_FLOOR = 1e-8


class Uniform(Agent):
    """Ordinary training: every modality its ordinary batch."""

    name: ClassVar[str] = "uniform"
    summary: ClassVar[str] = "equal batches; ordinary training and the reference of every comparison"

    @property
    def equal_batches(self) -> bool:
        """True always."""
        return True

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return shares 1/m."""
        return self.uniform_action()


@dataclass(frozen=True)
class HeuristicOptions(AgentOptions):
    """Options of DUS-H."""

    beta: float = 0.5
    """The dominant modality's fraction of its batch at the start, in (0, 1]."""
    alpha: float | None = None
    """Growth an epoch of that fraction; ln(1/beta)/E if not given, so that it ends at 1."""

    def __post_init__(self) -> None:
        if self.alpha is not None:
            check_at_least("alpha", self.alpha, 0.0)
        if not 0.0 < self.beta <= 1.0:
            raise ConfigError(f"beta={self.beta!r} is not allowed; it must lie in (0, 1].")


class Heuristic(Agent):
    """DUS-H: the dominant modality gets ``f(T) = round(β e^{αT} B)`` samples, the others B.

    Dominant is whichever has the largest score at that epoch.
    """

    name: ClassVar[str] = "heuristic"
    summary: ClassVar[str] = "DUS-H: a smaller batch for the dominant modality that grows back to B"
    action_mode: ClassVar[str] = "fractions"
    options_type: ClassVar[type[AgentOptions]] = HeuristicOptions
    options: HeuristicOptions

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return fractions of each modality's batch at epoch ``info["epoch"]`` of ``info["epochs"]``."""
        beta, alpha = self.options.beta, self.options.alpha
        if alpha is None:
            alpha = math.log(1.0 / beta) / info["epochs"]
        fractions = self.uniform_action()
        fractions[int(np.argmax(observation))] = min(1.0, beta * math.exp(min(alpha * info["epoch"], 700.0)))
        return fractions


class Half(Agent):
    """HB: the dominant modality at half its batch, the others at theirs."""

    name: ClassVar[str] = "half"
    summary: ClassVar[str] = "HB: half a batch for the dominant modality"
    action_mode: ClassVar[str] = "fractions"

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return fractions of each modality's batch."""
        fractions = self.uniform_action()
        fractions[int(np.argmax(observation))] = 0.5
        return fractions


@dataclass(frozen=True)
class ScoreProportionalOptions(AgentOptions):
    """Options of DUS without RL."""

    rule: str = "inverse"
    """inverse: shares ∝ 1/ŝ; one-minus: ∝ 1-ŝ; softmax: softmax(-ŝ/temperature). The paper gives no formula."""
    temperature: float = 0.1
    """Temperature of the softmax rule."""

    def __post_init__(self) -> None:
        check_choice("rule", self.rule, ("inverse", "one-minus", "softmax"))
        check_at_least("temperature", self.temperature, 1e-6)


class ScoreProportional(Agent):
    """DUS w/o RL: the split follows from the scores themselves."""

    name: ClassVar[str] = "score"
    summary: ClassVar[str] = "DUS w/o RL: the split is a function of the scores"
    options_type: ClassVar[type[AgentOptions]] = ScoreProportionalOptions
    options: ScoreProportionalOptions

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return larger shares for lower scores."""
        scores = np.asarray(observation, dtype=np.float64)
        if self.options.rule == "inverse":
            weights = 1.0 / np.maximum(scores, SCORE_FLOOR)
        elif self.options.rule == "one-minus":
            weights = np.maximum(1.0 - scores, SCORE_FLOOR)
        else:
            logits = -scores / self.options.temperature
            weights = np.exp(logits - logits.max())
        return np.asarray(weights / weights.sum(), dtype=np.float32)
