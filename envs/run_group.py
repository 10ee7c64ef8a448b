"""Runs that share a clock, as arrays: Eq. 3, 4 and 5, ``info`` and the end of an episode, for n runs at once.

Arrays are ``(m, n)``, a row a modality and a column a run. What trains is a subclass: the fitted curves of
:mod:`dus_gym.envs.fake_vector`, or real networks, :mod:`dus_gym.envs.vector_env`. One run in plain numbers is
:class:`~dus_gym.envs.dus_env.DUSEnv`, which is twice as fast as arrays of length 1; tests hold the two together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dus_gym import allocation
from dus_gym.allocation import Allocation, normalise, read_numbers, sizes_from_fractions
from dus_gym.discrepancy import EMA_DECAY
from dus_gym.envs.dus_env import DUSEnv
from dus_gym.errors import ConfigError
from dus_gym.rewards import SHARE_FLOOR, Reward, Transition, reward_function

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]
Answer = tuple[Array, Array, Array, dict[str, Any]]
"""Observations ``(n, m)``, rewards ``(n,)``, ends ``(n,)`` and ``info``."""


class Report(NamedTuple):
    """Record of one step of every run."""

    sizes: Ints
    """a_j, ``(m, n)``."""
    loss: Floats
    """Mean training loss per iteration, ``(n,)``."""
    scores: Floats
    """Mean true-class probability over all samples drawn, ``(m, n)``."""
    accuracies: Floats
    """Training accuracy, ``(m, n)``."""
    fused: Floats
    """Training accuracy of the fused logits, ``(n,)``; 0 where nothing fused is trained."""


class RunGroup:
    """n runs that begin and end together, but for those that diverge.

    A subclass begins and trains them (:meth:`_start`, :meth:`_train`), and keeps up to date what its attributes say.

    Args:
        single: the environment of one run, with the settings of all.
        num_runs: n.
    """

    epoch: int = 0
    """Finished epochs."""
    iterations: int = 0
    """Finished iterations."""
    samples: Ints
    """Samples drawn so far, ``(m, n)``."""
    validation: Floats | None
    """Rows of the last validation figures: scores, accuracies and losses by modality, then the accuracy of each of
    ``predictors``; None without a validation split."""
    diverged: npt.NDArray[np.bool_]
    """Runs that ended because a loss was not finite, ``(n,)``."""
    epochs: int
    iterations_per_epoch: int
    trains_fused: bool
    predictors: Sequence[str]
    """Names of the fused predictors that have figures; ``method`` is the first."""
    figures: Sequence[str]
    """Names of the method's own figures."""

    def __init__(self, single: DUSEnv, num_runs: int) -> None:
        self.single = single
        self.num_runs = num_runs
        self._reward = _reward(single.config.reward, single.config.reward_state)
        self._rates: Floats | None = None
        self._keys: list[str] = []

    # -- for a subclass ----------------------------------------------------------------------------

    def _start(self, seeds: Sequence[int]) -> Report:
        """Begin a run with each seed, and return what the probe of each found; it trained nothing."""
        raise NotImplementedError

    def _train(self, sizes: Ints, rates: Floats | None) -> Report:
        """Train one step, with learning rates times ``rates`` ``(m, n)`` if they are given.

        Gives the scores of its iterations to :meth:`_average` in their order.
        """
        raise NotImplementedError

    def _coverage(self) -> Floats:
        """Return the fraction of the training split drawn at least once, ``(m, n)``."""
        raise NotImplementedError

    def _logged(self) -> Floats:
        """Return the method's own figures, a row each."""
        raise NotImplementedError

    # -- an episode --------------------------------------------------------------------------------

    @property
    def iterations_per_step(self) -> int:
        """Iterations of one step of the environment."""
        return self.single.config.interval or self.iterations_per_epoch

    @property
    def horizon(self) -> int:
        """Steps of one episode."""
        return math.ceil(self.epochs * self.iterations_per_epoch / self.iterations_per_step)

    def begin(self, seeds: Sequence[int]) -> tuple[Array, dict[str, Any]]:
        """Begin a run with each seed; return observations and ``info``."""
        self.epoch = self.iterations = self._averaged = 0
        self.diverged = np.zeros(self.num_runs, bool)
        self._rates = None
        report = self._start(seeds)
        if not self._keys:
            self._name_the_info()
        self._score = report.scores.copy()
        infos = self._describe(report)
        return self._observe(), infos

    def step(self, shares: Floats, sizes: Ints) -> Answer:
        """Train one step under shares and sizes ``(m, n)``, of :func:`allocate`."""
        self._rates = rates_of(self.single.allocation, shares)
        before = self._figures
        if self.single.config.cumulative == "epoch":
            self._averaged = 0
        infos = self._describe(self._train(sizes, self._rates))
        rewards = self._reward(Step(before, self._figures, shares))
        over = self.iterations >= self.epochs * self.iterations_per_epoch
        ended = np.full(self.num_runs, True) if over else self.diverged.copy()
        return self._observe(), rewards, ended, infos

    def _average(self, scores: Floats, repeats: int) -> None:
        """Eq. 3, as :class:`dus_gym.discrepancy.CumulativeScore` has it."""
        mode = self.single.config.cumulative
        if mode == "none" or self._averaged == 0:
            self._score = scores
        elif mode == "ema":
            keep = EMA_DECAY**repeats
            self._score = keep * self._score + (1.0 - keep) * scores
        else:
            self._score = self._score + (scores - self._score) * (repeats / (self._averaged + repeats))
        self._averaged += repeats

    # -- what the agent sees -----------------------------------------------------------------------

    def _name_the_info(self) -> None:
        names = self.single.modalities

        def each(*kinds: str) -> list[str]:
            return [f"{kind}/{name}" for kind in kinds for name in names]

        integers = ["epoch", "epochs", "iterations", *each("size", "samples")]
        floats = ["loss", "gap", *each("coverage", "train_score", "train_accuracy")]
        floats += each("rate") if self.single.config.lever == "rates" else []
        floats += ["train_fused"] if self.trains_fused else []
        floats += ["method/" + name for name in self.figures]
        if self.validation is not None:
            floats += each("val_score", "val_accuracy", "val_loss")
            floats += ["val_fused/" + name for name in self.predictors]
        keys = [*integers, "diverged", "size_weighted", *floats]
        self._keys = keys + ["_" + key for key in keys]
        self._num_integers, self._num_keys = len(integers), len(keys)

    def _observe(self) -> Array:
        return self._figures.scores.T.astype(np.float32, order="C")

    def _describe(self, report: Report) -> dict[str, Any]:
        """Return ``info``, and keep the figures that rewards compare."""
        n, (m, _) = self.num_runs, report.sizes.shape
        scores, validation = report.scores, self.validation
        gap = scores.max(axis=0) - scores.min(axis=0)
        if validation is None:
            accuracy, loss = np.zeros(n), report.loss
        else:
            # The first of the fused predictors is the method's own; losses are the third block of m.
            accuracy, loss = validation[3 * m], validation[2 * m : 3 * m].sum(axis=0) / m
        self._figures = Compared(np.minimum(np.maximum(self._score, 0.0), 1.0), gap, accuracy, loss, self.diverged)
        integers = np.empty((self._num_integers, n), np.int64)
        integers[0], integers[1], integers[2] = self.epoch, self.epochs, self.iterations
        integers[3 : 3 + m], integers[3 + m :] = report.sizes, self.samples
        parts = [report.loss[None], gap[None], self._coverage(), scores, report.accuracies]
        if self.single.config.lever == "rates":
            parts.append(np.ones((m, n)) if self._rates is None else self._rates)
        if self.trains_fused:
            parts.append(report.fused[None])
        if self.figures:
            parts.append(self._logged())
        if validation is not None:
            parts.append(validation)
        floats = np.concatenate(parts)
        masks = np.ones((self._num_keys, n), bool)
        flags = [self.diverged.copy(), np.full(n, self.single.config.loss_norm == "fixed")]
        return dict(zip(self._keys, [*integers, *flags, *floats, *masks], strict=True))


