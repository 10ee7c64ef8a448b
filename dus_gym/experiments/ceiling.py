"""The most that any allocation could gain on a task: a search over constant splits and schedules, on seeds of its own.

Best constant and best schedule are searched for (:mod:`dus_gym.experiments.search`) on seeds that are not reported.
What was found then runs beside the agents on the seeds that are, and an agent's gain over uniform is given as a
fraction of the ceiling's. A search is short and its schedule is one for all seeds: a ceiling is a lower bound of what
is possible, and an agent that follows its run may pass it.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from dus_gym.agents.controls import format_splits
from dus_gym.data.surveys import surveys_kept
from dus_gym.errors import ConfigError, RunFolderError, TooManyRunsError
from dus_gym.experiments.compare import Progress, each_agent, plan_comparison, run_comparison
from dus_gym.experiments.comparison import REFERENCE, Comparison
from dus_gym.experiments.executors.executor import ScaleOptions, open_executor
from dus_gym.experiments.picture import draw_shares
from dus_gym.experiments.results import said_settings
from dus_gym.experiments.search import Generation, Search, SearchOptions, counting
from dus_gym.experiments.serialize import NOT_KEPT, to_json
from dus_gym.experiments.spec import DEFAULT_AGENT, DEFAULT_METHOD, RunSpec, make_spec, parse_seeds
from dus_gym.experiments.storage.comparison_folder import delete_comparison
from dus_gym.experiments.storage.run_folder import (
    CEILING,
    CEILING_PICTURE,
    SEARCH,
    as_json,
    folder_of,
    listing,
    lock,
    read_steps,
    writing,
)
from dus_gym.experiments.table import Table, duration
from dus_gym.experiments.task_comparison import interval_text, signed
from dus_gym.experiments.together import MOST_TOGETHER, most_together
from dus_gym.options import with_said
from dus_gym.state import write_atomically
from dus_gym.statistics import confidence_interval, ratio_interval

COMPARED = "compare"
"""The folder of the comparison, in that of the ceiling."""
LONG = 1800.0
"""Seconds from which on a search has to be asked for twice."""
TIMED_ITERATIONS = 20
AT_ONCE = 2 * MOST_TOGETHER
"""Runs of the search as one computation, where nobody says how many: candidates of one seed share nothing, so that
twice as many as of a comparison's seeds are as well together."""


@dataclass(frozen=True)
class Fraction:
    """What one agent reaches of the ceiling."""

    points: float
    """Gain over uniform, mean of the predictors searched for, points."""
    interval: tuple[float, float] | None
    """95 % interval; None with one seed."""
    fraction: float | None
    """Of the ceiling's gain; None where that is not distinguishable from 0."""
    fraction_interval: tuple[float, float] | None
    """95 % interval by Fieller's theorem; None where ``fraction`` is."""


