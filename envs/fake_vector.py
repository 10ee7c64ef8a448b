"""The fitted learning curves of :mod:`dus_gym.envs.fake`, read for n runs at once in NumPy.

No Python loop runs over the runs while they train. Every run keeps a generator of its own, so that it draws what the
single environment draws; that loop runs when an episode begins and every :data:`NOISE_ROWS` steps. A fake run never
diverges, so all runs of a group begin and end together.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.random.bit_generator import ISeedSequence

from dus_gym.envs.dus_env import DUSEnv
from dus_gym.envs.fake import CHANCE, CURVES, DROP, TEST_ACCURACY, VAL_ACCURACY, FakeTrainer
from dus_gym.envs.run_group import Array, Floats, Ints, Report, RunGroup
from dus_gym.methods import method_class
from dus_gym.seeding import RunSeeds

NOISE_ROWS = 256
"""Most stretches of iterations whose noise one draw covers."""


class FakeRuns(RunGroup):
    """n runs of :class:`~dus_gym.envs.fake.FakeTrainer`.

    A run of seed s gives what the single environment gives under the same actions: sizes, counters and places on the
    curves exactly, every other figure within 1e-12 (NumPy's logarithm and exponential and its sums may differ from
    Python's in the last bits).

    Args:
        single: the environment of one run, with the settings of all.
        num_runs: n.
    """

    def __init__(self, single: DUSEnv, num_runs: int) -> None:
        super().__init__(single, num_runs)
        self._run = run = FakeTrainer(single.task, method_class(single.method), single.config, RunSeeds(0))
        self.epochs, self.iterations_per_epoch = run.epochs, run.iterations_per_epoch
        self.trains_fused = run.trains_fused
        predictors = {"method": run._own} | ({"concat": 0} if run.has_concat else {}) | {"sum": 1, "entropy": 2}
        self.predictors, self._columns = list(predictors), list(predictors.values())
        self.figures = list(run.logged)
        self._iterations_in_all = run.epochs * run.iterations_per_epoch
        self._per_step = self.iterations_per_step
        self._tabulate()

    def _tabulate(self) -> None:
        """The fitted curves as arrays, and the figures of the run that every copy shares."""
        run, fit = self._run, self._run._fit
        m, base, total = len(run.modalities), run.base_batch, self.single.allocation.total_batch
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
        self._features = np.ones((len(order), self.num_runs))
        ends = range(self._per_step, self._iterations_in_all, self._per_step)
        epochs = range(run.iterations_per_epoch, self._iterations_in_all, run.iterations_per_epoch)
        self._rows = min(NOISE_ROWS, 1 + len({*ends, *epochs}))

    def _start(self, seeds: Sequence[int]) -> Report:
        """Draw what :class:`FakeTrainer` draws when it is built, in the same order, for every run."""
        run, n, m = self._run, self.num_runs, len(self._run.modalities)
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
        self.samples = np.zeros((m, n), np.int64)
        self._clock = 0.0
        train, validation = sure[:, 0].T, sure[:, 1].T
        fused = right[:, 1, m:].T[self._columns]
        self.validation = np.concatenate([validation, right[:, 1, :m].T, -np.log(validation), fused])
        losses = -np.log(train).sum(axis=0)
        return Report(np.zeros((m, n), np.int64), losses, train, right[:, 0, :m].T, right[:, 0, m])

    def _draw_noise(self) -> None:
        m = len(self._run.modalities)
        block = np.empty((self.num_runs, self._rows, m))
        for generator, rows in zip(self._steps, block, strict=True):
            generator.standard_normal(out=rows)
        noise = self._run._fit.step_noise * self._run._stretch * block
        self._noise = np.ascontiguousarray(noise.transpose(1, 2, 0))
        self._noise_row = 0

    def _train(self, sizes: Ints, rates: Floats | None) -> Report:
        """Move along the curves. Stretches end where epochs do."""
        run, per_epoch = self._run, self._run.iterations_per_epoch
        total = left = min(self._per_step, self._iterations_in_all - self.iterations)
        if rates is None:
            powers, fractions = self._powers.take(sizes + self._power_offsets), sizes / run.base_batch
        else:
            powers, fractions = rates ** np.array(run._fit.gamma)[:, None], rates
        sums: Any = 0.0
        hits: Any = 0.0
        while left:
            count = min(left, per_epoch - self.iterations % per_epoch)
            scores, accuracies = self._advance(powers, fractions, count)
            sums = sums + scores * count
            hits = hits + accuracies * count
            self._average(scores, count)
            left -= count
        self.samples += sizes * total
        scores, accuracies = sums / total, hits / total
        logs = np.log(scores)
        loss = -logs.sum(axis=0) - run.trains_fused * logs.max(axis=0)
        return Report(sizes, loss, scores, accuracies, accuracies.max(axis=0))

    def _advance(self, powers: Floats, fractions: Floats, count: int) -> tuple[Floats, Floats]:
        """``count`` iterations inside one epoch: training scores and accuracies, ``(m, n)``."""
        run = self._run
        full = max(0, min(count, run._milestone - self.iterations))
        step = (full + DROP * (count - full)) / run._length
        self._clock += step
        self.iterations += count
        if self._noise_row == self._rows:
            self._draw_noise()
        noise = self._noise[self._noise_row]
        self._noise_row += 1
        self._exposure += step * powers * self._pace
        self._samples_seen += step * fractions
        reading = self._table.take(self._points() + self._table_offsets, axis=0)
        if self.iterations % run.iterations_per_epoch == 0:
            self.epoch += 1
            if self.epoch % self.single.config.eval_every == 0 or self.epoch == run.epochs:
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
        self.validation = np.concatenate([scores, accuracies, losses, fused.take(self._columns, 0)])

    def _coverage(self) -> Floats:
        """Return how much of the split a stream of permutations would have covered."""
        covered: Floats = np.minimum(self.samples / self._run._train_size, 1.0)
        return covered

    def _logged(self) -> Floats:
        """Return zeros: the curves are the baseline's."""
        return np.zeros((len(self.figures), self.num_runs))


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


assert CURVES[:TEST_ACCURACY] == ("train_score", "train_accuracy", "val_score", "val_accuracy", "val_loss")
