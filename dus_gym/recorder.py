"""Record of the training forwards, so that scores and curves cost no second forward."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from dus_gym.discrepancy import log_probabilities
from dus_gym.errors import ConfigError


@dataclass(slots=True)
class Recorded:
    """Figures of a stretch of iterations, as Python numbers."""

    rows: list[list[float]] = field(default_factory=list)
    """Discrepancy scores s_t, one row per iteration, one entry per modality."""
    score_sums: list[float] = field(default_factory=list)
    """Sum of the true-class probability over all samples, by modality."""
    hits: list[float] = field(default_factory=list)
    """Samples whose unimodal prediction was right, by modality."""
    samples: list[int] = field(default_factory=list)
    """Samples drawn, by modality."""
    cross_entropies: list[float] = field(default_factory=list)
    """Sum of the cross entropy over all samples, by modality, nats."""
    fused_hits: float = 0.0
    fused_samples: int = 0
    fused_cross_entropy: float = 0.0
    """Sum of the cross entropy of the fused logits over the paired samples, nats."""
    losses: list[float] = field(default_factory=list)
    """The training loss of every iteration."""


class Recorder:
    """Collector of one stretch of iterations of equal batch sizes.

    Detached outputs are only kept in lists while training runs; everything is computed and moved to the
    host at once in :meth:`finish`. On an accelerator that is the only synchronisation of the stretch.
    """

    def __init__(self, num_modalities: int) -> None:
        self._logits: list[list[Tensor]] = [[] for _ in range(num_modalities)]
        self._labels: list[list[Tensor]] = [[] for _ in range(num_modalities)]
        self._fused_logits: list[Tensor] = []
        self._fused_labels: list[Tensor] = []
        self._losses: list[Tensor] = []
        self._iteration = 0

    def modality(self, j: int, logits: Tensor, labels: Tensor) -> None:
        """Keep one modality's logits ``(a_j, c)`` and labels; the first of an iteration count."""
        if len(self._logits[j]) == self._iteration:
            self._logits[j].append(logits.detach())
            self._labels[j].append(labels)

    def fused(self, logits: Tensor, labels: Tensor) -> None:
        """Keep the fused logits ``(p, c)`` and labels of the paired samples."""
        if len(self._fused_logits) == self._iteration:
            self._fused_logits.append(logits.detach())
            self._fused_labels.append(labels)

    def end_iteration(self, loss: Tensor) -> None:
        """Close one iteration with its total loss, a detached scalar."""
        self._losses.append(loss)
        self._iteration += 1

    def finish(self) -> Recorded:
        """Compute everything with one transfer to the host."""
        k, m = self._iteration, len(self._logits)
        for j, kept in enumerate(self._labels):
            if len(kept) != k:
                raise ConfigError(
                    f"the method recorded modality {j} in {len(kept)} of {k} iterations; every iteration must send "
                    "each modality's logits through ctx.modality_loss or ctx.record."
                )
        widths = [len(labels[0]) for labels in self._labels]
        fused = len(self._fused_labels[0]) if self._fused_labels else 0
        # Every head has c columns, so all their rows go through each operation together.
        logits = torch.cat([x for group in (*self._logits, self._fused_logits) for x in group])
        labels = torch.cat([x for group in (*self._labels, self._fused_labels) for x in group])
        true = log_probabilities(logits).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        right = logits.argmax(-1) == labels
        moved = torch.cat([true.exp(), true, right, torch.stack(self._losses)]).cpu().numpy().astype(np.float64)
        sure, log_sure, hits = moved[:-k].reshape(3, -1)
        losses = moved[-k:].tolist()
        if not np.isfinite(sure).all():
            # A diverged model gives no class any probability: figures stay finite, the loss tells.
            sure = np.nan_to_num(sure, nan=0.0)
        # The worst there is where the model has diverged, and no infinity.
        worst = float(np.finfo(np.float32).max)
        missed = np.nan_to_num(-log_sure, nan=worst, posinf=worst)
        ends = list(accumulate((k * width for width in widths), initial=0))
        blocks = [sure[a:b].reshape(k, -1) for a, b in pairwise(ends)]
        return Recorded(
            rows=np.stack([block.mean(axis=1) for block in blocks], axis=1).tolist(),
            score_sums=[float(block.sum()) for block in blocks],
            hits=[float(hits[a:b].sum()) for a, b in pairwise(ends)],
            samples=[k * width for width in widths],
            cross_entropies=[float(missed[a:b].sum()) for a, b in pairwise(ends)],
            fused_hits=float(hits[ends[m] :].sum()),
            fused_samples=k * fused,
            fused_cross_entropy=float(missed[ends[m] :].sum()),
            losses=losses,
        )
