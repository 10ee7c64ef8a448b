"""Shapley values over sets of modalities, in which an absent modality's input is zeros (AGM, SMV)."""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial

import torch
from torch import Tensor

from dus_gym.context import Context
from dus_gym.model import MultimodalModel


def shapley_weights(m: int) -> Tensor:
    """Return the weights of F(S) in ψ_j, float64 ``(m, 2^m - 1)``; set k's members are the bits of k + 1.

    ψ_j is modality j's Shapley value plus F(∅) / m, in which F(∅) itself cancels: it has no column.
    """

    def weight(j: int, members: int) -> float:
        size = members.bit_count()
        if members >> j & 1:
            return factorial(size - 1) * factorial(m - size) / factorial(m)
        return -factorial(size) * factorial(m - size - 1) / factorial(m)

    return torch.tensor([[weight(j, members) for members in range(1, 2**m)] for j in range(m)], dtype=torch.float64)


def inputs_of_zeros(ctx: Context) -> list[Tensor]:
    """Return one sample of zeros per modality, m tensors ``(1, ...)`` on the run's device."""
    first = torch.zeros_like(ctx.train_split.labels[..., :1])
    return [torch.zeros_like(ctx.train_split.fetch(j, first)) for j in range(ctx.num_modalities)]


def features_of_zeros(model: MultimodalModel, zeros: Sequence[Tensor]) -> list[Tensor]:
    """Return features of :func:`inputs_of_zeros`, m tensors ``(1, d_j)``, with a gradient unless torch is told not to.

    In evaluation mode, as one sample has no batch statistics; every encoder's own mode is put back.
    """
    found = []
    for j, (encoder, zero) in enumerate(zip(model.encoders, zeros, strict=True)):
        training = encoder.training
        encoder.eval()
        found.append(model.encode(j, zero))
        encoder.train(training)
    return found
