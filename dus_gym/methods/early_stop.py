"""When a loss has stopped falling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["best", "no better", "stop"]


@dataclass
class EarlyStop:
    """What is known of one head's validation losses; epochs count from 1."""

    best: float | None = None
    """The lowest (smoothed) loss."""
    best_epoch: int = 0
    previous: float | None = None
    """The loss of the epoch before, not smoothed."""
    stopped_at: int = 0
    """The epoch after which the head was stopped; 0: it trains."""

    def see(self, epoch: int, loss: float, patience: int, smoothing: str) -> Verdict:
        """What ``epoch`` is; more than ``patience`` epochs after the best one the head is stopped."""
        previous, self.previous = self.previous, loss
        value = loss if smoothing == "none" or previous is None else 0.6 * previous + 0.4 * loss
        if self.best is None or value < self.best:
            self.best, self.best_epoch = value, epoch
            return "best"
        if epoch - self.best_epoch <= patience:
            return "no better"
        self.stopped_at = epoch
        return "stop"
