"""A clip of all gradients that depends on the size of a few of them (AGM)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn import Parameter
from torch.nn.utils import clip_grads_with_norm_, get_total_norm


def clip_if_exceeded(parameters: Iterable[Parameter], watched: Parameter, limit: float) -> None:
    """Clips the norm of all gradients to ``limit`` if any entry of the watched one exceeds it.

    The host does not wait for the device.

    Args:
        parameters: all that train; those without a gradient are left out.
        watched: whose gradient decides; without one there is no clip.
        limit: the largest norm, above 0.
    """
    if watched.grad is None:
        return
    every = [p for p in parameters if p.grad is not None]
    norm = get_total_norm([p.grad for p in every if p.grad is not None])
    # A norm given as 0 clips nothing, and the host need not know whether it is.
    clip_grads_with_norm_(every, limit, torch.where(watched.grad.abs().amax() > limit, norm, 0.0))
