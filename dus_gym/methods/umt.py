"""Uni-modal teachers (UMT, Du et al., ICML 2023): features are drawn to those of encoders that were trained alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dus_gym.context import Context
from dus_gym.errors import check_at_least, check_fraction
from dus_gym.methods.base import Method, MethodOptions
from dus_gym.model import MultimodalModel


@dataclass(frozen=True)
class UMTOptions(MethodOptions):
    """Options of the teachers and of the loss on their features."""

    weight: float = 10.0
    """Weight λ of the distance to the teachers' features; 10 as in the one re-implementation, for the paper's number
    isn't known here."""
    teacher: float = 1.0
    """Epochs that the teachers train for, as a fraction of the run's; they come on top of these."""

    def __post_init__(self) -> None:
        check_at_least("weight", self.weight, 0)
        check_fraction("teacher", self.teacher, "(0, 1]")


def unimodal_loss(ctx: Context) -> Tensor:
    """Return the sum of every modality's own cross entropy, what teachers are trained on."""
    losses = [ctx.modality_loss(j, ctx.model.unimodal(j, ctx.features(j))) for j in range(ctx.num_modalities)]
    return sum(losses[1:], start=losses[0])


class UMT(Method):
    """Uni-modal teachers (Du, Teng, Li, Liu, Yuan, Wang, Yuan and Zhao, ICML 2023).

    Before the first epoch a copy of the run trains its encoders alone, each with a linear head of its own and with
    ordinary batches. Then the run itself trains, from where the copy began, on
    ``L = CE(z, y) + λ Σ_j MSE(h_j, t_j)``: the concat head's loss over the paired samples, and over each modality's own
    a_j the mean squared distance, over samples and dimensions, to the features t_j of its teacher, which is in
    evaluation mode and learns no more. Scores are of the additive parts ``W_j h_j + b/m``.

    Without pairs nothing would train the fused head, so the method refuses independent pairing.
    """

    name: ClassVar[str] = "umt"
    paper: ClassVar[str] = (
        "Du, Teng, Li, Liu, Yuan, Wang, Yuan and Zhao, On Uni-Modal Feature Learning in Supervised Multi-Modal "
        "Learning, ICML 2023"
    )
    year: ClassVar[int] = 2023
    changes: ClassVar[str] = "draws each encoder's features to those of one that was trained alone before"
    heads: ClassVar[frozenset[str]] = frozenset({"unimodal", "fused"})
    iterates_alike: ClassVar[bool] = True
    """The teachers are the same from the first iteration on."""
    maps_runs: ClassVar[bool] = True
    supports_unpaired: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("distance/*",)
    options_type: ClassVar[type[MethodOptions]] = UMTOptions
    options: UMTOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._teacher: MultimodalModel | None = None
        self._kept: dict[str, Any] | None = None

    def on_epoch_start(self, ctx: Context) -> None:
        """Train the teachers, before the first epoch."""
        if ctx.epoch == 0:
            self._teacher = ctx.clone_and_fit(unimodal_loss, max(1, round(self.options.teacher * ctx.epochs))).eval()

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield the fused loss, then the distance of each modality to its teacher."""
        parts = ctx.model.additive_parts([ctx.features(j) for j in range(ctx.num_modalities)])
        for j, part in enumerate(parts):
            ctx.record(j, part)
        p = ctx.batch.paired
        paired = [part if part.shape[-2] == p else part[..., :p, :] for part in parts]
        yield ctx.fused_loss(sum(paired[1:], start=paired[0]))
        teacher = self._of(ctx)
        for j, name in enumerate(ctx.modalities):
            with torch.no_grad():
                taught = teacher.encode(j, ctx.batch.inputs[j])
            distances = (ctx.features(j) - taught).square().mean(dim=-1)
            ctx.log({f"distance/{name}": ctx.mean(distances.detach(), j)})
            yield self.options.weight * ctx.reduce(distances, j)

    def unimodal_logits(self, model: MultimodalModel, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the additive parts of the concat head; the heads of one modality are the teachers' alone."""
        return model.additive_parts(features)

    def _of(self, ctx: Context) -> MultimodalModel:
        """Return the teachers; those of a state that was put back, in a copy of the run's network."""
        if self._teacher is None:
            assert self._kept is not None, "they are trained, or put back, before the first iteration"
            self._teacher = copy.deepcopy(ctx.model).eval()
            self._teacher.encoders.load_state_dict(self._kept)
        return self._teacher

    def state_dict(self) -> dict[str, Any]:
        """Return the teachers' encoders; nothing before the first epoch."""
        if self._teacher is not None:
            return {"teacher": {name: value.clone() for name, value in self._teacher.encoders.state_dict().items()}}
        return {} if self._kept is None else {"teacher": dict(self._kept)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the teachers back."""
        self._teacher, kept = None, state.get("teacher")
        self._kept = None if kept is None else {name: torch.as_tensor(value).clone() for name, value in kept.items()}
