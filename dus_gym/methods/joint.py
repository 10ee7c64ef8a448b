"""Joint training, L = CE(z, y) of the concat head alone: the baseline of OGM-GE (CVPR 2022) and most repositories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from dus_gym.context import Context
from dus_gym.methods.base import Method


class Joint(Method):
    """Joint training, ``L = CE(z, y)`` of the concat head alone.

    It differs from ``baseline`` by the unimodal losses, which is worth several points; a modality's score is
    read from its additive part of the fused logits, W_j h_j + b/m.
    """

    name: ClassVar[str] = "joint"
    paper: ClassVar[str] = "naive multimodal learning, the baseline of OGM-GE and most repositories"
    year: ClassVar[int] = 2022
    changes: ClassVar[str] = "nothing: the loss of the concatenated features alone"
    heads: ClassVar[frozenset[str]] = frozenset({"fused"})
    iterates_alike: ClassVar[bool] = True
    maps_runs: ClassVar[bool] = True

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield the fused loss."""
        parts = ctx.model.additive_parts([ctx.features(j) for j in range(ctx.num_modalities)])
        for j, part in enumerate(parts):
            ctx.record(j, part)
        yield ctx.fused_loss(sum(parts[1:], start=parts[0]))
