"""Balance-aware sequence sampling (BSS, Guan et al., IJCAI 2025): samples on which the modalities agree come first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dus_gym.context import Context
from dus_gym.discrepancy import sample_cross_entropy
from dus_gym.errors import check_choice, check_fraction
from dus_gym.methods.base import MethodOptions
from dus_gym.methods.baseline import Baseline, BaselineOptions

LEAST_WEIGHT = 0.01
"""Weight of the least balanced sample in the draw, as released."""


@dataclass(frozen=True)
class BSSOptions(BaselineOptions):
    """Options of the order of samples, and the weights of the loss; the authors have 0.1 and 0.9 for CREMA-D."""

    scheduler: str = "learned"
    """``learned``: before every epoch all samples are drawn in an order that prefers balanced ones; ``heuristic``: an
    epoch has the most balanced samples alone, more of them from epoch to epoch, as measured before the first."""
    start: float = 0.1
    """λ_0 of ``heuristic``, about the fraction of the samples that a run starts with; the authors' 0.1."""
    growth: float = 0.33
    """Epochs until ``heuristic`` has all samples, as a fraction of the run's; the authors' 40 of 120."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("scheduler", self.scheduler, ("learned", "heuristic"))
        check_fraction("start", self.start, "(0, 1]")
        check_fraction("growth", self.growth, "(0, 1]")


def similarity(logits: Sequence[Tensor]) -> Tensor:
    """Return the cosine of the modalities' predicted distributions, the mean over pairs of modalities, ``(n,)``.

    Args:
        logits: m tensors ``(n, c)``.
    """
    predicted = [z.softmax(dim=-1) for z in logits]
    cosines = [torch.cosine_similarity(one, other, dim=-1) for one, other in combinations(predicted, 2)]
    return torch.stack(cosines).mean(dim=0)


def balance(similarities: Tensor, losses: Tensor) -> Tensor:
    """Return how balanced every sample is, ``(n,)``, from -1 to 1: similarity less loss, each scaled to [0, 1].

    Args:
        similarities: of :func:`similarity`, ``(n,)``.
        losses: the training loss of every sample, ``(n,)``.
    """
    return _to_unit(similarities) - _to_unit(losses)


def _to_unit(values: Tensor) -> Tensor:
    low, high = values.amin(dim=-1, keepdim=True), values.amax(dim=-1, keepdim=True)
    # Equal values leave nothing to prefer.
    return torch.where(high > low, (values - low) / torch.where(high > low, high - low, 1.0), 0.0)


def share_of_samples(epoch: int, growth: int, start: float) -> float:
    """Return λ_t = min(1, √((1 - λ_0²) (t + 1) / T + λ_0²)), the fraction of samples of an epoch t (from 0).

    Args:
        epoch: t.
        growth: T, epochs until it is 1.
        start: λ_0.
    """
    return min(1.0, sqrt((1.0 - start**2) / growth * (epoch + 1) + start**2))


def drawn_order(weights: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return all samples in the order of draws without replacement with probabilities proportional to ``weights``.

    Args:
        weights: positive, ``(n,)``.
        rng: the run's own.
    """
    # Of exponential times, each with its rate, the earliest is i with probability w_i / Σ w; so are all after it.
    return np.argsort(rng.exponential(size=len(weights)) / weights, kind="stable").astype(np.int64)


class BSS(Baseline):
    """Balance-aware sequence sampling (Guan, Jiang and Yang, IJCAI 2025).

    The loss is ``baseline``'s, and so is what every modality trains on. A sample is balanced, see :func:`balance`, if
    the modalities' own heads predict alike and its loss is small. Both are taken of all training samples in evaluation
    mode: before every epoch (``learned``), where the weight of a sample in :func:`drawn_order` is 1.01 plus its
    balance, or once before the first (``heuristic``), where epoch t shows the most balanced
    :func:`share_of_samples` of them, in random order and over again where an epoch needs more.

    An epoch keeps its number of iterations, where the released heuristic has shorter ones at first. The order is of
    samples and the agent's sizes are of modalities, so DUS may steer it. Cosines compare modalities on one sample: with
    independent streams there is no order for all of them, and the method refuses that pairing.
    """

    name: ClassVar[str] = "bss"
    paper: ClassVar[str] = (
        "Guan, Jiang and Yang, Balance-aware Sequence Sampling Makes Multi-modal Learning Better, IJCAI 2025"
    )
    year: ClassVar[int] = 2025
    changes: ClassVar[str] = "shows the samples earlier on which the modalities agree and are right"
    supports_independent: ClassVar[bool] = False
    own_predictor: ClassVar[str] = "sum"
    logs: ClassVar[tuple[str, ...]] = ("samples", "similarity")
    options_type: ClassVar[type[MethodOptions]] = BSSOptions
    options: BSSOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._ranked: list[npt.NDArray[np.int64]] = []

    def order(self, ctx: Context) -> list[npt.NDArray[np.int64]]:
        """Return the samples of the coming epoch in order, by run."""
        n = ctx.train_split.labels.shape[-1]
        if self.options.scheduler == "learned":
            ctx.log({"samples": float(n)})
            weights = [1.0 + scores + LEAST_WEIGHT for scores in self._balances(ctx)]
            return [drawn_order(of, rng) for of, rng in zip(weights, ctx.rngs, strict=True)]
        if ctx.epoch == 0:
            self._ranked = [np.argsort(-scores, kind="stable").astype(np.int64) for scores in self._balances(ctx)]
        growth = max(1, round(self.options.growth * ctx.epochs))
        if ctx.epoch <= growth:
            # Every epoch has samples that the one before had not.
            ctx.restart_plateau()
        count = max(1, int(n * share_of_samples(ctx.epoch, growth, self.options.start)))
        ctx.log({"samples": float(count)})
        return [rng.permutation(ranked[:count]) for ranked, rng in zip(self._ranked, ctx.rngs, strict=True)]

    def _balances(self, ctx: Context) -> list[npt.NDArray[np.float64]]:
        """Return :func:`balance` of every training sample, by run."""
        features, labels = ctx.train_features(), ctx.train_split.labels
        with torch.no_grad():
            own = self.unimodal_logits(ctx.model, features)
            losses = self.options.fused_weight * sample_cross_entropy(ctx.model.fused(features), labels)
            for z in own:
                losses = losses + self.options.unimodal_weight * sample_cross_entropy(z, labels)
            alike = similarity(own)
            found = balance(alike, losses).double().cpu().numpy()
        ctx.log({"similarity": alike.mean(dim=-1)})
        return [found] if ctx.runs is None else list(found)

    def state_dict(self) -> dict[str, Any]:
        """Return the samples from the most balanced on, by run, where they are measured once."""
        return {"ranked": [of.copy() for of in self._ranked]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put them back."""
        self._ranked = [np.asarray(of, dtype=np.int64).copy() for of in state["ranked"]]
