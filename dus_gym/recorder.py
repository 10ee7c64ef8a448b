"""Record of the training forwards, so that scores and curves cost no second forward."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dus_gym.discrepancy import log_probabilities
from dus_gym.errors import ConfigError

Floats = npt.NDArray[np.float64]


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

    Args:
        num_modalities: m.
        runs: R, where tensors lead with an axis of runs; None: one run without it.
    """

    def __init__(self, num_modalities: int, runs: int | None = None) -> None:
        self._runs = runs
        self._logits: list[list[Tensor]] = [[] for _ in range(num_modalities + 1)]
        self._labels: list[list[Tensor]] = [[] for _ in range(num_modalities + 1)]
        self._counted: list[Tensor | None] = [None] * (num_modalities + 1)
        self._losses: list[Tensor] = []
        self._iteration = 0

    def modality(self, j: int, logits: Tensor, labels: Tensor, counted: Tensor | None = None) -> None:
        """Keep one modality's logits ``(a_j, c)`` and labels; the first of an iteration count.

        Args:
            j: which modality.
            logits: detached here.
            labels: shape ``(a_j,)``.
            counted: which rows count, the same in all iterations of the stretch; None: all.
        """
        if len(self._logits[j]) == self._iteration:
            self._logits[j].append(logits.detach())
            self._labels[j].append(labels)
            self._counted[j] = counted

    def fused(self, logits: Tensor, labels: Tensor, counted: Tensor | None = None) -> None:
        """Keep the fused logits ``(p, c)`` and labels of the paired samples; see :meth:`modality`."""
        self.modality(len(self._logits) - 1, logits, labels, counted)

    def end_iteration(self, loss: Tensor) -> None:
        """Close one iteration with its total loss, detached, a scalar or ``(R,)``."""
        self._losses.append(loss)
        self._iteration += 1

    def take(self, other: Recorder) -> None:
        """Keep copies of the iterations that another recorder holds, whose tensors will be written again."""
        for own, its in ((self._logits, other._logits), (self._labels, other._labels)):
            for kept, found in zip(own, its, strict=True):
                kept.extend(tensor.clone() for tensor in found)
        self._counted = list(other._counted)
        self._losses.extend(loss.clone() for loss in other._losses)
        self._iteration += other._iteration

    def finish(self) -> list[Recorded]:
        """Compute everything with one transfer to the host; one entry a run."""
        k, m, runs = self._iteration, len(self._logits) - 1, self._runs or 1
        for j, kept in enumerate(self._labels[:m]):
            if len(kept) != k:
                raise ConfigError(
                    f"the method recorded modality {j} in {len(kept)} of {k} iterations; every iteration must send "
                    "each modality's logits through ctx.modality_loss or ctx.record."
                )
        widths = [kept[0].shape[-1] if kept else 0 for kept in self._labels]
        # Every head has c columns, so all their rows go through each operation together.
        classes = self._logits[0][0].shape[-1]
        logits = torch.cat([x.reshape(-1, classes) for group in self._logits for x in group])
        labels = torch.cat([x.reshape(-1) for group in self._labels for x in group])
        true = log_probabilities(logits).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        right = logits.argmax(-1) == labels
        losses = torch.stack(self._losses).reshape(-1)
        moved = torch.cat([true.exp(), true, right, losses]).cpu().numpy().astype(np.float64)
        sure, log_sure, hits = moved[: -k * runs].reshape(3, -1)
        if not np.isfinite(sure).all():
            # A diverged model gives no class any probability: figures stay finite, the loss tells.
            sure = np.nan_to_num(sure, nan=0.0)
        # The worst there is where the model has diverged, and no infinity.
        worst = float(np.finfo(np.float32).max)
        missed = np.nan_to_num(-log_sure, nan=worst, posinf=worst)
        iterations = [k] * m + [len(self._labels[m])]
        lengths = (n * runs * width for n, width in zip(iterations, widths, strict=True))
        ends = list(accumulate(lengths, initial=0))
        counts, sums = [], []
        rows: list[Floats] = []
        for j, (a, b) in enumerate(pairwise(ends)):
            shape = (iterations[j], runs, widths[j])
            count, mask = self._count(j)
            counts.append([n * iterations[j] for n in count])
            by_run = []
            for values in (sure, hits, missed):
                if runs == 1:
                    by_run.append(values[a:b].sum(keepdims=True))
                    continue
                block = values[a:b].reshape(shape)
                if mask is not None:
                    block = np.where(mask, block, 0.0)
                # In the order in which one run is summed.
                by_run.append(np.ascontiguousarray(block.transpose(1, 0, 2)).reshape(runs, -1).sum(axis=1))
            sums.append(by_run)
            if j < m:
                block = sure[a:b].reshape(shape)
                whole = block.mean(axis=2) if mask is None else np.where(mask, block, 0.0).sum(axis=2) / np.array(count)
                rows.append(whole)
        by_iteration = np.stack(rows, axis=2)
        by_loss = moved[-k * runs :].reshape(k, runs)
        return [
            Recorded(
                rows=by_iteration[:, r].tolist(),
                score_sums=[float(of[0][r]) for of in sums[:m]],
                hits=[float(of[1][r]) for of in sums[:m]],
                samples=[of[r] for of in counts[:m]],
                cross_entropies=[float(of[2][r]) for of in sums[:m]],
                fused_hits=float(sums[m][1][r]),
                fused_samples=counts[m][r],
                fused_cross_entropy=float(sums[m][2][r]),
                losses=by_loss[:, r].tolist(),
            )
            for r in range(runs)
        ]

    def _count(self, j: int) -> tuple[list[int], npt.NDArray[np.bool_] | None]:
        """Return how many rows of a group count in an iteration, by run, and which, ``(R, width)``; None: all."""
        counted = self._counted[j]
        if counted is None:
            width = self._labels[j][0].shape[-1] if self._labels[j] else 0
            return [width] * (self._runs or 1), None
        mask = counted.cpu().numpy()
        return mask.sum(axis=1).tolist(), mask
