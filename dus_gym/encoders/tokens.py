"""Token ids, as text encoders take them: int64 ``(k, L)``, padded on the right with 0."""

from __future__ import annotations

import torch
from torch import Tensor

from dus_gym.errors import ConfigError

_COARSE = 8
"""Lengths of batches are multiples of this: fewer different shapes for the accelerator to plan for."""


def check_text_shape(input_shape: tuple[int, ...], longest: int) -> None:
    """Refuses samples that are no sequence of token ids, or one that is too long.

    Raises:
        ConfigError: unless ``input_shape`` is (length,) with a length of 1 to ``longest``.
    """
    if len(input_shape) != 1 or not 1 <= input_shape[0] <= longest:
        raise ConfigError(
            f"samples of shape {tuple(input_shape)} are not allowed; it takes token ids (length,) with a length of "
            f"1 to {longest}."
        )


def padded_length(longest: int, stored: int) -> int:
    """Return the length of a batch: its longest text's, rounded up to a multiple of 8, and at most the stored one.

    Args:
        longest: tokens of the longest text; at least 1.
        stored: columns that the ids have.
    """
    return min(-(-longest // _COARSE) * _COARSE, stored)


def check_ids(ids: Tensor, vocabulary: int) -> None:
    """Refuses ids that the embedding does not have.

    Looked at on the CPU only: on an accelerator the look would wait for the device.

    Raises:
        ConfigError: naming the id and the size of the vocabulary.
    """
    if ids.device.type != "cpu" or not ids.numel():
        return
    if torch._C._functorch.is_batchedtensor(ids):
        # Mapped over runs, where a value can't be looked at: all runs' ids at once can.
        ids = torch._C._functorch.get_unwrapped(ids)
    low, high = (int(bound) for bound in torch.aminmax(ids))
    if low < 0 or high >= vocabulary:
        raise ConfigError(
            f"token id {low if low < 0 else high} is not allowed; the encoder's vocabulary has {vocabulary} entries. "
            "Text must be tokenised with the vocabulary of the encoder's weights."
        )


def last_token(ids: Tensor) -> Tensor:
    """Position of the last id that is not padding, ``(k,)``; 0 for a row of padding."""
    positions = torch.arange(ids.shape[1], device=ids.device)
    return (positions * (ids != 0)).amax(dim=1)
