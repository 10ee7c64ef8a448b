"""On-the-fly gradient modulation (OGM, Peng et al., CVPR 2022): encoder gradients times k_j = 1 - tanh(α ρ_j)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dus_gym.context import Context
from dus_gym.discrepancy import true_class_probability
from dus_gym.errors import ConfigError, check_at_least, check_choice
from dus_gym.methods.base import Method, MethodOptions
from dus_gym.methods.scaling import SCALE_VIA, resolve, scale_encoders
from dus_gym.optim import along

RATIOS = ("pairwise", "others", "weakest")


@dataclass(frozen=True)
class OGMOptions(MethodOptions):
    """Options of the modulation."""

    alpha: float = 0.8
    """Strength α; 0.8 is the authors' for CREMA-D, 0.1 theirs for VGGSound. 0: k is 1."""
    ratio: str = "others"
    """Measure ρ_j of a modality's lead, which with two modalities is s_j / s_k. With more, which the paper leaves open:
    ``others``: s_j over the sum of the others; ``pairwise``: mean of s_j / s_k over the others, the authors' advice,
    which slows two modalities near a tie; ``weakest``: s_j over the least of all, where k is 1 for that one alone."""
    start_epoch: int = 0
    """First epoch (from 0) with modulation."""
    end_epoch: int = 50
    """Last epoch (from 0) with modulation; the authors' runs have 100 epochs."""
    scale_via: str = "auto"
    """``grad``: k scales the gradients of the encoder; ``lr``: it scales the encoder's learning rate, and so its whole
    step, at the cost of waiting for the device in every iteration; ``auto``: ``lr`` under Adam, which undoes constant
    factors on gradients, and ``grad`` under SGD."""
    conv_only: bool = False
    """Modulate weights of 2-D convolutions alone, as the released code does, instead of all weights with two or more
    dimensions; only with gradients."""

    def __post_init__(self) -> None:
        check_at_least("alpha", self.alpha, 0)
        check_at_least("start_epoch", self.start_epoch, 0)
        check_at_least("end_epoch", self.end_epoch, self.start_epoch)
        check_choice("ratio", self.ratio, RATIOS)
        check_choice("scale_via", self.scale_via, SCALE_VIA)


def ratios(scores: Tensor, kind: str) -> Tensor:
    """Return ρ of every modality, ``(m,)``: above 1 for one that is ahead.

    Args:
        scores: mean true-class probability of every modality, shape ``(m,)``, or ``(m, R)`` of R runs.
        kind: one of :data:`RATIOS`.
    """
    s = scores.clamp_min(torch.finfo(scores.dtype).tiny)
    if kind == "weakest":
        return s / s.amin(dim=0)
    if kind == "others":
        return s / (s.sum(dim=0) - s)
    # Each row has s_j / s_j among its m entries, which is 1.
    return ((s[:, None] / s[None, :]).sum(dim=1) - 1.0) / (len(s) - 1)


def ogm_coefficients(scores: Tensor, alpha: float, kind: str) -> Tensor:
    """Return OGM's factor k of every modality, ``(m,)``: ``1 - tanh(α ρ_j)`` where ρ_j > 1, else 1.

    Args:
        scores: mean true-class probability of every modality, shape ``(m,)``, or ``(m, R)`` of R runs.
        alpha: α.
        kind: of :func:`ratios`.
    """
    rho = ratios(scores, kind)
    return torch.where(rho > 1.0, 1.0 - torch.tanh(alpha * rho), 1.0)


class OGM(Method):
    """On-the-fly gradient modulation without noise (Peng et al., CVPR 2022).

    ``L = CE(z, y)`` of the concat head. Modality j's score s_j is the mean true-class probability of its additive part
    ``W_j h_j + b/m`` in the batch; after the backward pass the gradients of encoder j are multiplied by k_j, see
    :func:`ogm_coefficients`. Heads are never modulated. k jumps from 1 to ``1 - tanh(α)`` where ρ passes 1.

    Every sample must be in all modalities: the one loss is of complete samples.
    """

    name: ClassVar[str] = "ogm"
    paper: ClassVar[str] = (
        "Peng, Wei, Deng, Wang and Hu, Balanced Multimodal Learning via On-the-fly Gradient Modulation, CVPR 2022"
    )
    year: ClassVar[int] = 2022
    changes: ClassVar[str] = "shrinks the encoder gradients of the modality that is ahead in the batch"
    heads: ClassVar[frozenset[str]] = frozenset({"fused"})
    maps_runs: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("k/*",)
    options_type: ClassVar[type[MethodOptions]] = OGMOptions
    options: OGMOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        # Of the iteration under way, so no state.
        self._k = torch.empty(0)

    def on_fit_start(self, ctx: Context) -> None:
        """Refuse ``conv_only`` where it can't be."""
        if not self.options.conv_only:
            return
        if resolve(self.options.scale_via, ctx) == "lr":
            raise ConfigError("conv_only=True can't work by learning rates, which have no parts; use scale_via='grad'.")
        without = [name for name in ctx.modalities if not self._weights(ctx, name)]
        if without:
            names = ", ".join(without)
            raise ConfigError(f"conv_only=True: no 2-D convolution in the encoders of {names}; use conv_only=False.")

    def capture_key(self, ctx: Context) -> Any:
        """Return whether gradients are modulated; by learning rates the host reads the factors."""
        return None if resolve(self.options.scale_via, ctx) == "lr" else self._active(ctx)

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield the fused loss."""
        parts = ctx.model.additive_parts([ctx.features(j) for j in range(ctx.num_modalities)])
        for j, part in enumerate(parts):
            ctx.record(j, part)
        if self._active(ctx):
            labels = ctx.paired_labels
            probabilities = true_class_probability(
                torch.stack(parts).detach(), labels.expand(len(parts), *labels.shape)
            )
            self._k = ogm_coefficients(ctx.paired_mean(probabilities), self.options.alpha, self.options.ratio)
            ctx.log({f"k/{name}": k for name, k in zip(ctx.modalities, self._k, strict=True)})
        else:
            ctx.log({f"k/{name}": 1.0 for name in ctx.modalities})
        yield ctx.fused_loss(sum(parts[1:], start=parts[0]))

    def after_backward(self, ctx: Context) -> None:
        """Modulate the encoders' gradients or rates by k."""
        if not self._active(ctx):
            return
        if resolve(self.options.scale_via, ctx) == "lr":
            scale_encoders(ctx, self._k)
            return
        for name, k in zip(ctx.modalities, self._k, strict=True):
            for gradient in self._gradients(ctx, name):
                gradient.mul_(along(k, gradient))

    def _active(self, ctx: Context) -> bool:
        return self.options.start_epoch <= ctx.epoch <= self.options.end_epoch

    def _weights(self, ctx: Context, name: str) -> list[Tensor]:
        """Return the parameters of one encoder that are modulated."""
        every = ctx.optimizer.parameters(f"encoder/{name}")
        own = 0 if ctx.runs is None else 1
        return [p for p in every if (p.ndim - own == 4 if self.options.conv_only else p.ndim - own >= 2)]

    def _gradients(self, ctx: Context, name: str) -> list[Tensor]:
        return [p.grad for p in self._weights(ctx, name) if p.grad is not None]