@dataclass(frozen=True)
class Ceiling:
    """The outcome: the best constant and schedule that were found, and each agent beside them."""

    env: str
    method: str
    settings: Mapping[str, Any]
    """Settings that were set."""
    predictors: tuple[str, ...]
    """The predictors whose mean accuracy counts."""
    modalities: tuple[str, ...]
    seeds: tuple[int, ...]
    searched: tuple[int, int]
    """First and last seed of the search."""
    runs: int
    """Training runs of the search."""
    constant: tuple[float, ...]
    """Shares of the best constant split."""
    schedule: tuple[tuple[float, ...], ...]
    """Shares of the best schedule by segment; the constant's alone if no schedule was searched for."""
    highest: str
    """The word of the agent that is the ceiling: the searched one that gains more on the reported seeds."""
    agents: Mapping[str, Fraction]
    """By word, the two searched ones first."""
    comparison: Comparison | None = field(default=None, metadata={NOT_KEPT: True}, compare=False)
    """The comparison that the figures come from."""
    folder: Path | None = field(default=None, metadata={NOT_KEPT: True}, compare=False)
    scratch: Any = field(default=None, metadata={NOT_KEPT: True}, compare=False, repr=False)
    """The temporary folder, if that is where; it is deleted with this object."""

    @property
    def verdict(self) -> str:
        """The outcome in a few sentences."""
        top, labels = self.agents[self.highest], self.labels
        said = [
            f"The {labels[self.highest]} that was found gains {signed(top.points)} points over uniform"
            f"{_behind(top.interval, interval_text)}, mean test accuracy of {' and '.join(self.predictors)}: a lower "
            "bound of what is possible."
        ]
        if top.points <= 0.0:
            said = ["No allocation that was found gains anything over uniform."]
        elif top.interval is None:
            said.append("One seed gives no interval, so that no agent can be measured by it.")
        elif top.fraction is None:
            said.append("That is not distinguishable from 0, so that no agent can be measured by it.")
        said += [
            f"{name} reaches {_percent(one.fraction)} % of it{_behind(one.fraction_interval, _percents)}."
            for name, one in self.agents.items()
            if one.fraction is not None and name not in labels
        ]
        return " ".join(said)

    @property
    def labels(self) -> dict[str, str]:
        """What tables call the agents that were searched for, by their words."""
        return dict(zip(_words(self.constant, self.schedule), ("best constant", "best schedule"), strict=False))

    def table(self) -> Table:
        """Return the agents as a table, uniform left out."""
        rows = [
            [
                self.labels.get(name, name),
                signed(one.points),
                "" if one.interval is None else interval_text(one.interval),
                "–" if one.fraction is None else _percent(one.fraction),
                "" if one.fraction_interval is None else _percents(one.fraction_interval),
            ]
            for name, one in self.agents.items()
        ]
        caption = (
            f"{self.env}, {self.method}{said_settings(self.settings)}: points of test accuracy over uniform, mean of "
            f"{' and '.join(self.predictors)}, {len(self.seeds)} seeds. The search made {self.runs} runs on seeds "
            f"{self.searched[0]} to {self.searched[1]}. 95 % intervals, each taken alone."
        )
        return Table(["agent", "points to uniform", "interval", "% of the ceiling", "its interval"], rows, caption)

    def _repr_html_(self) -> str:
        """Show verdict and table in a notebook."""
        return f"<p><strong>{escape(self.verdict)}</strong></p>{self.table().html()}"

    def to_json(self) -> dict[str, Any]:
        """Return what ``ceiling.json`` holds."""
        return {**to_json(self), "verdict": self.verdict}


