"""Which clips a mock has: classes and splits, from how many clips it shall have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dus_gym.errors import ConfigError

LEAST_CLIPS = 12
"""Two clips of two classes in each of three splits."""
MOST_CLIPS = 2_000
EACH = 2
"""Clips of each class in every split, at least."""


@dataclass(frozen=True)
class Clip:
    """One sample to make."""

    split: str
    label: int
    """Class id, from 0."""
    number: int
    """Within its split, from 0."""
    turn: int
    """How many clips of its class are before it in its split."""
    position: float
    """Where its class lies among those used, from 0 to 1 (not 1 itself); what its media are made after."""


def plan(clips: int, num_classes: int, splits: Sequence[str]) -> list[Clip]:
    """Clips of every split, classes in turn.

    The first ``min(num_classes, clips // 6)`` classes are used; each split but ``train`` gets a fifth of the clips,
    and two of each class at least.

    Args:
        clips: in all.
        num_classes: of the data set.
        splits: names, ``train`` first.

    Raises:
        ConfigError: for too few or too many clips.
    """
    if not LEAST_CLIPS <= clips <= MOST_CLIPS:
        raise ConfigError(f"clips={clips} is not allowed; a mock has {LEAST_CLIPS} to {MOST_CLIPS} clips.")
    used = min(num_classes, clips // (3 * EACH))
    held = max(EACH * used, clips // 5)
    sizes = {splits[0]: clips - held * (len(splits) - 1)} | dict.fromkeys(splits[1:], held)
    return [
        Clip(split, number % used, number, number // used, (number % used) / used)
        for split, count in sizes.items()
        for number in range(count)
    ]
