"""Prototypical modal rebalance (PMR, Fan et al., CVPR 2023): L = CE(z, y) + α Σ_j β_j PCE_j."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dus_gym.context import Context
from dus_gym.errors import check_at_least, check_choice, check_fraction
from dus_gym.methods.base import Method, MethodOptions
from dus_gym.methods.prototypes import class_prototypes


@dataclass(frozen=True)
class PMROptions(MethodOptions):
    """Options of the prototypes and of the losses on them."""

    alpha: float = 2.0
    """Weight of the prototype losses; the authors' own for CREMA-D and AVE."""
    coefficient: str = "clip"
    """Share of its prototype loss that a modality behind the best one gets: ``clip``: clip(s_best / s_j - 1, 0, 1)
    (from memory of the paper); ``released``: all of it, however small the lead (the released code)."""
    start_epoch: int = 0
    """First epoch (from 0) with prototype losses; before it the fused loss is alone."""
    end_epoch: int = 70
    """Last epoch (from 0) with prototype losses; the authors' runs have 130 epochs."""
    momentum: float = 0.0
    """Share of the old prototypes that an update keeps; 0: none, as in almost every run of the authors. Those of
    encoders that have not trained yet are never kept, as in the released code."""
    prototype_fraction: float = 1.0
    """Fraction of the training samples, drawn anew each epoch, that prototypes are means of; 0.1 is as released."""
    entropy_weight: float = 0.0
    """Weight of the best modality's entropy regulariser (from memory of the paper, and not in the released code); 0:
    off."""
    entropy_epochs: int = 10
    """The entropy regulariser works in this many first epochs; the paper's number isn't known here."""

    def __post_init__(self) -> None:
        for name in ("alpha", "start_epoch", "entropy_weight", "entropy_epochs"):
            check_at_least(name, getattr(self, name), 0)
        check_at_least("end_epoch", self.end_epoch, self.start_epoch)
        check_choice("coefficient", self.coefficient, ("clip", "released"))
        check_fraction("momentum", self.momentum, "[0, 1)")
        check_fraction("prototype_fraction", self.prototype_fraction, "(0, 1]")


def pmr_coefficients(scores: Tensor, kind: str) -> Tensor:
    """Return PMR's weight β of every modality, ``(m,)``, from scores ``(m,)``: 0 for the best, else up to 1.

    Scores of R runs are ``(m, R)``.
    """
    best = scores.amax(dim=0)
    if kind == "released":
        return (scores < best).to(scores.dtype)
    tiny = torch.finfo(scores.dtype).tiny
    return (best / scores.clamp_min(tiny) - 1.0).clamp(0.0, 1.0)


def prototype_log_probabilities(features: Tensor, prototypes: Tensor) -> Tensor:
    """Return log q(k|x), ``(n, c)``: the log-softmax over classes of minus the distance to each prototype."""
    return F.log_softmax(-torch.cdist(features.to(prototypes.dtype), prototypes), dim=-1)