def ceiling(
    env: str,
    agents: str | Sequence[Any] | None = None,
    *,
    method: str = DEFAULT_METHOD,
    seeds: int | str | Sequence[int] = 64,
    search: SearchOptions | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    yes: bool = False,
    scale: ScaleOptions | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Ceiling:
    """Search for the best constant split and the best schedule, and set agents beside them.

        found = dus_gym.ceiling("DUS-Digits-v0", agents=["holdout", my_agent], lever="rates")
        print(found.table().text(), found.verdict)

    Args:
        env: a registered id; its runs are real ones.
        agents: as for :func:`dus_gym.compare`; the recommended agent if None.
        method: ``NAME`` or ``NAME:option=value``.
        seeds: those that are reported; the search takes others.
        search: how long to search.
        out: the folder that keeps search, comparison, picture and ``ceiling.json``; None: a temporary one, deleted with
            what is returned.
        resume: go on with the search that is in the folder.
        force: replace what is in the folder.
        yes: search even if that takes more than half an hour.
        scale: how many runs go on at once and where.
        progress: shows how far it is.
        settings: as for :func:`dus_gym.train`.

    Raises:
        ConfigError: for what can't be, and without ``yes`` for a search of more than half an hour, with the time that
            it would take; before a folder is touched.
        DusError: for a folder that holds something else.
    """
    search, scale = search or SearchOptions(), scale or ScaleOptions()
    if resume and out is None:
        raise ConfigError("resume=True is not allowed without out; name the folder of the search.")
    reported = parse_seeds(seeds)
    if shared := sorted({*reported} & {*search.seeds}):
        raise ConfigError(
            f"seeds={seeds!r} is not allowed; {shared[:5]} are seeds of the search ({search.seeds[0]} to "
            f"{search.seeds[-1]}): report on others, or set search_from."
        )
    asked = DEFAULT_AGENT if agents is None else agents
    with surveys_kept(), ExitStack() as stack:
        spec = make_spec(env, REFERENCE, method=method, seed=reported[0], **settings)
        spec.check()
        if spec.is_fake:
            raise ConfigError("trainer='fake' is not allowed: fitted curves have no ceiling; name a task that trains.")
        # The agents, too, before anything is searched for; the searched ones have unequal shares.
        plan_comparison(env, ["schedule", *each_agent(asked)], method=method, seeds=reported, **settings)
        with open_executor(scale, threads=spec.threads, device=spec.run.device) as executor:
            scratch = None
            if out is None:
                scratch = tempfile.TemporaryDirectory(prefix="dus-ceiling-")
                out = scratch.name
            begun = resume and (Path(out) / SEARCH).is_file()
            if not (yes or begun):
                _check_time(spec, search, scale)
            hunt = Search(spec, search, executor, most_together(spec, scale.parallel_runs, AT_ONCE))
            path = Path(out)
            held = stack.enter_context(_held(path, hunt, resume=resume, force=force))
            constant, schedule = hunt.run(path, held, progress)
        words = _words(constant, schedule)
        plans = plan_comparison(env, [*words, *each_agent(asked)], method=method, seeds=reported, **settings)
        place = path / COMPARED
        comparison = run_comparison(plans, lambda: place, resume=bool(listing(place)), scale=scale, progress=progress)
        found = _concluded(spec, search, constant, schedule, comparison)
        found = replace(found, comparison=comparison, folder=path, scratch=scratch)
        with writing(path / CEILING):
            write_atomically(path / CEILING, as_json(found.to_json()))
        with writing(path / CEILING_PICTURE):
            _draw(found, place, path / CEILING_PICTURE)
    return found


def _words(constant: Sequence[float], schedule: Sequence[Sequence[float]]) -> list[str]:
    """The agents of the best constant and, if there is one, the best schedule."""
    found = [with_said("fixed", {"shares": format_splits([constant])})]
    if len(schedule) > 1:
        found.append(with_said("schedule", {"shares": format_splits(schedule)}))
    return found


def _check_time(spec: RunSpec, search: SearchOptions, scale: ScaleOptions) -> None:
    """Train a few iterations and validate once, and refuse a search that would take more than half an hour.

    The runs that are reported, which each agent decides the number of, are not in it.

    Raises:
        ConfigError: with the time.
    """
    from dus_gym.envs.vector_env import RealRuns

    together = most_together(spec, scale.parallel_runs, AT_ONCE)
    core = spec.make_core(spec.make_agent(len(spec.task().modalities)))
    number = min(together, search.candidates * search.seeds_per_generation)
    while True:
        group = RealRuns(core, number)
        try:
            group.begin(list(search.seeds)[:1] * number)
            break
        except TooManyRunsError as error:
            number = min(error.fits, number - 1)
    runs = group.runs
    sizes = [core.allocation.equal_sizes] * number

    def seconds_of(work: Callable[[], object]) -> float:
        started = time.perf_counter()
        work()
        return (time.perf_counter() - started) / number

    iteration = seconds_of(lambda: runs.train_all(sizes, 1))
    # The first one warms up; a run of one iteration has no other.
    if count := min(runs.iterations_per_epoch, TIMED_ITERATIONS, runs.epochs * runs.iterations_per_epoch - 1):
        iteration = seconds_of(lambda: runs.train_all(sizes, count)) / count
    each = runs.epochs * (iteration * runs.iterations_per_epoch + seconds_of(runs.validate_all))
    core.close()
    seconds = search.runs * each / min(scale.workers, os.cpu_count() or 1)
    if seconds > LONG:
        raise ConfigError(
            f"the search would take about {duration(seconds)}: {search.runs} training runs of {runs.epochs} epochs. "
            "--yes (yes=True) starts it; fewer generations, candidates, seeds_per_generation or epochs, or more "
            "workers, make it shorter."
        )


# -- the folder --------------------------------------------------------------------------------------


@contextmanager
def _held(path: Path, hunt: Search, *, resume: bool, force: bool) -> Iterator[list[Generation]]:
    """Hold the folder of a ceiling for as long as the block takes; yields the generations that it holds.

    Raises:
        RunFolderError: if it holds something else, a search of other settings, or one without ``resume`` or ``force``;
            if it can't be made, or another process holds it.
    """
    found, file = listing(path), path / SEARCH
    there = file.is_file()
    if found and not there:
        raise RunFolderError(f"out={path} is not empty and holds no ceiling; give another folder.")
    if there and not (resume or force):
        raise RunFolderError(
            f"out={path} holds a ceiling; give another folder, --resume to go on with it, or --force to replace it."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"out={path} can't be used ({error}); give another folder.") from error
    held = lock(path)
    try:
        if resume and not there:
            raise RunFolderError(f"out={path} holds no ceiling to resume; leave out --resume to start one.")
        if there and not force:
            generations = hunt.read(path)
        else:
            # First what a killed command could take for its own, then the search that says whose the folder is.
            delete_comparison(path / COMPARED)
            hunt.write(path, generations := [])
            (path / CEILING).unlink(missing_ok=True)
        yield generations
    finally:
        held.release()


# -- the outcome -------------------------------------------------------------------------------------


def _concluded(
    spec: RunSpec,
    search: SearchOptions,
    constant: tuple[float, ...],
    schedule: tuple[tuple[float, ...], ...],
    comparison: Comparison,
) -> Ceiling:
    """Return each agent's gain, and its part of the highest of the searched ones."""
    part = comparison.parts[0]
    predictors = counting(part.uniform.by_seed)

    def by_seed(name: str) -> list[float]:
        columns = [column for one in predictors if (column := part.agents[name].by_seed[one]) is not None]
        return [math.fsum(values) / len(values) for values in zip(*columns, strict=True)]

    uniform, searched = by_seed(REFERENCE), _words(constant, schedule)
    gains = {name: [100.0 * (a - b) for a, b in zip(by_seed(name), uniform, strict=True)] for name in part.others}
    zero = [0.0] * len(uniform)
    highest = max(searched, key=lambda name: math.fsum(gains[name]))
    agents = {}
    for name, gain in gains.items():
        interval = confidence_interval([one / 100.0 for one in gain], zero)
        ratio = ratio_interval(gain, gains[highest])
        top = math.fsum(gains[highest])
        agents[name] = Fraction(
            points=math.fsum(gain) / len(gain),
            interval=interval,
            fraction=None if ratio is None else math.fsum(gain) / top,
            fraction_interval=ratio,
        )
    return Ceiling(
        env=spec.env,
        method=with_said(spec.method, spec.method_options),
        settings=dict(part.settings),
        predictors=predictors,
        modalities=spec.task().modalities,
        seeds=tuple(part.seeds),
        searched=(search.seeds[0], search.seeds[-1]),
        runs=search.runs,
        constant=constant,
        schedule=schedule,
        highest=highest,
        agents=agents,
    )


def _draw(found: Ceiling, place: Path, picture: Path) -> None:
    """Draw the mean share of each modality over the run, a panel per agent, from the comparison's runs."""
    # Runs that diverged are shorter, and left out of the means.
    panels: dict[str, list[list[float]]] = {}
    labels = found.labels
    for name in found.agents:
        runs = []
        for seed in found.seeds:
            steps = list(read_steps(place / folder_of(name) / f"seed{seed}"))
            runs.append([[_share(step, one, found.modalities) for one in found.modalities] for step in steps])
        longest = max(map(len, runs))
        whole = [run for run in runs if len(run) == longest]
        panels[labels.get(name, name)] = np.mean(np.array(whole), axis=0).T.tolist()
    draw_shares(picture, found.env, found.modalities, panels)


def _share(step: Mapping[str, Any], name: str, modalities: Sequence[str]) -> float:
    """Return a modality's share in a step: of the samples, or of the learning rates where those are moved."""
    kind = "rate" if f"rate/{name}" in step else "size"
    return float(step[f"{kind}/{name}"] / sum(step[f"{kind}/{one}"] for one in modalities))


def _percent(fraction: float) -> str:
    return f"{100.0 * fraction:.0f}"


def _percents(ends: tuple[float, float]) -> str:
    return f"[{_percent(ends[0])}, {_percent(ends[1])}]"


def _behind(ends: tuple[float, float] | None, form: Callable[[tuple[float, float]], str]) -> str:
    """Return an interval behind a blank; nothing if there is none."""
    return "" if ends is None else f" {form(ends)}"
