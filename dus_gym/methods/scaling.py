"""Two ways for a factor on gradients to reach the step: the gradient or the learning rate (OGM, OGM-GE, AGM)."""

from __future__ import annotations

from torch import Tensor

from dus_gym.context import Context

SCALE_VIA = ("auto", "grad", "lr")
"""Values of the option ``scale_via`` of OGM, OGM-GE and AGM."""


def resolve(scale_via: str, ctx: Context) -> str:
    """Return ``"grad"`` or ``"lr"``; ``"auto"`` is ``"lr"`` under Adam and ``"grad"`` otherwise.

    Adam divides a gradient by its own running size, so a constant factor on it does nothing there: ten steps with
    gradients times 1 and times 0.2 end in the same place.

    Args:
        scale_via: one of :data:`SCALE_VIA`.
        ctx: the run, whose optimiser decides.
    """
    if scale_via != "auto":
        return scale_via
    return "lr" if ctx.optimizer.config.name == "adam" else "grad"


def scale_encoders(ctx: Context, factors: Tensor) -> None:
    """Multiply the encoders' learning rates for the coming step alone, by one factor per modality.

    Factors are ``(m,)``, of R runs ``(m, R)``. Without an axis of runs it waits for the device: learning rates are
    numbers on the host.
    """
    by_modality = factors.tolist() if ctx.runs is None else list(factors)
    pairs = zip(ctx.modalities, by_modality, strict=True)
    ctx.optimizer.scale_step({f"encoder/{name}": factor for name, factor in pairs})