# -- actions -------------------------------------------------------------------------------------------


def read_actions(actions: npt.ArrayLike, num_envs: int, num_modalities: int) -> Floats:
    """Check the actions of n copies and return them as ``(m, n)``.

    Raises:
        ConfigError: if the shape is not ``(n, m)`` or an entry is negative, infinite or NaN.
    """
    values = read_numbers("actions", actions, f"{num_envs} rows of {num_modalities} numbers")
    if values.shape != (num_envs, num_modalities):
        raise ConfigError(
            f"actions has shape {values.shape}; it must be ({num_envs}, {num_modalities}), a row for each copy and "
            "a number for each modality."
        )
    if not (values.min() >= 0.0 and values.max() < math.inf):
        i = int((~((values >= 0.0) & (values < math.inf))).any(axis=1).argmax())
        raise ConfigError(
            f"action {values[i].tolist()} of copy {i} is not allowed; every entry must be finite and not negative."
        )
    return values.T.copy()


def allocate(rule: Allocation, entries: Floats, method: str, equal: bool) -> tuple[Floats, Ints]:
    """Eq. 4 for every run, as :class:`dus_gym.allocation.Allocation` has it: shares and sizes, ``(m, n)``.

    Args:
        rule: of one run.
        entries: of :func:`read_actions`.
        method: for messages.
        equal: whether the method needs equal sizes.

    Raises:
        ConfigError: for a fraction above 1, or unequal sizes where they must be equal; says which copy's.
    """
    if rule.mode == "fractions":
        largest = entries.max(axis=0)
        if largest.max() > 1.0 + 1e-6:
            i = int(largest.argmax())
            raise ConfigError(f"action {entries[:, i].tolist()} of copy {i} is not allowed; fractions lie in [0, 1].")
        entries[:, largest <= 0.0] = 1.0
        if rule.size_step > 1:
            sizes = _stepped(sizes_from_fractions, entries, rule.base_batch, rule)
        else:
            sizes = np.floor(entries * rule.base_batch + 0.5).astype(np.int64).clip(rule.floor, rule.base_batch)
        shares = normalised(sizes.astype(np.float64))
    else:
        shares = normalised(entries)
        if rule.lever == "rates":
            sizes = np.repeat(np.array(rule.equal_sizes)[:, None], shares.shape[1], axis=1)
        elif rule.size_step > 1:
            sizes = _stepped(allocation.sizes_from_shares, shares, rule.total_batch, rule)
        else:
            sizes = sizes_from_shares(shares, rule.total_batch, rule.floor)
    if equal and (unequal := sizes.min(axis=0) != sizes.max(axis=0)).any():
        i = int(unequal.argmax())
        raise ConfigError(
            f"the action of copy {i} gives unequal sizes {sizes[:, i].tolist()}, and method={method!r} needs every "
            "sample in all modalities; use a uniform action."
        )
    return shares, sizes


