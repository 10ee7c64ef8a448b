"""What a boosted learner learns: what the others do not predict yet, not too far from the one before (ReconBoost)."""

from __future__ import annotations

from math import log

import torch.nn.functional as F
from torch import Tensor

LEAST_PROBABILITY = 1e-8
"""A learner's probabilities below it count as it in what ``residual="full"`` subtracts (ours). Subtracting a cross
entropy rewards probabilities of wrong classes that go to 0, without end: the loss had no lower bound at any w2 > 0."""


def residual_losses(
    logits: Tensor, others: Tensor, labels: Tensor, label_weight: float, residual_weight: float, residual: str
) -> Tensor:
    """A learner's loss of every sample, ``(n,)``: cross entropy against the target ``(w1 e_y - w2 r) / c``.

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
    probabilities = others.detach().softmax(dim=1)
    own = F.cross_entropy(logits, labels, reduction="none")
    if residual == "full":
        known = (probabilities * (-logits.log_softmax(dim=1)).clamp_max(-log(LEAST_PROBABILITY))).sum(dim=1)
    else:
        known = probabilities.gather(1, labels.unsqueeze(1)).squeeze(1) * own
    return (label_weight * own - residual_weight * known) / logits.shape[1]


def consolidation_distances(logits: Tensor, previous: Tensor, attract: bool) -> Tensor:
    """Mean squared distance of a learner's probabilities to the previous learner's, of every sample, ``(n,)``.

    Args:
        logits: the learner's, shape ``(n, c)``.
        previous: the previous learner's, shape ``(n, c)``, without a gradient.
        attract: whether the distance has a gradient at all.
    """
    own = logits.softmax(dim=1)
    return ((own if attract else own.detach()) - previous.softmax(dim=1)).square().mean(dim=1)
