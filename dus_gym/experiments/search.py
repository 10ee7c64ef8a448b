"""A search for the best constant split and the best schedule by the cross-entropy method (Rubinstein, 1999).

Candidates are drawn from a normal distribution over the logits of the split, all of them are trained, and the
distribution moves to the best quarter. The objective is the mean test accuracy of the fused predictors ``concat`` and
``sum``, which no agent may see, as a gain over uniform on the same seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dus_gym.agents import make_agent
from dus_gym.agents.base import Agent
from dus_gym.agents.controls import format_splits
from dus_gym.envs.dus_env import DUSEnv
from dus_gym.errors import RunFolderError, TooManyRunsError, check_at_least
from dus_gym.experiments.executors.executor import Executor
from dus_gym.experiments.serialize import from_json, to_json
from dus_gym.experiments.spec import RunSpec
from dus_gym.experiments.storage.run_folder import SEARCH, as_json, check_same, read_object, writing
from dus_gym.state import write_atomically

if TYPE_CHECKING:
    from dus_gym.experiments.compare import Progress

Vector = npt.NDArray[np.float64]
BOTH = ("concat", "sum")
"""The predictors whose mean accuracy is searched for, where the method has them."""
LARGEST_LOGIT = 3.0
"""Bound on the logits of a split, in both directions: shares of .0025 and .9975 of two modalities."""
SPREAD, LEAST_SPREAD = 1.2, 0.1
"""Standard deviation of the first constants' logits, and the least of any generation."""
AROUND = 0.6
"""The part of SPREAD with which schedules begin around the best constant."""
KEPT_SPREAD = 0.3
"""Weight of the old deviation beside that of a generation's best."""


