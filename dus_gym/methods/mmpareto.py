"""MMPareto (Wei and Hu, ICML 2024): an encoder's step descends on the fused and on its own loss alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dus_gym.context import Context
from dus_gym.errors import check_choice, check_positive
from dus_gym.methods.base import Method, MethodOptions
from dus_gym.optim import along


@dataclass(frozen=True)
class MMParetoOptions(MethodOptions):
    """Options of the integration of the two gradients."""

    gamma: float = 1.5
    """Factor on the encoders' integrated gradients; 1.5 as released. Adam undoes it."""
    magnitude: str = "tensor"
    """What keeps at least the length that the plain sum of the two gradients has: ``tensor``: every parameter by itself
    (the released code); ``encoder``: the encoder's gradient as a whole, whose direction then is the Pareto one (the
    paper's formula, from memory); ``none``: nothing."""

    def __post_init__(self) -> None:
        check_positive("gamma", self.gamma)
        check_choice("magnitude", self.magnitude, ("tensor", "encoder", "none"))


def pareto_weight(fused: Tensor, mixed: Tensor, own: Tensor) -> Tensor:
    """Return the fused gradient's weight: 1/2 where the two agree, else that of the shortest convex combination.

    ``argmin_a ‖a g_m + (1 - a) g_u‖`` is ``(uu - mu) / (mm + uu - 2 mu)``, which lies in [0, 1] if ``mu <= 0``.

    Args:
        fused: mm, squared length of the fused loss's gradient g_m; of R runs ``(R,)``.
        mixed: mu, product of both.
        own: uu, squared length of the modality's own gradient g_u.
    """
    spread = fused + own - 2.0 * mixed
    return torch.where((mixed > 0.0) | (spread == 0.0), 0.5, (own - mixed) / torch.where(spread == 0.0, 1.0, spread))


def integrated_gradients(
    fused: Sequence[Tensor], total: Sequence[Tensor], gamma: float, magnitude: str, by_run: bool = False
) -> tuple[list[Tensor], Tensor]:
    """Integrate the gradients of an encoder's two losses.

    Returns ``γ λ h`` by parameter with ``h = 2 a g_m + 2 (1 - a) g_u`` and ``λ = max(1, ‖g_m + g_u‖ / ‖h‖)``, and a,
    :func:`pareto_weight` of the whole encoder, ``()`` or ``(R,)``. Where the two gradients are opposite, no direction
    serves both and what is left is rounding, so λ is 1; it is 1 too where h is below 64 roundings of the gradients.

    Args:
        fused: g_m by parameter.
        total: ``g_m + g_u`` by parameter, of the same shapes.
        gamma: γ.
        magnitude: what λ is of; ``none``: λ is 1.
        by_run: tensors lead with an axis of runs, each of which is integrated by itself.
    """

    def product(one: Tensor, other: Tensor) -> Tensor:
        return (one * other).reshape(len(one), -1).sum(dim=1) if by_run else (one * other).sum()

    own = [both - g for both, g in zip(total, fused, strict=True)]
    of_each = [
        torch.stack([product(g, h) for g, h in zip(left, right, strict=True)]).sum(dim=0)
        for left, right in ((fused, fused), (fused, own), (own, own))
    ]
    weight = pareto_weight(*of_each)
    # Written as a change of the sum, which is to the bit what is left where the two gradients agree.
    lean = 2.0 * weight - 1.0
    found = [both + along(lean, both) * (g - o) for both, g, o in zip(total, fused, own, strict=True)]
    if magnitude == "none":
        return [gamma * h for h in found], weight
    before = torch.stack([product(g, g) for g in total])
    after = torch.stack([product(h, h) for h in found])
    summands = torch.stack(
        [
            4.0 * (weight**2 * product(g, g) + (1.0 - weight) ** 2 * product(o, o))
            for g, o in zip(fused, own, strict=True)
        ]
    )
    lengths = torch.stack([product(g, g) + product(o, o) for g, o in zip(fused, own, strict=True)])
    if magnitude == "encoder":
        before, after, summands, lengths = (of.sum(dim=0).expand_as(of) for of in (before, after, summands, lengths))
    # Two gradients that cancel leave a difference of rounding, which must not be lengthened to a step; nor must what
    # rounding leaves beside a gradient that is millions of times longer than the other.
    eps = torch.finfo(after.dtype).eps
    has_direction = (after > eps * summands) & (after > (64.0 * eps) ** 2 * lengths)
    longer = torch.where(has_direction, (before / torch.where(has_direction, after, 1.0)).sqrt().clamp_min(1.0), 1.0)
    return [gamma * along(factor, h) * h for factor, h in zip(longer, found, strict=True)], weight


