"""Vanilla multimodal training (the DUS paper, Eq. 2): every modality's cross entropy plus the concat head's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dus_gym.context import Context
from dus_gym.errors import ConfigError, check_at_least
from dus_gym.methods.base import Method, MethodOptions


@dataclass(frozen=True)
class BaselineOptions(MethodOptions):
    """Weights of the loss."""

    fused_weight: float = 1.0
    """Weight of the concat head's loss on the paired samples."""
    unimodal_weight: float = 1.0
    """Weight of every modality's own loss."""

    def __post_init__(self) -> None:
        check_at_least("fused_weight", self.fused_weight, 0.0)
        check_at_least("unimodal_weight", self.unimodal_weight, 0.0)
        if self.fused_weight == self.unimodal_weight == 0.0:
            raise ConfigError("fused_weight=0 and unimodal_weight=0 leave no loss; set one above 0.")


class Baseline(Method):
    """Vanilla multimodal learning, ``L = Σ_j CE(z_j, y) + CE(z_concat, y)`` (Eq. 2 and the paper's "Baseline").

    Modality j's part is over its own a_j samples, the fused part over the paired ones.

    With independent pairing no sample is complete, the concat head can't train, and the prediction is
    the sum of the unimodal logits.
    """

    name: ClassVar[str] = "baseline"
    paper: ClassVar[str] = "vanilla multimodal learning as the DUS paper (arXiv 2503.03792) defines it"
    year: ClassVar[int] = 2025
    changes: ClassVar[str] = "nothing: every modality's own loss plus that of the concatenated features"
    heads: ClassVar[frozenset[str]] = frozenset({"unimodal", "fused"})
    iterates_alike: ClassVar[bool] = True
    maps_runs: ClassVar[bool] = True
    supports_unpaired: ClassVar[bool] = True
    supports_independent: ClassVar[bool] = True
    options_type: ClassVar[type[MethodOptions]] = BaselineOptions
    options: BaselineOptions

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield one loss per modality, then the fused one.

        Under alternating updates a loss of weight 0 is no step: momentum and weight decay would still move parameters.
        """
        joint = ctx.update == "joint"
        own, together = self.options.unimodal_weight, self.options.fused_weight
        for j in range(ctx.num_modalities):
            loss = ctx.modality_loss(j, ctx.model.unimodal(j, ctx.features(j)))
            if own or joint:
                yield loss if own == 1.0 else own * loss
        if ctx.batch.paired:
            fused = ctx.fused_loss(ctx.model.fused([ctx.paired_features(j) for j in range(ctx.num_modalities)]))
            if together or joint:
                yield fused if together == 1.0 else together * fused
