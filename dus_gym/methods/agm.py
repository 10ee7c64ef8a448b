"""Adaptive gradient modulation (AGM, Li et al., ICCV 2023): branch gradients times κ_j = exp(α min(τ_j - r_j, C))."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from dus_gym.batch import counted_mean
from dus_gym.context import Context
from dus_gym.discrepancy import sample_cross_entropy
from dus_gym.errors import check_at_least, check_choice
from dus_gym.methods.base import Method, MethodOptions
from dus_gym.methods.scaling import SCALE_VIA, resolve, scale_encoders
from dus_gym.methods.shapley import features_of_zeros, inputs_of_zeros, shapley_weights
from dus_gym.model import MultimodalModel
from dus_gym.optim import along

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


LEAST_PROBABILITY = 1e-8
"""Probabilities below it count as it in AGM's scores."""


def response_scores(responses: Tensor, labels: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return the mean cross entropy of every modality's responses ``(m, p, c)``, ``(m,)``, in nats; low is good.

    Args:
        responses: of R runs ``(m, R, p, c)``, to ``(m, R)``.
        labels: shape ``(p,)``, or ``(R, p)``.
        counted: which rows count; None: all of them.
    """
    shape = responses.shape[:-1]
    losses = F.cross_entropy(
        responses.reshape(-1, responses.shape[-1]), labels.expand(shape).reshape(-1), reduction="none"
    )
    return counted_mean(losses.clamp_max(-log(LEAST_PROBABILITY)).view(shape), counted)


def agm_coefficients(scores: Tensor, running: Tensor, alpha: float, cap: float | None) -> Tensor:
    """Return AGM's factor κ of every modality, ``(m,)``: below 1 for one further ahead than on average so far.

    Args:
        scores: of this batch, shape ``(m,)``, or ``(m, R)`` of R runs.
        running: means of the scores of the batches before, of the same shape.
        alpha: α.
        cap: C; None: 10 with two modalities, 7 with more.
    """
    if cap is None:
        cap = 10.0 if len(scores) == 2 else 7.0

    def lead(s: Tensor) -> Tensor:
        # The mean of the others minus one's own is m / (m - 1) times the mean of all minus one's own.
        return torch.exp((s.mean(dim=0) - s) * (len(s) / (len(s) - 1)))

    return torch.exp(alpha * (lead(running) - lead(scores)).clamp_max(cap))


Counted = Sequence[Tensor | None]
"""By modality which of its rows are there, ``(R, a_j)`` of R runs whose batches are filled up; None: all of them."""


def additive_responses(parts: Sequence[Tensor], empty: Sequence[Tensor], counted: Counted = ()) -> Tensor:
    """Return responses ψ_j of a linear fused head, ``(m, a_max, c)``: ``part_j - part_j(0) + F(∅) / m``.

    Equal to :func:`shapley_responses` for such a head, without its 2^m - 1 evaluations. From row a_j on, modality j
    is absent and ψ_j is F(∅) / m.

    Args:
        parts: additive parts of the samples, m tensors ``(a_j, c)``.
        empty: additive parts of a sample of zeros, m tensors ``(1, c)``; their sum is F(∅).
        counted: rows that are there; the others are absent.
    """
    rows = max(part.shape[-2] for part in parts)
    own = [
        F.pad(_where(there, part - zero, 0.0), (0, 0, 0, rows - part.shape[-2]))
        for part, zero, there in zip(parts, empty, counted or [None] * len(parts), strict=True)
    ]
    return torch.stack(own) + sum(empty[1:], start=empty[0]) / len(parts)


def _where(there: Tensor | None, values: Tensor, otherwise: Tensor | float) -> Tensor:
    """Return ``values`` of the rows that are there."""
    return values if there is None else torch.where(there.unsqueeze(-1), values, otherwise)


def shapley_responses(
    fused: Callable[[Sequence[Tensor]], Tensor],
    features: Sequence[Tensor],
    empty: Sequence[Tensor],
    weights: Tensor,
    counted: Counted = (),
) -> Tensor:
    """Return ψ_j of any fused head, ``(m, a_max, c)``; row by row they sum to F of the modalities that are there.

    Args:
        fused: F, from m tensors ``(n, d_j)`` to ``(n, c)``.
        features: h_j of the samples, m tensors ``(a_j, d_j)``; from row a_j on, modality j is absent.
        empty: features of a sample of zeros, m tensors ``(1, d_j)``.
        weights: of :func:`shapley_weights`.
        counted: rows that are there; the others are absent.
    """
    m, rows = len(features), max(h.shape[-2] for h in features)
    columns = []
    for j, (h, zero, there) in enumerate(zip(features, empty, counted or [None] * m, strict=True)):
        width = zero.shape[-1]
        more = zero.expand(*zero.shape[:-2], rows - h.shape[-2], width)
        present = torch.cat([_where(there, h, zero), more], dim=-2)
        absent = zero.expand(*zero.shape[:-2], rows, width)
        columns.append(torch.cat([present if members >> j & 1 else absent for members in range(1, 2**m)], dim=-2))
    # Sets first: (2^m - 1, ..., rows, c).
    logits = fused(columns).unflatten(-2, (-1, rows)).movedim(-3, 0)
    # No matrix product, which mixed precision would round.
    responses: Tensor = (weights.view(*weights.shape, *[1] * (logits.ndim - 1)) * logits).sum(dim=1)
    return responses


def fused_responses(
    model: MultimodalModel,
    features: Sequence[Tensor],
    empty: Sequence[Tensor],
    weights: Tensor,
    counted: Counted = (),
) -> tuple[Tensor, list[Tensor]]:
    """Return ψ_j of a model's fused head, ``(m, a_max, c)``, and what modalities are judged by, m ``(a_j, c)``.

    They are judged by the additive parts of a linear head, by the responses of one with a hidden layer; both sum to
    the fused logits.

    Args:
        model: has the fused head.
        features: as in :func:`shapley_responses`.
        empty: as in :func:`shapley_responses`.
        weights: as in :func:`shapley_responses`, which only a head with a hidden layer needs.
        counted: as in :func:`shapley_responses`.
    """
    if not isinstance(model.fused_head, nn.Linear):
        found = shapley_responses(model.fused, features, empty, weights, counted)
        return found, [response[..., : h.shape[-2], :] for response, h in zip(found, features, strict=True)]
    parts = model.additive_parts(features)
    return additive_responses(parts, model.additive_parts(empty), counted), parts


class ScaleGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by ``factors``."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, factors: Tensor) -> Tensor:
        """Return ``values`` unchanged."""
        ctx.save_for_backward(factors)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient times ``factors``."""
        (factors,) = ctx.saved_tensors
        return gradient * factors, None


def clip_if_exceeded(
    parameters: Iterable[nn.Parameter], watched: nn.Parameter, limit: float, by_run: bool = False
) -> None:
    """Clip the norm of all gradients to ``limit`` if any entry of the watched one exceeds it.

    The host does not wait for the device.

    Args:
        parameters: all that train; those without a gradient are left out.
        watched: whose gradient decides; without one there is no clip.
        limit: the largest norm, above 0.
        by_run: gradients lead with an axis of runs, each of which is watched and clipped by itself.
    """
    if watched.grad is None:
        return
    every = [p for p in parameters if p.grad is not None]
    if by_run:
        gradients = [p.grad for p in every if p.grad is not None]
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
        exceeded = watched.grad.flatten(1).abs().amax(dim=1) > limit
        factors = torch.where(exceeded, (limit / (norms + 1e-6)).clamp_max(1.0), 1.0)
        for gradient in gradients:
            gradient.mul_(along(factors, gradient))
        return
    norm = get_total_norm([p.grad for p in every if p.grad is not None])
    # A norm given as 0 clips nothing, and the host need not know whether it is.
    clip_grads_with_norm_(every, limit, torch.where(watched.grad.abs().amax() > limit, norm, 0.0))


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
    maps_runs: ClassVar[bool] = True
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
        """Make one sample of zeros per modality."""
        self._zeros = inputs_of_zeros(ctx)
        self._weights = shapley_weights(ctx.num_modalities).float().to(ctx.train_split.labels.device)

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield one loss over all rows, each with the modalities that hold it."""
        features = [ctx.features(j) for j in range(ctx.num_modalities)]
        # After the samples' features: running statistics must not change between their use and the backward pass.
        empty = features_of_zeros(ctx.model, self._zeros)
        responses, parts = fused_responses(ctx.model, features, empty, self._weights, ctx.batch.counted)
        for j, part in enumerate(parts):
            ctx.record(j, part)
        paired = ctx.batch.paired
        of_paired = responses.detach()[..., :paired, :]
        kappa = self._coefficients(ctx, response_scores(of_paired, ctx.paired_labels, ctx.batch.paired_counted))
        if resolve(self.options.scale_via, ctx) == "lr":
            scale_encoders(ctx, kappa)
        else:
            responses = ScaleGradient.apply(responses, kappa[..., None, None])
        logits = responses.sum(dim=0)
        ctx.record_fused(logits[..., :paired, :])
        yield ctx.reduce(sample_cross_entropy(logits, max(ctx.batch.labels, key=lambda labels: labels.shape[-1])))

    def after_backward(self, ctx: Context) -> None:
        """Clip the gradients under the authors' condition."""
        if self.options.clip:
            *_, weight, _ = ctx.optimizer.parameters("fused")
            clip_if_exceeded(ctx.model.parameters(), weight, self.options.clip, ctx.runs is not None)

    def unimodal_logits(self, model: MultimodalModel, features: Sequence[Tensor]) -> list[Tensor]:
        """Return additive parts of a linear head, responses ψ_j of one with a hidden layer; both sum to its logits."""
        if not self.fused_hidden:
            return model.additive_parts(features)
        return fused_responses(model, features, features_of_zeros(model, self._zeros), self._weights)[1]

    def _coefficients(self, ctx: Context, scores: Tensor) -> Tensor:
        """Return κ; the scores enter the running means afterwards, inside and outside the window of epochs."""
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
        """Return the running means of the scores; nothing before the first iteration."""
        return {} if self._running is None else {"running": self._running.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the running means back."""
        kept = state.get("running")
        self._running = None if kept is None else torch.as_tensor(kept).clone()
