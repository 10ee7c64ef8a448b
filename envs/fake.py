"""A trainer that follows fitted learning curves instead of training: thousands of runs a minute.

Each modality j has an exposure u_j that grows by ``(a_j / B)^γ_j`` per iteration, times the learning-rate
schedule, so that the uniform split ends at u = 1. Its scores, accuracies and losses are piecewise linear in
log u. The fused accuracy is a quadratic in the modalities' scores and in how unequal their exposures were.
All of it is fitted to real runs of Digits, DigitsControl and Digits3 under constant splits
(``traces.csv``, ``benchmarks/fit_fake.py``); the error of the fit, also on splits that change half-way,
stands in ``fake_curves.json`` and in the documentation. On the Digits curves balancing wins, on the
DigitsControl curves it loses.

Other tasks borrow the curves of their ``regime``, with chance level moved to their number of classes.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.resources import files
from operator import mul
from typing import Any

import numpy as np

from dus_gym.config import RunConfig
from dus_gym.data.task import Task
from dus_gym.errors import CheckpointError, ConfigError
from dus_gym.methods.base import Method
from dus_gym.records import Evaluation, Figures, Interval, Probe, Progress, Scores
from dus_gym.seeding import RunSeeds
from dus_gym.state import check_form

CURVES = ("train_score", "train_accuracy", "val_score", "val_accuracy", "val_loss", "test_accuracy")
VAL_ACCURACY, TEST_ACCURACY = CURVES.index("val_accuracy"), CURVES.index("test_accuracy")
PREDICTORS = ("concat", "sum", "entropy")
MILESTONE, DROP = 0.7, 0.1
CHANCE = 0.1
"""Chance level of the ten digit classes that the curves were fitted on."""
FINENESS = 256
"""Points between two knots at which the curves are tabulated: 0.002 in log u apart."""
NOISE_BLOCK = 64
"""Steps whose noise is drawn at once: a draw of two numbers costs as much as one of a hundred."""


@dataclass(frozen=True)
class FittedCurves:
    """One regime under one ``loss_norm``, moved to one chance level."""

    gamma: list[float]
    """How strongly the batch size acts on each modality's exposure."""
    log_first: float
    """log u of the first point of the tables."""
    per_log: float
    """Points of the tables per unit of log u."""
    tables: list[list[tuple[float, ...]]]
    """For each modality, the values of :data:`CURVES` at every point, inside their range."""
    raw: list[list[tuple[float, ...]]]
    """The same as fitted, for the regression of the fused accuracy: ten classes, not clipped."""
    fused: list[list[float]]
    """Six columns of coefficients: validation accuracy of the three predictors, then test accuracy."""
    map: tuple[float, float]
    """Mean average precision as a line in accuracy."""
    macro_f1: tuple[float, float]
    """Macro-F1 as a line in accuracy."""
    run_noise: float
    """Standard deviation between runs of the fused test accuracy."""
    validation_noise: float
    """The same on the (smaller) validation split."""
    step_noise: float
    """Standard deviation of one epoch's training score."""


@lru_cache(maxsize=16)
def fitted(regime: str, loss_norm: str, num_classes: int) -> FittedCurves:
    """The curves in ``fake_curves.json``, tabulated."""
    text = files("dus_gym.envs").joinpath("fake_curves.json").read_text(encoding="utf-8")
    found = json.loads(text)[regime][loss_norm]
    knots = np.array(found["log_knots"])
    points = np.linspace(knots[0], knots[-1], FINENESS * (len(knots) - 1) + 1)
    floor, stretch = 1.0 / num_classes, (1.0 - 1.0 / num_classes) / (1.0 - CHANCE)
    tables, raw = [], []
    for j in range(len(found["gamma"])):
        columns = [np.interp(points, knots, found["curves"][name][j]) for name in CURVES]
        raw.append(list(zip(*(column.tolist() for column in columns), strict=True)))
        # Probabilities and accuracies lie in [chance, 1]; a loss is above 0 and starts at log c.
        moved = [
            np.maximum(column, 0.0) * math.log(num_classes) / math.log(1.0 / CHANCE)
            if name == "val_loss"
            else np.clip(floor + (column - CHANCE) * stretch, floor, 1.0)
            for name, column in zip(CURVES, columns, strict=True)
        ]
        tables.append(list(zip(*(column.tolist() for column in moved), strict=True)))
    return FittedCurves(
        gamma=found["gamma"],
        log_first=float(knots[0]),
        per_log=FINENESS * (len(knots) - 1) / float(knots[-1] - knots[0]),
        tables=tables,
        raw=raw,
        fused=[list(column) for column in zip(*found["fused"], strict=True)],
        map=tuple(found["map"]),
        macro_f1=tuple(found["macro_f1"]),
        run_noise=found["run_noise"],
        validation_noise=found["validation_noise"],
        step_noise=found["step_noise"],
    )


