"""Detached and interactive learning (DI-MML, Fan et al., ACM MM 2024): L = Σ_j (CE_j + λ CE_shared) + L_DUC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dus_gym.batch import counted_mean
from dus_gym.context import Context, Phase
from dus_gym.discrepancy import sample_cross_entropy
from dus_gym.errors import ConfigError, check_at_least, check_fraction, check_positive
from dus_gym.methods.base import Method, MethodOptions
from dus_gym.methods.prototypes import class_prototypes


@dataclass(frozen=True)
class DIMMLOptions(MethodOptions):
    """Options of the two stages."""

    fusion: float = 0.12
    """Length of the second stage, in which the concat head trains alone, as a fraction of the run's epochs; the
    authors' 20 epochs after 150."""
    shared_weight: float = 1.0
    """λ, weight of the loss of the head that all modalities share."""
    transfer_weight: float = 1.0
    """Weight of the transfer of complementary dimensions (DUC); 0: off."""
    transfer_start: float = 0.12
    """Epoch in which the effective dimensions are found and the transfer begins, as a fraction of the run's epochs; the
    authors' epoch 20 of 170."""
    temperature: float = 50.0
    """T of the transfer: 50 for CREMA-D and ModelNet, 10 for AVE and UCF-101."""
    certainty_temperature: float = 1.0
    """T' of the weights at prediction: 1 for CREMA-D and UCF-101, 3 for AVE and ModelNet."""

    def __post_init__(self) -> None:
        for name in ("shared_weight", "transfer_weight", "transfer_start"):
            check_at_least(name, getattr(self, name), 0)
        check_fraction("fusion", self.fusion, "(0, 1)")
        if self.transfer_start + self.fusion >= 1.0:
            raise ConfigError(
                f"transfer_start={self.transfer_start!r} is not allowed; it must lie below 1 - fusion, here "
                f"{1.0 - self.fusion:g}. For no transfer at all, use transfer_weight=0."
            )
        for name in ("temperature", "certainty_temperature"):
            check_positive(name, getattr(self, name))