@dataclass(frozen=True)
class SearchOptions:
    """The search."""

    segments: int = 8
    """Equal parts of the run, each with a split of its own in the best schedule."""
    constant_generations: int = 6
    """Generations of the search for the best constant."""
    generations: int = field(default=10, metadata={"common": True})
    """Generations of the search for the best schedule, which begins at the best constant; 0: none."""
    candidates: int = field(default=24, metadata={"common": True})
    """Candidates in a generation; the best quarter moves the search."""
    seeds_per_generation: int = field(default=8, metadata={"common": True})
    """Seeds on which every candidate of a generation is trained, beside uniform; each generation has its own."""
    search_from: int = 1000
    """First seed of the search; it uses the seeds from there on, none of which may be reported."""

    def __post_init__(self) -> None:
        for name in ("segments", "constant_generations", "seeds_per_generation"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("generations", self.generations, 0)
        check_at_least("candidates", self.candidates, 4)
        check_at_least("search_from", self.search_from, 0)

    @property
    def runs(self) -> int:
        """Training runs of the whole search."""
        return (self.constant_generations + self.generations) * (self.candidates + 1) * self.seeds_per_generation

    @property
    def seeds(self) -> range:
        """The seeds that it uses."""
        count = (self.constant_generations + self.generations) * self.seeds_per_generation
        return range(self.search_from, self.search_from + count)


@dataclass(frozen=True)
class Generation:
    """One generation of the search."""

    kind: str
    """``constant`` or ``schedule``."""
    mean: tuple[tuple[float, ...], ...]
    """Logits that the search has moved to, one row per segment; a constant has one."""
    spread: tuple[tuple[float, ...], ...]
    """Standard deviation of the logits of the next candidates."""
    gain: float
    """Points over uniform of the mean of all candidates."""
    best: float
    """Points over uniform of the best quarter, optimistic."""


@dataclass(frozen=True)
class Candidates:
    """Runs that one worker makes as one computation: run i under ``splits[i]`` with ``seeds[i]``."""

    spec: RunSpec
    splits: tuple[str, ...]
    """As the agent ``schedule`` takes them."""
    seeds: tuple[int, ...]

    def __str__(self) -> str:
        return f"{len(self.seeds)} runs of {self.spec.env}"


def perform(task: Candidates, _again: bool = False) -> list[float]:
    """Train the runs of a task, fewer at once where memory has no room for all; see :func:`fused_accuracies`."""
    import torch

    torch.set_num_threads(task.spec.threads)
    m = len(task.spec.task().modalities)
    agents = [make_agent("schedule", m, shares=shares) for shares in task.splits]
    core, at_once = task.spec.make_core(agents[0]), len(agents)
    found: list[float] = []
    while len(found) < len(agents):
        part = slice(len(found), len(found) + at_once)
        try:
            found += fused_accuracies(core, agents[part], task.seeds[part])
        except TooManyRunsError as error:
            if error.fits >= at_once:
                raise
            at_once = error.fits
    core.close()
    return found


def fused_accuracies(core: DUSEnv, agents: Sequence[Agent], seeds: Sequence[int]) -> list[float]:
    """Train one run per agent as one computation, and return each one's mean test accuracy over :func:`counting`.

    A run that diverged counts as guessing.

    Args:
        core: an environment of the runs' settings.
        agents: one per run.
        seeds: of the runs.

    Raises:
        TooManyRunsError: if memory has no room for all.
    """
    from dus_gym.experiments.episodes import Episodes

    episodes = Episodes(core, agents, seeds)
    episodes.run()
    runs, guessing = episodes.real.runs, 1.0 / core.task.num_classes
    found = []
    for evaluation, diverged in zip(runs.evaluate_all(), runs.ended, strict=True):
        scores = [score for name in counting(evaluation.fused) if (score := evaluation.fused[name]) is not None]
        found.append(guessing if diverged else sum(score.accuracy for score in scores) / len(scores))
    return found


def counting(fused: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the predictors that count: concat and sum, or the method's own where it has neither."""
    return tuple(name for name in BOTH if fused.get(name) is not None) or ("method",)


class Search:
    """The search for one task."""

    def __init__(self, spec: RunSpec, options: SearchOptions, executor: Executor, together: int) -> None:
        self.spec, self.options, self.executor, self.together = spec, options, executor, together
        self.m = len(spec.task().modalities)

    @property
    def config(self) -> dict[str, Any]:
        """Settings that decide what is found."""
        spec = {key: value for key, value in self.spec.as_config().items() if key != "seed"}
        return {"command": "ceiling", "search": to_json(self.options), "spec": json.loads(json.dumps(spec))}

    @property
    def kinds(self) -> list[str]:
        """The kind of each generation of the whole search."""
        return ["constant"] * self.options.constant_generations + ["schedule"] * self.options.generations

    def write(self, path: Path, generations: Sequence[Generation]) -> None:
        """Write how far the search is."""
        with writing(path / SEARCH):
            state = self.config | {"generations": [to_json(one) for one in generations]}
            write_atomically(path / SEARCH, as_json(state))

    def read(self, path: Path) -> list[Generation]:
        """Return the generations that :meth:`write` wrote for a search of the same settings.

        Raises:
            RunFolderError: for other settings, or a file that is damaged.
        """
        file = path / SEARCH
        damaged = f"{file} is damaged; delete it and search again"
        try:
            state = read_object(file)
        except RunFolderError as error:
            raise RunFolderError(f"{damaged} ({error}).") from error
        check_same(path, {key: state.get(key) for key in self.config}, self.config)
        listed = state.get("generations")
        if not isinstance(listed, list) or len(listed) > len(self.kinds):
            raise RunFolderError(f"{damaged} (generations).")
        found = [from_json(Generation, one, str(file)) for one in listed]
        for number, (one, kind) in enumerate(zip(found, self.kinds, strict=False)):
            shape = (1 if kind == "constant" else self.options.segments, self.m)
            whole = all(len(table) == shape[0] and {len(row) for row in table} == {self.m}
                        for table in (one.mean, one.spread))  # fmt: skip
            if one.kind != kind or not whole:
                raise RunFolderError(f"{damaged} (generations[{number}] is no {kind} of {shape[0]} × {self.m} logits).")
            if np.abs(one.mean).max() > 2.0 * LARGEST_LOGIT or not np.min(one.spread) > 0.0:
                raise RunFolderError(f"{damaged} (generations[{number}] has values that no search comes to).")
        return found

    def run(
        self, path: Path, kept: Sequence[Generation], progress: Progress | None
    ) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
        """Search from where ``kept`` stopped, and return the best constant and schedule, as shares."""
        done = list(kept)
        bar: Any = nullcontext(lambda *_: None)
        if progress is not None:
            bar = progress(f"ceiling of {self.spec.env}", self.options.runs)
        with bar as advance:
            for _ in range(len(done) * self.options.runs // len(self.kinds)):
                advance("", True)
            for number, kind in enumerate(self.kinds[len(done) :], start=len(done)):
                last = f", {done[-1].gain:+.2f} points in the last" if done else ""
                said = f"generation {number + 1} of {len(self.kinds)} ({kind}){last}"
                done.append(self._generation(number, kind, done, partial(advance, said)))
                self.write(path, done)
        constant = next(one for one in reversed(done) if one.kind == "constant")
        return (
            tuple(_shares(np.array(constant.mean))[0].tolist()),
            tuple(tuple(row) for row in _shares(np.array(done[-1].mean)).tolist()),
        )

    def _generation(
        self, number: int, kind: str, before: Sequence[Generation], on_run: Callable[[], Any]
    ) -> Generation:
        """Draw candidates around the last generation's mean, train them, and move to the best quarter."""
        options, m = self.options, self.m
        mean, spread = self._start(kind, before)
        # A generator of its own each, so that a search that was killed goes on to the same candidates.
        rng = np.random.default_rng([options.search_from, number])
        # Parts of a schedule move together as much as alone: a whole run's level matters more than any part's.
        shared, own = (rng.standard_normal((options.candidates, rows, m)) for rows in (1, len(mean)))
        noise = shared if len(mean) == 1 else (shared + own) / math.sqrt(2.0)
        logits = _centred(mean + spread * noise).clip(-LARGEST_LOGIT, LARGEST_LOGIT)
        gains = self._gains(number, [format_splits(_shares(one)) for one in logits], on_run)
        best = best_quarter(gains)
        moved = _centred(logits[best].mean(axis=0))
        narrowed = narrower(spread, logits[best], LEAST_SPREAD)
        return Generation(
            kind,
            tuple(tuple(row) for row in moved.tolist()),
            tuple(tuple(row) for row in narrowed.tolist()),
            float(gains.mean()),
            float(gains[best].mean()),
        )

    def _start(self, kind: str, before: Sequence[Generation]) -> tuple[Vector, Vector]:
        """Return mean and deviation of a generation's logits: those the last one left, or the first ones."""
        if not before:
            return np.zeros((1, self.m)), np.full((1, self.m), SPREAD)
        last = before[-1]
        mean, spread = np.array(last.mean), np.array(last.spread)
        if last.kind == kind:
            return mean, spread
        rows = self.options.segments
        return np.repeat(mean, rows, axis=0), np.full((rows, self.m), AROUND * SPREAD)

    def _gains(self, number: int, splits: Sequence[str], on_run: Callable[[], Any]) -> Vector:
        """Return each candidate's gain over uniform in points, mean over this generation's seeds.

        Calls ``on_run`` after each run.
        """
        per = self.options.seeds_per_generation
        seeds = [self.options.search_from + number * per + i for i in range(per)]
        uniform = format_splits(np.full((1, self.m), 1.0 / self.m))
        runs = [(split, seed) for split in [uniform, *splits] for seed in seeds]
        parts = [runs[i : i + self.together] for i in range(0, len(runs), self.together)]
        tasks = [Candidates(self.spec, *(tuple(of) for of in zip(*part, strict=True))) for part in parts]
        values: list[list[float]] = [[] for _ in parts]
        for index, outcome in self.executor.do(perform, tasks):
            if isinstance(outcome, Exception):
                raise outcome
            values[index] = outcome
            for _ in parts[index]:
                on_run()
        table = np.array([value for part in values for value in part]).reshape(-1, per)
        gains: Vector = 100.0 * (table[1:] - table[0]).mean(axis=1)
        return gains


def best_quarter(values: Vector) -> npt.NDArray[np.int64]:
    """Return the places of the best quarter, two or more, the best first."""
    return np.argsort(-values, kind="stable")[: max(2, len(values) // 4)]


def narrower(spread: Vector, best: Vector, least: float) -> Vector:
    """Return the deviation of the next candidates from the last one and the best candidates, one per row."""
    found: Vector = np.maximum(KEPT_SPREAD * spread + (1.0 - KEPT_SPREAD) * best.std(axis=0), least)
    return found


def _centred(logits: Vector) -> Vector:
    found: Vector = logits - logits.mean(axis=-1, keepdims=True)
    return found


def _shares(logits: Vector) -> Vector:
    weights = np.exp(logits)
    found: Vector = weights / weights.sum(axis=-1, keepdims=True)
    return found
