"""On-the-fly prediction modulation (OPM, Wei et al., TPAMI 2024): features of the modality ahead are dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dus_gym.context import Context
from dus_gym.discrepancy import true_class_probability
from dus_gym.errors import check_at_least, check_choice, check_fraction
from dus_gym.methods.base import Method, MethodOptions
from dus_gym.methods.ogm import RATIOS, ratios


@dataclass(frozen=True)
class OPMOptions(MethodOptions):
    """Options of the dropping."""

    drop: float = 0.5
    """Probability q_base with which a modality just ahead is dropped; 0.5 as in the authors' script, 0.4 in their
    configuration. 0: never."""
    strength: float = 0.5
    """Factor λ on the lead, which raises the probability."""
    execution: float = 0.7
    """Probability that a batch drops at all."""
    ratio: str = "pairwise"
    """Measure ρ_j of a modality's lead, as in ``ogm``; with two modalities all are s_j / s_k. With more, which neither
    paper nor code has: ``pairwise``, ``others`` or ``weakest``."""
    start_epoch: int = 6
    """First epoch (from 0) with dropping; the released code warms up for 6."""
    end_epoch: int | None = None
    """Last epoch (from 0) with dropping; none: the last of the run, as released."""

    def __post_init__(self) -> None:
        check_fraction("drop", self.drop)
        check_at_least("strength", self.strength, 0)
        check_fraction("execution", self.execution)
        check_choice("ratio", self.ratio, RATIOS)
        check_at_least("start_epoch", self.start_epoch, 0)
        if self.end_epoch is not None:
            check_at_least("end_epoch", self.end_epoch, self.start_epoch)


def drop_probabilities(scores: Tensor, base: float, strength: float, kind: str) -> Tensor:
    """Return OPM's q of every modality, ``(m,)``: ``min(1, q_base (1 + λ tanh(ρ_j - 1)))`` where ρ_j > 1, else 0.

    Args:
        scores: mean true-class probability of every modality, shape ``(m,)``, or ``(m, R)`` of R runs.
        base: q_base.
        strength: λ.
        kind: of :func:`dus_gym.methods.ogm.ratios`.
    """
    lead = torch.tanh((ratios(scores, kind) - 1.0).clamp_min(0.0))
    return torch.where(lead > 0.0, (base * (1.0 + strength * lead)).clamp_max(1.0), 0.0)


class OPM(Method):
    """On-the-fly prediction modulation (Wei, Hu, Du and Wen, TPAMI 2024).

    ``L = CE(z, y)`` of the concat head. From the scores of ``ogm``, the mean true-class probabilities of the additive
    parts ``W_j h_j + b/m`` in the batch, comes the probability q_j, see :func:`drop_probabilities`. With the
    probability ``execution`` a batch drops: each sample's h_j becomes 0 with probability q_j, and all features are
    divided by ``1 - θ``, where ``θ = Σ_j d_j q_j / Σ_j d_j`` is the share of features that is dropped on average.
    Scores are of the features before that, and nothing is dropped in evaluation.

    The modality that is furthest behind has q = 0, so no sample loses all of its features and θ is below 1.

    Every sample must be in all modalities: the one loss is of complete samples.
    """

    name: ClassVar[str] = "opm"
    paper: ClassVar[str] = (
        "Wei, Hu, Du and Wen, On-the-fly Modulation for Balanced Multimodal Learning, IEEE TPAMI 2024"
    )
    year: ClassVar[int] = 2024
    changes: ClassVar[str] = "drops the features of the modality that is ahead in the batch, sample by sample"
    heads: ClassVar[frozenset[str]] = frozenset({"fused"})
    maps_runs: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("q/*",)
    options_type: ClassVar[type[MethodOptions]] = OPMOptions
    options: OPMOptions

    def capture_key(self, ctx: Context) -> Any:
        """Return None where the host draws what is dropped."""
        return None if self._active(ctx.epoch) else ()

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield the fused loss."""
        features = [ctx.features(j) for j in range(ctx.num_modalities)]
        parts = ctx.model.additive_parts(features)
        for j, part in enumerate(parts):
            ctx.record(j, part)
        if not self._active(ctx.epoch):
            ctx.log({f"q/{name}": 0.0 for name in ctx.modalities})
            yield ctx.fused_loss(sum(parts[1:], start=parts[0]))
            return
        labels = ctx.paired_labels
        probabilities = true_class_probability(torch.stack(parts).detach(), labels.expand(len(parts), *labels.shape))
        options = self.options
        q = drop_probabilities(ctx.paired_mean(probabilities), options.drop, options.strength, options.ratio)
        ctx.log({f"q/{name}": value for name, value in zip(ctx.modalities, q, strict=True)})
        yield ctx.fused_loss(ctx.model.fused(self._dropped(ctx, features, q)))

    def on_epoch_start(self, ctx: Context) -> None:
        """Say that losses with and without dropping can't be compared."""
        if ctx.epoch in (self.options.start_epoch, (self.options.end_epoch or -2) + 1):
            ctx.restart_plateau()

    def _active(self, epoch: int) -> bool:
        last = self.options.end_epoch
        return self.options.start_epoch <= epoch and (last is None or epoch <= last)

    def _dropped(self, ctx: Context, features: list[Tensor], q: Tensor) -> list[Tensor]:
        """Return the features with zeros where a sample's modality is dropped, and the rest scaled."""
        m = len(features)
        drawn = ctx.paired_uniform(m + 1)
        widths = [h.shape[-1] for h in features]
        theta = sum((d * of for d, of in zip(widths, q, strict=True)), start=torch.zeros_like(q[0])) / sum(widths)
        # The last column of the first sample speaks for the batch.
        executed = drawn[..., :1, m] < self.options.execution
        scale = torch.where(executed, 1.0 / (1.0 - theta).unsqueeze(-1), 1.0)
        found = []
        for j, h in enumerate(features):
            dropped = executed & (drawn[..., j] < q[j].unsqueeze(-1))
            found.append(h * torch.where(dropped, 0.0, scale).unsqueeze(-1).to(h.dtype))
        return found
