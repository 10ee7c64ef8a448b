"""Runs that differ in their seed alone, as one computation: what :mod:`dus_gym.experiments.run` does one by one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dus_gym.agents.base import Agent
from dus_gym.agents.policy_files import save_policy
from dus_gym.costs import Stopwatch, reset_peaks
from dus_gym.data.surveys import surveys_kept
from dus_gym.envs.dus_env import DUSEnv
from dus_gym.envs.registration import FAKE_ID
from dus_gym.errors import CheckpointError, DusError
from dus_gym.experiments import run as single
from dus_gym.experiments.drivers import Driver
from dus_gym.experiments.episodes import Episodes
from dus_gym.experiments.results import Result
from dus_gym.experiments.run import Finished, Record, result_of
from dus_gym.experiments.spec import RunSpec
from dus_gym.experiments.storage.run_folder import CHECKPOINT, POLICY, TOGETHER, RunFolder, writing
from dus_gym.methods import method_class
from dus_gym.state import load_state, restoring, save_state

MAPPED_ENCODERS = ("mlp", "cnn", "bag")
"""Encoders of the package that train as one computation; somebody's own are asked when they are built."""
MOST_TOGETHER = 32
"""Runs that train as one computation where nobody says how many: more gain little on a CPU."""


def can_train_together(spec: RunSpec) -> bool:
    """Return whether runs of this kind can train as one computation, as far as can be told without building one.

    Fitted curves take no time, and some drivers act on runs of their own that go one by one.
    """
    task = spec.task()
    fake = spec.trainer == "fake" or (spec.trainer is None and spec.env == FAKE_ID)
    mapped = all(word.partition(":")[0] in MAPPED_ENCODERS for word in task.encoders)
    if fake or not mapped or not method_class(spec.method).maps_runs:
        return False
    agent = spec.make_agent(len(task.modalities))
    return not isinstance(agent, Driver) or agent.together


def kind_of(spec: RunSpec) -> Any:
    """Return what is alike in runs that may train as one computation: everything but the seed."""
    config = dataclasses.replace(spec, seed=0).as_config()
    return json.dumps(config, sort_keys=True), id(spec.agent_object) if spec.agent_object is not None else None


def execute_together(specs: Sequence[RunSpec], folders: Sequence[RunFolder | None]) -> list[Result | DusError]:
    """Run several specs of one kind (:func:`kind_of`) to the end, from their checkpoint if they have one.

    A run whose loss is not finite, or whose agent fails, ends there; the others go on.

    Args:
        specs: what to run; they differ in the seed alone.
        folders: where each run's steps and summary go; the first holds the checkpoint of all. None keeps nothing.

    Returns:
        One result a run, or the error of its agent.

    Raises:
        DusError: for what can't be, before anything is trained.
    """
    torch.set_num_threads(specs[0].threads)
    reset_peaks(specs[0].run.device)
    with surveys_kept():
        going = _Together.begin(specs, folders)
        while going.episodes.active:
            going.step()
            going.save()
        going.save(finished=True)
        return going.results()