class MMPareto(Method):
    """MMPareto (Wei and Hu, ICML 2024).

    ``L = CE(z, y) + Σ_j CE(z_j, y)``: the concat head's loss over the paired samples and every modality's own over
    its a_j. Heads step on L. In encoder j the gradients of its two losses, g_m of CE(z, y) and g_u of CE(z_j, y), are
    summed if they agree (their product is positive); else they are weighted to the shortest convex combination, which
    descends on both, and lengthened to what the sum would have. γ multiplies the result either way; see
    :func:`integrated_gradients`.

    Both losses of an encoder are needed at once, so there is one step per iteration whatever ``update`` says, and
    without pairs there would be no fused loss to agree with: the method refuses independent pairing.
    """

    name: ClassVar[str] = "mmpareto"
    paper: ClassVar[str] = (
        "Wei and Hu, MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance, ICML 2024"
    )
    year: ClassVar[int] = 2024
    changes: ClassVar[str] = (
        "where an encoder's fused and own gradients conflict, steps in a direction that serves both"
    )
    heads: ClassVar[frozenset[str]] = frozenset({"unimodal", "fused"})
    iterates_alike: ClassVar[bool] = True
    """What the host keeps is of the iteration under way."""
    maps_runs: ClassVar[bool] = True
    supports_unpaired: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("alpha/*",)
    options_type: ClassVar[type[MethodOptions]] = MMParetoOptions
    options: MMParetoOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        # Of the iteration under way, so no state: by modality the parameters that train, and g_m of each.
        self._trained: list[list[nn.Parameter]] = []
        self._fused: list[list[Tensor]] = []

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield each modality's own loss, then the fused one."""
        for j in range(ctx.num_modalities):
            yield ctx.modality_loss(j, ctx.model.unimodal(j, ctx.features(j)))
        yield ctx.fused_loss(ctx.model.fused([ctx.paired_features(j) for j in range(ctx.num_modalities)]))

    def substeps(self, ctx: Context) -> Iterator[Tensor]:
        """Yield the sum of all losses, having taken the fused one's gradients apart."""
        *own, fused = self.terms(ctx)
        owners = [ctx.optimizer.parameters(f"encoder/{name}") for name in ctx.modalities]
        self._trained = [[p for p in parameters if p.requires_grad] for parameters in owners]
        every = [p for parameters in self._trained for p in parameters]
        # Mixed precision is for forward passes.
        with torch.autocast(fused.device.type, enabled=False):
            found = torch.autograd.grad(fused.sum(), every, retain_graph=True, materialize_grads=True)
        gradients = iter(found)
        self._fused = [[next(gradients) for _ in parameters] for parameters in self._trained]
        yield sum(own, start=fused)

    def after_backward(self, ctx: Context) -> None:
        """Put the integrated gradients in the place of the summed ones."""
        options = self.options
        for name, parameters, fused in zip(ctx.modalities, self._trained, self._fused, strict=True):
            reached = [(p.grad, g) for p, g in zip(parameters, fused, strict=True) if p.grad is not None]
            total, of_fused = [grad for grad, _ in reached], [g for _, g in reached]
            found, weight = integrated_gradients(
                of_fused, total, options.gamma, options.magnitude, ctx.runs is not None
            )
            ctx.log({f"alpha/{name}": weight})
            for gradient, integrated in zip(total, found, strict=True):
                gradient.copy_(integrated)
        self._trained, self._fused = [], []
