"""Calibrating multimodal learning (CML, Ma et al., ICML 2023): confidence must not rise when a modality is removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from dus_gym.context import Context
from dus_gym.discrepancy import sample_cross_entropy
from dus_gym.errors import check_at_least, check_choice
from dus_gym.methods.base import Method, MethodOptions

PAIRS = ("all", "cpm", "miwae")


@dataclass(frozen=True)
class CMLOptions(MethodOptions):
    """Options of the penalty on confidence."""

    weight: float = 20.0
    """Weight λ of the penalty, a mean over samples. The authors' command has 10 / 100 on a sum over a batch of 200."""
    pairs: str = "all"
    """Which steps of a removal are penalised: ``all``: where confidence rises (the paper's principle); ``cpm``: but
    not where the removal turns a wrong prediction into a right one (the authors' program of that name); ``miwae``:
    where the larger set is right, and where both are wrong, the gradient then reaching the smaller set alone (their
    other program)."""

    def __post_init__(self) -> None:
        check_at_least("weight", self.weight, 0)
        check_choice("pairs", self.pairs, PAIRS)


def chain_logits(present: Sequence[Tensor], absent: Sequence[Tensor], ranks: Tensor) -> list[Tensor]:
    """Return the fused logits as modalities are removed one by one, m tensors ``(n, c)``; the first is of all.

    Args:
        present: additive parts of the samples, m tensors ``(n, c)``.
        absent: additive parts of a modality that is not there, m tensors ``(1, c)``.
        ranks: shape ``(n, m)``: at which step, counted from 0, a sample loses a modality; the last one it keeps.
    """
    return [
        torch.stack(
            [
                torch.where((ranks[..., j] >= step).unsqueeze(-1), part, zero)
                for j, (part, zero) in enumerate(zip(present, absent, strict=True))
            ]
        ).sum(dim=0)
        for step in range(len(present))
    ]


def confidence_penalty(larger: Tensor, smaller: Tensor, labels: Tensor, pairs: str) -> Tensor:
    """Return by how much the confidence, the largest probability, rises from a larger to a smaller set, ``(n,)``.

    Args:
        larger: logits of the larger set, shape ``(n, c)``.
        smaller: logits of the smaller one.
        labels: shape ``(n,)``.
        pairs: which samples count, of :data:`PAIRS`; the others are 0.
    """
    before, told = larger.softmax(dim=-1).max(dim=-1)
    after, told_after = smaller.softmax(dim=-1).max(dim=-1)
    rise = (after - before).clamp_min(0.0)
    if pairs == "all":
        return rise
    right, right_after = told == labels, told_after == labels
    if pairs == "cpm":
        return torch.where(right_after & ~right, 0.0, rise)
    of_wrong = (after - before.detach()).clamp_min(0.0)
    return torch.where(right, rise, torch.where(right_after, 0.0, of_wrong))


class CML(Method):
    """Calibrating multimodal learning (Ma, Zhang, Zhang, Wu, Fu, Zhou and Hu, ICML 2023).

    In every iteration each sample loses its modalities one by one, in an order drawn for it: T_0 has all m, T_(m-1)
    one. With F(T) the logits of the concat head where the features outside T are zero, and conf the largest
    probability, ``L = (1/m) Σ_k CE(F(T_k), y) + λ Σ_k max(0, conf(T_(k+1)) - conf(T_k))``, means over samples.

    The authors' programs regularise models that impute missing inputs; on a classifier with one head, zeros stand for
    what is absent, as in the one re-implementation. Scores are of the additive parts ``W_j h_j + b/m``.

    Every sample must be in all modalities: confidence is compared on one sample with and without a modality.
    """

    name: ClassVar[str] = "cml"
    paper: ClassVar[str] = "Ma, Zhang, Zhang, Wu, Fu, Zhou and Hu, Calibrating Multimodal Learning, ICML 2023"
    year: ClassVar[int] = 2023
    changes: ClassVar[str] = "removes modalities at random and penalises a confidence that rises by it"
    heads: ClassVar[frozenset[str]] = frozenset({"fused"})
    maps_runs: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("penalty",)
    options_type: ClassVar[type[MethodOptions]] = CMLOptions
    options: CMLOptions

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield the mean loss along the removals plus the penalty."""
        features = [ctx.features(j) for j in range(ctx.num_modalities)]
        parts = ctx.model.additive_parts(features)
        for j, part in enumerate(parts):
            ctx.record(j, part)
        absent = ctx.model.additive_parts([torch.zeros_like(h[..., :1, :]) for h in features])
        m = len(parts)
        ranks = ctx.paired_uniform(m).argsort(dim=-1).argsort(dim=-1)
        chain = chain_logits(parts, absent, ranks)
        labels = ctx.paired_labels
        loss = ctx.fused_loss(chain[0])
        for logits in chain[1:]:
            loss = loss + ctx.paired_mean(sample_cross_entropy(logits, labels))
        penalty = torch.zeros_like(loss)
        for larger, smaller in pairwise(chain):
            penalty = penalty + ctx.paired_mean(confidence_penalty(larger, smaller, labels, self.options.pairs))
        ctx.log({"penalty": penalty})
        yield loss / m + self.options.weight * penalty