@dataclasses.dataclass
class _Together:
    """Runs under way, with their folders."""

    specs: Sequence[RunSpec]
    folders: Sequence[RunFolder | None]
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
    def begin(cls, specs: Sequence[RunSpec], folders: Sequence[RunFolder | None]) -> _Together:
        """Make new runs, or put back those of the checkpoint."""
        started, watch = time.perf_counter(), Stopwatch()
        m = len(specs[0].task().modalities)
        agents = [spec.make_agent(m) for spec in specs]
        seeds = [spec.seed for spec in specs]
        path = None if folders[0] is None else folders[0].path / TOGETHER
        state = load_state(path, "checkpoint") if path is not None and path.is_file() else None
        if state is not None and state.get("runs") != _identity(specs):
            # That of other runs together is of no use, and theirs are begun anew.
            state = None
        prepared: list[dict[str, Any]] = [{} for _ in specs]
        if state is not None:
            prepared = [dict(settings) for settings in state["prepared"]]
        elif isinstance(agents[0], Driver):
            with watch:
                prepared = type(agents[0]).prepare_together(
                    agents, lambda agent, **replaced: _core(specs[0], agent, replaced), seeds
                )
        lr_scales = [settings["lr_scale"] for settings in prepared if "lr_scale" in settings]
        episodes = Episodes(_core(specs[0], agents[0], {}), agents, seeds, lr_scales or None)
        going = cls(specs, folders, episodes, prepared, watch.seconds, [[] for _ in specs], started=started)
        if state is None:
            for folder in folders:
                if folder is not None:
                    folder.keep_steps(0)
            episodes.begin()
        else:
            assert path is not None
            going._restore(state, path)
        return going

    def step(self) -> None:
        """Make one step and record it."""
        for step in self.episodes.step():
            records, folder = self.records[step.run], self.folders[step.run]
            values = [float(value) for value in step.observation]
            record = {"step": len(records) + 1, "observation": values, "reward": step.reward, **step.info}
            records.append(record)
            if folder is not None:
                folder.add_step(record)

    def save(self, finished: bool = False) -> None:
        """Write a checkpoint, if the last one is old enough or the runs are over."""
        now = time.perf_counter()
        if self.folders[0] is None or not (finished or now - self.last_saved >= single.CHECKPOINT_SECONDS):
            return
        for folder in self.folders:
            if folder is not None:
                folder.flush_steps()
        path = self.folders[0].path / TOGETHER
        with writing(path):
            save_state(
                path,
                "checkpoint",
                {
                    "runs": _identity(self.specs),
                    "episodes": self.episodes.snapshot(),
                    "prepared": self.prepared,
                    "preparing": self.preparing,
                    "steps": [len(records) for records in self.records],
                    "seconds": self.spent + now - self.started,
                },
            )
        self.last_saved = time.perf_counter()

    def _restore(self, state: Mapping[str, Any], path: Path) -> None:
        with restoring(f"the checkpoint {path}"):
            self.episodes.restore(state["episodes"])
            self.spent, self.preparing = float(state["seconds"]), float(state["preparing"])
            steps = [int(count) for count in state["steps"]]
            if len(steps) != len(self.specs) or min(steps) < 1:
                raise CheckpointError(f"the checkpoint {path} is damaged (steps {steps}).")
        for r, (folder, count) in enumerate(zip(self.folders, steps, strict=True)):
            if folder is not None:
                folder.keep_steps(count)
                self.records[r] = list(folder.steps())

    def results(self) -> list[Result | DusError]:
        """Evaluate all runs, keep what they leave, and return it."""
        episodes, n = self.episodes, len(self.specs)
        runs = episodes.group.runs
        evaluations = runs.evaluate_all()
        seconds = (self.spent + time.perf_counter() - self.started) / n
        found: list[Result | DusError] = []
        for r, (spec, agent, folder) in enumerate(zip(self.specs, episodes.agents, self.folders, strict=True)):
            if r in episodes.errors:
                found.append(episodes.errors[r])
                continue
            finished = Finished(
                progress=runs.progresses[r],
                evaluation=evaluations[r],
                diverged=runs.ended[r],
                epochs=runs.epochs,
                data_kind=runs.data_kind,
                dropped=runs.dropped,
                seconds=seconds,
                agent_seconds=episodes.watches[r].seconds + self.preparing / n,
                prepared=self.prepared[r],
                together=tuple(one.seed for one in self.specs),
            )
            path = None if folder is None else folder.path
            result = result_of(spec, agent, episodes.core, self.records[r], finished, path)
            if folder is not None:
                with writing(folder.path / f"{POLICY}{agent.file_suffix}"):
                    save_policy(agent, folder.path)
                folder.save_result(result)
            found.append(result)
        if self.folders[0] is not None:
            (self.folders[0].path / TOGETHER).unlink(missing_ok=True)
        episodes.core.close()
        return found


def _core(spec: RunSpec, agent: Agent, replaced: Mapping[str, Any]) -> DUSEnv:
    """Return an environment of a run's settings, as the agent and its driver want them."""
    core = spec.make_env(agent, **replaced).unwrapped
    assert isinstance(core, DUSEnv)
    return core


def _identity(specs: Sequence[RunSpec]) -> str:
    """Return a digest of runs and their order."""
    kind, _ = kind_of(specs[0])
    said = json.dumps([kind, [spec.seed for spec in specs]])
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


def begun_alone(folder: Path) -> bool:
    """Return whether a folder holds a run that began by itself, and so goes on by itself."""
    return (folder / CHECKPOINT).is_file()
