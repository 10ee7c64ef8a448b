"""OGM with generalisation enhancement (OGM-GE, Peng et al., CVPR 2022): k_j g + ε, ε ~ N(0, std(g)²)."""

from __future__ import annotations

from typing import ClassVar

from dus_gym.context import Context
from dus_gym.methods.ogm import OGM
from dus_gym.optim import along

LEAST_DEVIATION = 1e-8


class OGMGE(OGM):
    """On-the-fly gradient modulation with generalisation enhancement (Peng et al., CVPR 2022).

    OGM's ``k_j g`` becomes ``k_j g + ε`` for every modulated weight of every encoder, ahead or not, with
    ``ε ~ N(0, std(g)²)`` a weight, where std is over the entries of g, before the scaling. With ``scale_via="lr"`` the
    noise is added as well, and k_j scales the step that comes of both.

    Noise comes from the run's own generator of the device, which snapshots hold.
    """

    name: ClassVar[str] = "ogm_ge"
    changes: ClassVar[str] = "as ogm, and adds noise of the gradients' own size to all encoders"

    capture_key = OGM.capture_key

    def after_backward(self, ctx: Context) -> None:
        """Modulate, then add noise."""
        if not self._active(ctx):
            return
        gradients = [gradient for name in ctx.modalities for gradient in self._gradients(ctx, name)]
        # Without Bessel's correction, which is not defined for a single entry.
        deviations = [g.std(correction=0) if ctx.runs is None else g.flatten(1).std(1, correction=0) for g in gradients]
        noise = [
            normal * (along(deviation, normal) + LEAST_DEVIATION)
            for normal, deviation in zip(ctx.normal_like(gradients), deviations, strict=True)
        ]
        super().after_backward(ctx)
        for gradient, drawn in zip(gradients, noise, strict=True):
            gradient.add_(drawn)
