"""Every modality's share of the fused logits (AGM's responses ψ_j), or of their being right (SMV's contributions)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import factorial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from dus_gym.model import MultimodalModel


def additive_responses(parts: Sequence[Tensor], empty: Sequence[Tensor]) -> Tensor:
    """Responses ψ_j of a linear fused head, ``(m, a_max, c)``: ``part_j - part_j(0) + F(∅) / m``.

    Equal to :func:`shapley_responses` for such a head, without its 2^m - 1 evaluations. From row a_j on, modality j
    is absent and ψ_j is F(∅) / m.

    Args:
        parts: additive parts of the samples, m tensors ``(a_j, c)``.
        empty: additive parts of a sample of zeros, m tensors ``(1, c)``; their sum is F(∅).
    """
    rows = max(map(len, parts))
    own = [F.pad(part - zero, (0, 0, 0, rows - len(part))) for part, zero in zip(parts, empty, strict=True)]
    return torch.stack(own) + sum(empty[1:], start=empty[0]) / len(parts)


def shapley_weights(m: int) -> Tensor:
    """Weights of F(S) in ψ_j, float64 ``(m, 2^m - 1)``; column k is the set whose members are the bits of k + 1.

    ψ_j is modality j's Shapley value plus F(∅) / m, in which F(∅) itself cancels: it has no column.
    """

    def weight(j: int, members: int) -> float:
        size = members.bit_count()
        if members >> j & 1:
            return factorial(size - 1) * factorial(m - size) / factorial(m)
        return -factorial(size) * factorial(m - size - 1) / factorial(m)

    return torch.tensor([[weight(j, members) for members in range(1, 2**m)] for j in range(m)], dtype=torch.float64)


def shapley_responses(
    fused: Callable[[Sequence[Tensor]], Tensor], features: Sequence[Tensor], empty: Sequence[Tensor], weights: Tensor
) -> Tensor:
    """Responses ψ_j of any fused head, ``(m, a_max, c)``; row by row they sum to F of the modalities that are there.

    Args:
        fused: F, from m tensors ``(n, d_j)`` to ``(n, c)``.
        features: h_j of the samples, m tensors ``(a_j, d_j)``; from row a_j on, modality j is absent.
        empty: features of a sample of zeros, m tensors ``(1, d_j)``.
        weights: of :func:`shapley_weights`.
    """
    m, rows = len(features), max(map(len, features))
    columns = []
    for j, (h, zero) in enumerate(zip(features, empty, strict=True)):
        present = torch.cat([h, zero.expand(rows - len(h), -1)])
        absent = zero.expand(rows, -1)
        columns.append(torch.cat([present if members >> j & 1 else absent for members in range(1, 2**m)]))
    logits = fused(columns)
    # No matrix product, which mixed precision would round.
    return (weights[:, :, None, None] * logits.view(-1, rows, logits.shape[1])).sum(dim=1)


def fused_responses(
    model: MultimodalModel, features: Sequence[Tensor], empty: Sequence[Tensor], weights: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Responses ψ_j of a model's fused head, ``(m, a_max, c)``, and what modalities are judged by, m ``(a_j, c)``.

    They are judged by the additive parts of a linear head, by the responses of one with a hidden layer; both sum to
    the fused logits.

    Args:
        model: has the fused head.
        features: as in :func:`shapley_responses`.
        empty: as in :func:`shapley_responses`.
        weights: as in :func:`shapley_responses`, which only a head with a hidden layer needs.
    """
    if not isinstance(model.fused_head, nn.Linear):
        found = shapley_responses(model.fused, features, empty, weights)
        return found, [response[: len(h)] for response, h in zip(found, features, strict=True)]
    parts = model.additive_parts(features)
    return additive_responses(parts, model.additive_parts(empty)), parts


def subset_logits(present: Sequence[Tensor], absent: Sequence[Tensor]) -> Tensor:
    """Fused logits from every set of modalities, ``(2^m - 1, n, c)``; the members of set k are the bits of k + 1.

    Args:
        present: additive parts of the samples, m tensors ``(n, c)``.
        absent: additive parts of a masked modality, m tensors ``(1, c)``.
    """
    m = len(present)
    both = torch.stack([torch.stack([zero.expand_as(part), part]) for part, zero in zip(present, absent, strict=True)])
    sets = [[members >> j & 1 for j in range(m)] for members in range(1, 2**m)]
    return torch.stack([sum((both[j, k] for j, k in enumerate(chosen)), start=both.new_zeros(())) for chosen in sets])


def value_shares(right: Tensor) -> Tensor:
    """Shapley values of v(S) = |S| where the prediction from S is right, else 0, as whole numbers times 1 / m!.

    Args:
        right: whether the prediction from each set of modalities is right, shape ``(2^m - 1, n)``; the members of set
            k are the bits of k + 1.

    Returns:
        Shape ``(m, n)``, integers: φ times m!. Over modalities they sum to v(all) m!.
    """
    sets = len(right)
    m = (sets + 1).bit_length() - 1
    members = torch.tensor([(k + 1).bit_count() for k in range(sets)], device=right.device)
    weights = (shapley_weights(m) * factorial(m)).round().long().to(right.device)
    # Not a matrix product, which accelerators lack for integers.
    return (weights[:, :, None] * (right * members[:, None])).sum(dim=1)
