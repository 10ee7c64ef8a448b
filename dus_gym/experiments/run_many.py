"""Many runs, each in its folder: run where there is room, resumed where they stopped, never run twice."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dus_gym.errors import ConfigError, DusError, MemoryRanOutError, RunFolderError, TooManyRunsError
from dus_gym.experiments.executors.executor import Executor
from dus_gym.experiments.results import Result
from dus_gym.experiments.run import execute
from dus_gym.experiments.spec import RunSpec
from dus_gym.experiments.storage.run_folder import CONFIG, TOGETHER, RunFolder, writer
from dus_gym.experiments.together import (
    MOST_TOGETHER,
    begun_alone,
    execute_together,
    kind_of,
    most_together,
    trained_with,
)
from dus_gym.lock import STALE_SECONDS

MOST_NAMED = 5
"""Failed runs whose error is named."""


class RunsFailedError(DusError, RuntimeError):
    """More than one of many runs failed."""


@dataclass(frozen=True)
class PlannedRun:
    """One of many runs."""

    spec: RunSpec
    """What to run."""
    folder: Path
    """Where it is kept."""
    command: str = "compare"
    """The command that wants it, which the folder's config names."""

    @property
    def config(self) -> dict[str, Any]:
        """Settings that the folder's config holds; decides whether what lies there is this run."""
        return {"command": self.command} | self.spec.as_config()

    def __str__(self) -> str:
        return self.spec.title


@dataclass(frozen=True)
class Task:
    """Runs that one worker makes: one, or several that train as one computation."""

    runs: tuple[PlannedRun, ...]
    may_split: bool = False
    """True if fewer may train together where memory has no room for all."""

    def __str__(self) -> str:
        others = ", ".join(str(run.spec.seed) for run in self.runs[1:])
        return f"{self.runs[0]}" + (f" together with {others}" if others else "")


OnDone = Callable[[PlannedRun, Result | None, bool], None]
"""Takes a run that has ended, its result (None: it failed) and whether that was there before."""


def run_all(
    runs: Sequence[PlannedRun], executor: Executor, on_done: OnDone | None = None, parallel_runs: str = "1"
) -> list[Result]:
    """Run every run that is not finished; a run that fails does not stop the others.

    Args:
        runs: each with a folder of its own.
        executor: where they are run.
        on_done: called after each run, in the order in which they end.
        parallel_runs: see :class:`dus_gym.experiments.executors.executor.ScaleOptions`.

    Returns:
        Their results, in the order of ``runs``.

    Raises:
        ConfigError: if two runs have the same folder.
        RunFolderError: before anything is run, if a folder holds a run of other settings or can't be made.
        DusError: after the others are done: the error of a run, or RunsFailedError for several.
    """
    by_folder: dict[Path, PlannedRun] = {}
    for run in runs:
        if (other := by_folder.setdefault(run.folder, run)) is not run:
            raise ConfigError(f"{other} and {run} would lie in one folder, {run.folder}; leave one out.")
    results = [finished(run) for run in runs]
    left = [index for index, result in enumerate(results) if result is None]
    for index in {*range(len(runs))} - {*left}:
        if on_done is not None:
            on_done(runs[index], results[index], True)
    for index in left:
        make_folder(runs[index].folder)
    errors: list[DusError | OSError] = []
    failed: list[PlannedRun] = []
    places = _in_tasks(runs, left, parallel_runs)
    auto = parallel_runs == "auto"
    tasks = [Task(tuple(absolute(runs[index]) for index in part), may_split=auto) for part in places]
    outcomes = executor.do(perform, tasks)
    with closing(outcomes):  # type: ignore[type-var]
        for position, outcome in outcomes:
            part = places[position]
            of_runs = [outcome] * len(part) if isinstance(outcome, Exception) else outcome
            for index, of_run in zip(part, of_runs, strict=True):
                if isinstance(of_run, Exception):
                    failed.append(runs[index])
                    if of_run not in errors:
                        errors.append(of_run)  # type: ignore[arg-type]
                else:
                    results[index] = dataclasses.replace(of_run, folder=runs[index].folder)
                if on_done is not None:
                    on_done(runs[index], results[index], False)
    if len(errors) == 1:
        if isinstance(errors[0], MemoryRanOutError):
            # It knows the task and the method; which run of many it was is known here.
            raise MemoryRanOutError(f"{Task(tuple(failed))}: {errors[0]}")
        raise errors[0]
    if errors:
        more = f"\n  and {len(errors) - MOST_NAMED} more" if len(errors) > MOST_NAMED else ""
        raise RunsFailedError(
            f"{len(failed)} of {len(runs)} runs failed; the others are kept. The first that failed is {failed[0]}. The "
            "same command goes on, dus compare with --resume:\n  "
            + "\n  ".join(dict.fromkeys(str(error) for error in errors[:MOST_NAMED]))
            + more
        )
    return [result for result in results if result is not None]


def told(run: PlannedRun, result: Result | None) -> str:
    """Return a run that has ended and what it reached, in one line."""
    reached = "failed" if result is None else "" if result.accuracy is None else f"{100 * result.accuracy:.1f} %"
    return f"{run}" + (f": {reached}" if reached else "")


