"""What an encoder makes of a modality that is not there: its features of zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from dus_gym.context import Context
    from dus_gym.model import MultimodalModel


def inputs_of_zeros(ctx: Context) -> list[Tensor]:
    """One sample of zeros a modality, m tensors ``(1, ...)`` on the run's device."""
    first = torch.zeros(1, dtype=torch.int64, device=ctx.train_split.labels.device)
    return [torch.zeros_like(ctx.train_split.fetch(j, first)) for j in range(ctx.num_modalities)]


def features_of_zeros(model: MultimodalModel, zeros: Sequence[Tensor]) -> list[Tensor]:
    """Features of :func:`inputs_of_zeros`, m tensors ``(1, d_j)``, with a gradient unless torch is told otherwise.

    In evaluation mode, as one sample has no batch statistics; every encoder's own mode is put back.
    """
    found = []
    for j, (encoder, zero) in enumerate(zip(model.encoders, zeros, strict=True)):
        training = encoder.training
        encoder.eval()
        found.append(model.encode(j, zero))
        encoder.train(training)
    return found
