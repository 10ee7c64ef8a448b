"""Class means of a modality's features (PMR, DI-MML)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def class_prototypes(features: Tensor, labels: Tensor, classes: int, old: Tensor | None, momentum: float) -> Tensor:
    """Return the mean feature of every class, ``(c, d)``, mixed with the old ones: ``(1 - μ) new + μ old``.

    A class without a sample keeps its old prototype; if it never had one, it gets the mean of all features.

    Args:
        features: shape ``(n, d)``, or ``(R, n, d)`` of R runs.
        labels: shape ``(n,)``, or ``(R, n)``.
        classes: c.
        old: prototypes of before, if there are any.
        momentum: μ.
    """
    members = F.one_hot(labels, classes).to(features.dtype)
    counts = members.sum(dim=-2).unsqueeze(-1)
    # A product, not index_add_, which sums in any order on an accelerator.
    new = members.mT @ features / counts.clamp_min(1.0)
    if old is None:
        return torch.where(counts > 0, new, features.mean(dim=-2, keepdim=True))
    return torch.where(counts > 0, new.lerp(old, momentum), old)
