"""Controllers: feedback on a measured imbalance, nothing learned from a reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dus_gym.agents.base import Agent, AgentOptions, Array, Info
from dus_gym.errors import ConfigError, check_at_least

Vector = npt.NDArray[np.float64]


def figures(info: Mapping[str, Any], kind: str, needed_by: str) -> Vector:
    """Return the entries ``kind/NAME`` of an environment's info, one per modality in order.

    Raises:
        ConfigError: if there is none: the environment was wrapped so that they are gone, or the task has no
            validation split.
    """
    found = [value for key, value in info.items() if key.startswith(kind + "/")]
    if not found:
        raise ConfigError(
            f"agent={needed_by!r} needs {kind}/NAME in the environment's info and there is none; "
            + ("choose a task with a validation split." if kind.startswith("val") else "unwrap the environment.")
        )
    return np.asarray(found, dtype=np.float64)


def floored_softmax(logits: Vector, floor: float) -> Array:
    """Return the softmax mixed with the uniform split so that no share is below ``floor`` of the equal one.

    Args:
        logits: shape ``(m,)``.
        floor: in [0, 1].
    """
    weights = np.exp(logits - logits.max())
    return np.asarray(floor / len(logits) + (1.0 - floor) * weights / weights.sum(), dtype=np.float32)


def check_floor(floor: float) -> None:
    """Raise ConfigError if ``floor`` is not in [0, 1]."""
    if not 0.0 <= floor <= 1.0:
        raise ConfigError(f"floor={floor!r} is not allowed; it must lie in [0, 1].")


@dataclass(frozen=True)
class PIOptions(AgentOptions):
    """Options of the PI controller."""

    kp: float = 2.0
    """Weight of the error of the last step."""
    ki: float = 0.5
    """Weight of the sum of the errors of all steps."""
    floor: float = 0.1
    """The smallest share, as a fraction of the equal one."""

    def __post_init__(self) -> None:
        check_at_least("kp", self.kp, 0.0)
        check_at_least("ki", self.ki, 0.0)
        check_floor(self.floor)


class PI(Agent):
    """Drives the scores together: logits ``Kp e + Ki Σ e`` with ``e_j = mean(s) - s_j`` of the last step."""

    name: ClassVar[str] = "pi"
    summary: ClassVar[str] = "a PI controller on the gap"
    options_type: ClassVar[type[AgentOptions]] = PIOptions
    options: PIOptions

    def __init__(self, num_modalities: int, seed: int = 0, options: AgentOptions | None = None) -> None:
        super().__init__(num_modalities, seed, options)
        self.integral: Vector = np.zeros(num_modalities)

    def begin(self) -> None:
        """Start a new run without a past."""
        self.integral = np.zeros(self.num_modalities)

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return larger shares for modalities behind the mean."""
        scores = figures(info, "train_score", self.name)
        error = scores.mean() - scores
        self.integral = self.integral + error
        return floored_softmax(self.options.kp * error + self.options.ki * self.integral, self.options.floor)

    def state_dict(self) -> dict[str, Any]:
        """Return the integral."""
        return super().state_dict() | {"integral": self.integral.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned."""
        super().load_state_dict(state)
        self.integral = np.array(state["integral"])


@dataclass(frozen=True)
class OverfitOptions(AgentOptions):
    """Options of the overfit-aware rule."""

    temperature: float = 0.1
    """The difference in confidence that makes a factor of e."""
    floor: float = 0.25
    """The smallest share, as a fraction of the equal one."""

    def __post_init__(self) -> None:
        check_at_least("temperature", self.temperature, 1e-6)
        check_floor(self.floor)


class Overfit(Agent):
    """Less for a modality that is surer on training than on validation samples: it is learning by heart."""

    name: ClassVar[str] = "overfit"
    summary: ClassVar[str] = "less for the modality whose training score outruns its validation score"
    options_type: ClassVar[type[AgentOptions]] = OverfitOptions
    options: OverfitOptions
    needs_validation: ClassVar[bool] = True

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return shares ∝ exp(-(training - validation score) / temperature), with a floor."""
        excess = figures(info, "train_score", self.name) - figures(info, "val_score", self.name)
        return floored_softmax(-excess / self.options.temperature, self.options.floor)


@dataclass(frozen=True)
class HoldoutOptions(OverfitOptions):
    """Options of holdout."""

    temperature: float = 0.07
    """The part of the confidence lost that makes a factor of e."""
    floor: float = 0.1
    """The smallest share, as a fraction of the equal one."""


class Holdout(Agent):
    """Less for the modality whose confidence does not hold on samples it was not trained on.

    ``overfit`` takes the difference of the training and the validation score. This takes the part of the training
    score that is lost on the way, ``1 - validation / training``: a modality that falls from .3 to .2 has learned by
    heart as much as one that falls from .9 to .6, and early in a run, when all scores are low, it shows at once. See
    ``docs/agents.md``.
    """

    name: ClassVar[str] = "holdout"
    summary: ClassVar[str] = "less for the modality that loses most of its training score in validation"
    options_type: ClassVar[type[AgentOptions]] = HoldoutOptions
    options: HoldoutOptions
    needs_validation: ClassVar[bool] = True

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return shares ∝ exp(-(1 - validation / training score) / temperature), with a floor."""
        trained = np.maximum(figures(info, "train_score", self.name), 1e-3)
        lost = 1.0 - figures(info, "val_score", self.name) / trained
        return floored_softmax(-lost / self.options.temperature, self.options.floor)
