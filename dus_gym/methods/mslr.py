"""Modality-specific learning rates (MSLR, Yao and Mihalcea, Findings of ACL 2022) under L = CE(Σ_j z_j, y)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from dus_gym.context import Context
from dus_gym.errors import ConfigError, check_at_least, check_choice, check_fraction
from dus_gym.methods.base import Method, MethodOptions
from dus_gym.records import Figures


@dataclass(frozen=True)
class MSLROptions(MethodOptions):
    """Options of the learning rates."""

    strategy: str = "dynamic"
    """``keep``: ``rates`` all along; ``smooth``: ``rates`` drawn together by ``smoothing``; ``dynamic``: ``rates``
    times a ratio that follows each modality's validation accuracy (how the three work is from memory of the paper)."""
    rates: tuple[float, ...] | None = None
    """Learning rate of every modality's encoder and head as a multiple of the task's, the paper's being the best of
    each modality trained alone; None: 1 each, with ``dynamic`` only. AGM's repository has 0.9 for audio and 1.1 for
    video on CREMA-D."""
    smoothing: float = 0.5
    """λ of ``smooth``: how far rates move to their mean, 0 (not at all) to 1 (all the same)."""
    mean: str = "geometric"
    """Of ``smooth``: ``geometric``: ``r^(1-λ) r̄^λ`` with the geometric mean r̄; ``linear``: ``(1-λ) r + λ r̄`` with the
    arithmetic one. Both are ours: the paper's formula is not known here."""
    window: int = 5
    """W of ``dynamic``: the ratio is the accuracy now over the mean of the W epochs before; 1 in the first W. It
    multiplies ``rates``, not the rate of the epoch before."""

    def __post_init__(self) -> None:
        check_choice("strategy", self.strategy, ("keep", "smooth", "dynamic"))
        check_choice("mean", self.mean, ("geometric", "linear"))
        check_at_least("window", self.window, 1)
        check_fraction("smoothing", self.smoothing)
        if self.rates is None and self.strategy != "dynamic":
            raise ConfigError(
                f"strategy={self.strategy!r} needs rates, such as rates=(0.9, 1.1): the best learning rate of each "
                "modality trained alone, as a multiple of the task's."
            )
        if any(not 0.0 < rate < float("inf") for rate in self.rates or ()):
            raise ConfigError(f"rates={self.rates} is not allowed; all must be positive and finite.")


def smoothed(rates: Sequence[float], smoothing: float, mean: str) -> tuple[float, ...]:
    """Draw rates to their mean.

    Args:
        rates: positive, one per modality.
        smoothing: λ.
        mean: ``"geometric"`` or ``"linear"``.
    """
    if mean == "linear":
        common = math.fsum(rates) / len(rates)
        return tuple((1.0 - smoothing) * rate + smoothing * common for rate in rates)
    common = math.exp(math.fsum(map(math.log, rates)) / len(rates))
    return tuple(rate ** (1.0 - smoothing) * common**smoothing for rate in rates)


def accuracy_ratio(history: Sequence[float], accuracy: float, window: int) -> float:
    """Return accuracy now over the mean of the last ``window`` before it; 1 with fewer than that, or if all were 0."""
    before = history[-window:]
    total = math.fsum(before)
    return accuracy * window / total if len(before) == window and total > 0.0 else 1.0


class MSLR(Method):
    """Modality-specific learning rates (Yao and Mihalcea, Findings of ACL 2022).

    ``L = CE(Σ_j z_j, y)`` of the unimodal heads' summed logits. Encoder j and head j learn at the task's rate times the
    schedule's factor times their own, which is a multiplier of their parameter group: the schedule can't overwrite it,
    and it works under Adam too, where scaled gradients would not. With ``dynamic`` it is set after every epoch,
    whatever ``eval_every`` says, from validation accuracies.

    Every sample must be in all modalities: the one loss is of complete samples.
    """

    name: ClassVar[str] = "mslr"
    paper: ClassVar[str] = (
        "Yao and Mihalcea, Modality-specific Learning Rates for Effective Multimodal Additive Late-fusion, Findings of "
        "ACL 2022"
    )
    year: ClassVar[int] = 2022
    changes: ClassVar[str] = "sums the modalities' logits, each with a learning rate of its own"
    heads: ClassVar[frozenset[str]] = frozenset({"unimodal"})
    iterates_alike: ClassVar[bool] = True
    own_predictor: ClassVar[str] = "sum"
    maps_runs: ClassVar[bool] = True
    needs_validation: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("rate/*",)
    options_type: ClassVar[type[MethodOptions]] = MSLROptions
    options: MSLROptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._history: list[list[list[float]]] = []
        self._base: dict[str, float] = {}

    def check(self, num_modalities: int, has_validation: bool) -> None:
        """Check as every method does; only ``dynamic`` needs validation, and ``rates`` are one per modality."""
        super().check(num_modalities, has_validation or self.options.strategy != "dynamic")
        rates = self.options.rates
        if rates is not None and len(rates) != num_modalities:
            raise ConfigError(f"rates={rates} is not allowed; it needs {num_modalities} entries, one per modality.")

    def on_fit_start(self, ctx: Context) -> None:
        """Set the rates of the start."""
        # What the run's own setting lr_scale has put there stays a factor.
        self._base = {o: m for o, m in ctx.optimizer.multipliers.items() if not isinstance(m, Sequence)}
        runs = range(ctx.runs or 1)
        self._history = [[[] for _ in ctx.modalities] for _ in runs]
        self._set(ctx, [[1.0] * ctx.num_modalities for _ in runs])

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield the loss of the summed logits."""
        logits = [ctx.model.unimodal(j, ctx.features(j)) for j in range(ctx.num_modalities)]
        for j, own in enumerate(logits):
            ctx.record(j, own)
        yield ctx.fused_loss(sum(logits[1:], start=logits[0]))

    def on_epoch_end(self, ctx: Context, validation: Sequence[Figures] | None) -> None:
        """Set new rates with ``dynamic``."""
        if self.options.strategy != "dynamic":
            return
        found = validation or ctx.validate()
        assert found is not None, "needs_validation is checked when the run is made"
        window = self.options.window
        ratios = []
        for r, figures in enumerate(found):
            both = list(zip(self._history[r], figures.accuracies, strict=True))
            ratios.append([accuracy_ratio(before, now, window) for before, now in both])
            self._history[r] = [[*before, now][-window:] for before, now in both]
        self._set(ctx, ratios)

    def _set(self, ctx: Context, ratios: list[list[float]]) -> None:
        """Set the rates of the start times each run's ratios; the loop reads multipliers when an epoch begins."""
        options = self.options
        rates = options.rates or (1.0,) * ctx.num_modalities
        if options.strategy == "smooth":
            rates = smoothed(rates, options.smoothing, options.mean)
        for j, (name, rate) in enumerate(zip(ctx.modalities, rates, strict=True)):
            for owner in (f"encoder/{name}", f"head/{name}"):
                by_run = [self._base[owner] * rate * of[j] for of in ratios]
                ctx.optimizer.multipliers[owner] = by_run[0] if ctx.runs is None else by_run
            ctx.log({f"rate/{name}": ctx.by_run([rate * of[j] for of in ratios])})

    def state_dict(self) -> dict[str, Any]:
        """Return the last accuracies; the rates are the optimiser's."""
        return {"history": [[list(h) for h in of] for of in self._history]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put them back."""
        self._history = [[[float(a) for a in h] for h in of] for of in state["history"]]
