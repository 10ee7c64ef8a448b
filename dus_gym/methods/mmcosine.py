"""Multi-modal cosine loss (MMCosine, Xu et al., ICASSP 2023): logits z = s Σ_j cos(h_j, W_j)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dus_gym.context import Context
from dus_gym.errors import check_positive
from dus_gym.methods.base import Method, MethodOptions
from dus_gym.model import MultimodalModel


@dataclass(frozen=True)
class MMCosineOptions(MethodOptions):
    """Options of the cosine."""

    scale: float = 10.0
    """Factor s on every cosine; 10 is the authors' default and theirs for CREMA-D. With m modalities no sample's cross
    entropy can fall below about (c - 1) exp(-2 m s), so a small one bounds the loss."""

    def __post_init__(self) -> None:
        check_positive("scale", self.scale)


def cosine_logits(features: Tensor, weight: Tensor, scale: float) -> Tensor:
    """Return ``s cos(h, w_k)`` of every row h and class k, ``(n, c)``; 0 for a row or a class of zeros.

    Args:
        features: shape ``(n, d)``, or ``(R, n, d)`` of R runs.
        weight: shape ``(c, d)``, or ``(R, c, d)``.
        scale: s.
    """
    return scale * (F.normalize(features, dim=-1) @ F.normalize(weight, dim=-1).mT)


class MMCosine(Method):
    """Multi-modal cosine loss (Xu, Feng, Zhang and Hu, ICASSP 2023).

    ``L = CE(z, y)`` with ``z_k = s Σ_j cos(h_j, w_jk)``: features and class weights are brought to length 1 by
    modality, so that no modality wins by the length of either. W_j is the weight of modality j's own linear head, into
    which the weight of a head on the concatenated features falls apart; biases have no part. Modality j's logits are
    its own term of the sum, in training and in prediction.

    Every sample must be in all modalities: the one loss is of complete samples.
    """

    name: ClassVar[str] = "mmcosine"
    paper: ClassVar[str] = (
        "Xu, Feng, Zhang and Hu, MMCosine: Multi-Modal Cosine Loss Towards Balanced Audio-Visual Fine-Grained "
        "Learning, ICASSP 2023"
    )
    year: ClassVar[int] = 2023
    changes: ClassVar[str] = "sums cosines instead of products, so that no modality wins by the length of its features"
    heads: ClassVar[frozenset[str]] = frozenset({"unimodal"})
    iterates_alike: ClassVar[bool] = True
    own_predictor: ClassVar[str] = "sum"
    maps_runs: ClassVar[bool] = True
    options_type: ClassVar[type[MethodOptions]] = MMCosineOptions
    options: MMCosineOptions

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield the cross entropy of the summed cosines."""
        logits = self.unimodal_logits(ctx.model, [ctx.features(j) for j in range(ctx.num_modalities)])
        for j, own in enumerate(logits):
            ctx.record(j, own)
        yield ctx.fused_loss(torch.stack(logits).sum(dim=0))

    def unimodal_logits(self, model: MultimodalModel, features: Sequence[Tensor]) -> list[Tensor]:
        """Return each modality's scaled cosines, m tensors ``(n, c)``."""
        assert model.unimodal_heads is not None, "heads names them"
        weights = [head.get_parameter("weight") for head in model.unimodal_heads]
        return [cosine_logits(h, weight, self.options.scale) for h, weight in zip(features, weights, strict=True)]
