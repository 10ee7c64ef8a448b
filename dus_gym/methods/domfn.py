"""Divergence-oriented fusion (DOMFN, Yang et al., ACM MM 2022): samples are fused where D_j / τ < γ for all j."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dus_gym.context import Context, Phase
from dus_gym.discrepancy import log_probabilities, sample_cross_entropy
from dus_gym.errors import check_at_least, check_fraction, check_positive
from dus_gym.methods.base import Method, MethodOptions

PRETRAINING = "pretraining"


@dataclass(frozen=True)
class DOMFNOptions(MethodOptions):
    """Options of the gate and of the loss."""

    gamma: float = 0.8
    """Limit γ: a sample is fused if D_j / τ < γ for every modality."""
    tau: float = 0.2
    """Scale τ of the divergences; 0.2 is the authors' for résumés, 0.5 theirs for MOSI. With two modalities D is at
    most 1/4, so that with γ = 0.8 the gate never closes from τ = 0.3125 on."""
    eta: float = 0.5
    """Weight η of the divergences in the losses."""
    pretraining: float = 0.13
    """Fraction of the run's epochs, at its start, with unimodal losses alone; the authors' 30 of 230 and 15 of 115
    epochs. 0: none."""
    fusion_hidden: int = 64
    """Units of the hidden layer in the fused head; 0: none."""

    def __post_init__(self) -> None:
        for name in ("gamma", "eta", "fusion_hidden"):
            check_at_least(name, getattr(self, name), 0)
        check_positive("tau", self.tau)
        check_fraction("pretraining", self.pretraining, "[0, 1)")


def divergences(probabilities: Tensor) -> Tensor:
    """Return D ``(m, n)`` of every modality and sample: ``max_k (q_jk - q̄_k)²``, the largest squared distance to q̄.

    Args:
        probabilities: q, shape ``(m, n, c)``.
    """
    return (probabilities - probabilities.mean(dim=0)).square().amax(dim=-1)


def sample_losses(losses: Tensor, fused: Tensor, divergence: Tensor, fuse: Tensor, eta: float) -> Tensor:
    """Return ``Σ_j CE_j + o (Σ_j (½ CE_j² - η D_j) + CE_fused)`` of every sample, ``(n,)``.

    Args:
        losses: CE_j, shape ``(m, n)``.
        fused: CE_fused, shape ``(n,)``.
        divergence: D, shape ``(m, n)``.
        fuse: o, which samples are fused, shape ``(n,)``, bool.
        eta: η.
    """
    amended = (0.5 * losses.square() - eta * divergence).sum(dim=0)
    # where, not a product: a loss that is not finite stays out of the samples it does not belong to.
    return losses.sum(dim=0) + torch.where(fuse, amended + fused, 0.0)


class DOMFN(Method):
    """Divergence-orientated multi-modal fusion (Yang, Zhang, Gao, Gao and Zhu, ACM MM 2022).

    ``q_j = softmax(z_j)``, q̄ is their mean, ``D_j = max_k (q_jk - q̄_k)²``; sample i's gate ``o_i`` is open iff
    ``D_j / τ < γ`` for all j. After a stretch of ``Σ_j CE_j``, L is the mean of :func:`sample_losses`, with every
    sample's own losses and gate, as in the paper's batches of one. D_j has a gradient, the gate none. L is stepped as
    one, whatever ``update`` says, because divergences tie the modalities together.

    It predicts with the fused head where the gate is open, else with the modality whose largest probability is the
    largest. Before the fused head trains, its predictions through an open gate are those of its start.

    Every sample must be in all modalities: q̄ is of one sample. Learning rates are the task's, not the authors' own a
    part.
    """

    name: ClassVar[str] = "domfn"
    paper: ClassVar[str] = (
        "Yang, Zhang, Gao, Gao and Zhu, DOMFN: A Divergence-Orientated Multi-Modal Fusion Network for Resume "
        "Assessment, ACM MM 2022"
    )
    year: ClassVar[int] = 2022
    changes: ClassVar[str] = "fuses a sample only where the modalities agree, and else trusts the surest"
    heads: ClassVar[frozenset[str]] = frozenset({"unimodal", "fused"})
    iterates_alike: ClassVar[bool] = True
    maps_runs: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("fused_fraction",)
    options_type: ClassVar[type[MethodOptions]] = DOMFNOptions
    options: DOMFNOptions

    @property
    def fused_hidden(self) -> int:
        """The option ``fusion_hidden``."""
        return self.options.fusion_hidden

    def phases(self, epochs: int, modalities: Sequence[str]) -> tuple[Phase, ...]:
        """Return a phase of unimodal losses alone, if the options say so, then one of everything."""
        before = self.options.pretraining
        if before == 0.0:
            return (Phase("fusion", 1.0),)
        return (Phase(PRETRAINING, before, trainable=("encoder", "head")), Phase("fusion", 1.0 - before))

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield one loss per modality in pre-training, then one over everything."""
        if ctx.phase.name == PRETRAINING:
            for j in range(ctx.num_modalities):
                yield ctx.modality_loss(j, ctx.model.unimodal(j, ctx.features(j)))
            return
        features = [ctx.features(j) for j in range(ctx.num_modalities)]
        logits = torch.stack([ctx.model.unimodal(j, h) for j, h in enumerate(features)])
        for j, own in enumerate(logits):
            ctx.record(j, own)
        fused = ctx.model.fused(features)
        ctx.record_fused(fused)
        logp, labels = log_probabilities(logits), ctx.paired_labels
        divergence = divergences(logp.exp())
        fuse = self._open(divergence)
        ctx.log({"fused_fraction": ctx.paired_mean(fuse.to(logp.dtype))})
        losses = -logp.gather(-1, labels.expand(len(logits), *labels.shape).unsqueeze(-1)).squeeze(-1)
        fused_losses = sample_cross_entropy(fused, labels)
        yield ctx.reduce(sample_losses(losses, fused_losses, divergence, fuse, self.options.eta))

    def predict(self, unimodal: Tensor, predictions: Mapping[str, Tensor]) -> Tensor:
        """Return fused logits through open gates, the surest modality's through closed ones."""
        q = log_probabilities(unimodal).exp()
        # Of equals, the first.
        surest = q.amax(dim=2).argmax(dim=0)
        own = unimodal[surest, torch.arange(len(surest), device=unimodal.device)]
        return torch.where(self._open(divergences(q)).unsqueeze(1), predictions["concat"], own)

    def _open(self, divergence: Tensor) -> Tensor:
        return (divergence < self.options.gamma * self.options.tau).all(dim=0)
