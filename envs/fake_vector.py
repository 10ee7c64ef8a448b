"""Many copies of ``DUS-Fake-v0`` stepped together in NumPy.

The same learning curves as :mod:`dus_gym.envs.fake`, read for n copies at once: arrays are ``(m, n)``, a row a
modality, and no Python loop runs over the copies while they train. Every copy keeps generators of its own, so that
it draws what the single environment draws; that loop runs when an episode begins and every :data:`NOISE_ROWS` steps.
A fake run never diverges and its length is fixed, so all copies begin and end together.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.random.bit_generator import ISeedSequence

from dus_gym.allocation import normalise, read_numbers
from dus_gym.discrepancy import EMA_DECAY
from dus_gym.envs.dus_env import DUSEnv
from dus_gym.envs.fake import CHANCE, CURVES, DROP, TEST_ACCURACY, VAL_ACCURACY, FakeTrainer
from dus_gym.errors import ConfigError, check_at_least
from dus_gym.methods import method_class
from dus_gym.rewards import SHARE_FLOOR
from dus_gym.seeding import RunSeeds

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]
NOISE_ROWS = 256
"""Most stretches of iterations whose noise one draw covers."""


class FakeVectorEnv(VectorEnv[Array, Array, Array]):
    """n copies of :class:`~dus_gym.envs.dus_env.DUSEnv` on the fake trainer.

    ``gym.make_vec("dus_gym:DUS-Fake-v0", num_envs=n)`` makes one. Copy i reset with seed s gives what the single
    environment gives under seed s and the same actions: sizes, counters and places on the curves exactly, every other
    figure within 1e-12 (NumPy's logarithm and exponential and its sums may differ from Python's in the last bits).

    Observations are ``(n, m)`` float32, rewards ``(n,)`` float64, ends ``(n,)`` bool; ``info`` holds one ``(n,)``
    array for each key of the single environment, and its mask ``_key``, always True. Autoreset is next-step: the call
    after the last epoch ignores the actions, starts new runs and returns rewards of 0.

    Args:
        num_envs: n.
        task: a name of the task registry; the id sets it.
        trainer: ``"fake"``; the id sets it.
        render_mode: not supported.
        autoreset_mode: ``"NextStep"`` alone is supported.
        settings: every other argument of ``DUSEnv``, ``select`` excepted: without ``evaluate()`` it has no meaning.

    Raises:
        ConfigError: for a bad setting, or one that only ``vectorization_mode="sync"`` supports.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self,
        num_envs: int,
        task: str,
        *,
        trainer: str = "fake",
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **settings: Any,
    ) -> None:
        check_at_least("num_envs", num_envs, 1)
        for name, value, supported in (
            ("trainer", trainer, trainer == "fake"),
            ("render_mode", render_mode, render_mode is None),
            ("autoreset_mode", autoreset_mode, autoreset_mode in (AutoresetMode.NEXT_STEP, "NextStep")),
            ("max_episode_steps", settings.get("max_episode_steps"), "max_episode_steps" not in settings),
            ("select", settings.get("select"), settings.get("select", "last") == "last"),
        ):
            if not supported:
                raise _unsupported(name, value)
        # The single environment checks and completes the settings, so that both say the same of a bad one.
        single = DUSEnv(task, trainer=trainer, **settings)
        self._single = single
        self._reward = _reward(single.config.reward, single.config.reward_state)
        self._run = run = FakeTrainer(single.task, method_class(single.method), single.config, RunSeeds(0))
        self.num_envs = num_envs
        self.single_observation_space = single.observation_space
        self.single_action_space = single.action_space
        self.observation_space = batch_space(single.observation_space, num_envs)
        self.action_space = batch_space(single.action_space, num_envs)
        self._copies: list[np.random.Generator] = []
        self._running = self._ended = False
        self._iterations_in_all = run.epochs * run.iterations_per_epoch
        self._per_step = single.config.interval or run.iterations_per_epoch
        self.horizon = math.ceil(self._iterations_in_all / self._per_step)
        """Steps of one episode."""
        self._tabulate()
        self._name_the_info()

    # -- Gymnasium ---------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Starts a fresh run in every copy.

        Args:
            seed: one integer (copy i gets ``seed + i``), a sequence of n integers or Nones, or None: as in the single
                environment, each copy's generator goes on.
            options: nothing is read from it but ``reset_mask``, which must be True for every copy.

        Returns:
            The probes' scores ``(n, m)`` and the runs' figures before training.

        Raises:
            ConfigError: for seeds that are not n, or a reset of some copies only.
        """
        if self.closed:
            raise ClosedEnvironmentError("reset() after close(); make the environment again.")
        if not np.all((options or {}).get("reset_mask", True)):
            raise _unsupported("options['reset_mask']", "some copies only")
        if seed is None:
            seeds: list[int | None] = [None] * self.num_envs
        elif isinstance(seed, int | np.integer):
            seeds = [int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ConfigError(f"seed={seeds} is not allowed; it must be one integer or {self.num_envs} of them.")
        old = self._copies
        self._copies = [old[i] if old and s is None else seeding.np_random(s)[0] for i, s in enumerate(seeds)]
        return self._begin()

    def step(self, actions: npt.ArrayLike) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Trains one interval in every copy.

        Args:
            actions: ``(n, m)``, a row a copy.

        Raises:
            ResetNeeded: before the first reset.
            ConfigError: for malformed actions; says which copy's.
        """
        if self.closed:
            raise ClosedEnvironmentError("step() after close(); make the environment again.")
        if not self._running:
            raise ResetNeeded("there are no runs yet: call reset() first.")
        n = self.num_envs
        if self._ended:
            observations, infos = self._begin()
            return observations, np.zeros(n), np.zeros(n, bool), np.zeros(n, bool), infos
        shares, sizes = self._allocate(actions)
        before = self._figures
        scores, accuracies = self._train(sizes)
        logs = np.log(scores)
        loss = -logs.sum(axis=0) - self._run.trains_fused * logs.max(axis=0)
        infos = self._describe(sizes, loss, scores, accuracies, accuracies.max(axis=0))
        rewards = self._reward(Step(before, self._figures, shares))
        self._ended = self._iterations >= self._iterations_in_all
        return self._observe(), rewards, np.full(n, self._ended), np.zeros(n, bool), infos

    def close_extras(self, **_: Any) -> None:
        """Drops the runs; called once, by ``close()``."""
        self._copies = []
        self._running = False

    # -- made once ---------------------------------------------------------------------------------

    def _tabulate(self) -> None:
        """The fitted curves as arrays, and the figures of the run that every copy shares."""
        run, fit = self._run, self._run._fit
        m, base, total = len(run.modalities), run.base_batch, self._single.allocation.total_batch
        clipped, raw = np.array(fit.tables), np.array(fit.raw)
        # One row a point of a modality: what a step reads, side by side. Row = point + modality's offset.
        parts = [clipped[..., :TEST_ACCURACY], raw[..., :1], raw[..., VAL_ACCURACY : VAL_ACCURACY + 1]]
        table = np.concatenate(parts, axis=-1)
        self._last_point = table.shape[1] - 1
        self._table = table.reshape(-1, table.shape[2])
        self._table_offsets = (np.arange(m) * table.shape[1])[:, None]
        # Python's own power, so that exposures have the single environment's bits.
        self._powers = np.array([(size / base) ** gamma for gamma in fit.gamma for size in range(total + 1)])
        self._power_offsets = (np.arange(m) * (total + 1))[:, None]
        self._first, self._second = np.triu_indices(m)
        # The single environment's order of features is tilt by tilt, this one's is term by term.
        plain = 1 + 2 * m + len(self._first)
        order = [*range(plain), *(plain + 4 * j + k for k in range(4) for j in range(m))]
        self._coefficients = np.array(fit.fused[:3])[:, order]
        self._features = np.ones((len(order), self.num_envs))
        ends = range(self._per_step, self._iterations_in_all, self._per_step)
        epochs = range(run.iterations_per_epoch, self._iterations_in_all, run.iterations_per_epoch)
        self._rows = min(NOISE_ROWS, 1 + len({*ends, *epochs}))

    def _name_the_info(self) -> None:
        run = self._run
        names = run.modalities

        def each(*kinds: str) -> list[str]:
            return [f"{kind}/{name}" for kind in kinds for name in names]

        integers = ["epoch", "epochs", "iterations", *each("size", "samples")]
        floats = ["loss", "gap", *each("coverage", "train_score", "train_accuracy")]
        floats += ["train_fused"] if run.trains_fused else []
        floats += ["method/" + name for name in run.logged]
        floats += each("val_score", "val_accuracy", "val_loss")
        predictors = {"method": run._own} | ({"concat": 0} if run.has_concat else {}) | {"sum": 1, "entropy": 2}
        floats += ["val_fused/" + name for name in predictors]
        self._predictors = list(predictors.values())
        keys = [*integers, "diverged", *floats]
        self._keys = keys + ["_" + key for key in keys]
        self._num_integers, self._num_keys = len(integers), len(keys)

    # -- an episode --------------------------------------------------------------------------------

    def _begin(self) -> tuple[Array, dict[str, Any]]:
        """New runs: what :class:`FakeTrainer` draws when it is built, in the same order, for every copy."""
        run, n, m = self._run, self.num_envs, len(self._run.modalities)
        seeds = [int(copy.integers(2**63 - 1)) for copy in self._copies]
        self._steps = [_generator(words) for words in seed_words(seeds, "fake/steps")]
        luck, pace = np.empty((n, 2 * m + 8)), np.empty((n, m))
        right, sure = np.empty((n, 2, m + 3)), np.empty((n, 2, m))
        for i, words in enumerate(seed_words(seeds, "fake/run")):
            start = _generator(words)
            start.standard_normal(out=luck[i])
            pace[i] = np.exp(0.08 * luck[i, :m])
            for probe in (0, 1):
                right[i, probe] = start.binomial(run.base_batch, run._floor, m + 3)
                start.standard_normal(out=sure[i, probe])
        self._pace = pace.T.copy()
        self._luck = (run._fit.validation_noise * (luck[:, m, None] + 0.3 * luck[:, m + 1 : m + 4])).T.copy()
        self._accuracy_luck = (run._fit.validation_noise * luck[:, m + 8 :]).T.copy()
        right /= run.base_batch
        sure = run._floor * np.exp(0.015 * sure)
        self._draw_noise()
        self._exposure, self._samples_seen = np.zeros((m, n)), np.zeros((m, n))
        self._samples = np.zeros((m, n), np.int64)
        self._iterations = self._epoch = self._averaged = 0
        self._clock = 0.0
        self._running, self._ended = True, False
        train, validation = sure[:, 0].T, sure[:, 1].T
        fused = right[:, 1, m:].T[self._predictors]
        self._validation = np.concatenate([validation, right[:, 1, :m].T, -np.log(validation), fused])
        self._score = train.copy()
        losses = -np.log(train).sum(axis=0)
        infos = self._describe(np.zeros((m, n), np.int64), losses, train, right[:, 0, :m].T, right[:, 0, m])
        return self._observe(), infos

    def _draw_noise(self) -> None:
        m = len(self._run.modalities)
        block = np.empty((self.num_envs, self._rows, m))
        for generator, rows in zip(self._steps, block, strict=True):
            generator.standard_normal(out=rows)
        noise = self._run._fit.step_noise * self._run._stretch * block
        self._noise = np.ascontiguousarray(noise.transpose(1, 2, 0))
        self._noise_row = 0

    def _allocate(self, actions: npt.ArrayLike) -> tuple[Floats, Ints]:
        """Eq. 4 for every copy: shares and sizes, ``(m, n)``."""
        rule = self._single.allocation
        entries = read_actions(actions, self.num_envs, rule.num_modalities)
        if rule.mode == "fractions":
            largest = entries.max(axis=0)
            if largest.max() > 1.0 + 1e-6:
                i = int(largest.argmax())
                raise ConfigError(
                    f"action {entries[:, i].tolist()} of copy {i} is not allowed; fractions lie in [0, 1]."
                )
            entries[:, largest <= 0.0] = 1.0
            sizes = np.floor(entries * rule.base_batch + 0.5).astype(np.int64).clip(rule.floor, rule.base_batch)
            shares = normalised(sizes.astype(np.float64))
        else:
            shares = normalised(entries)
            sizes = sizes_from_shares(shares, rule.total_batch, rule.floor)
        if self._single._needs_equal_sizes and (unequal := sizes.min(axis=0) != sizes.max(axis=0)).any():
            i = int(unequal.argmax())
            raise ConfigError(
                f"the action of copy {i} gives unequal sizes {sizes[:, i].tolist()}, and "
                f"method={self._single.method!r} needs every sample in all modalities; use a uniform action."
            )
        return shares, sizes

    def _train(self, sizes: Ints) -> tuple[Floats, Floats]:
        """One step: mean training scores and accuracies, ``(m, n)``. Stretches end where epochs do."""
        run, mode, per_epoch = self._run, self._single.config.cumulative, self._run.iterations_per_epoch
        total = left = min(self._per_step, self._iterations_in_all - self._iterations)
        if mode == "epoch":
            self._averaged = 0
        powers, fractions = self._powers.take(sizes + self._power_offsets), sizes / run.base_batch
        sums: Any = 0.0
        hits: Any = 0.0
        while left:
            count = min(left, per_epoch - self._iterations % per_epoch)
            scores, accuracies = self._advance(powers, fractions, count)
            sums = sums + scores * count
            hits = hits + accuracies * count
            self._average(scores, count, mode)
            left -= count
        self._samples += sizes * total
        return sums / total, hits / total

    def _advance(self, powers: Floats, fractions: Floats, count: int) -> tuple[Floats, Floats]:
        """``count`` iterations inside one epoch: training scores and accuracies, ``(m, n)``."""
        run = self._run
        full = max(0, min(count, run._milestone - self._iterations))
        step = (full + DROP * (count - full)) / run._length
        self._clock += step
        self._iterations += count
        if self._noise_row == self._rows:
            self._draw_noise()
        noise = self._noise[self._noise_row]
        self._noise_row += 1
        self._exposure += step * powers * self._pace
        self._samples_seen += step * fractions
        reading = self._table.take(self._points() + self._table_offsets, axis=0)
        if self._iterations % run.iterations_per_epoch == 0:
            self._epoch += 1
            if self._epoch % self._single.config.eval_every == 0 or self._epoch == run.epochs:
                self._validate(reading)
        return _between(run._floor, reading[..., 0] + noise), reading[..., 1]

    def _points(self) -> Ints:
        """Return where in its tables each modality is, ``(m, n)``."""
        fit = self._run._fit
        places = (np.log(self._exposure) - fit.log_first) * fit.per_log
        # NumPy's logarithm may differ from Python's in the last bit, which matters where a place is whole.
        doubtful = np.abs(places - np.rint(places)) < 1e-9
        if doubtful.any():
            for at in zip(*doubtful.nonzero(), strict=True):
                places[at] = (math.log(self._exposure[at]) - fit.log_first) * fit.per_log
        points: Ints = np.minimum(np.maximum(places.astype(np.int64), 0), self._last_point)
        return points

    def _validate(self, reading: Floats) -> None:
        """The validation figures at a reading of the tables, ``(m, n, columns)``."""
        run, clock = self._run, self._clock
        _, _, scores, accuracies, losses, raw_scores, raw_accuracies = reading.transpose(2, 0, 1)
        m = len(scores)
        # dus_gym.envs.fake.features, a block a kind of term; the first row stays 1.
        features = self._features
        features[1 : 1 + m], features[1 + m : 1 + 2 * m] = raw_accuracies, raw_scores
        tilts = np.log(np.maximum(self._samples_seen, 1e-6) / clock)
        np.multiply(tilts, clock, out=features[-4 * m : -3 * m])
        np.multiply(features[-4 * m : -3 * m], tilts, out=features[-3 * m : -2 * m])
        np.multiply(features[-4 * m : -2 * m], clock, out=features[-2 * m :])
        np.multiply(raw_scores.take(self._first, 0), raw_scores.take(self._second, 0), out=features[1 + 2 * m : -4 * m])
        fused = self._coefficients @ features + clock * self._luck
        fused = _between(run._floor, run._floor + (fused - CHANCE) * run._stretch)
        accuracies = _between(run._floor, accuracies + clock * self._accuracy_luck)
        self._validation = np.concatenate([scores, accuracies, losses, fused.take(self._predictors, 0)])

    def _average(self, scores: Floats, repeats: int, mode: str) -> None:
        """Eq. 3, as :class:`dus_gym.discrepancy.CumulativeScore` has it."""
        if mode == "none" or self._averaged == 0:
            self._score = scores
        elif mode == "ema":
            keep = EMA_DECAY**repeats
            self._score = keep * self._score + (1.0 - keep) * scores
        else:
            self._score = self._score + (scores - self._score) * (repeats / (self._averaged + repeats))
        self._averaged += repeats

    # -- what the agent sees -----------------------------------------------------------------------

    def _observe(self) -> Array:
        return self._figures.scores.T.astype(np.float32, order="C")

    def _describe(self, sizes: Ints, loss: Floats, scores: Floats, accuracies: Floats, fused: Floats) -> dict[str, Any]:
        """``info``, and the figures that rewards compare."""
        run, n, m = self._run, self.num_envs, len(sizes)
        gap = scores.max(axis=0) - scores.min(axis=0)
        # The first of the fused predictors is the method's own; losses are the third block of m.
        num_fused = len(self._predictors)
        self._figures = Compared(
            np.minimum(np.maximum(self._score, 0.0), 1.0),
            gap,
            self._validation[-num_fused],
            self._validation[2 * m : 3 * m].sum(axis=0) / m,
        )
        coverage = np.minimum(self._samples / run._train_size, 1.0)
        integers = np.empty((self._num_integers, n), np.int64)
        integers[0], integers[1], integers[2] = self._epoch, run.epochs, self._iterations
        integers[3 : 3 + m], integers[3 + m :] = sizes, self._samples
        parts = [loss[None], gap[None], coverage, scores, accuracies]
        if run.trains_fused:
            parts.append(fused[None])
        if run.logged:
            parts.append(np.zeros((len(run.logged), n)))
        floats = np.concatenate([*parts, self._validation])
        masks = np.ones((self._num_keys, n), bool)
        return dict(zip(self._keys, [*integers, np.zeros(n, bool), *floats, *masks], strict=True))


