"""Dynamically learning the modality gap (LFM, Yang et al., NeurIPS 2024): L = 2 (α CE(z, y) + (1 - α) alignment)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import torch
from torch import Tensor

from dus_gym.context import Context
from dus_gym.discrepancy import log_probabilities
from dus_gym.errors import check_choice, check_fraction
from dus_gym.methods.base import Method, MethodOptions

CURVE = (2.04623704e-01, 3.35472727e-03, 1.22989557e-04, -2.92947416e-06, 2.23835486e-08, -5.39717505e-11)
"""Polynomial in the epoch that the authors fitted to the α which they learned on CREMA-D, constant term first."""
CURVE_EPOCHS = 200
"""Epochs of the run it was fitted to."""


@dataclass(frozen=True)
class LFMOptions(MethodOptions):
    """Options of the two losses' weights and of the alignment."""

    divergence: str = "released"
    """Alignment of two modalities' predicted distributions p and q with their mean: ``released``: mean of KL(mean, p)
    and KL(mean, q); ``js``: mean of KL(p, mean) and KL(q, mean), the Jensen-Shannon divergence that the released code
    means to be. The paper's contrastive loss is in no released program, and not here."""
    label_weight: float | None = None
    """Weight α of the cross entropy, the alignment having 1 - α; none: the released curve over the run, from 0.20 to
    0.995 near the end."""

    def __post_init__(self) -> None:
        check_choice("divergence", self.divergence, ("released", "js"))
        if self.label_weight is not None:
            check_fraction("label_weight", self.label_weight)


def released_weight(epoch: int, epochs: int) -> float:
    """Return α of an epoch (from 0) on the released curve, stretched to a run of ``epochs``."""
    at = epoch * CURVE_EPOCHS / epochs
    return sum(coefficient * at**power for power, coefficient in enumerate(CURVE))


def alignment(logits: Sequence[Tensor], divergence: str) -> Tensor:
    """Return how far apart the modalities' predictions are, the mean over pairs of modalities, ``(n,)``, in nats.

    Args:
        logits: m tensors ``(n, c)``.
        divergence: of two of them: ``released`` or ``js``.
    """
    logp = [log_probabilities(z) for z in logits]
    found = []
    for one, other in combinations(logp, 2):
        middle = 0.5 * (one.exp() + other.exp())
        # It underflows where both do, and adds nothing there.
        log_middle = middle.clamp_min(torch.finfo(middle.dtype).tiny).log()
        if divergence == "js":
            apart = [(p.exp() * (p - log_middle)).sum(dim=-1) for p in (one, other)]
        else:
            apart = [(middle * (log_middle - p)).sum(dim=-1) for p in (one, other)]
        found.append(0.5 * (apart[0] + apart[1]))
    return torch.stack(found).mean(dim=0)


class LFM(Method):
    """Dynamically learning the modality gap (Yang, Wan, Jiang and Xu, NeurIPS 2024), as its authors' program is.

    ``L = 2 (α CE(z, y) + (1 - α) A)`` with ``z = (1/m) Σ_j z_j`` of the modalities' own linear heads, and A the mean of
    :func:`alignment`. α rises over the run: the modalities first come to agree, then fit the labels.

    The paper has a contrastive loss of features for A and learns α, or sets it by a rule. The program that the authors
    say to run has neither, and α of the other one follows a Hessian product with the network's first parameter alone.
    With more than two modalities A is the mean over pairs, as in the one re-implementation.

    Every sample must be in all modalities: both losses compare modalities on one sample.
    """

    name: ClassVar[str] = "lfm"
    paper: ClassVar[str] = (
        "Yang, Wan, Jiang and Xu, Facilitating Multimodal Classification via Dynamically Learning Modality Gap, "
        "NeurIPS 2024"
    )
    year: ClassVar[int] = 2024
    changes: ClassVar[str] = "brings the modalities' predictions together first, and fits the labels more and more"
    heads: ClassVar[frozenset[str]] = frozenset({"unimodal"})
    own_predictor: ClassVar[str] = "sum"
    maps_runs: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("alpha", "alignment")
    options_type: ClassVar[type[MethodOptions]] = LFMOptions
    options: LFMOptions

    def capture_key(self, ctx: Context) -> Any:
        """Return the weight of the epoch."""
        return released_weight(ctx.epoch, ctx.epochs) if self.options.label_weight is None else ()

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield the weighted sum of both losses."""
        logits = self.unimodal_logits(ctx.model, [ctx.features(j) for j in range(ctx.num_modalities)])
        for j, own in enumerate(logits):
            ctx.record(j, own)
        alpha = self.options.label_weight
        if alpha is None:
            alpha = released_weight(ctx.epoch, ctx.epochs)
        apart = ctx.paired_mean(alignment(logits, self.options.divergence))
        ctx.log({"alpha": alpha, "alignment": apart})
        yield 2.0 * (alpha * ctx.fused_loss(torch.stack(logits).mean(dim=0)) + (1.0 - alpha) * apart)

    def predict(self, unimodal: Tensor, predictions: Mapping[str, Tensor]) -> Tensor:
        """Return the mean of the modalities' logits, which is what was trained."""
        return unimodal.mean(dim=0)