def make_folder(path: Path) -> None:
    """Make a folder.

    Raises:
        RunFolderError: if it can't be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"out={path} can't be used ({error}); give another folder.") from error


def absolute(run: PlannedRun) -> PlannedRun:
    """Return the same run by paths that mean the same in any process."""
    root = run.spec.data_root
    spec = run.spec if root is None else dataclasses.replace(run.spec, data_root=str(Path(root).absolute()))
    if spec.policy is not None and Path(spec.policy).is_file():
        spec = dataclasses.replace(spec, policy=str(Path(spec.policy).absolute()))
    return dataclasses.replace(run, spec=spec, folder=run.folder.absolute())


def finished(run: PlannedRun) -> Result | None:
    """Return the result of a run that is done; None if it is not, or not begun.

    Raises:
        RunFolderError: if the folder holds a run of other settings, or one that another process writes.
    """
    if not (run.folder / CONFIG).is_file():
        return None
    with RunFolder.resume(run.folder, run.config) as folder:
        return folder.result()


def _in_tasks(runs: Sequence[PlannedRun], left: Sequence[int], parallel_runs: str) -> list[list[int]]:
    """Return the places of the runs that are left, those together that train as one computation.

    Raises:
        CheckpointError: if the checkpoint of runs together is damaged.
    """
    parts = _begun_together(runs, left)
    for index in {*range(len(runs))} - {part[0] for part in parts}:
        # Of runs that are finished, or not asked for any more.
        (runs[index].folder / TOGETHER).unlink(missing_ok=True)
    groups: dict[Any, list[int]] = {}
    for index in sorted({*left} - {place for part in parts for place in part}):
        run = runs[index]
        alone = begun_alone(run.folder) or most_together(run.spec, parallel_runs) == 1
        groups.setdefault(index if alone else _kind(run), []).append(index)
    most = MOST_TOGETHER if parallel_runs == "auto" else int(parallel_runs)
    return parts + [part[i : i + most] for part in groups.values() for i in range(0, len(part), most)]


def _kind(run: PlannedRun) -> tuple[Any, ...]:
    """Return what is alike in runs that may train together: they lie side by side, too."""
    return run.folder.parent, run.command, kind_of(run.spec), id(run.spec.agent_object)


def _begun_together(runs: Sequence[PlannedRun], waiting: Iterable[int]) -> list[list[int]]:
    """Return the places of runs that were begun together and of which some are waiting, the finished ones among them.

    They go on together, whatever is asked for now, and so come to the same bits. The first has their checkpoint.
    """
    begun = {index: found for index, run in enumerate(runs) if (found := trained_with(run.folder)) is not None}
    if not begun:
        return []
    places = {(_kind(run), run.spec.seed): index for index, run in enumerate(runs)}
    left, parts = {*waiting}, []
    for index, (kind, seeds) in begun.items():
        mine = _kind(runs[index])
        members = [places.get((mine, seed)) for seed in seeds]
        whole = [member for member in members if member is not None]
        if kind in mine and whole[:1] == [index] and len(whole) == len(seeds) and left.intersection(whole):
            parts.append(whole)
            left.difference_update(whole)
    return parts


def perform(task: Task, again: bool) -> list[Result | DusError]:
    """Run the runs of a task that are not finished, from their checkpoint if they have one.

    Args:
        task: the runs' folders must be there, if only empty: a machine that does not share them shows by that.
        again: its worker was lost. That one's locks last until its death is known, on another machine
            :data:`dus_gym.lock.STALE_SECONDS`.

    Raises:
        ConfigError: if a folder is not there.
        DusError: see :func:`dus_gym.experiments.run.execute`.
    """
    runs = task.runs
    with ExitStack() as stack:
        folders = [stack.enter_context(_held(run, again)) for run in runs]
        done = [folder.result() for folder in folders]
        # A lost worker may have finished some, or trained fewer together than it was told to.
        waiting = [i for i, result in enumerate(done) if result is None]
        parts = _begun_together(runs, waiting) if len(runs) > 1 else []
        if rest := sorted({*waiting} - {i for part in parts for i in part}):
            parts.append(rest)
        if parts == [[*range(len(runs))]]:
            if len(runs) == 1:
                return [execute(runs[0].spec, folders[0])]
            begun = (runs[0].folder / TOGETHER).is_file()
            try:
                return execute_together([run.spec for run in runs], folders, done)
            except TooManyRunsError as error:
                # Those that were begun together would come to other bits.
                if not task.may_split or begun:
                    raise
                fits = min(error.fits, len(runs) - 1)
                parts = [[*range(i, min(i + fits, len(runs)))] for i in range(0, len(runs), fits)]
    found: list[Result | DusError | None] = [*done]
    for part in parts:
        results = perform(Task(tuple(runs[i] for i in part), task.may_split), again)
        for i, result in zip(part, results, strict=True):
            found[i] = result
    return [result for result in found if result is not None]


def _held(run: PlannedRun, again: bool) -> RunFolder:
    """Return the run's folder, made if it is not there, for this process to write."""
    if not run.folder.is_dir():
        raise ConfigError(
            f"out={run.folder} is not there where the run is to be made; give an --out that all machines share."
        )
    deadline = time.monotonic() + 2.0 * STALE_SECONDS
    while again and writer(run.folder) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    begun = (run.folder / CONFIG).is_file()
    return RunFolder.resume(run.folder, run.config) if begun else RunFolder.create(run.folder, run.config, force=True)
