"""ReconBoost (Hua et al., ICML 2024): one learner at a time, on the target (w1 e_y - w2 r) / c."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import ClassVar

import torch
from torch import Tensor

from dus_gym.context import Context, Phase
from dus_gym.discrepancy import sample_cross_entropy
from dus_gym.errors import ConfigError, check_at_least, check_choice, check_fraction, check_positive
from dus_gym.methods.base import Method, MethodOptions

PRETRAINING = "pretraining"


@dataclass(frozen=True)
class ReconBoostOptions(MethodOptions):
    """Options of the stages and of a learner's loss."""

    stage: float = 0.08
    """Length of a stage as a fraction of the run's epochs, at least two epochs; 0.08 is the authors' 4 + 4 epochs, of
    100."""
    rectification: float = 0.5
    """The part of a stage in which all modalities train on the fused loss; the authors' half."""
    pretraining: float = 0.0
    """Fraction of the run's epochs, before the stages, in which all learners train on their own losses; the authors
    recommend to pre-train. 0: none."""
    label_weight: float = 5.0
    """w1, weight of the label in a learner's target; 5 (and w2 = 1) is the authors' for CREMA-D."""
    residual_weight: float = 1.0
    """w2, weight of what the other modalities predict already, subtracted from the target; at most w1."""
    residual: str = "true_class"
    """Prediction that is subtracted: ``true_class``: the other modalities' probability of the true class alone (the
    released code); ``full``: their probabilities of all classes (from memory of the paper), as far as the learner's own
    are above 1e-8, without which the loss would have no lower bound."""
    consolidation_weight: float = 0.5
    """α, weight of the squared distance to the predictions of the previous stage's modality."""
    consolidation: str = "paper"
    """``paper``: the distance draws the learner to the previous one; ``released``: it draws nobody, because the
    released code cuts the gradient of both."""

    def __post_init__(self) -> None:
        check_choice("residual", self.residual, ("true_class", "full"))
        check_choice("consolidation", self.consolidation, ("paper", "released"))
        check_at_least("consolidation_weight", self.consolidation_weight, 0)
        check_fraction("stage", self.stage, "(0, 1]")
        check_fraction("rectification", self.rectification, "(0, 1)")
        check_fraction("pretraining", self.pretraining, "[0, 1)")
        check_positive("label_weight", self.label_weight)
        if not 0.0 <= self.residual_weight <= self.label_weight:
            raise ConfigError(
                f"residual_weight={self.residual_weight!r} is not allowed; it must lie in [0, label_weight], "
                f"here [0, {self.label_weight!r}]: above it, samples would be unlearned."
            )


@dataclass(frozen=True)
class Boosting(Phase):
    """A phase in which one modality's learner trains."""

    learner: int = 0
    """Index of the modality."""
    previous: int | None = None
    """The modality of the stage before; None in the first stage."""


LEAST_PROBABILITY = 1e-8
"""A learner's probabilities below it count as it in what ``residual="full"`` subtracts (ours). Subtracting a cross
entropy rewards probabilities of wrong classes that go to 0, without end: the loss had no lower bound at any w2 > 0."""


def residual_losses(
    logits: Tensor, others: Tensor, labels: Tensor, label_weight: float, residual_weight: float, residual: str
) -> Tensor:
    """Return a learner's loss of every sample, ``(n,)``: cross entropy against ``(w1 e_y - w2 r) / c``.

    With ``residual="true_class"``, where r is p̄ at the true class and 0 elsewhere, it is ``(w1 - w2 p̄_y) / c`` times
    the cross entropy: samples that the others get right count less. With ``"full"`` the logarithm in the part of r
    stops at :data:`LEAST_PROBABILITY`, so that no loss is below ``w2 log(1e-8) / c``.

    Args:
        logits: the learner's, shape ``(n, c)``.
        others: fused logits of the other modalities, shape ``(n, c)``; p̄ is their softmax, without a gradient.
        labels: shape ``(n,)``.
        label_weight: w1.
        residual_weight: w2.
        residual: ``"true_class"`` or ``"full"`` (r = p̄).
    """
    probabilities = others.detach().softmax(dim=-1)
    own = sample_cross_entropy(logits, labels)
    if residual == "full":
        known = (probabilities * (-logits.log_softmax(dim=-1)).clamp_max(-log(LEAST_PROBABILITY))).sum(dim=-1)
    else:
        known = probabilities.gather(-1, labels.unsqueeze(-1)).squeeze(-1) * own
    return (label_weight * own - residual_weight * known) / logits.shape[-1]


