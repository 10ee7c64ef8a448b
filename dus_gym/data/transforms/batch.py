"""Stored arrays on their way to a device: one copy a batch, whatever the arrays' shapes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dus_gym.data.store.decoder import Array
from dus_gym.data.store.reader import Ragged


def to_device(arrays: Array | list[Array], device: torch.device) -> Tensor | Sequence[Tensor]:
    """Return a batch on ``device``: a tensor ``(k, ...)``, or k tensors where the arrays differ in shape.

    Where a store has gathered them, ragged arrays lie one after another and travel together.
    """
    if not isinstance(arrays, list):
        return torch.from_numpy(arrays).to(device, non_blocking=True)
    if device.type == "cpu" or not isinstance(arrays, Ragged):
        return [torch.from_numpy(array).to(device) for array in arrays]
    memory = torch.from_numpy(arrays.memory).to(device, non_blocking=True)
    tensors, start = [], 0
    for array in arrays:
        part = memory[start : start + array.nbytes]
        tensors.append(part.view(torch.from_numpy(array).dtype).view(array.shape))
        start += array.nbytes
    return tensors
