"""How far each modality is ahead in a batch, as the factor that OGM, AGM or PMR makes of it."""

from __future__ import annotations

from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

RATIOS = ("pairwise", "others", "weakest")

LEAST_PROBABILITY = 1e-8
"""Probabilities below it count as it in AGM's scores."""


def ratios(scores: Tensor, kind: str) -> Tensor:
    """ρ of every modality, ``(m,)``: above 1 for one that is ahead.

    Args:
        scores: mean true-class probability of every modality, shape ``(m,)``.
        kind: one of :data:`RATIOS`.
    """
    s = scores.clamp_min(torch.finfo(scores.dtype).tiny)
    if kind == "weakest":
        return s / s.min()
    if kind == "others":
        return s / (s.sum() - s)
    # Each row has s_j / s_j among its m entries, which is 1.
    return ((s[:, None] / s[None, :]).sum(dim=1) - 1.0) / (len(s) - 1)


def ogm_coefficients(scores: Tensor, alpha: float, kind: str) -> Tensor:
    """OGM's factor k of every modality, ``(m,)``: ``1 - tanh(α ρ_j)`` where ρ_j > 1, else 1.

    Args:
        scores: mean true-class probability of every modality, shape ``(m,)``.
        alpha: α.
        kind: of :func:`ratios`.
    """
    rho = ratios(scores, kind)
    return torch.where(rho > 1.0, 1.0 - torch.tanh(alpha * rho), 1.0)


def response_scores(responses: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of every modality's responses ``(m, p, c)``, ``(m,)``, in nats; low is good."""
    m, p, _ = responses.shape
    losses = F.cross_entropy(responses.flatten(0, 1), labels.repeat(m), reduction="none")
    return losses.clamp_max(-log(LEAST_PROBABILITY)).view(m, p).mean(dim=1)


def agm_coefficients(scores: Tensor, running: Tensor, alpha: float, cap: float | None) -> Tensor:
    """AGM's factor κ of every modality, ``(m,)``: below 1 for one that is further ahead than on average so far.

    Args:
        scores: of this batch, shape ``(m,)``.
        running: means of the scores of the batches before, shape ``(m,)``.
        alpha: α.
        cap: C; None: 10 with two modalities, 7 with more.
    """
    if cap is None:
        cap = 10.0 if len(scores) == 2 else 7.0

    def lead(s: Tensor) -> Tensor:
        # The mean of the others minus one's own is m / (m - 1) times the mean of all minus one's own.
        return torch.exp((s.mean() - s) * (len(s) / (len(s) - 1)))

    return torch.exp(alpha * (lead(running) - lead(scores)).clamp_max(cap))


def pmr_coefficients(scores: Tensor, kind: str) -> Tensor:
    """PMR's weight β of every modality, ``(m,)``, from scores ``(m,)``: 0 for the best one, up to 1 for the others."""
    best = scores.max()
    if kind == "released":
        return (scores < best).to(scores.dtype)
    tiny = torch.finfo(scores.dtype).tiny
    return (best / scores.clamp_min(tiny) - 1.0).clamp(0.0, 1.0)