def consolidation_distances(logits: Tensor, previous: Tensor, attract: bool) -> Tensor:
    """Return the mean squared distance of a learner's probabilities to the previous one's, by sample, ``(n,)``.

    Args:
        logits: the learner's, shape ``(n, c)``.
        previous: the previous learner's, shape ``(n, c)``, without a gradient.
        attract: whether the distance has a gradient at all.
    """
    own = logits.softmax(dim=-1)
    return ((own if attract else own.detach()) - previous.softmax(dim=-1)).square().mean(dim=-1)


class ReconBoost(Method):
    """ReconBoost (Hua, Xu, Bao, Yang and Huang, ICML 2024).

    Learners ``z_j = H(h_j)`` share a head with a hidden layer, the ensemble is ``F = ρ Σ_j z_j``. A stage is one
    modality's, in turn, and has two phases, each with a fresh optimiser. In the first, φ_j and H (with the projection
    to H's width, if φ_j needs one) train on :func:`residual_losses`, where p̄ is of ``ρ Σ_{k≠j} z_k``, plus α times the
    mean squared distance of softmax(z_j) to that of the previous stage's modality, none in the first stage. In the
    second, everything trains on CE(F, y). The others count as they are in the first stage, too, where the released
    code, unless they were pre-trained, puts p̄_y = 1.
    """

    name: ClassVar[str] = "reconboost"
    paper: ClassVar[str] = (
        "Hua, Xu, Bao, Yang and Huang, ReconBoost: Boosting Can Achieve Modality Reconcilement, ICML 2024"
    )
    year: ClassVar[int] = 2024
    changes: ClassVar[str] = "boosts modalities in turn: each learns what the others do not predict yet"
    heads: ClassVar[frozenset[str]] = frozenset({"ensemble"})
    iterates_alike: ClassVar[bool] = True
    own_predictor: ClassVar[str] = "sum"
    maps_runs: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("scale", "distance")
    options_type: ClassVar[type[MethodOptions]] = ReconBoostOptions
    options: ReconBoostOptions

    def phases(self, epochs: int, modalities: Sequence[str]) -> tuple[Phase, ...]:
        """Return pre-training, if any, then two phases per stage; as many stages as have two epochs each."""
        before = self.options.pretraining
        left = epochs - (max(1, round(before * epochs)) if before else 0)
        stages = max(1, min(round((1.0 - before) / self.options.stage), left // 2))
        length = (1.0 - before) / stages
        found = [Phase(PRETRAINING, before, trainable=("encoder", "head", "ensemble"))] if before else []
        for s in range(stages):
            j = s % len(modalities)
            owners = (f"encoder/{modalities[j]}", f"head/{modalities[j]}", "ensemble")
            first = length * (1.0 - self.options.rectification)
            previous = (s - 1) % len(modalities) if s else None
            found += [
                Boosting(f"boost {modalities[j]}", first, owners, fresh=True, learner=j, previous=previous),
                Phase("rectify", length - first, fresh=True),
            ]
        return tuple(found)

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield the loss of the phase: the ensemble's, one learner's, or each learner's own."""
        phase, learners = ctx.phase, range(ctx.num_modalities)
        if isinstance(phase, Boosting):
            yield self._boost(ctx, phase)
        elif phase.name == PRETRAINING:
            for j in learners:
                z = ctx.model.learner(j, ctx.features(j))
                ctx.record(j, z)
                yield ctx.cross_entropy(j, z)
        else:
            parts = [ctx.model.ensemble(j, ctx.features(j)) for j in learners]
            for j, part in enumerate(parts):
                ctx.record(j, part)
            yield ctx.fused_loss(sum(parts[1:], start=parts[0]))
            (scale,) = ctx.optimizer.parameters("scale")
            ctx.log({"scale": scale.detach().clone()})

    def _boost(self, ctx: Context, phase: Boosting) -> Tensor:
        options, j = self.options, phase.learner
        (scale,) = ctx.optimizer.parameters("scale")
        # A scalar stays one: mixed precision rounds its product otherwise than one with more dimensions.
        factor = scale if ctx.runs is None else scale[:, None, None]
        z = ctx.model.learner(j, ctx.features(j))
        with torch.no_grad():
            every = [z if k == j else ctx.model.learner(k, ctx.features(k)) for k in range(ctx.num_modalities)]
            shares = [factor * learner for learner in every]
            others = sum(shares[:j] + shares[j + 1 :], start=torch.zeros_like(z))
        for k, share in enumerate(shares):
            ctx.record(k, share)
        ctx.record_fused(others + shares[j])
        losses = residual_losses(
            z, others, ctx.batch.labels[j], options.label_weight, options.residual_weight, options.residual
        )
        if phase.previous is not None:
            distances = consolidation_distances(z, every[phase.previous], options.consolidation == "paper")
            ctx.log({"distance": ctx.mean(distances, j)})
            losses = losses + options.consolidation_weight * distances
        return ctx.reduce(losses, j)
