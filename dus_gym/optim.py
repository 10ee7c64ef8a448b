"""The optimiser whose learning rates go by owner, and the learning-rate schedules."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from dus_gym.errors import ONE_BY_ONE, ConfigError, check_at_least, check_choice, check_fraction, unknown_name

OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("step", "plateau", "none")


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimiser and schedule of a task."""

    lr: float
    """Learning rate at the start."""
    name: str = "sgd"
    """``sgd`` or ``adam``."""
    momentum: float = 0.9
    """Momentum of SGD; Adam ignores it."""
    weight_decay: float = 1e-4
    """L2 penalty."""
    schedule: str = "step"
    """``step``: × 0.1 after ``milestone`` of the epochs; ``plateau``: × 0.1 when the training cross entropy has not
    fallen for ``patience`` epochs ("when the loss saturates"), see :class:`Schedule`; ``none``."""
    milestone: float = 0.7
    """Epoch of the fall under ``step``, as a fraction of the epochs."""
    patience: int = 10
    """Epochs without a lower training cross entropy before ``plateau`` falls."""
    floor: float = 1e-3
    """Lowest factor on the learning rate that ``plateau`` falls to: three falls."""

    def __post_init__(self) -> None:
        check_choice("optimizer", self.name, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_at_least("patience", self.patience, 1)
        check_at_least("weight_decay", self.weight_decay, 0.0)
        check_fraction("floor", self.floor, "(0, 1]")
        if not 0.0 < self.lr < float("inf"):
            raise ConfigError(f"lr={self.lr!r} is not allowed; it must be positive and finite.")
        if not 0.0 <= self.momentum < 1.0:
            raise ConfigError(f"momentum={self.momentum!r} is not allowed; it must lie in [0, 1).")


class Schedule:
    """The factor on every learning rate, epoch by epoch.

    ``plateau`` watches the training cross entropy of the predictions (nats a sample), never the method's own sum of
    losses: a term that begins lifts the sum for good, and a best value of before it would freeze the run. The watch
    starts anew with every phase and wherever a method calls ``ctx.restart_plateau``, so that no fall comes within
    ``patience`` epochs of either.

    Args:
        config: the task's optimiser.
        epochs: of the whole run.
    """

    def __init__(self, config: OptimizerConfig, epochs: int) -> None:
        self.config = config
        self.restart(0, epochs)

    def restart(self, start: int, epochs: int) -> None:
        """Return to the full rate, for a schedule over ``epochs`` epochs of which ``start`` is the first."""
        self.start, self.epochs = start, epochs
        self.factor = 1.0
        self.restart_watch()

    def restart_watch(self) -> None:
        """Forget the losses seen so far, which those to come can't be compared with."""
        self.best = float("inf")
        self.bad_epochs = 0

    def start_epoch(self, epoch: int) -> None:
        """Set the factor of epoch ``epoch`` (from 0) under ``step``."""
        if self.config.schedule == "step":
            self.factor = 0.1 if epoch - self.start >= self.config.milestone * self.epochs else 1.0

    def end_epoch(self, loss: float) -> None:
        """Take in the training cross entropy of the epoch that ended; under ``plateau`` the factor may fall."""
        if self.config.schedule != "plateau":
            return
        if loss < self.best:
            self.best, self.bad_epochs = loss, 0
            return
        self.bad_epochs += 1
        # Room for the rounding of 0.1 * 0.1 * 0.1.
        if self.bad_epochs >= self.config.patience and self.factor > 1.001 * self.config.floor:
            self.factor, self.bad_epochs = max(0.1 * self.factor, self.config.floor), 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        # Infinity is not JSON; no loss seen yet is None.
        best = None if self.best == float("inf") else self.best
        span = {"start": self.start, "epochs": self.epochs}
        return span | {"factor": self.factor, "best": best, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned."""
        self.start, self.epochs = state["start"], state["epochs"]
        self.factor, self.bad_epochs = state["factor"], state["bad_epochs"]
        self.best = float("inf") if state["best"] is None else state["best"]


ByRun = float | Sequence[float]
"""A number that holds for all runs, or one a run."""


def along(by_run: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return one number a run, ``(R,)``, in the form that multiplies ``(R, ...)``; a scalar as it is."""
    return by_run.view(-1, *[1] * (values.ndim - 1)) if by_run.ndim else by_run


class GroupedOptimizer:
    """A torch optimiser in which every owner of parameters has a name and a multiplier.

    An owner's learning rate is base × schedule × multiplier × lever, always recomputed from the four, so a
    method's multiplier, the schedule and the agent can't overwrite each other.

    The parameters of R runs lead with an axis of R. Runs may then differ in schedule and multiplier, and in which
    owners are frozen: the torch optimiser takes the step of the largest rate, of which each run takes its part. That
    is exact, for neither SGD's momentum nor Adam's moments depend on the rate.

    Args:
        groups: owner to parameters, see ``MultimodalModel.parameter_groups``.
        config: the task's optimiser.
        multipliers: owner to multiplier of the learning rate; 1 where absent.
        runs: R, or None where parameters have no axis of runs.
        capturable: learning rates lie in tensors on the device that are filled in place: a captured step reads them
            there, and would freeze a number.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[nn.Parameter]],
        config: OptimizerConfig,
        multipliers: Mapping[str, ByRun] | None = None,
        runs: int | None = None,
        *,
        capturable: bool = False,
    ) -> None:
        self.config = config
        self.runs = runs
        self.generation = 0
        """How often tensors that a step reads or writes may have been replaced by others."""
        self.partition: tuple[tuple[str, ...], ...] = ()
        """The owners that share a learning rate, and so a group of the torch optimiser."""
        self._rates: dict[tuple[str, ...], torch.Tensor] | None = {} if capturable else None
        self.multipliers: dict[str, ByRun] = {**dict.fromkeys(groups, 1.0), **(multipliers or {})}
        self.names = list(groups)
        self._groups = {name: list(parameters) for name, parameters in groups.items()}
        every = [p for parameters in self._groups.values() for p in parameters]
        # One fused kernel per group instead of three small ones per parameter: the optimiser is a third of a
        # step on small networks.
        if config.name == "sgd":
            self.torch: torch.optim.Optimizer = torch.optim.SGD(
                every, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
            )
        else:
            self.torch = torch.optim.Adam(
                every, lr=config.lr, weight_decay=config.weight_decay, fused=True, capturable=capturable
            )
        self._start_momentum()
        self._settings = {key: value for key, value in self.torch.param_groups[0].items() if key != "params"}
        self._factor: ByRun = 1.0
        self._step_factors: dict[str, float | torch.Tensor] = {}
        self._frozen: dict[str, list[int]] = {}
        self._ended: list[int] = []
        self._levers: dict[str, ByRun] = {}
        self._parts: dict[str, torch.Tensor] = {}
        self._skipped: torch.Tensor | None = None
        self.set_rates(1.0)

    def set_rates(self, factor: ByRun) -> None:
        """Set every owner's learning rate from the schedule's factor.

        Owners with the same rate share a group of the torch optimiser: a group costs as much as a kernel.
        """
        self._factor = factor
        self._parts = {}
        by_rate: dict[float, list[str]] = {}
        for name, parameters in self._groups.items():
            now = self._step_factors.get(name, 1.0)
            rate = self._rate_of(name, parameters[0].device, 1.0 if isinstance(now, torch.Tensor) else now)
            if isinstance(now, torch.Tensor):
                self._parts[name] = self._parts[name] * now if name in self._parts else now
            if parameters[0].is_cuda or self._rates is not None:
                # A card's kernel takes a rate that lies on the device in float32: with numbers the same bits.
                rate = float(np.float32(rate))
            by_rate.setdefault(rate, []).append(name)
        self.partition = tuple(map(tuple, by_rate.values()))
        self.torch.param_groups[:] = [
            self._settings | {"lr": self._lr(tuple(names), rate), "params": [p for o in names for p in self._groups[o]]}
            for rate, names in by_rate.items()
        ]

    def _lr(self, names: tuple[str, ...], rate: float) -> float | torch.Tensor:
        """Return the rate of some owners as the torch optimiser is to have it."""
        if self._rates is None:
            return rate
        if names not in self._rates:
            self._rates[names] = torch.zeros((), device=self._groups[names[0]][0].device)
        return self._rates[names].fill_(rate)

    def set_levers(self, levers: Mapping[str, ByRun]) -> None:
        """Set what the agent multiplies owners' learning rates by; 1 where absent."""
        if levers != self._levers:
            self._levers = dict(levers)
            self.set_rates(self._factor)

    def _rate_of(self, name: str, device: torch.device, now: float) -> float:
        """Return the largest of the runs' rates, and note the runs' parts of it where they differ."""
        factors = (self._factor, self.multipliers[name], self._levers.get(name, 1.0))
        out = {*self._ended, *self._frozen.get(name, ())}
        numbers = [factor for factor in factors if not isinstance(factor, Sequence)]
        if not out and len(numbers) == len(factors):
            rate = self.config.lr
            for factor in (*numbers, now):
                rate *= factor
            return rate
        assert self.runs is not None, "rates differ by run where there are several"
        columns = [[f] * self.runs if not isinstance(f, Sequence) else f for f in factors]
        rates = [self.config.lr * f * g * h * now for f, g, h in zip(*columns, strict=True)]
        largest: float = max(rates)
        parts = [0.0 if r in out or not largest else rate / largest for r, rate in enumerate(rates)]
        if any(part != 1.0 for part in parts):
            self._parts[name] = torch.tensor(parts, dtype=self._groups[name][0].dtype, device=device)
        return largest

    def scale_step(self, factors: Mapping[str, float | torch.Tensor]) -> None:
        """Multiply owners' learning rates for the coming step alone; by tensors ``(R,)`` where runs have an axis."""
        for name in factors:
            if name not in self._groups:
                raise unknown_name("parameter owner", name, self.names)
        self._step_factors = dict(factors)
        self.set_rates(self._factor)

    def step(self) -> None:
        """Take one step of the torch optimiser."""
        if self._parts or self._skipped is not None:
            self._step_by_run()
        else:
            self.torch.step()
        if self._step_factors:
            self.scale_step({})

    def _step_by_run(self) -> None:
        """Take a step of which each run takes its part."""
        moving = [
            (p, along(part, p), p.detach().clone())
            for name, part in self._parts.items()
            for p in self._groups[name]
            if p.grad is not None
        ]
        skipped, self._skipped = self._skipped, None
        kept = [] if skipped is None else [
            (value, along(skipped, value), value.detach().clone())
            for parameters in self._groups.values()
            for p in parameters
            for value in (p, *self.torch.state.get(p, {}).values())
            if p.grad is not None
        ]  # fmt: skip
        self.torch.step()
        with torch.no_grad():
            for p, part, before in moving:
                # A run that takes no part stays to the bit, also where its own step is not finite.
                p.copy_(torch.where(part == 0.0, before, torch.lerp(before, p, part)))
            for value, mask, before in kept:
                value.copy_(torch.where(mask, before, value))

    def skip(self, skipped: torch.Tensor) -> None:
        """Leave some runs, ``(R,)``, out of the coming step, with their momentum.

        Raises:
            ConfigError: under Adam, which counts its steps for all runs together.
        """
        if self.config.name != "sgd":
            raise ConfigError(
                f"optimizer={self.config.name!r} can't leave single runs out of a step, which this method asks for "
                f'under update="alternating"; {ONE_BY_ONE}.'
            )
        self._skipped = skipped

    def start_anew(self) -> None:
        """Forget momentum and moments, as a new optimiser would."""
        self.generation += 1
        self.torch.state.clear()
        self._start_momentum()

    def parameters(self, name: str) -> list[nn.Parameter]:
        """Return the parameters of one owner."""
        return self._groups[name]

    def set_trainable(self, names: Iterable[str] | None) -> None:
        """Freeze every owner that is not in ``names`` (None: all train), in all runs.

        A frozen parameter also loses its momentum: a zero gradient alone would not stop it from moving.
        """
        self.generation += 1
        wanted = set(self.names if names is None else names)
        for name in sorted(wanted):
            if name not in self._groups:
                raise unknown_name("parameter owner", name, self.names)
        self._frozen = {}
        for name in self.names:
            for parameter in self.parameters(name):
                parameter.requires_grad_(name in wanted)
                if name not in wanted:
                    parameter.grad = None
                    self.torch.state.pop(parameter, None)
        self._start_momentum()

    def freeze(self, frozen: Sequence[Collection[str]]) -> None:
        """Freeze owners by run: of each run those that are named, and no others.

        Args:
            frozen: one collection of owners a run.
        """
        everywhere = set(self.names).intersection(*frozen)
        self.set_trainable([name for name in self.names if name not in everywhere])
        some = {name: [r for r, names in enumerate(frozen) if name in names] for name in self.names}
        self._frozen = {name: runs for name, runs in some.items() if runs and name not in everywhere}
        self.set_rates(self._factor)

    def end(self, runs: Sequence[int]) -> None:
        """Leave the parameters of these runs as they are from now on, whatever their gradients."""
        self._ended = sorted({*self._ended, *runs})
        self.set_rates(self._factor)

    def _start_momentum(self) -> None:
        """Give every trainable parameter a momentum of zero, which is what SGD starts from anyway.

        The fused kernel takes a group whose parameters all have momentum, or none of them.
        """
        if self.config.name != "sgd" or not self.config.momentum:
            return
        for parameters in self._groups.values():
            for p in parameters:
                if p.requires_grad and p not in self.torch.state:
                    self.torch.state[p] = {"momentum_buffer": torch.zeros_like(p)}

    def state_dict(self) -> dict[str, Any]:
        """Return momentum, multipliers and what is frozen, by owner and position."""
        state = {
            f"{name}.{i}": {
                key: value.clone() for key, value in self.torch.state[p].items() if isinstance(value, torch.Tensor)
            }
            for name in self.names
            for i, p in enumerate(self.parameters(name))
            if p in self.torch.state
        }
        multipliers = {name: m if isinstance(m, float | int) else list(m) for name, m in self.multipliers.items()}
        by_run = {} if self.runs is None else {"frozen": dict(self._frozen), "ended": list(self._ended)}
        return {"state": state, "multipliers": multipliers} | by_run

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned."""
        self.generation += 1
        self.multipliers = dict(state["multipliers"])
        self._frozen, self._ended = dict(state.get("frozen", {})), list(state.get("ended", ()))
        self.torch.state.clear()
        for name in self.names:
            for i, p in enumerate(self.parameters(name)):
                kept = state["state"].get(f"{name}.{i}")
                if kept:
                    self.torch.state[p] = {key: _laid_like(p, value) for key, value in kept.items()}
        self._start_momentum()


def _laid_like(parameter: nn.Parameter, value: torch.Tensor) -> torch.Tensor:
    """Return a copy on the parameter's device, in its layout of memory if it has its shape.

    The fused kernel takes a parameter, its gradient and its momentum in one order; a file has no layout.
    """
    if value.shape != parameter.shape:
        return value.to(parameter.device).clone()
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
