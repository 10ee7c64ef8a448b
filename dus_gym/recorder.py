"""Keeps what the training forwards knew, so that scores and curves cost no second forward."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(slots=True)
class Recorded:
    """Figures of a stretch of iterations, as Python numbers."""

    rows: list[list[float]] = field(default_factory=list)
    """Discrepancy scores s_t, one row an iteration, one entry a modality."""
    score_sums: list[float] = field(default_factory=list)
    """Sum of the true-class probability over all samples, by modality."""
    hits: list[float] = field(default_factory=list)
    """Samples whose unimodal prediction was right, by modality."""
    samples: list[int] = field(default_factory=list)
    """Samples drawn, by modality."""
    fused_hits: float = 0.0
    fused_samples: int = 0
    losses: list[float] = field(default_factory=list)
    """The training loss of every iteration."""


class Recorder:
    """Collects one stretch of iterations of equal batch sizes.

    Detached outputs are only kept in lists while training runs; everything is computed and moved to the
    host at once in :meth:`finish`. On an accelerator that is the only synchronisation of the stretch.
    """

    def __init__(self, num_modalities: int) -> None:
        self._logits: list[list[Tensor]] = [[] for _ in range(num_modalities)]
        self._labels: list[list[Tensor]] = [[] for _ in range(num_modalities)]
        self._nll: list[list[Tensor]] = [[] for _ in range(num_modalities)]
        self._fused_logits: list[Tensor] = []
        self._fused_labels: list[Tensor] = []
        self._losses: list[Tensor] = []
        self._iteration = 0

    def modality(self, j: int, logits: Tensor, labels: Tensor, nll: Tensor) -> None:
        """One modality's logits ``(a_j, c)``, labels and negative log-likelihoods ``(a_j,)``."""
        if len(self._nll[j]) == self._iteration:
            self._logits[j].append(logits.detach())
            self._labels[j].append(labels)
            self._nll[j].append(nll.detach())

    def fused(self, logits: Tensor, labels: Tensor) -> None:
        """The fused logits ``(p, c)`` and labels of the paired samples."""
        if len(self._fused_logits) == self._iteration:
            self._fused_logits.append(logits.detach())
            self._fused_labels.append(labels)

    def end_iteration(self, loss: Tensor) -> None:
        """Closes one iteration with its total loss, a detached scalar."""
        self._losses.append(loss)
        self._iteration += 1

    def finish(self) -> Recorded:
        """Computes everything with one transfer to the host."""
        k, m = self._iteration, len(self._nll)
        parts: list[Tensor] = []
        for j in range(m):
            # A diverged model gives no class any probability: figures stay finite, the loss tells.
            probabilities = torch.stack(self._nll[j]).float().neg().exp().nan_to_num(nan=0.0)
            right = torch.stack(self._logits[j]).argmax(-1) == torch.stack(self._labels[j])
            parts += [probabilities.mean(1), probabilities.sum().view(1), right.sum().view(1)]
        fused_samples = 0
        if self._fused_logits:
            predicted = torch.stack(self._fused_logits).argmax(-1)
            fused_samples = predicted.numel()
            parts.append((predicted == torch.stack(self._fused_labels)).sum().view(1))
        parts.append(torch.stack(self._losses).float())
        values: list[float] = torch.cat([part.double() for part in parts]).tolist()
        by_modality = [values[j * (k + 2) : (j + 1) * (k + 2)] for j in range(m)]
        return Recorded(
            rows=[[by_modality[j][i] for j in range(m)] for i in range(k)],
            score_sums=[block[k] for block in by_modality],
            hits=[block[k + 1] for block in by_modality],
            samples=[k * len(self._nll[j][0]) for j in range(m)],
            fused_hits=values[m * (k + 2)] if fused_samples else 0.0,
            fused_samples=fused_samples,
            losses=values[-k:],
        )
