"""Modality-specific early stopping (MSES, Fujimori et al., ACPR 2019) under L = Σ_j CE_j + CE_fused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dus_gym.context import Context
from dus_gym.errors import check_choice, check_fraction
from dus_gym.methods.base import Method, MethodOptions
from dus_gym.methods.ogr_gb import head_loss, head_losses
from dus_gym.model import MultimodalModel
from dus_gym.records import Figures


@dataclass(frozen=True)
class MSESOptions(MethodOptions):
    """Options of the stopping."""

    patience: float = 0.1
    """Epochs without a lower validation loss that a head is allowed, as a fraction of the run's epochs, at least one
    epoch. The default is ours: the paper's is not known here, and AGM's repository has 80 and 30 epochs."""
    smoothing: str = "none"
    """``none``: the validation loss as it is; ``released``: 0.6 times the epoch before's plus 0.4 times this one's,
    as AGM's repository has it, which delays the best epoch."""

    def __post_init__(self) -> None:
        check_choice("smoothing", self.smoothing, ("none", "released"))
        check_fraction("patience", self.patience, "(0, 1]")


Verdict = Literal["best", "no better", "stop"]


@dataclass
class EarlyStop:
    """Record of one head's validation losses; epochs count from 1."""

    best: float | None = None
    """The lowest (smoothed) loss."""
    best_epoch: int = 0
    previous: float | None = None
    """The loss of the epoch before, not smoothed."""
    stopped_at: int = 0
    """The epoch after which the head was stopped; 0: it trains."""

    def see(self, epoch: int, loss: float, patience: int, smoothing: str) -> Verdict:
        """Return the verdict on an epoch; more than ``patience`` epochs after the best one the head is stopped."""
        previous, self.previous = self.previous, loss
        value = loss if smoothing == "none" or previous is None else 0.6 * previous + 0.4 * loss
        if self.best is None or value < self.best:
            self.best, self.best_epoch = value, epoch
            return "best"
        if epoch - self.best_epoch <= patience:
            return "no better"
        self.stopped_at = epoch
        return "stop"


