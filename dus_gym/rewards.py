"""Eq. 5 and the rewards that can stand in for it, as plain functions of one transition."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dus_gym.errors import ConfigError, check_choice

SHARE_FLOOR = 1e-8
"""Shares are clamped here before the logarithm, so that a reward is always finite."""


class Transition(NamedTuple):
    """One step of the environment, before and after; scores and shares have one entry per modality."""

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
    """Return Eq. 5, the mean log-proportion of the modalities that are not dominant.

    ``r = (1/m) * sum_j 1[s_j != max_k s_k] * log(share_j)``, at most 0. Its maximum gives the dominant
    modality nothing at all, which is why the environment has hard floors.
    """
    top = max(scores)
    logs = [math.log(max(a, SHARE_FLOOR)) for s, a in zip(scores, shares, strict=True) if s != top]
    return sum(logs) / len(shares)


def _gap(step: Transition) -> float:
    """Return minus the gap after the step, in [-1, 0]."""
    return -step.gap_after


def _gap_change(step: Transition) -> float:
    """Return the decrease of the gap, in [-1, 1]."""
    return step.gap_before - step.gap_after


def _validation_gain(step: Transition) -> float:
    """Return the rise of the fused validation accuracy, in [-1, 1]."""
    return step.accuracy_after - step.accuracy_before


def _learning_progress(step: Transition) -> float:
    """Return the decrease of the loss, nats; summed over a run it is what the whole run learned.

    The mean over modalities of the validation loss, so that learning by heart costs; without a validation split
    the training loss. A step that diverges has no loss and gives 0.
    """
    progress = step.loss_before - step.loss_after
    return progress if math.isfinite(progress) else 0.0


def _paper_before(step: Transition) -> float:
    return paper_reward(step.seen, step.shares)


def _paper_after(step: Transition) -> float:
    return paper_reward(step.reached, step.shares)


REWARD_STATES = ("before", "after")
Reward = Callable[[Transition], float]

_BY_NAME: dict[str, tuple[Reward, Reward]] = {
    "paper": (_paper_before, _paper_after),
    "gap": (_gap, _gap),
    "gap-change": (_gap_change, _gap_change),
    "validation-gain": (_validation_gain, _validation_gain),
    "learning-progress": (_learning_progress, _learning_progress),
}
"""The function of each reward, by reward state."""


def reward_names() -> tuple[str, ...]:
    """Return the name of every reward, those of :func:`register_reward` last."""
    return tuple(_BY_NAME)


def register_reward(name: str, function: Reward) -> None:
    """Register a reward of your own, in this process, under a word for ``reward=`` and ``--reward``.

    Other processes must register it too: put the call into a module and write ``dus train --import your_module``.

    Args:
        name: letters, digits, ``-`` and ``_``.
        function: of one :class:`Transition`; must return a finite number.

    Raises:
        ConfigError: for a name that exists or can't be a word, or for what is no function.
    """
    if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
        raise ConfigError(f"name={name!r} is not allowed; give letters, digits, - and _.")
    if name in _BY_NAME:
        raise ConfigError(f"name={name!r} is not allowed; there is a reward of this name already, choose another.")
    if not callable(function):
        raise ConfigError(f"function={function!r} is not allowed; give a function of one Transition.")

    def checked(step: Transition) -> float:
        reward = function(step)
        try:
            number = float(reward)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(f"reward={name!r} returned {reward!r}; it must return a finite number for {step}.")
        return number

    _BY_NAME[name] = (checked, checked)


def reward_function(name: str, state: str = "before") -> Reward:
    """Return the reward called ``name``.

    Args:
        name: one of :func:`reward_names`; ``"paper"`` is Eq. 5.
        state: which scores Eq. 5 reads: ``"before"``, those the agent saw (Algorithm 1, lines 12-15),
            or ``"after"``, those its choice led to. The other rewards ignore it.

    Raises:
        ConfigError: for another name or state.
    """
    check_choice("reward", name, _BY_NAME)
    check_choice("reward_state", state, REWARD_STATES)
    return _BY_NAME[name][REWARD_STATES.index(state)]