# -- actions -------------------------------------------------------------------------------------------


def read_actions(actions: npt.ArrayLike, num_envs: int, num_modalities: int) -> Floats:
    """Checks the actions of n copies and returns them as ``(m, n)``.

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
        total: N_B, the samples of one iteration over all modalities.
        floor: the fewest samples a modality may get; ``m * floor <= total``.

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
    """Mean validation loss over modalities, nats, ``(n,)``."""


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


_BY_NAME: dict[str, Callable[[Step], Floats]] = {
    "gap": lambda step: -step.after.gap,
    "gap-change": lambda step: step.before.gap - step.after.gap,
    "validation-gain": lambda step: step.after.accuracy - step.before.accuracy,
    "learning-progress": lambda step: step.before.loss - step.after.loss,
}


def _reward(name: str, state: str) -> Callable[[Step], Floats]:
    """:func:`dus_gym.rewards.reward_function` for n copies; the names are checked before."""
    if name == "paper":
        if state == "before":
            return lambda step: _paper(step.before.scores, step.shares)
        return lambda step: _paper(step.after.scores, step.shares)
    if name not in _BY_NAME:
        raise _unsupported("reward", name)
    return _BY_NAME[name]


# -- small things --------------------------------------------------------------------------------------


def seed_words(seeds: Sequence[int], name: str) -> npt.NDArray[np.uint64]:
    """``RunSeeds(seed).sequence(name).generate_state(4, numpy.uint64)`` for every seed, ``(n, 4)``.

    NumPy's ``SeedSequence`` on arrays: one at a time it costs more than all the training of an episode. Its numbers
    are frozen by NumPy's promise that a seed keeps its stream; a test compares them.
    """
    constant = 0x43B0D7E5
    factor = 0x931E8875

    def hashed(value: Array) -> Array:
        nonlocal constant
        value = value ^ np.uint32(constant)
        constant = constant * factor & 0xFFFFFFFF
        value *= np.uint32(constant)
        value ^= value >> np.uint32(16)
        return value

    numbers = np.array(seeds, dtype=np.uint64)
    low, high = (numbers & np.uint64(0xFFFFFFFF)).astype(np.uint32), (numbers >> np.uint64(32)).astype(np.uint32)
    # A seed below 2**32 is one word of entropy, any other two; the name's checksum comes after them.
    checksum, zero = np.uint32(zlib.crc32(name.encode())), np.zeros(len(numbers), np.uint32)
    short = high == 0
    entropy = [low, np.where(short, checksum, high), np.where(short, np.uint32(0), checksum), zero]
    pool = [hashed(word) for word in entropy]
    for source in range(4):
        for target in range(4):
            if source != target:
                mixed: npt.NDArray[np.uint32] = pool[target] * np.uint32(0xCA01F9DD)
                mixed -= hashed(pool[source]) * np.uint32(0x4973F715)
                pool[target] = mixed ^ (mixed >> np.uint32(16))
    constant, factor = 0x8B51F9DD, 0x58F38DED
    words: npt.NDArray[np.uint64] = np.stack([hashed(pool[k % 4]) for k in range(8)]).astype(np.uint64)
    return np.ascontiguousarray((words[0::2] | words[1::2] << np.uint64(32)).T)


class _Words(ISeedSequence):
    """A seed sequence whose first four words are known."""

    def __init__(self, words: npt.NDArray[np.uint64]) -> None:
        self.words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> npt.NDArray[Any]:
        return self.words


def _generator(words: npt.NDArray[np.uint64]) -> np.random.Generator:
    """``numpy.random.default_rng`` of the seed sequence with these words."""
    return np.random.Generator(np.random.PCG64(_Words(words)))  # type: ignore[arg-type]  # an ISeedSequence is allowed


def _between(floor: float, values: Floats) -> Floats:
    return np.minimum(np.maximum(values, floor), 1.0)


def _unsupported(name: str, value: Any) -> ConfigError:
    return ConfigError(
        f"{name}={value!r} is not supported by the NumPy vector environment; make it with "
        'gym.make_vec(..., vectorization_mode="sync").'
    )


assert CURVES[:TEST_ACCURACY] == ("train_score", "train_accuracy", "val_score", "val_accuracy", "val_loss")
