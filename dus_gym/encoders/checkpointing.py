"""Activation checkpointing: an encoder keeps the inputs of its blocks and computes each block again for its gradient.

Chen, Xu, Zhang and Guestrin, Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174: memory for one more
forward pass. The numbers are the same to the bit, the running statistics of BatchNorm and what dropout draws included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Norm = nn.modules.batchnorm._NormBase


class CheckpointingEncoder(nn.Module):
    """An encoder of blocks, which in training may keep their inputs alone."""

    checkpointing = False
    """Set by :meth:`enable_checkpointing`."""

    def enable_checkpointing(self) -> None:
        """Keep the inputs of blocks alone from now on, in training with gradients; evaluation keeps nothing anyway."""
        self.checkpointing = True

    @property
    def recomputes(self) -> bool:
        """True if the coming forward pass keeps the inputs of blocks alone."""
        return self.checkpointing and self.training and torch.is_grad_enabled()

    def through(self, blocks: Iterable[nn.Module], inputs: Tensor) -> Tensor:
        """Return what blocks that draw nothing at random make of inputs, one after another; each is computed twice."""
        for block in blocks:
            norms = [module for module in block.modules() if isinstance(module, Norm)]
            inputs = recomputed(block, inputs, norms=norms, draws=False)
        return inputs


class CheckpointingTransformer(CheckpointingEncoder):
    """An encoder whose ``network`` is one of transformers; its blocks are that network's layers."""

    def enable_checkpointing(self) -> None:
        """See :meth:`CheckpointingEncoder.enable_checkpointing`."""
        from transformers.modeling_layers import GradientCheckpointingLayer

        super().enable_checkpointing()
        layers: list[Any] = [module for module in self.modules() if isinstance(module, GradientCheckpointingLayer)]
        for layer in layers:
            # As the network's own switch does, which goes by two names in two releases.
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = recomputed


def recomputed(function: Callable[..., Any], *inputs: Any, norms: Sequence[Norm] = (), draws: bool = True) -> Any:
    """Return ``function(*inputs)`` and keep the inputs alone; the backward pass computes the function again.

    Args:
        function: a block.
        inputs: of the block.
        norms: the BatchNorm layers of the block, whose running statistics the second computation leaves alone.
        draws: whether the block draws at random, such as dropout; the second computation then draws the same.
    """
    kept = _StatisticsKept(norms)
    return checkpoint(
        function, *inputs, use_reentrant=False, preserve_rng_state=draws, context_fn=lambda: (nullcontext(), kept)
    )


class _StatisticsKept:
    """A block in which layers update copies of their running statistics; entered anew for each gradient.

    They are not put back afterwards: the first pass's graph holds the buffers themselves, which must not change under
    it.
    """

    def __init__(self, norms: Sequence[Norm]) -> None:
        self.norms = norms
        self.buffers: list[dict[str, Tensor | None]] = []

    def __enter__(self) -> None:
        self.buffers = [norm._buffers for norm in self.norms]
        for norm in self.norms:
            norm._buffers = {name: None if value is None else value.clone() for name, value in norm._buffers.items()}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for norm, buffers in zip(self.norms, self.buffers, strict=True):
            norm._buffers = buffers