def _stepped(round_: Callable[..., list[int]], entries: Floats, total: int, rule: Allocation) -> Ints:
    """Return the sizes of every column under a ``size_step``, which is asked for too seldom to be written out."""
    columns = [round_(column, total, rule.floor, rule.size_step) for column in entries.T.tolist()]
    return np.array(columns, np.int64).T


def normalised(entries: Floats) -> Floats:
    """:func:`dus_gym.allocation.normalise` on every column of ``(m, n)``."""
    with np.errstate(over="ignore"):
        totals = entries.sum(axis=0)
    if totals.min() > 1e-300 and totals.max() < math.inf:
        ordinary: Floats = entries / totals
        return ordinary
    odd = ~((totals > 1e-300) & (totals < math.inf))
    shares: Floats = entries / np.where(odd, 1.0, totals)
    for i in odd.nonzero()[0]:
        shares[:, i] = normalise(entries[:, i].tolist())
    return shares


def sizes_from_shares(shares: Floats, total: int, floor: int = 0) -> Ints:
    """:func:`dus_gym.allocation.sizes_from_shares` on every column.

    Args:
        shares: ``(m, n)``, each column summing to 1.
        total: N_B, the samples per iteration over all modalities.
        floor: fewest samples of a modality; ``m * floor <= total``.

    Returns:
        Integers ``(m, n)``, each column summing to ``total``, none below ``floor``.
    """
    quotas = total * shares
    short = (quotas.min(axis=0) < floor).nonzero()[0]
    if len(short):
        quotas[:, short] = _lifted(shares[:, short], total, floor)
    sizes: Ints = quotas.astype(np.int64)
    missing = total - sizes.sum(axis=0)
    remainders = quotas - sizes
    # A modality's rank is how many others come before it: larger remainders, and equal ones to its left.
    ranks = np.zeros(sizes.shape, np.int64)
    for j in range(len(sizes)):
        for k in range(j + 1, len(sizes)):
            later = remainders[j] < remainders[k]
            ranks[j] += later
            ranks[k] += ~later
    sizes += ranks < missing
    return sizes