def dimension_accuracies(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return each dimension's accuracy by the nearest class mean in it alone, ``(d,)``; the first class wins ties.

    Args:
        features: shape ``(n, d)``.
        labels: shape ``(n,)``.
        classes: c; a class without a sample is never the nearest.
    """
    means = class_prototypes(features, labels, classes, None, 0.0)
    there = F.one_hot(labels, classes).any(dim=0)
    nearest = torch.full_like(features, float("inf"))
    found = torch.zeros_like(features, dtype=labels.dtype)
    # A class at a time: all at once would take n d c numbers.
    for k, mean in enumerate(torch.where(there.unsqueeze(1), means, float("inf"))):
        distance = (features - mean).abs()
        found = torch.where(distance < nearest, k, found)
        nearest = torch.minimum(distance, nearest)
    return (found == labels.unsqueeze(1)).to(features.dtype).mean(dim=0)


def transfer_loss(
    student: Tensor, teacher: Tensor, dimensions: Tensor, temperature: float, counted: Tensor | None = None
) -> Tensor:
    """Return InfoNCE between two modalities of the same samples, with plain dot products over some dimensions.

    Without a dimension, or with one sample, it is a constant.

    Args:
        student: shape ``(p, d)``, or ``(R, p, d)`` of R runs.
        teacher: of the same shape; gets no gradient.
        dimensions: which count, shape ``(d,)`` or ``(R, d)``, bool.
        temperature: T.
        counted: which rows count, ``(R, p)``; None: all of them.
    """
    # Other dimensions become zero and are not cut out: a boolean index would wait for the device.
    logits = (student * dimensions.unsqueeze(-2)) @ teacher.detach().mT / temperature
    own = torch.arange(logits.shape[-1], device=logits.device)
    if logits.ndim == 2:
        return F.cross_entropy(logits, own)
    if counted is not None:
        logits = logits.masked_fill(~counted.unsqueeze(-2), -torch.inf)
    return counted_mean(sample_cross_entropy(logits, own.expand(logits.shape[:-1])), counted)


def certainty_weighted(logits: Tensor, temperature: float) -> Tensor:
    """Weigh logits ``(k, n, c)`` of k heads per sample by the softmax of each head's largest probability / T'."""
    sure = logits.softmax(dim=2).amax(dim=2)
    return ((sure / temperature).softmax(dim=0).unsqueeze(2) * logits).sum(dim=0)


class DIMML(Method):
    """Detached and interactive multimodal learning (Fan, Xu, Wang, Liu and Guo, ACM MM 2024).

    First stage: ``L = Σ_j [CE(g_j(h_j)) + λ CE(g_s(h_j))]``, each over modality j's own a_j samples, and no fused
    loss. From ``transfer_start`` on it adds :func:`transfer_loss` over the paired ones, from every modality to every
    other one, in the dimensions that are effective in the teacher alone. A dimension is effective if it finds more
    training samples' class than the modality's dimensions do on average; this is judged once.

    Second stage: encoders and heads are frozen, and a concat head trains on ordinary batches, whatever the agent says.

    The prediction weights the heads, with the concat head once it trains, by their certainty. The paper has two
    modalities of one width; more of them, and a linear projection to the first one's width, are ours.
    """

    name: ClassVar[str] = "di_mml"
    paper: ClassVar[str] = "Fan, Xu, Wang, Liu and Guo, Detached and Interactive Multimodal Learning, ACM MM 2024"
    year: ClassVar[int] = 2024
    changes: ClassVar[str] = (
        "trains modalities apart, with transfer of the dimensions one lacks; the fused head follows"
    )
    heads: ClassVar[frozenset[str]] = frozenset({"unimodal", "shared", "fused"})
    maps_runs: ClassVar[bool] = True
    supports_unpaired: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("complementary/*",)
    options_type: ClassVar[type[MethodOptions]] = DIMMLOptions
    options: DIMMLOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._effective: Tensor | None = None
        self._fusing = False

    def phases(self, epochs: int, modalities: Sequence[str]) -> tuple[Phase, ...]:
        """Return two phases: encoders, then the concat head."""
        last = self.options.fusion
        return (
            Phase("encoders", 1.0 - last, trainable=("encoder", "head", "shared")),
            Phase("fusion", last, trainable=("fused",), sampling=False, fresh=True, own_schedule=True),
        )

    def on_epoch_start(self, ctx: Context) -> None:
        """Find the effective dimensions when their time has come."""
        self._fusing = ctx.phase.name == "fusion"
        due = ctx.epoch >= round(self.options.transfer_start * ctx.epochs) and not self._fusing
        if not due or self._effective is not None or self.options.transfer_weight == 0.0:
            return
        labels, found = ctx.train_split.labels, []
        with torch.no_grad():
            for j, h in enumerate(ctx.train_features()):
                projected, classes = ctx.model.project(j, h), ctx.model.num_classes
                by_run = [(projected, labels)] if ctx.runs is None else zip(projected, labels, strict=True)
                accuracies = ctx.stack([dimension_accuracies(own, of, classes) for own, of in by_run])
                found.append(accuracies > accuracies.mean(dim=-1, keepdim=True))
        self._effective = torch.stack(found)
        ctx.restart_plateau()
        taught = [sum((mine & ~other).sum(dim=-1) for other in found) for mine in found]
        ctx.log({f"complementary/{name}": count for name, count in zip(ctx.modalities, taught, strict=True)})

    def capture_key(self, ctx: Context) -> Any:
        """Return the stage, and whether dimensions are transferred."""
        return (self._fusing, self._effective is not None)

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield one loss per modality, then the transfer; in the second stage the fused loss."""
        model, modalities = ctx.model, range(ctx.num_modalities)
        if self._fusing:
            for j in modalities:
                ctx.record(j, model.unimodal(j, ctx.features(j)))
            yield ctx.fused_loss(model.fused([ctx.paired_features(j) for j in modalities]))
            return
        for j in modalities:
            loss = ctx.modality_loss(j, model.unimodal(j, ctx.features(j)))
            yield loss + self.options.shared_weight * ctx.cross_entropy(j, model.shared(j, ctx.features(j)))
        if self._effective is not None:
            yield self.options.transfer_weight * self._transfer(ctx, self._effective)

    def _transfer(self, ctx: Context, effective: Tensor) -> Tensor:
        features = [ctx.model.project(j, ctx.paired_features(j)) for j in range(ctx.num_modalities)]
        effective = self._effective = effective.to(features[0].device)
        losses = [
            transfer_loss(
                student, teacher, effective[j] & ~effective[k], self.options.temperature, ctx.batch.paired_counted
            )
            for j, teacher in enumerate(features)
            for k, student in enumerate(features)
            if j != k
        ]
        return torch.stack(losses).sum(dim=0)

    def predict(self, unimodal: Tensor, predictions: Mapping[str, Tensor]) -> Tensor:
        """Weigh the modalities and, in the second stage, the concat head by their certainty."""
        heads = [*unimodal, predictions["concat"]] if self._fusing else list(unimodal)
        return certainty_weighted(torch.stack(heads), self.options.certainty_temperature)

    def state_dict(self) -> dict[str, Any]:
        """Return the stage and, once they are known, the effective dimensions."""
        effective = {} if self._effective is None else {"effective": self._effective.clone()}
        return {"fusing": self._fusing} | effective

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the stage and the effective dimensions back."""
        self._fusing = bool(state["fusing"])
        kept = state.get("effective")
        self._effective = None if kept is None else torch.as_tensor(kept).clone()