class MSES(Method):
    """Modality-specific early stopping (Fujimori, Endo, Kawai and Mochizuki, ACPR 2019).

    ``L = Σ_j CE_j + CE_fused``, modality j's part over its own a_j samples, the fused part over the paired ones. After
    every epoch, whatever ``eval_every`` says, each head's validation loss is looked at. When modality j's has not
    fallen for more than ``patience`` epochs, its encoder and head get back their values and running statistics of the
    best epoch and stay there to the bit; nobody else is rolled back. A stopped encoder still feeds the fused head.

    The fused head stops in the same way, which is ours, as is that its record starts over when an encoder is put back.
    Once it has stopped, its loss still reaches the encoders that train. When everything has stopped, nothing moves.
    """

    name: ClassVar[str] = "mses"
    paper: ClassVar[str] = (
        "Fujimori, Endo, Kawai and Mochizuki, Modality-Specific Learning Rate Control for Multimodal Classification, "
        "ACPR 2019"
    )
    year: ClassVar[int] = 2019
    changes: ClassVar[str] = "stops each modality at its own best validation loss"
    heads: ClassVar[frozenset[str]] = frozenset({"unimodal", "fused"})
    iterates_alike: ClassVar[bool] = True
    maps_runs: ClassVar[bool] = True
    supports_unpaired: ClassVar[bool] = True
    supports_independent: ClassVar[bool] = True
    needs_validation: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("stopped_at/*", "stopped_at_fused")
    options_type: ClassVar[type[MethodOptions]] = MSESOptions
    options: MSESOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._stops: list[list[EarlyStop]] = []
        self._copies: list[dict[str, Tensor]] = []

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield one loss per modality, then the fused one; those of stopped parts carry no gradient to them."""
        for k in range(ctx.num_modalities + (1 if ctx.batch.paired else 0)):
            yield head_loss(ctx, k)

    def on_epoch_end(self, ctx: Context, validation: Sequence[Figures] | None) -> None:
        """Keep what has become better, and put back and freeze what has been worse for too long."""
        if self._stops and all(stop.stopped_at for of in self._stops for stop in of):
            return
        found = validation or ctx.validate()
        assert found is not None, "needs_validation is checked when the run is made"
        losses = [head_losses(figures) for figures in found]
        if not self._stops:
            self._stops = [[EarlyStop() for _ in of] for of in losses]
            self._copies = [_clones(_part(ctx.model, k).state_dict()) for k in range(len(losses[0]))]
        patience = max(1, round(self.options.patience * ctx.epochs))
        better: list[list[int]] = [[] for _ in self._copies]
        worse: list[list[int]] = [[] for _ in self._copies]
        for r, (stops, of) in enumerate(zip(self._stops, losses, strict=True)):
            put_back = False
            if ctx.has_ended(r):
                continue
            for k, (stop, loss) in enumerate(zip(stops, of, strict=True)):
                if stop.stopped_at:
                    continue
                if k == ctx.num_modalities and put_back:
                    # The fused head's losses and copy are of features that are gone.
                    stops[k] = EarlyStop()
                    continue
                verdict = stop.see(ctx.epoch, loss, patience, self.options.smoothing)
                if verdict == "best":
                    better[k].append(r)
                elif verdict == "stop":
                    worse[k].append(r)
                    put_back = True
        for k, kept in enumerate(self._copies):
            part = _part(ctx.model, k)
            if better[k]:
                self._copies[k] = _with_rows(ctx, kept, part.state_dict(), better[k])
            if worse[k]:
                part.load_state_dict(_with_rows(ctx, part.state_dict(), kept, worse[k]))
        if stopped := sorted({r for of in worse for r in of}):
            self._freeze(ctx, stopped)

    def _freeze(self, ctx: Context, stopped: Sequence[int]) -> None:
        # What was put back has not been trained as long.
        ctx.restart_plateau(stopped)
        owners = [(f"encoder/{name}", f"head/{name}") for name in ctx.modalities] + [("fused",)]
        ctx.freeze(
            [
                {owner for stop, of in zip(stops, owners, strict=False) if stop.stopped_at for owner in of}
                for stops in self._stops
            ]
        )
        figures = [f"stopped_at/{name}" for name in ctx.modalities] + ["stopped_at_fused"]
        for k, figure in enumerate(figures[: len(self._copies)]):
            ctx.log({figure: ctx.by_run([float(stops[k].stopped_at) for stops in self._stops])})

    def state_dict(self) -> dict[str, Any]:
        """Return the record of every head by run, and the best copy of each."""
        return {
            "stops": [[asdict(stop) for stop in stops] for stops in self._stops],
            "copies": [_clones(copy) for copy in self._copies],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put both back; the optimiser puts back which owners are frozen."""
        self._stops = [[EarlyStop(**stop) for stop in stops] for stops in state["stops"]]
        self._copies = [_clones(copy) for copy in state["copies"]]


def _with_rows(
    ctx: Context, into: Mapping[str, Tensor], source: Mapping[str, Tensor], runs: Sequence[int]
) -> dict[str, Tensor]:
    """Return a state with the values of some runs replaced by those of another; of one run that one."""
    if ctx.runs is None:
        return _clones(source)
    found = {}
    for name, values in into.items():
        rows = torch.tensor(runs, device=values.device)
        found[name] = values.index_copy(0, rows, source[name][rows])
    return found


def _part(model: MultimodalModel, k: int) -> nn.Module:
    """Return modality k's encoder and head, or the fused head (k = m)."""
    assert model.unimodal_heads is not None
    assert model.fused_head is not None
    if k < len(model.encoders):
        return nn.ModuleList([model.encoders[k], model.unimodal_heads[k]])
    return model.fused_head


def _clones(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}