def rates_of(rule: Allocation, shares: Floats) -> Floats | None:
    """:meth:`dus_gym.allocation.Allocation.rates` on every column."""
    if rule.lever == "samples":
        return None
    quotas = rule.total_batch * shares
    short = (quotas.min(axis=0) < rule.floor).nonzero()[0]
    if len(short):
        quotas[:, short] = _lifted(shares[:, short], rule.total_batch, rule.floor)
    rates: Floats = len(shares) * quotas / rule.total_batch
    return rates


def _lifted(shares: Floats, total: int, floor: int) -> Floats:
    """Quotas ``(m, n)`` that sum to ``total`` in each column, those below the floor lifted to it."""
    free = np.ones(shares.shape, bool)
    mass, budget = shares.sum(axis=0), np.array(total)
    while True:
        quotas = np.full(shares.shape, float(floor))
        # Where nothing is free any more there is no division, and so none by zero.
        np.divide(budget * shares, mass, out=quotas, where=free)
        below = quotas < floor
        if not below.any():
            return quotas
        free ^= below
        mass, budget = (shares * free).sum(axis=0), total - floor * (~free).sum(axis=0)


# -- rewards -------------------------------------------------------------------------------------------


class Compared(NamedTuple):
    """Figures that rewards compare before and after a step."""

    scores: Floats
    """ŝ, ``(m, n)``."""
    gap: Floats
    """Largest minus smallest training score, ``(n,)``."""
    accuracy: Floats
    """Validation accuracy of the method's own prediction, ``(n,)``."""
    loss: Floats
    """Mean validation loss over modalities, nats, ``(n,)``; without a validation split the training loss."""
    diverged: npt.NDArray[np.bool_]
    """Runs whose figures are those of a model that is not finite, ``(n,)``."""


def _paper(scores: Floats, shares: Floats) -> Floats:
    """:func:`dus_gym.rewards.paper_reward` on every column."""
    logs = np.log(np.maximum(shares, SHARE_FLOOR))
    logs[scores == scores.max(axis=0)] = 0.0
    rewards: Floats = logs.sum(axis=0) / len(shares)
    return rewards


class Step(NamedTuple):
    """Changes of one step, for every copy."""

    before: Compared
    after: Compared
    shares: Floats
    """The proportions chosen, ``(m, n)``."""


def _progress(step: Step) -> Floats:
    # A step that diverges has no loss and gives 0.
    return np.where(step.before.diverged | step.after.diverged, 0.0, step.before.loss - step.after.loss)


def _paper_before(step: Step) -> Floats:
    return _paper(step.before.scores, step.shares)


def _paper_after(step: Step) -> Floats:
    return _paper(step.after.scores, step.shares)


def _gap(step: Step) -> Floats:
    return -step.after.gap


def _gap_change(step: Step) -> Floats:
    return step.before.gap - step.after.gap


def _validation_gain(step: Step) -> Floats:
    return step.after.accuracy - step.before.accuracy


_BY_NAME: dict[str, Callable[[Step], Floats]] = {
    "gap": _gap,
    "gap-change": _gap_change,
    "validation-gain": _validation_gain,
    "learning-progress": _progress,
}


def _reward(name: str, state: str) -> Callable[[Step], Floats]:
    """:func:`dus_gym.rewards.reward_function` for n runs; the names are checked before."""
    if name == "paper":
        return _paper_before if state == "before" else _paper_after
    return _BY_NAME.get(name) or partial(_one_by_one, reward_function(name, state))


def _one_by_one(reward: Reward, step: Step) -> Floats:
    """A reward that somebody registered as a function of one run."""
    before, after = step.before, step.after
    columns = zip(
        before.scores.T.tolist(),
        after.scores.T.tolist(),
        step.shares.T.tolist(),
        before.gap.tolist(),
        after.gap.tolist(),
        before.accuracy.tolist(),
        after.accuracy.tolist(),
        np.where(before.diverged, math.inf, before.loss).tolist(),
        np.where(after.diverged, math.inf, after.loss).tolist(),
        strict=True,
    )
    return np.array([reward(Transition(*column)) for column in columns])
