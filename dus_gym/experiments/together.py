"""Runs that differ in their seed alone, as one computation: what :mod:`dus_gym.experiments.run` does one by one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dus_gym.agents.policy_files import save_policy
from dus_gym.costs import Stopwatch, reset_peaks
from dus_gym.data.surveys import surveys_kept
from dus_gym.errors import CheckpointError, DusError
from dus_gym.experiments import run as single
from dus_gym.experiments.drivers import Driver
from dus_gym.experiments.episodes import Episodes
from dus_gym.experiments.results import Result
from dus_gym.experiments.run import Finished, Record, result_of
from dus_gym.experiments.spec import RunSpec
from dus_gym.experiments.storage.run_folder import CHECKPOINT, POLICY, TOGETHER, RunFolder, asked_for, writing
from dus_gym.methods import method_class
from dus_gym.state import check_form, load_state, restoring, save_state

_log = logging.getLogger(__name__)
MAPPED_ENCODERS = ("mlp", "cnn", "bag")
"""Encoders of the package that train as one computation."""
MOST_TOGETHER = 32
"""Runs that train as one computation where nobody says how many: more gain little on a CPU."""


def can_train_together(spec: RunSpec, asked: bool) -> bool:
    """Return whether runs of this kind can train as one computation, as far as can be told without building one.

    Fitted curves take no time, and some drivers act on runs of their own that go one by one.

    Args:
        spec: of one of them.
        asked: whether somebody said how many; encoders of somebody's own are then tried, and refused if they can't.
    """
    task = spec.task()
    mapped = asked or all(word.partition(":")[0] in MAPPED_ENCODERS for word in task.encoders)
    if spec.is_fake or not mapped or not method_class(spec.method).maps_runs:
        return False
    agent = spec.make_agent(len(task.modalities))
    return not isinstance(agent, Driver) or agent.together


def most_together(spec: RunSpec, parallel_runs: str, auto: int = MOST_TOGETHER) -> int:
    """Return how many runs of a kind train as one computation: what was asked for, or 1 where they can't.

    Args:
        spec: of one of them.
        parallel_runs: see :class:`dus_gym.experiments.executors.executor.ScaleOptions`.
        auto: where it leaves the number open.
    """
    asked = parallel_runs != "auto"
    if not can_train_together(spec, asked):
        return 1
    return int(parallel_runs) if asked else auto


def kind_of(spec: RunSpec) -> str:
    """Return a digest of what is alike in runs that may train as one computation: all that decides but the seed."""
    config = asked_for(json.loads(json.dumps(dataclasses.replace(spec, seed=0).as_config())))
    return hashlib.blake2b(json.dumps(config, sort_keys=True).encode(), digest_size=16).hexdigest()


def execute_together(
    specs: Sequence[RunSpec], folders: Sequence[RunFolder | None], done: Sequence[Result | None] = ()
) -> list[Result | DusError]:
    """Run several specs of one kind (:func:`kind_of`) to the end, from their checkpoint if they have one.

    A run whose loss is not finite, or whose agent fails, ends there; the others go on.

    Args:
        specs: what to run; they differ in the seed alone.
        folders: where each run's steps and summary go; the first holds the checkpoint of all. None keeps nothing.
        done: results of runs that are finished already. They train along, so that the others come to the same bits, and
            nothing of theirs is written.

    Returns:
        One result a run, or the error of its agent.

    Raises:
        TooManyRunsError: if memory has no room for all; nothing is touched then.
        DusError: for what can't be, before anything is trained.
    """
    torch.set_num_threads(specs[0].threads)
    reset_peaks(specs[0].run.device)
    with surveys_kept():
        going = _Together.begin(specs, folders, done or [None] * len(specs))
        while going.episodes.active:
            going.step()
            going.save()
        going.save(finished=True)
        return going.results()


def trained_with(folder: Path) -> tuple[str, list[int]] | None:
    """Return the kind and the seeds of the runs whose checkpoint a folder holds; None without one.

    Raises:
        CheckpointError: if it is damaged; says what to do.
    """
    path = folder / TOGETHER
    if not path.is_file():
        return None
    state = _load(path)
    return str(state["kind"]), [int(seed) for seed in state["seeds"]]


def _load(path: Path) -> dict[str, Any]:
    """Return the checkpoint of runs that train together.

    Raises:
        CheckpointError: if it is damaged.
    """
    try:
        state = load_state(path, "checkpoint")
        check_form({"kind": "", "seeds": [0], "prepared": [{}]}, state, f"the checkpoint {path}")
    except CheckpointError as error:
        raise CheckpointError(f"{error} Delete {path.name} there: its runs then begin anew.") from error
    return state


def _serves(state: Mapping[str, Any], specs: Sequence[RunSpec], folders: Sequence[RunFolder | None]) -> bool:
    """Return whether a checkpoint is of these runs, and the steps that it counts are there."""
    if (state["kind"], list(state["seeds"])) != (kind_of(specs[0]), [spec.seed for spec in specs]):
        return False
    counts = state.get("steps")
    if not isinstance(counts, list) or len(counts) != len(folders):
        # Damaged, which whoever puts it back says.
        return True
    return all(
        folder is None or not isinstance(count, int) or sum(1 for _ in folder.steps()) >= count
        for folder, count in zip(folders, counts, strict=True)
    )


@dataclasses.dataclass
class _Together:
    """Runs under way, with their folders."""

    specs: Sequence[RunSpec]
    folders: Sequence[RunFolder | None]
    done: Sequence[Result | None]
    episodes: Episodes
    prepared: list[dict[str, Any]]
    """Settings of each run that its agent's driver replaced."""
    preparing: float = 0.0
    """Seconds that the drivers took, over all runs."""
    records: list[list[Record]] = dataclasses.field(default_factory=list)
    spent: float = 0.0
    """Seconds of the processes before this one."""
    started: float = dataclasses.field(default_factory=time.perf_counter)
    last_saved: float = dataclasses.field(default_factory=time.perf_counter)

    @classmethod
    def begin(
        cls, specs: Sequence[RunSpec], folders: Sequence[RunFolder | None], done: Sequence[Result | None]
    ) -> _Together:
        """Make new runs, or put back those of the checkpoint."""
        started, watch = time.perf_counter(), Stopwatch()
        m = len(specs[0].task().modalities)
        agents = [spec.make_agent(m) for spec in specs]
        seeds = [spec.seed for spec in specs]
        path = None if folders[0] is None else folders[0].path / TOGETHER
        state = _load(path) if path is not None and path.is_file() else None
        going = [folder if result is None else None for folder, result in zip(folders, done, strict=True)]
        if state is not None and not _serves(state, specs, going):
            # That of other runs together, or whose steps somebody deleted: begun anew, they come to the same bits.
            _log.warning("%s is of no use here; its runs are begun anew.", path)
            state = None
        prepared: list[dict[str, Any]] = [{} for _ in specs]
        if state is not None:
            if len(state["prepared"]) != len(specs):
                raise CheckpointError(f"the checkpoint {path} is damaged ({len(state['prepared'])} settings).")
            prepared = [dict(settings) for settings in state["prepared"]]
        elif isinstance(agents[0], Driver):
            with watch:
                prepared = type(agents[0]).prepare_together(
                    agents, lambda agent, **replaced: specs[0].make_core(agent, **replaced), seeds
                )
        # Drivers of one kind replace the same settings in all runs.
        episodes = Episodes(specs[0].make_core(agents[0], **prepared[0]), agents, seeds)
        records: list[list[Record]] = [[] for _ in specs]
        whole = cls(specs, folders, done, episodes, prepared, watch.seconds, records, started=started)
        # First the runs themselves, which memory may have no room for: until they are there nothing is touched.
        episodes.begin()
        if state is not None:
            assert path is not None
            whole._restore(state, path)
            return whole
        for folder in whole.written:
            folder.keep_steps(0)
        return whole

    @property
    def written(self) -> list[RunFolder]:
        """The folders of the runs that were not finished before."""
        return [
            folder for folder, done in zip(self.folders, self.done, strict=True) if folder is not None and done is None
        ]

    def step(self) -> None:
        """Make one step and record it."""
        for step in self.episodes.step():
            records, folder = self.records[step.run], self.folders[step.run]
            values = [float(value) for value in step.observation]
            record = {"step": len(records) + 1, "observation": values, "reward": step.reward, **step.info}
            records.append(record)
            if folder is not None and self.done[step.run] is None:
                folder.add_step(record)

    def save(self, finished: bool = False) -> None:
        """Write a checkpoint, if the last one is old enough or the runs are over."""
        now = time.perf_counter()
        if self.folders[0] is None or not (finished or now - self.last_saved >= single.CHECKPOINT_SECONDS):
            return
        for folder in self.written:
            folder.flush_steps()
        path = self.folders[0].path / TOGETHER
        with writing(path):
            save_state(
                path,
                "checkpoint",
                {
                    "kind": kind_of(self.specs[0]),
                    "seeds": [spec.seed for spec in self.specs],
                    "episodes": self.episodes.snapshot(),
                    "prepared": self.prepared,
                    "preparing": self.preparing,
                    "steps": [len(records) for records in self.records],
                    "seconds": self.spent + now - self.started,
                },
            )
        self.last_saved = time.perf_counter()

    def _restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Put a checkpoint back, over runs that have just begun and show the form that it must have."""
        n, where = len(self.specs), f"the checkpoint {path}"
        fresh = {"preparing": 0.0, "steps": [0] * n, "seconds": 0.0, "episodes": self.episodes.snapshot()}
        # Which parameters are trained, and have momentum, depends on the phase that the runs are in.
        form = fresh["episodes"]["group"]["runs"]  # type: ignore[index]
        form["trainable"], form["optimizer"]["state"] = [], {}
        # Runs end one by one.
        fresh["episodes"]["active"] = []  # type: ignore[index]
        check_form(fresh, state, where)
        with restoring(where):
            steps, active = list(state["steps"]), list(state["episodes"]["active"])
            whole = [*steps, *active, *state["episodes"]["group"]["runs"]["ended"]]
            if not all(isinstance(value, int) for value in whole) or len(steps) != n or min(steps) < 0:
                raise CheckpointError(f"{where} is damaged (steps {steps}, active {active}).")
            # No step is of a run whose agent failed before it, or that was finished before and trains along.
            wanted = [r for r in range(n) if self.done[r] is None and str(r) not in state["episodes"]["errors"]]
            if any(steps[r] < 1 for r in wanted):
                raise CheckpointError(f"{where} is damaged (steps {steps}).")
            if active != sorted({*active} & {*range(n)}):
                raise CheckpointError(f"{where} is damaged (active {active} of {n} runs).")
            self.episodes.restore(state["episodes"])
            self.spent, self.preparing = float(state["seconds"]), float(state["preparing"])
        for r, (folder, count) in enumerate(zip(self.folders, steps, strict=True)):
            if folder is not None and self.done[r] is None:
                folder.keep_steps(count)
                self.records[r] = list(folder.steps())

    def results(self) -> list[Result | DusError]:
        """Evaluate all runs, keep what they leave, and return it."""
        episodes, n = self.episodes, len(self.specs)
        runs = episodes.real.runs
        evaluations = runs.evaluate_all()
        seconds = (self.spent + time.perf_counter() - self.started) / n
        found: list[Result | DusError] = []
        # What is not on disk can be written from the last checkpoint.
        unwritten = False
        for r, (spec, agent, folder) in enumerate(zip(self.specs, episodes.agents, self.folders, strict=True)):
            if (result := self.done[r] or episodes.errors.get(r)) is not None:
                found.append(result)
                continue
            finished = Finished(
                progress=runs.progresses[r],
                evaluation=evaluations[r],
                diverged=runs.ended[r],
                epochs=runs.epochs,
                data_kind=runs.data_kind,
                dropped=runs.dropped,
                data=runs.overviews[r],
                precision=runs.precision,
                graphs=runs.graphs,
                seconds=seconds,
                agent_seconds=episodes.watches[r].seconds + self.preparing / n,
                prepared=self.prepared[r],
                together=tuple(one.seed for one in self.specs),
            )
            path = None if folder is None else folder.path
            result = result_of(spec, agent, episodes.core, self.records[r], finished, path)
            try:
                if folder is not None:
                    with writing(folder.path / f"{POLICY}{agent.file_suffix}"):
                        save_policy(agent, folder.path)
                    folder.save_result(result)
            except DusError as error:
                found.append(error)
                unwritten = True
            else:
                found.append(result)
        if self.folders[0] is not None and not unwritten:
            (self.folders[0].path / TOGETHER).unlink(missing_ok=True)
        episodes.core.close()
        return found


def begun_alone(folder: Path) -> bool:
    """Return whether a folder holds a run that began by itself, and so goes on by itself."""
    return (folder / CHECKPOINT).is_file()
