"""AGM: gradients scaled by how far each modality's share of the fused logits is ahead of the others'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dus_gym.errors import check_at_least, check_choice
from dus_gym.methods.absent import features_of_zeros, inputs_of_zeros
from dus_gym.methods.base import Method, MethodOptions
from dus_gym.methods.clipping import clip_if_exceeded
from dus_gym.methods.coefficients import agm_coefficients, response_scores
from dus_gym.methods.scaling import SCALE_VIA, ScaleGradient, resolve, scale_encoders
from dus_gym.methods.shapley import fused_responses, shapley_weights

if TYPE_CHECKING:
    from dus_gym.context import Context
    from dus_gym.model import MultimodalModel


LARGEST_RATE_FACTOR = 4.0
"""Bound on κ where it multiplies a learning rate, where no clip of gradients reaches it. Ours: under Adam at α = 4 and
learning rate 0.01 on Digits, κ went to 1e3 and more and the run diverged; up to 4 it ended where gradients lead."""


@dataclass(frozen=True)
class AGMOptions(MethodOptions):
    """Options of the modulation."""

    alpha: float = 1.5
    """Strength α of the modulation; the authors' own for CREMA-D. 0: κ is 1."""
    cap: float | None = None
    """Largest difference C in κ = exp(α min(τ - r, C)); None: 10 with two modalities, 7 with more."""
    start_epoch: int = 0
    """First epoch (from 0) with modulation."""
    end_epoch: int | None = None
    """Last epoch (from 0) with modulation; None: that of the run, as in the authors' runs."""
    clip: float = 1.0
    """Clip the norm of all gradients to this if any entry of the gradient of the last layer's weight exceeds it; 1 is
    the authors' for CREMA-D, 5 for UR-Funny. 0: off."""
    scale_via: str = "auto"
    """``grad``: κ scales the gradient at each modality's response; ``lr``: it scales the learning rate of the
    modality's encoder, at most by 4 (ours), at the cost of waiting for the device in every iteration; ``auto``: ``lr``
    under Adam, which undoes constant factors on gradients, and ``grad`` under SGD."""
    fusion_hidden: int = 0
    """Units of a hidden layer in the fused head; 0: none. With one, the head is evaluated on 2^m - 1 sets."""

    def __post_init__(self) -> None:
        for name in ("alpha", "start_epoch", "clip", "fusion_hidden"):
            check_at_least(name, getattr(self, name), 0)
        if self.cap is not None:
            check_at_least("cap", self.cap, 0)
        if self.end_epoch is not None:
            check_at_least("end_epoch", self.end_epoch, self.start_epoch)
        check_choice("scale_via", self.scale_via, SCALE_VIA)


class AGM(Method):
    """Adaptive gradient modulation (Li et al., ICCV 2023).

    F(S) is the fused logits with the inputs outside S set to zero, ψ_j modality j's Shapley value of F plus
    F(∅) / m, so that ``Σ_j ψ_j = F(all)``. With ``s_j = CE(ψ_j, y)``, ``r_j = exp(mean_{k≠j} s_k - s_j)`` and τ_j the
    same of the scores' means over the batches before (0 before the first), the gradient at ψ_j is multiplied by
    ``κ_j = exp(α min(τ_j - r_j, C))``.

    A row's loss is CE(F(S), y), where S is the modalities that hold it; L is its mean over all rows (the sum over B
    under ``loss_norm="fixed"``). Scores are of the paired rows, so the method refuses independent pairing.

    Features of zeros come from one sample in evaluation mode, as one sample has no batch statistics; gradients go
    through it as well. The released code has the modalities in S in evaluation mode, too, unless S is all.
    """

    name: ClassVar[str] = "agm"
    paper: ClassVar[str] = (
        "Li, Li, Hu, Lei, Li and Zhou, Boosting Multi-modal Model Performance with Adaptive Gradient Modulation, "
        "ICCV 2023"
    )
    year: ClassVar[int] = 2023
    changes: ClassVar[str] = "scales each modality's gradient by how far its Shapley share of the logits is ahead"
    heads: ClassVar[frozenset[str]] = frozenset({"fused"})
    supports_unpaired: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("kappa/*",)
    options_type: ClassVar[type[MethodOptions]] = AGMOptions
    options: AGMOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._running: Tensor | None = None
        self._zeros: list[Tensor] = []
        self._weights = torch.empty(0)

    @property
    def fused_hidden(self) -> int:
        """The option ``fusion_hidden``."""
        return self.options.fusion_hidden

    def on_fit_start(self, ctx: Context) -> None:
        """One sample of zeros a modality."""
        self._zeros = inputs_of_zeros(ctx)
        self._weights = shapley_weights(ctx.num_modalities).float().to(ctx.train_split.labels.device)

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """One loss over all rows, each with the modalities that hold it."""
        features = [ctx.features(j) for j in range(ctx.num_modalities)]
        # After the samples' features: running statistics must not change between their use and the backward pass.
        empty = features_of_zeros(ctx.model, self._zeros)
        responses, parts = fused_responses(ctx.model, features, empty, self._weights)
        for j, part in enumerate(parts):
            ctx.record(j, part)
        paired = ctx.batch.paired
        kappa = self._coefficients(ctx, response_scores(responses.detach()[:, :paired], ctx.paired_labels))
        if resolve(self.options.scale_via, ctx) == "lr":
            scale_encoders(ctx, kappa)
        else:
            responses = ScaleGradient.apply(responses, kappa[:, None, None])
        logits = responses.sum(dim=0)
        ctx.record_fused(logits[:paired])
        yield ctx.reduce(F.cross_entropy(logits, max(ctx.batch.labels, key=len), reduction="none"))

    def after_backward(self, ctx: Context) -> None:
        """The conditional clip."""
        if self.options.clip:
            *_, weight, _ = ctx.optimizer.parameters("fused")
            clip_if_exceeded(ctx.model.parameters(), weight, self.options.clip)

    def unimodal_logits(self, model: MultimodalModel, features: Sequence[Tensor]) -> list[Tensor]:
        """Additive parts of a linear head, responses ψ_j of one with a hidden layer; both sum to the fused logits."""
        if not self.fused_hidden:
            return model.additive_parts(features)
        return fused_responses(model, features, features_of_zeros(model, self._zeros), self._weights)[1]

    def _coefficients(self, ctx: Context, scores: Tensor) -> Tensor:
        """κ; the scores enter the running means afterwards, inside and outside the window of epochs."""
        options = self.options
        running = torch.zeros_like(scores) if self._running is None else self._running.to(scores.device)
        self._running = running + (scores - running) / (ctx.iteration + 1)
        kappa = torch.ones_like(scores)
        if options.start_epoch <= ctx.epoch and (options.end_epoch is None or ctx.epoch <= options.end_epoch):
            kappa = agm_coefficients(scores, running, options.alpha, options.cap)
        if resolve(options.scale_via, ctx) == "lr":
            kappa = kappa.clamp_max(LARGEST_RATE_FACTOR)
        ctx.log({f"kappa/{name}": value for name, value in zip(ctx.modalities, kappa, strict=True)})
        return kappa

    def state_dict(self) -> dict[str, Any]:
        """The running means of the scores; nothing before the first iteration."""
        return {} if self._running is None else {"running": self._running.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts the running means back."""
        kept = state.get("running")
        self._running = None if kept is None else torch.as_tensor(kept).clone()
