"""Several heads as one prediction, each sample trusting the heads that are sure (DI-MML)."""

from __future__ import annotations

from torch import Tensor


def certainty_weighted(logits: Tensor, temperature: float) -> Tensor:
    """Logits ``(k, n, c)`` of k heads, weighted per sample by the softmax of each head's largest probability / T'."""
    sure = logits.softmax(dim=2).amax(dim=2)
    return ((sure / temperature).softmax(dim=0).unsqueeze(2) * logits).sum(dim=0)