class PMR(Method):
    """Prototypical modal rebalance (Fan et al., CVPR 2023).

    ``L = CE(z, y) + α Σ_j β_j PCE_j``: the fused part over the paired samples, ``PCE_j = -log q_j(y)`` over modality
    j's own a_j, with ``q_j = softmax(-‖h_j - prototypes‖)``; β_j compares the means of q_j(y) in the batch.
    Prototypes are class means of evaluation-mode features, taken anew before every epoch. The paper has two
    modalities; with more, each one is compared with the best, which for two is the same. In the first epochs
    ``entropy_weight`` subtracts the best modality's entropy of q, times the largest β.

    Without pairs nothing would train the fused head, nor the best modality, so the method refuses independent pairing.
    """

    name: ClassVar[str] = "pmr"
    paper: ClassVar[str] = (
        "Fan, Xu, Wang, Wang and Guo, PMR: Prototypical Modal Rebalance for Multimodal Learning, CVPR 2023"
    )
    year: ClassVar[int] = 2023
    changes: ClassVar[str] = "draws the features of the weaker modalities to class prototypes"
    heads: ClassVar[frozenset[str]] = frozenset({"fused"})
    maps_runs: ClassVar[bool] = True
    supports_unpaired: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("beta/*",)
    options_type: ClassVar[type[MethodOptions]] = PMROptions
    options: PMROptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._prototypes: list[Tensor] = []

    def on_epoch_start(self, ctx: Context) -> None:
        """Take new prototypes, as long as a loss will use them."""
        changes = {self.options.start_epoch, self.options.end_epoch + 1}
        if ctx.epoch in changes | ({self.options.entropy_epochs} if self.options.entropy_weight else set()):
            ctx.restart_plateau()
        if not self._active(ctx.epoch):
            ctx.log({f"beta/{name}": 0.0 for name in ctx.modalities})
        if ctx.epoch > self.options.end_epoch:
            return
        features, labels = ctx.train_features(), ctx.train_split.labels
        if self.options.prototype_fraction < 1.0:
            n = labels.shape[-1]
            count = max(1, round(self.options.prototype_fraction * n))
            drawn = [torch.from_numpy(np.sort(rng.permutation(n)[:count])) for rng in ctx.rngs]
            rows = ctx.stack(drawn).to(labels.device)
            features = [h.take_along_dim(rows.unsqueeze(-1), dim=-2) for h in features]
            labels = labels.take_along_dim(rows, dim=-1)
        old: list[Tensor | None] = [p.to(labels.device) for p in self._prototypes]
        # The prototypes of epoch 0 are of encoders as they were built.
        classes, momentum = ctx.model.num_classes, self.options.momentum if ctx.epoch > 1 else 0.0
        self._prototypes = [
            class_prototypes(h.detach(), labels, classes, p, momentum)
            for h, p in zip(features, old or [None] * len(features), strict=True)
        ]

    def capture_key(self, ctx: Context) -> Any:
        """Return the epoch, which has its own prototypes; with alternating updates the host reads who gets a step."""
        if not self._active(ctx.epoch):
            return ()
        return None if ctx.update == "alternating" else ctx.epoch

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield the fused loss, then one prototype loss per modality."""
        parts = ctx.model.additive_parts([ctx.features(j) for j in range(ctx.num_modalities)])
        for j, part in enumerate(parts):
            ctx.record(j, part)
        p = ctx.batch.paired
        paired = [part if part.shape[-2] == p else part[..., :p, :] for part in parts]
        yield ctx.fused_loss(sum(paired[1:], start=paired[0]))
        if not self._active(ctx.epoch):
            return
        log_q = []
        for j in range(ctx.num_modalities):
            h = ctx.features(j)
            self._prototypes[j] = self._prototypes[j].to(h.device)
            log_q.append(prototype_log_probabilities(h, self._prototypes[j]))
        true = [q.gather(-1, y.unsqueeze(-1)).squeeze(-1) for q, y in zip(log_q, ctx.batch.labels, strict=True)]
        scores = torch.stack([ctx.mean(value.detach().exp(), j) for j, value in enumerate(true)])
        beta = pmr_coefficients(scores, self.options.coefficient)
        ctx.log({f"beta/{name}": value for name, value in zip(ctx.modalities, beta, strict=True)})
        regularised = self.options.entropy_weight > 0.0 and ctx.epoch < self.options.entropy_epochs
        best = beta.amax(dim=0) * (scores == scores.amax(dim=0))
        for j, q in enumerate(log_q):
            # A step on a loss of weight 0 would still move the encoder, by momentum and weight decay.
            if ctx.update == "alternating":
                nothing = (self.options.alpha * beta[j] == 0.0) & (best[j] == 0.0 if regularised else True)
                if ctx.runs is not None:
                    ctx.skip_step(nothing)
                elif nothing:
                    continue
            loss = self.options.alpha * beta[j] * ctx.reduce(-true[j], j)
            if regularised:
                entropy = ctx.reduce(-(q.exp() * q).sum(dim=-1), j)
                loss = loss - self.options.entropy_weight * best[j] * entropy
            yield loss

    def _active(self, epoch: int) -> bool:
        return self.options.start_epoch <= epoch <= self.options.end_epoch

    def state_dict(self) -> dict[str, Any]:
        """Return the prototypes; none before the first epoch."""
        return {"prototypes": [p.clone() for p in self._prototypes]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the prototypes back."""
        self._prototypes = [torch.as_tensor(p).clone() for p in state.get("prototypes", [])]
