"""Eq. 5 and the rewards that can stand in for it, as plain functions of one transition."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

SHARE_FLOOR = 1e-8
"""Shares are clamped here before the logarithm, so that a reward is always finite."""


class Transition(NamedTuple):
    """What one step of the environment changed; scores and shares have one entry a modality."""

    seen: Sequence[float]
    """ŝ_t, the cumulative scores the agent saw when it chose."""
    reached: Sequence[float]
    """The cumulative scores after training on its choice."""
    shares: Sequence[float]
    """The proportions â_t it chose, summing to 1."""
    gap_before: float
    """Largest minus smallest training score of the step before."""
    gap_after: float
    """The same for this step."""
    accuracy_before: float
    """Validation accuracy of the fused prediction before the step (0 without a validation split)."""
    accuracy_after: float
    """The same after the step."""
    loss_before: float = 0.0
    """Mean validation loss over modalities before the step, nats; without a validation split the training loss."""
    loss_after: float = 0.0
    """The same after the step."""


def paper_reward(scores: Sequence[float], shares: Sequence[float]) -> float:
    """Eq. 5: the mean log-proportion of the modalities that are not dominant.

    ``r = (1/m) * sum_j 1[s_j != max_k s_k] * log(share_j)``, at most 0. Its maximum gives the dominant
    modality nothing at all, which is why the environment has hard floors.
    """
    top = max(scores)
    logs = [math.log(max(a, SHARE_FLOOR)) for s, a in zip(scores, shares, strict=True) if s != top]
    return sum(logs) / len(shares)


def _gap(step: Transition) -> float:
    """Minus the gap after the step, in [-1, 0]."""
    return -step.gap_after


def _gap_change(step: Transition) -> float:
    """How much the gap shrank, in [-1, 1]."""
    return step.gap_before - step.gap_after


def _validation_gain(step: Transition) -> float:
    """How much validation accuracy of the fused prediction rose, in [-1, 1]."""
    return step.accuracy_after - step.accuracy_before


def _learning_progress(step: Transition) -> float:
    """How much the loss fell, nats; summed over a run it is what the whole run learned.

    The mean over modalities of the validation loss, so that learning by heart costs; without a validation split
    the training loss. A step that diverges has no loss and gives 0.
    """
    progress = step.loss_before - step.loss_after
    return progress if math.isfinite(progress) else 0.0


def _paper_before(step: Transition) -> float:
    """Eq. 5 on the scores that the agent saw, at most 0."""
    return paper_reward(step.seen, step.shares)


def _paper_after(step: Transition) -> float:
    """Eq. 5 on the scores that its choice led to, at most 0."""
    return paper_reward(step.reached, step.shares)


REWARDS = ("paper", "gap", "gap-change", "validation-gain", "learning-progress")
REWARD_STATES = ("before", "after")

_BY_NAME: dict[tuple[str, str], Callable[[Transition], float]] = {
    ("paper", "before"): _paper_before,
    ("paper", "after"): _paper_after,
}
for _state in REWARD_STATES:
    _BY_NAME["gap", _state] = _gap
    _BY_NAME["gap-change", _state] = _gap_change
    _BY_NAME["validation-gain", _state] = _validation_gain
    _BY_NAME["learning-progress", _state] = _learning_progress


def reward_function(name: str, state: str = "before") -> Callable[[Transition], float]:
    """The reward called ``name``.

    Args:
        name: one of :data:`REWARDS`; ``"paper"`` is Eq. 5.
        state: which scores Eq. 5 reads: ``"before"``, those the agent saw (Algorithm 1, lines 12-15),
            or ``"after"``, those its choice led to. The other rewards ignore it.

    Raises:
        ConfigError: for another name or state.
    """
    from dus_gym.errors import check_choice

    check_choice("reward", name, REWARDS)
    check_choice("reward_state", state, REWARD_STATES)
    return _BY_NAME[name, state]
