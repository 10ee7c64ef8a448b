"""The recommended agent: holdout's idea with figures of one moment, a memory, and caution in unsteady training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dus_gym.agents.base import Agent, AgentOptions, Array, Info
from dus_gym.agents.controllers import Vector, figures, floored_softmax
from dus_gym.errors import ConfigError, check_at_least, check_fraction

FEWEST = 1e-3
"""Scores below this are taken for it: nothing is lost of what was never there."""
DROP = 0.03
"""Part of the training score that may be lost again before that counts as unsteady."""
UNWEIGHTED = 3.0
"""Under the lever samples, how many times higher the floor is where a small batch weighs as much as a large one, as
under ``loss_norm="mean"``: its noise weighs as much, too."""
FORGETS = 0.97
"""The part of what is known of unsteadiness that is left after a decision."""


@dataclass(frozen=True)
class SteadyOptions(AgentOptions):
    """Options of the recommended agent."""

    lost: float = 150.0
    """Logits for all of a training score lost in validation."""
    surprise: float = 1.5
    """Logits for one nat of validation loss beyond that of an even confidence."""
    relax: float = 0.4
    """Part of both weights that is gone at the end of the run: what was held back is let in late."""
    gate: float = 0.2
    """Largest part lost of any modality at which the weight of lost is halved: nothing over-fits, nothing is done."""
    memory: float = 0.3
    """Weight of the last decision's logits in the next one's."""
    floor: float = 0.1
    """The smallest share, as a fraction of the equal one; three times as much where the loss is a mean over each
    batch (loss_norm=mean), in which the noise of a small one weighs in full."""
    speed: float = 5.0
    """Under the lever samples the floor is at least this times the fastest rise of a training score in one iteration:
    a small batch is a noisy one, the more so the faster the network learns."""
    cap: float = 2.5
    """The largest share, as a multiple of the equal one: as a learning rate it would be multiplied by so much."""
    promise: float = 1.0
    """The validation accuracy that those who are given more must be on the way to by the end of the run, at their pace
    so far; with less the floor is the higher. A run that is over before they have learned needs what is learned
    fast."""
    caution: float = 30.0
    """Times the training score that modalities have lost again, weighted by their shares: the logits shrink by e to
    minus this."""

    def __post_init__(self) -> None:
        for name in ("lost", "surprise", "gate", "speed", "promise", "caution"):
            check_at_least(name, getattr(self, name), 0.0)
        for name in ("relax", "memory", "floor"):
            check_fraction(name, getattr(self, name))
        if not self.cap > 1.0:
            raise ConfigError(f"cap={self.cap!r} is not allowed; it must be above 1, the equal share.")


class Steady(Agent):
    """Less for the modality whose confidence does not hold in validation, as ``holdout``, but steadily.

    For each modality, with the training score s of the last step and the validation score v:

        lost     = max(0, 1 - v/s), v the mean of the last validation and the one before, s the average between them
        surprise = validation loss + log v: 0 if every sample had the mean confidence, more for errors made surely
        z        = -(lost · gate + surprise), weighted, relaxed with the progress of the run, less its mean
        logits   = an average of z over the decisions, shrunk after training scores have fallen
        shares   = softmax of the logits, mixed with the uniform split down to a floor, cut at a cap

    It decides when there is a new validation, which is once per epoch, and holds its shares in between.

    Where its weights come from stands in ``docs/agents.md``, what it reaches in ``docs/ceiling.md``. They are the same
    for all tasks, levers and numbers of modalities.
    """

    name: ClassVar[str] = "steady"
    summary: ClassVar[str] = "recommended: less for the modality whose confidence does not hold in validation, steadily"
    options_type: ClassVar[type[AgentOptions]] = SteadyOptions
    options: SteadyOptions
    needs_validation: ClassVar[bool] = True

    def __init__(self, num_modalities: int, seed: int = 0, options: AgentOptions | None = None) -> None:
        super().__init__(num_modalities, seed, options)
        self.begin()

    def begin(self) -> None:
        """Start a new run without a past."""
        m = self.num_modalities
        self.decisions = 0
        self.logits: Vector = np.zeros(m)
        self.validated: Vector = np.zeros(m)
        """Validation scores of the last decision."""
        self.collected: Vector = np.zeros(m)
        """Sum of the training scores of the steps since the last decision."""
        self.steps = 0
        self.trained: Vector = np.zeros(m)
        """Training scores of the last decision."""
        self.first: Vector = np.zeros(m)
        """Validation accuracies of the first decision."""
        self.began = 0.0
        """The part of the run that had passed then."""
        self.iterations = 0.0
        self.highest: Vector = np.zeros(m)
        """The highest training scores so far."""
        self.fastest = 0.0
        """The fastest rise of a training score in one iteration."""
        self.unsteady = 0.0
        """Training score that was lost again, weighted by shares."""
        self.shares: Vector = np.full(m, 1.0 / m)
        """Of the last decision."""

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return the next shares."""
        options, m = self.options, self.num_modalities
        train, validated = figures(info, "train_score", self.name), figures(info, "val_score", self.name)
        self.collected = self.collected + train
        self.steps += 1
        if self.decisions and (validated == self.validated).all():
            return np.asarray(self.shares, dtype=np.float32)
        train = np.maximum(self.collected / self.steps, FEWEST)
        self.collected, self.steps = np.zeros(m), 0
        self._watch(train, float(info.get("iterations", self.decisions + 1)))
        lost = np.zeros(m)
        if self.decisions:
            lost = np.maximum(0.0, 1.0 - (self.validated + validated) / 2.0 / train)
        gate = lost.max() / (lost.max() + options.gate) if lost.any() else 0.0
        weighted = options.lost * gate * lost + options.surprise * self._surprise(info, validated)
        weighted *= 1.0 - options.relax * min(1.0, info["epoch"] / info["epochs"])
        now = weighted.mean() - weighted
        self.logits = options.memory * self.logits + (1.0 - options.memory) * now if self.decisions else now
        self.validated = validated
        logits = self.logits * np.exp(-options.caution * self.unsteady)
        floor = max(self._floor(info), self._hurry(floored_softmax(logits, 0.0), info))
        self.decisions += 1
        self.shares = _cut(floored_softmax(logits, floor).astype(np.float64), options.cap / m)
        return np.asarray(self.shares, dtype=np.float32)

    def _watch(self, train: Vector, iterations: float) -> None:
        """Take note of how fast training scores rise, and of what is lost of them again."""
        if not self.decisions:
            self.highest, self.trained = train, train
        else:
            rise = float((train - self.trained).max()) / max(1.0, iterations - self.iterations)
            self.fastest = max(self.fastest, rise)
        fallen = float((self.shares * (self.highest - train)).sum())
        self.unsteady = max(FORGETS * self.unsteady, fallen - DROP, 0.0)
        self.highest = np.maximum(self.highest, train)
        self.trained, self.iterations = train, iterations

    def _hurry(self, shares: Array, info: Info) -> float:
        """Return how little can be hoped for from ``shares`` before the run is over, in [0, 1]; 0 if enough.

        Hope is the validation accuracy that a line through the first decision and now reaches at the end, weighted by
        shares. Accuracies rise long before scores do. Where info has none, nothing is held back.
        """
        accuracy = self._optional(info, "val_accuracy")
        if not self.options.promise or accuracy is None:
            return 0.0
        passed = min(1.0, info["epoch"] / info["epochs"])
        if not self.decisions:
            # Nothing is known of the pace yet.
            self.first, self.began = accuracy, passed
        since = passed - self.began
        pace = np.maximum(0.0, accuracy - self.first) / since if since > 0.0 else np.zeros_like(accuracy)
        hope = float((shares * (accuracy + (1.0 - passed) * pace)).sum())
        return max(0.0, 1.0 - (hope / self.options.promise) ** 2)

    def _surprise(self, info: Info, validated: Vector) -> Vector:
        """Return the validation losses beyond that of an even confidence, nats; zeros where info has no losses."""
        losses = self._optional(info, "val_loss")
        if losses is None:
            return np.zeros(self.num_modalities)
        found = losses + np.log(np.maximum(validated, FEWEST))
        # A modality that has no loss any more says nothing of the others.
        return np.asarray(np.where(np.isfinite(found), found, 0.0))

    def _optional(self, info: Info, kind: str) -> Vector | None:
        """Return a figure of every modality, ``(m,)``; None where info does not have it."""
        found = [value for key, value in info.items() if key.startswith(f"{kind}/")]
        return np.asarray(found, dtype=np.float64) if len(found) == self.num_modalities else None

    def _floor(self, info: Info) -> float:
        """Return the smallest share, as a fraction of the equal one."""
        options = self.options
        if any(key.startswith("rate/") for key in info):
            # Batches are equal, whatever the shares.
            return options.floor
        weak = 1.0 if info.get("size_weighted") else UNWEIGHTED
        return min(1.0, weak * max(options.floor, options.speed * self.fastest))

    def state_dict(self) -> dict[str, Any]:
        """Return what the next decision depends on."""
        return super().state_dict() | {
            "decisions": self.decisions,
            "steps": self.steps,
            "collected": self.collected.copy(),
            "logits": self.logits.copy(),
            "validated": self.validated.copy(),
            "trained": self.trained.copy(),
            "first": self.first.copy(),
            "began": self.began,
            "iterations": self.iterations,
            "highest": self.highest.copy(),
            "fastest": self.fastest,
            "unsteady": self.unsteady,
            "shares": self.shares.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned."""
        super().load_state_dict(state)
        self.decisions, self.steps = int(state["decisions"]), int(state["steps"])
        for name in ("collected", "logits", "validated", "trained", "first", "highest", "shares"):
            setattr(self, name, np.array(state[name], dtype=np.float64))
        for name in ("began", "iterations", "fastest", "unsteady"):
            setattr(self, name, float(state[name]))


def _cut(shares: Vector, most: float) -> Vector:
    """Return shares none of which is above ``most``; what is cut off goes to the others, in parts of their room."""
    for _ in range(len(shares)):
        over = np.maximum(shares - most, 0.0)
        if not over.any():
            break
        room = np.maximum(most - shares, 0.0)
        shares = np.minimum(shares, most) + over.sum() * room / room.sum()
    return shares
