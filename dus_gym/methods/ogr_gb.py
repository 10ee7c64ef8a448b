"""Gradient-Blending (OGR-GB, Wang et al., CVPR 2020): L = Σ_k w_k CE_k with w_k ∝ ΔG_k / ΔO_k²."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from dus_gym.context import Context
from dus_gym.errors import check_choice, check_fraction, check_positive
from dus_gym.methods.base import Method, MethodOptions
from dus_gym.model import MultimodalModel
from dus_gym.records import Figures


@dataclass(frozen=True)
class OGRGBOptions(MethodOptions):
    """Options of the estimate of the weights."""

    mode: str = "online"
    """``online``: new weights before every super-epoch (BalanceBenchmark); ``offline``: once, before the first epoch,
    which may leave a head, the fused one too, next to nothing for good. The schedule is from memory of the paper."""
    super_epoch: float = 0.1
    """Length of a super-epoch and of a probe as a fraction of the run's epochs, at least one epoch; 0.1 is 10 epochs
    of 100 (BalanceBenchmark). Online makes a run about three times as long, offline adds this fraction of the excess.
    """
    epsilon: float = 1e-8
    """Added to the squared change of overfitting, which may be 0; in squared nats."""

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, ("online", "offline"))
        check_fraction("super_epoch", self.super_epoch, "(0, 1]")
        check_positive("epsilon", self.epsilon)


def normalised(values: Sequence[float]) -> list[float]:
    """Divide non-negative values by their sum; uniform if all are 0."""
    total = sum(values)
    return [value / total for value in values] if total > 0.0 else [1.0 / len(values)] * len(values)


def raw_weight(start: tuple[float, float], end: tuple[float, float], epsilon: float) -> float:
    """Return ``max(ΔG, 0) / (ΔO² + ε)`` of one head.

    ΔG is the fall of the validation loss over the probe, ΔO the growth of validation minus training loss. A head that
    got worse on the validation split weighs nothing, however far it went.

    Args:
        start: mean training and validation loss before the probe, nats.
        end: the same after it.
        epsilon: ε, positive.
    """
    gain = start[1] - end[1]
    overfitting = (end[1] - end[0]) - (start[1] - start[0])
    return max(gain, 0.0) / (overfitting * overfitting + epsilon)


def head_losses(found: Figures) -> list[float]:
    """Return the mean losses of every modality's head and, if it is trained, of the fused one."""
    fused = found.fused_losses.get("concat")
    return [*found.losses, *([] if fused is None else [fused])]


def head_loss(ctx: Context, k: int) -> Tensor:
    """Return the loss of modality k's head on its own samples, or of the fused head (k = m) on the paired ones."""
    if k < ctx.num_modalities:
        return ctx.modality_loss(k, ctx.model.unimodal(k, ctx.features(k)))
    return ctx.fused_loss(ctx.model.fused([ctx.paired_features(j) for j in range(ctx.num_modalities)]))


def _losses(ctx: Context, model: MultimodalModel | None) -> list[list[tuple[float, float]]]:
    """Return training and validation loss of every head, by run."""
    train, validation = ctx.figures("train", model), ctx.figures("validation", model)
    assert train is not None
    assert validation is not None, "needs_validation is checked when the run is made"
    by_run = zip(train, validation, strict=True)
    return [list(zip(head_losses(a), head_losses(b), strict=True)) for a, b in by_run]


class OGRGB(Method):
    """Gradient-Blending by the overfitting-to-generalisation ratio (Wang, Tran and Feiszli, CVPR 2020).

    ``L = Σ_k w_k CE_k`` over the m unimodal heads, each on its own a_j samples, and the fused head, on the paired
    ones. For the weights, one copy of the run a head is trained on that head's loss alone, with ordinary batches,
    and ``w_k ∝ max(ΔG_k, 0) / ΔO_k²``, summing to 1. The validation split, never the test split, tells ΔG and ΔO,
    both from means over whole splits. With independent pairing there is no fused head, and m weights.

    The paper predicts with the fused head (from memory of it).
    """

    name: ClassVar[str] = "ogr_gb"
    paper: ClassVar[str] = (
        "Wang, Tran and Feiszli, What Makes Training Multi-modal Classification Networks Hard?, CVPR 2020"
    )
    year: ClassVar[int] = 2020
    changes: ClassVar[str] = "weights every head's loss by its gain over its overfitting, measured on trained copies"
    heads: ClassVar[frozenset[str]] = frozenset({"unimodal", "fused"})
    maps_runs: ClassVar[bool] = True
    supports_unpaired: ClassVar[bool] = True
    supports_independent: ClassVar[bool] = True
    needs_validation: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("weight/*", "weight_fused")
    options_type: ClassVar[type[MethodOptions]] = OGRGBOptions
    options: OGRGBOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._weights: list[list[float]] = []

    def on_epoch_start(self, ctx: Context) -> None:
        """Estimate new weights, if a super-epoch begins here."""
        length = max(1, round(self.options.super_epoch * ctx.epochs))
        if ctx.epoch == 0 or (self.options.mode == "online" and ctx.epoch % length == 0):
            # The last super-epoch may be shorter, and its probe with it.
            self._weights = self._estimate(ctx, min(length, ctx.epochs - ctx.epoch))
            for k, name in enumerate(ctx.modalities):
                ctx.log({f"weight/{name}": ctx.by_run([of[k] for of in self._weights])})
            ctx.log({"weight_fused": ctx.by_run([sum(of[ctx.num_modalities :]) for of in self._weights])})

    def _estimate(self, ctx: Context, epochs: int) -> list[list[float]]:
        before = _losses(ctx, None)
        raw: list[list[float]] = [[] for _ in before]
        for k in range(len(before[0])):
            fitted = _losses(ctx, ctx.clone_and_fit(partial(head_loss, k=k), epochs))
            for of, start, end in zip(raw, before, fitted, strict=True):
                of.append(raw_weight(start[k], end[k], self.options.epsilon))
        return [normalised(of) for of in raw]

    def capture_key(self, ctx: Context) -> Any:
        """Return the weights."""
        return self._weights

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield one weighted loss per modality, then the fused one; the weights are uniform until they are known."""
        heads = ctx.num_modalities + (1 if ctx.batch.paired else 0)
        weights = self._weights or [[1.0 / heads] * heads] * (ctx.runs or 1)
        for k in range(heads):
            of_head = [of[k] for of in weights]
            loss = ctx.by_run(of_head) * head_loss(ctx, k)
            # A step on a loss of weight 0 would still move parameters, by momentum and weight decay.
            if ctx.update == "alternating" and not all(of_head):
                if not any(of_head):
                    continue
                ctx.skip_step(ctx.by_run(of_head) == 0.0)  # type: ignore[arg-type]  # of several runs a tensor
            yield loss

    def state_dict(self) -> dict[str, Any]:
        """Return the weights; empty before the first epoch."""
        return {"weights": [list(of) for of in self._weights]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the weights back."""
        self._weights = [list(of) for of in state["weights"]]
