"""Unimodal training, L = Σ_j CE(z_j, y): the first rows of the DUS paper's Tables 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor

from dus_gym.context import Context
from dus_gym.methods.base import Method


class Unimodal(Method):
    """Unimodal training, ``L = Σ_j CE(z_j, y)``: m networks that never meet (rows "Audio", "Video", … of Tables 1, 2).

    Its rows are the modalities' own figures; the fused prediction sums their logits.
    """

    name: ClassVar[str] = "unimodal"
    paper: ClassVar[str] = "unimodal training, the first rows of the DUS paper's Tables 1 and 2"
    year: ClassVar[int] = 2025
    changes: ClassVar[str] = "no fused loss: every modality trains on its own"
    heads: ClassVar[frozenset[str]] = frozenset({"unimodal"})
    iterates_alike: ClassVar[bool] = True
    fuses: ClassVar[bool] = False
    own_predictor: ClassVar[str] = "sum"
    maps_runs: ClassVar[bool] = True
    supports_unpaired: ClassVar[bool] = True
    supports_independent: ClassVar[bool] = True

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield one loss per modality."""
        for j in range(ctx.num_modalities):
            yield ctx.modality_loss(j, ctx.model.unimodal(j, ctx.features(j)))