def features(scores: list[float], accuracies: list[float], clock: float, tilts: list[float]) -> list[float]:
    """Return what the fused accuracy is regressed on.

    Args:
        scores: training score of each modality.
        accuracies: accuracy of each modality on the split in question.
        clock: how much of the schedule has passed, in [0, 1].
        tilts: log of each modality's samples over what the uniform split would have given it.
    """
    found = [1.0, *accuracies, *scores]
    for i, score in enumerate(scores):
        found += [score * other for other in scores[i:]]
    # What an unequal split costs in the middle of a run it need not cost at the end, so each term comes
    # with the clock and with its square.
    for t in tilts:
        once, twice = clock * t, clock * clock * t
        found += (once, once * t, twice, twice * t)
    return found


class FakeTrainer:
    """A :class:`~dus_gym.records.TrainingRun` that trains nothing.

    Args:
        task: gives modalities, classes, epochs, batch and the regime.
        method: only its heads and predictor matter: the curves are the baseline's.
        config: ``pairing``, ``update``, ``device``, ``precision``, ``graphs``, ``checkpointing`` change nothing here.
        seeds: the noise comes from here.
    """

    kind = "fake"
    data_kind = "mock"
    dropped: Mapping[str, int] = {}
    has_validation = True
    precision = None
    graphs = None
    overview = None

    def __init__(self, task: Task, method: type[Method], config: RunConfig, seeds: RunSeeds) -> None:
        m = len(task.modalities)
        self.modalities = task.modalities
        self.epochs = config.epochs if config.epochs is not None else task.epochs
        self.config = config
        self.base_batch = task.batch if config.total_batch is None else max(1, config.total_batch // m)
        self.iterations_per_epoch = config.iterations or max(1, task.train_size // self.base_batch)
        self.trains_fused = method.fuses and config.pairing == "prefix"
        self.has_concat = "fused" in method.heads and config.pairing == "prefix"
        own = method.own_predictor if config.predict_with == "method" else config.predict_with
        # No curve was fitted for the sum of all heads; it comes nearest to the concat head.
        own = "concat" if own == "sum-all" else own
        self._own = PREDICTORS.index("sum" if own == "concat" and not self.has_concat else own)
        # Under loss_norm="fixed" a batch size acts as a learning rate, and so those curves stand for the other lever.
        norm = "fixed" if config.lever == "rates" else config.loss_norm
        self._fit = fitted(task.regime, norm, task.num_classes)
        if len(self._fit.gamma) != m:
            raise ConfigError(f"task={task.name!r} has {m} modalities and its regime {task.regime!r} has not.")
        self._train_size = task.train_size
        self._stretch = (1.0 - 1.0 / task.num_classes) / (1.0 - CHANCE)
        self._floor = 1.0 / task.num_classes
        self._milestone = math.ceil(MILESTONE * self.epochs) * self.iterations_per_epoch
        iterations = self.epochs * self.iterations_per_epoch
        self._length = self._milestone + DROP * (iterations - self._milestone)
        self._rng = seeds.generator("fake/steps")
        self._noise: list[list[float]] = []
        start = seeds.generator("fake/run")
        # What differs between runs: the pace of each modality, and how lucky its splits are.
        self._pace: list[float] = np.exp(0.08 * start.standard_normal(m)).tolist()
        self._luck: list[float] = []
        for noise in (self._fit.validation_noise, self._fit.run_noise):
            self._luck += (noise * (start.standard_normal() + 0.3 * start.standard_normal(3))).tolist()
        self._accuracy_luck: list[float] = (self._fit.validation_noise * start.standard_normal(m)).tolist()
        self._probe = Probe(self._untrained(start), self._untrained(start))
        self._exposure = [0.0] * m
        self._samples_seen = [0.0] * m
        self._clock = 0.0
        self.progress = Progress(samples=[0] * m, coverage=[0.0] * m)
        self.validation: Figures | None = None
        self._reached: dict[str, Any] = {"points": [0] * m, "clock": 0.0, "tilts": [0.0] * m}
        self._epoch_scores = [0.0] * m
        self._epoch_samples = [0] * m
        self._best: dict[str, Any] | None = None
        self.logged: Mapping[str, float] = dict.fromkeys(method.figures_of(self.modalities), 0.0)

    # -- what the environment calls ----------------------------------------------------------------

    def probe(self) -> Probe:
        """Figures of an untrained network on B samples: chance, and what so few samples add to it."""
        return copy.deepcopy(self._probe)

    def train(self, sizes: list[int], iterations: int, rates: Sequence[float] | None = None) -> Interval:
        """Moves along the curves."""
        progress, m, per_epoch = self.progress, len(sizes), self.iterations_per_epoch
        left = min(iterations, self.epochs * per_epoch - progress.iterations)
        if left <= 0:
            raise ConfigError("this run has ended: all its epochs are trained; start a new one.")
        total = left
        rows: list[tuple[list[float], int]] = []
        sums, hits = [0.0] * m, [0.0] * m
        fractions = [size / self.base_batch for size in sizes] if rates is None else rates
        while left > 0:
            count = min(left, per_epoch - progress.iterations % per_epoch)
            scores, accuracies = self._advance(fractions, count)
            rows.append((scores, count))
            for j, size in enumerate(sizes):
                sums[j] += scores[j] * count
                hits[j] += accuracies[j] * count
                drawn = size * count
                progress.samples[j] += drawn
                self._epoch_scores[j] += scores[j] * drawn
                self._epoch_samples[j] += drawn
            progress.iterations += count
            left -= count
            if progress.iterations % per_epoch == 0:
                self._end_epoch()
        # A fake run draws no sample; a stream of permutations would have covered this much.
        progress.coverage = [min(1.0, n / self._train_size) for n in progress.samples]
        means = [s / total for s in sums]
        right = [h / total for h in hits]
        return Interval(
            iteration_scores=rows,
            sizes=list(sizes),
            scores=means,
            accuracies=right,
            # A fused prediction is about as good in training as its best modality: no curve was fitted for it.
            fused_accuracy=max(right),
            # As in training, the fused head's loss is in it.
            loss=-sum(map(math.log, means)) - self.trains_fused * math.log(max(means)),
            diverged=False,
            rates=None if rates is None else list(rates),
        )

    def validate(self) -> Figures | None:
        """Validation figures of the exposures reached so far."""
        kept = self.validation, self._reached
        try:
            self._validate([self._point(j) for j in range(len(self.modalities))])
            return self.validation
        finally:
            self.validation, self._reached = kept

    def fork(self) -> FakeTrainer:
        """A copy; the fitted curves are shared."""
        return copy.deepcopy(self, {id(self._fit): self._fit})

    def evaluate(self) -> Evaluation:
        """Test figures from the curves."""
        reached = self._best["reached"] if self._best is not None else self._reached
        fused = self._named(self._fused_accuracies(reached, test=True))

        def scores(accuracy: float) -> Scores:
            (a, b), (c, d) = self._fit.map, self._fit.macro_f1
            return Scores(accuracy, min(1.0, max(0.0, a + b * accuracy)), min(1.0, max(0.0, c + d * accuracy)))

        return Evaluation(
            modalities={
                name: scores(table[i][TEST_ACCURACY])
                for name, table, i in zip(self.modalities, self._fit.tables, reached["points"], strict=True)
            },
            fused={name: None if v is None else scores(v) for name, v in fused.items()},
        )

    def snapshot(self) -> dict[str, Any]:
        """Exposures, counters, generator and selection."""
        return {
            "rng": self._rng.bit_generator.state,
            "noise": copy.deepcopy(self._noise),
            "exposure": list(self._exposure),
            "samples_seen": list(self._samples_seen),
            "clock": self._clock,
            "progress": asdict(self.progress),
            "validation": None if self.validation is None else asdict(self.validation),
            "reached": copy.deepcopy(self._reached),
            "epoch_scores": list(self._epoch_scores),
            "epoch_samples": list(self._epoch_samples),
            "best": copy.deepcopy(self._best),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Puts a snapshot of the same task, settings and seed back."""
        state = copy.deepcopy(state)
        best = state["best"]
        for reached in (state["reached"], *([] if best is None else [best["reached"]])):
            # The form of ``best`` is not known to who read the file: a run that has just begun has none.
            check_form(self._reached, reached, "the fake trainer's state")
            points, ends = reached["points"], [len(table) for table in self._fit.tables]
            if len(points) != len(ends) or any(
                not isinstance(i, int) or not 0 <= i < end for i, end in zip(points, ends, strict=True)
            ):
                raise CheckpointError(f"the fake trainer's state is damaged (points {points} of curves of {ends}).")
        self._rng.bit_generator.state = state["rng"]
        self._noise = state["noise"]
        self._exposure, self._samples_seen = state["exposure"], state["samples_seen"]
        self._clock = state["clock"]
        self.progress = Progress(**state["progress"])
        self.validation = None if state["validation"] is None else Figures(**state["validation"])
        self._reached = state["reached"]
        self._epoch_scores, self._epoch_samples = state["epoch_scores"], state["epoch_samples"]
        self._best = best

    # -- inside ------------------------------------------------------------------------------------

    def _untrained(self, draw: np.random.Generator) -> Figures:
        """Chance-level figures on B samples."""
        m, batch, chance = len(self.modalities), self.base_batch, self._floor
        right = (draw.binomial(batch, chance, m + 3) / batch).tolist()
        sure = (chance * np.exp(0.015 * draw.standard_normal(m))).tolist()
        return Figures(sure, right[:m], [-math.log(s) for s in sure], self._named(right[m:]))

    def _advance(self, fractions: Sequence[float], count: int) -> tuple[list[float], list[float]]:
        """``count`` iterations inside one epoch: training scores and accuracies.

        Args:
            fractions: of its ordinary batch, or learning rate, that each modality gets.
            count: iterations.
        """
        fit, progress, exposure = self._fit, self.progress, self._exposure
        start = progress.iterations
        full = max(0, min(count, self._milestone - start))
        step = (full + DROP * (count - full)) / self._length
        self._clock += step
        if not self._noise:
            block = self._rng.standard_normal((NOISE_BLOCK, len(fractions)))
            self._noise = (fit.step_noise * self._stretch * block[::-1]).tolist()
        noise = self._noise.pop()
        points, scores, accuracies = [], [], []
        for j, fraction in enumerate(fractions):
            exposure[j] += step * fraction ** fit.gamma[j] * self._pace[j]
            self._samples_seen[j] += step * fraction
            point = self._point(j)
            points.append(point)
            reading = fit.tables[j][point]
            scores.append(min(1.0, max(self._floor, reading[0] + noise[j])))
            accuracies.append(reading[1])
        if (start + count) % self.iterations_per_epoch == 0:
            epoch = progress.epoch + 1
            if epoch % self.config.eval_every == 0 or epoch == self.epochs:
                self._validate(points)
        return scores, accuracies

    def _point(self, j: int) -> int:
        """Return where in its tables modality j is."""
        fit = self._fit
        point = int((math.log(self._exposure[j]) - fit.log_first) * fit.per_log)
        return 0 if point < 0 else min(point, len(fit.tables[j]) - 1)

    def _validate(self, points: list[int]) -> None:
        clock, floor = self._clock, self._floor
        tilts = [math.log(max(n, 1e-6) / clock) for n in self._samples_seen]
        self._reached = {"points": points, "clock": clock, "tilts": tilts}
        _, _, scores, accuracies, losses, _ = zip(
            *[t[i] for t, i in zip(self._fit.tables, points, strict=True)], strict=True
        )
        self.validation = Figures(
            list(scores),
            [min(1.0, max(floor, v + clock * luck)) for v, luck in zip(accuracies, self._accuracy_luck, strict=True)],
            list(losses),
            self._named(self._fused_accuracies(self._reached, test=False)),
        )

    def _fused_accuracies(self, reached: dict[str, Any], *, test: bool) -> list[float]:
        """Accuracy of the three predictors at a point of the run, on the validation or the test split."""
        raw = [table[i] for table, i in zip(self._fit.raw, reached["points"], strict=True)]
        clock, accuracy = reached["clock"], TEST_ACCURACY if test else VAL_ACCURACY
        row = features([v[0] for v in raw], [v[accuracy] for v in raw], clock, reached["tilts"])
        columns = slice(3, 6) if test else slice(0, 3)
        return [
            self._moved(sum(map(mul, row, column)) + clock * luck)
            for column, luck in zip(self._fit.fused[columns], self._luck[columns], strict=True)
        ]

    def _moved(self, value: float) -> float:
        """From the fitted ten classes to this task's chance level, inside [chance, 1]."""
        return min(1.0, max(self._floor, self._floor + (value - CHANCE) * self._stretch))

    def _named(self, fused: list[float]) -> dict[str, float | None]:
        concat, total, entropy = fused
        return {
            "method": fused[self._own],
            "concat": concat if self.has_concat else None,
            "sum": total,
            "entropy": entropy,
        }

    def _end_epoch(self) -> None:
        progress = self.progress
        progress.epoch += 1
        progress.scores = [s / n for s, n in zip(self._epoch_scores, self._epoch_samples, strict=True)]
        progress.gaps.append(max(progress.scores) - min(progress.scores))
        m = len(self.modalities)
        self._epoch_scores, self._epoch_samples = [0.0] * m, [0] * m
        evaluated = progress.epoch % self.config.eval_every == 0 or progress.epoch == self.epochs
        if self.config.select == "last" or not evaluated:
            return
        value = self._fused_accuracies(self._reached, test=self.config.select == "best_test")[self._own]
        if self._best is None or value > self._best["value"]:
            self._best = {"value": value, "epoch": progress.epoch, "reached": copy.deepcopy(self._reached)}
