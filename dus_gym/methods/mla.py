"""Alternating unimodal adaptation (MLA, Zhang et al., CVPR 2024): a shared head, its gradient times P, in turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from dus_gym.context import Context
from dus_gym.discrepancy import unrounded
from dus_gym.errors import check_choice
from dus_gym.methods.base import Method, MethodOptions


@dataclass(frozen=True)
class MLAOptions(MethodOptions):
    """Options of the projection."""

    projection: str = "rls"
    """``rls``: recursive least squares, as the paper describes; ``none``: alternation alone, which is what
    the released code runs, because its look-up of the head's weight never matches."""
    order: str = "project_then_update"
    """``project_then_update``: project with what the modalities before left, then add this one's mean
    feature (from memory of the paper); ``update_then_project``: as the released code is written, which leaves the run's
    first sub-step out of both."""
    normalize: bool = False
    """Divide the projection by its Frobenius norm after every update, as the released code does."""

    def __post_init__(self) -> None:
        check_choice("projection", self.projection, ("rls", "none"))
        check_choice("order", self.order, ("project_then_update", "update_then_project"))


def rls_update(projection: Tensor, mean_feature: Tensor, alpha: float) -> Tensor:
    """Return P after one recursive-least-squares update ``P - (P h hᵀ P) / (α + hᵀ P h)``.

    Starting from the identity this is ``(I + Σ h hᵀ / α)⁻¹``: directions already used shrink by
    ``α / (α + hᵀ P h)``.

    Args:
        projection: P, shape ``(d, d)``, symmetric.
        mean_feature: h, shape ``(d,)``.
        alpha: positive; the smaller, the stronger.
    """
    ph = projection @ mean_feature
    return projection - torch.outer(ph, ph) / (alpha + mean_feature @ ph)


class MLA(Method):
    """Multimodal learning with alternating unimodal adaptation (Zhang et al., CVPR 2024).

    Nothing is paired: modality j takes its own a_j samples, steps its encoder and the shared head, and
    the next modality follows. The head's weight gradient is multiplied by P, with
    ``α = 0.1^(1 + i/n)`` at iteration i of n of an epoch. The fused prediction weights each sample's
    unimodal logits by softmax(-entropy).
    """

    name: ClassVar[str] = "mla"
    paper: ClassVar[str] = (
        "Zhang, Yoon, Bansal and Yao, Multimodal Representation Learning by Alternating Unimodal Adaptation, CVPR 2024"
    )
    year: ClassVar[int] = 2024
    changes: ClassVar[str] = "one modality a step through a shared head, whose gradient is projected"
    fuses: ClassVar[bool] = False
    heads: ClassVar[frozenset[str]] = frozenset({"shared"})
    own_predictor: ClassVar[str] = "entropy"
    alternates: ClassVar[bool] = True
    maps_runs: ClassVar[bool] = True
    supports_unpaired: ClassVar[bool] = True
    supports_independent: ClassVar[bool] = True
    options_type: ClassVar[type[MethodOptions]] = MLAOptions
    options: MLAOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._projection: Tensor | None = None
        self._mean_feature: Tensor | None = None

    def capture_key(self, ctx: Context) -> Any:
        """Return None with the projection, whose strength changes in every iteration."""
        return () if self.options.projection == "none" else None

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield one loss per modality."""
        for j in range(ctx.num_modalities):
            features = ctx.model.project(j, ctx.features(j))
            if self.options.projection == "rls":
                self._mean_feature = ctx.mean(unrounded(features.detach()), j, dim=-2)
            yield ctx.modality_loss(j, ctx.model.shared_logits(features))

    def after_backward(self, ctx: Context) -> None:
        """Project the shared head's gradient and take in this modality's mean feature."""
        h = self._mean_feature
        if h is None:
            return
        if self._projection is None:
            self._projection = torch.eye(h.shape[-1], dtype=h.dtype, device=h.device).expand(*h.shape, -1)
            if self.options.order == "update_then_project":
                return
        alpha = 0.1 ** (1.0 + ctx.iteration_in_epoch / ctx.iterations_per_epoch)
        before = self._projection.to(h.device)
        update = partial(rls_update, alpha=alpha)
        after = update(before, h) if ctx.runs is None else torch.vmap(update)(before, h)
        if self.options.normalize:
            after = after / after.norm(dim=(-2, -1), keepdim=True)
        head = ctx.model.shared_head
        if head is not None and head.weight.grad is not None:
            head.weight.grad = head.weight.grad @ (before if self.options.order == "project_then_update" else after)
        self._projection = after

    def state_dict(self) -> dict[str, Any]:
        """Return the projection; nothing before the first step."""
        return {} if self._projection is None else {"projection": self._projection.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the projection back."""
        kept = state.get("projection")
        self._projection = None if kept is None else torch.as_tensor(kept).clone()
        self._mean_feature = None
