"""The number format that a run computes in; weights, gradients and everything that is reported stay float32."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from dus_gym.errors import ConfigError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "float32", "tf32", "bfloat16")
"""``auto``: bfloat16 on an accelerator that has it, float32 elsewhere."""
LEAST_CAPABILITY = (8, 0)
"""NVIDIA's compute capability from which cards multiply in tf32 and bfloat16."""


def find_precision(wanted: str, device: str) -> str:
    """Return the format that a run on ``device`` computes in: ``wanted``, or what ``auto`` stands for there.

    Args:
        wanted: one of :data:`PRECISIONS`.
        device: ``cpu``, or an accelerator that is here.

    Raises:
        ConfigError: for a format that the device lacks; says what it has.
    """
    import torch

    if device == "cpu":
        if wanted == "tf32":
            raise ConfigError("precision='tf32' is a format of NVIDIA's cards; on the CPU use float32 or bfloat16.")
        return "float32" if wanted == "auto" else wanted
    capability = torch.cuda.get_device_capability(device)
    if capability >= LEAST_CAPABILITY:
        return "bfloat16" if wanted == "auto" else wanted
    if wanted in ("auto", "float32"):
        return "float32"
    raise ConfigError(
        f"precision={wanted!r} needs a card of compute capability {'.'.join(map(str, LEAST_CAPABILITY))} or more, and "
        f"device={device!r} is a {torch.cuda.get_device_name(device)} of {'.'.join(map(str, capability))}; use float32."
    )


def autocast(precision: str, device: torch.device) -> torch.autocast | nullcontext[None]:
    """Return the context of forward passes in a format; tf32 is a mode of products instead, backward ones included."""
    import torch

    if precision == "bfloat16":
        # PyTorch forgets rounded weights where the outermost autocast region is left, and that of a run's own modes or
        # of the caller is further out: kept, they would be a whole call's first ones.
        return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)
    return nullcontext()
