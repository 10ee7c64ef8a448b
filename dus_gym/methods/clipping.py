"""A clip of all gradients that depends on the size of a few of them (AGM)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch.nn import Parameter
from torch.nn.utils import clip_grads_with_norm_, get_total_norm


def clip_if_exceeded(parameters: Iterable[Parameter], watched: Sequence[Parameter], limit: float) -> None:
    """Clips the norm of all gradients to ``limit`` if any entry of a watched one exceeds it.

    The host does not wait for the device.

    Args:
        parameters: all that train; those without a gradient are left out.
        watched: whose gradients decide; without one there is no clip.
        limit: the largest norm, above 0.
    """
    deciding = [p.grad for p in watched if p.grad is not None]
    if not deciding:
        return
    every = [p for p in parameters if p.grad is not None]
    largest = torch.stack([gradient.abs().amax() for gradient in deciding]).amax()
    norm = get_total_norm([p.grad for p in every if p.grad is not None])
    # A norm given as 0 clips nothing, and the host need not know whether it is.
    clip_grads_with_norm_(every, limit, torch.where(largest > limit, norm, 0.0))
