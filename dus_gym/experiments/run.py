"""One run from its spec to its result: what ``dus_gym.train`` does once and ``dus_gym.compare`` many times."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import gymnasium as gym
import numpy as np

import dus_gym
from dus_gym.agents.base import Agent
from dus_gym.agents.loop import run_episode
from dus_gym.agents.policy_files import save_policy
from dus_gym.costs import Stopwatch, peak_device_memory, peak_memory, reset_peaks
from dus_gym.data.dataset import DataOverview
from dus_gym.data.surveys import surveys_kept
from dus_gym.envs.dus_env import DUSEnv
from dus_gym.errors import CheckpointError
from dus_gym.experiments.drivers import Driver
from dus_gym.experiments.picture import draw_run
from dus_gym.experiments.results import FORMAT, ModalityResult, Result
from dus_gym.experiments.spec import DEFAULT_AGENT, RunSpec, make_spec
from dus_gym.experiments.storage.run_folder import MODEL, PICTURE, POLICY, RunFolder, writing
from dus_gym.records import Evaluation, GraphsUsed, Progress
from dus_gym.state import check_form, restoring, save_state

CHECKPOINT_SECONDS = float(os.environ.get("DUS_CHECKPOINT_SECONDS", "10"))
"""A killed run loses at most about this much work."""

Record = Mapping[str, Any]
"""One line of ``steps.jsonl``: the step's number, observation and reward, and the environment's info."""
OnStep = Callable[[DUSEnv, Record], None]
OnPrior = Callable[[int, int], None]
"""Takes how many of the runs that an agent makes before the one that counts are done, and how many it plans."""


def train(
    env: str,
    agent: Any = DEFAULT_AGENT,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    on_step: OnStep | None = None,
    **settings: Any,
) -> Result:
    """Train one run under an agent.

        result = dus_gym.train("DUS-Digits-v0", agent="holdout", seed=0, loss_norm="fixed")

    Args:
        env: a registered id.
        agent: a name, ``NAME:option=value`` of one, a policy file, or what :func:`dus_gym.as_agent` takes.
        seed: of everything: data split, initialisation, order, agent.
        out: the run folder; None keeps nothing on disk.
        resume: go on with the run that is in the folder.
        force: replace a run that is in the folder.
        on_step: called after each step with the environment and the step's record.
        settings: see :func:`dus_gym.experiments.spec.make_spec`; fields of :class:`dus_gym.config.RunConfig` by name.

    Raises:
        DusError: for what can't be, before anything is trained.
    """
    with surveys_kept():
        spec = make_spec(env, agent, seed=seed, **settings)
        spec.check()
        if out is None:
            return execute(spec, on_step=on_step)
        config, path = {"command": "train"} | spec.as_config(), Path(out)
        with RunFolder.resume(path, config) if resume else RunFolder.create(path, config, force=force) as folder:
            return folder.result() or execute(spec, folder, on_step=on_step, keep_model=True)


def execute(
    spec: RunSpec,
    folder: RunFolder | None = None,
    *,
    on_step: OnStep | None = None,
    on_prior: OnPrior | None = None,
    keep_model: bool = False,
) -> Result:
    """Run to the end, from the folder's checkpoint if it has one.

    Args:
        spec: what to run.
        folder: where steps, checkpoints and the summary go; None keeps nothing.
        on_step: called after each step with the environment and the step's record.
        on_prior: called before the first, and after each, of the runs that the agent makes before the one that counts.
        keep_model: also write the model's weights and the picture.

    Raises:
        DusError: see the parts; nothing half-written is left as finished.
    """
    import torch

    torch.set_num_threads(spec.threads)
    reset_peaks(spec.run.device)
    going = _Going.begin(spec, folder, on_step, on_prior)
    if not going.core_ended:
        run_episode(
            going.env, going.agent, seed=spec.seed, resume=going.resume, on_step=going.after_step, watch=going.deciding
        )
    going.save(finished=True)
    core, run = going.core, going.core.run
    finished = Finished(
        progress=run.progress,
        evaluation=core.evaluate(),
        diverged=core.diverged,
        epochs=run.epochs,
        data_kind=run.data_kind,
        dropped=run.dropped,
        data=run.overview,
        precision=run.precision,
        graphs=run.graphs,
        seconds=going.seconds,
        agent_seconds=going.deciding.seconds,
        prepared=going.prepared,
    )
    result = result_of(spec, going.agent, core, going.records, finished, None if folder is None else folder.path)
    if folder is not None:
        if keep_model:
            _keep_model(folder, going, result)
        with writing(folder.path / f"{POLICY}{going.agent.file_suffix}"):
            save_policy(going.agent, folder.path)
        folder.save_result(result)
    going.env.close()
    return result


def _prepare(agent: Driver, spec: RunSpec, on_prior: OnPrior | None) -> dict[str, Any]:
    """Let an agent make its runs before the one that counts, and tell of each; return settings that it replaced."""
    planned, done = agent.planned_runs, 0
    if on_prior is None or not planned:
        return agent.prepare(lambda **asked: spec.make_env(agent, **asked), spec.seed)
    tell: OnPrior = on_prior

    def count(found: Any) -> Any:
        """Tell of the runs that a step has ended."""
        nonlocal done
        if ended := int(np.count_nonzero(np.logical_or(found[2], found[3]))):
            done += ended
            tell(done, planned)
        return found

    class Counted(gym.Wrapper[Any, Any, Any, Any]):
        """Count the runs that end."""

        def step(self, action: Any) -> Any:
            """Make a step; tell of a run that it ends."""
            return count(self.env.step(action))

    class AllCounted(gym.vector.VectorWrapper):
        """The same of several runs at once."""

        def step(self, actions: Any) -> Any:
            """Make a step; tell of the runs that it ends."""
            return count(self.env.step(actions))

    def make_env(**asked: Any) -> Any:
        env = spec.make_env(agent, **asked)
        return AllCounted(env) if isinstance(env, gym.vector.VectorEnv) else Counted(env)

    tell(0, planned)
    return agent.prepare(make_env, spec.seed)


@dataclass
class _Going:
    """A run under way."""

    spec: RunSpec
    env: gym.Env[Any, Any]
    agent: Agent
    folder: RunFolder | None
    on_step: OnStep | None
    prepared: dict[str, Any]
    """Settings that the agent's driver replaced."""
    deciding: Stopwatch
    spent: float = 0.0
    """Seconds of the processes before this one."""
    started: float = field(default_factory=time.perf_counter)
    resume: tuple[Any, dict[str, Any]] | None = None
    """Observation and info of a restored run."""
    core_ended: bool = False
    records: list[Record] = field(default_factory=list)
    last_saved: float = field(default_factory=time.perf_counter)

    @property
    def core(self) -> DUSEnv:
        """The environment without its wrappers."""
        core: DUSEnv = self.env.unwrapped  # type: ignore[assignment]
        return core

    @property
    def seconds(self) -> float:
        """Of the whole run so far."""
        return self.spent + time.perf_counter() - self.started

    @classmethod
    def begin(cls, spec: RunSpec, folder: RunFolder | None, on_step: OnStep | None, on_prior: OnPrior | None) -> _Going:
        """Make a new run, or put back the one of the folder's checkpoint."""
        started, deciding = time.perf_counter(), Stopwatch()
        agent = spec.make_agent(len(spec.task().modalities))
        checkpoint = None if folder is None else folder.load_checkpoint()
        if folder is not None and checkpoint is not None:
            form = {"prepared": {}, "seconds": 0.0, "agent_seconds": 0.0, "steps": 0, "agent": agent.state_dict()}
            check_form(form, checkpoint, f"the checkpoint in {folder.path}")
        prepared: dict[str, Any] = {} if checkpoint is None else checkpoint["prepared"]
        if checkpoint is None and isinstance(agent, Driver):
            with deciding:
                prepared = _prepare(agent, spec, on_prior)
        env = spec.make_env(agent, **prepared)
        going = cls(spec, env, agent, folder, on_step, prepared, deciding, started=started)
        if isinstance(agent, Driver):
            agent.attach(env)
        if folder is not None:
            if checkpoint is not None:
                going._restore(folder, checkpoint)
            else:
                folder.keep_steps(0)
        return going

    def _restore(self, folder: RunFolder, checkpoint: dict[str, Any]) -> None:
        """Put the checkpoint back."""
        with restoring(f"the checkpoint in {folder.path}"):
            self.resume = self.env.reset(seed=self.spec.seed, options={"snapshot": checkpoint["env"]})
            self.agent.load_state_dict(checkpoint["agent"])
            self.spent, count = float(checkpoint["seconds"]), int(checkpoint["steps"])
            self.deciding = Stopwatch(float(checkpoint["agent_seconds"]))
            self.core_ended = bool(checkpoint["env"]["ended"])
            if self.core_ended and count < 1:
                raise CheckpointError(f"the checkpoint in {folder.path} is damaged (it ended before its first step).")
        folder.keep_steps(count)
        self.records = list(folder.steps())

    def after_step(self, observation: Any, reward: float, info: dict[str, Any]) -> None:
        """Record a step."""
        values = [float(value) for value in np.asarray(observation)]
        record = {"step": len(self.records) + 1, "observation": values, "reward": reward, **info}
        self.records.append(record)
        if self.folder is not None:
            self.folder.add_step(record)
        if self.on_step is not None:
            self.on_step(self.core, record)
        self.save()

    def save(self, finished: bool = False) -> None:
        """Write a checkpoint, if the last one is old enough or the run is over."""
        if self.folder is None or not (finished or time.perf_counter() - self.last_saved >= CHECKPOINT_SECONDS):
            return
        self.folder.save_checkpoint(
            {
                "env": self.core.snapshot(),
                "agent": self.agent.state_dict(),
                "prepared": self.prepared,
                "steps": len(self.records),
                "seconds": self.seconds,
                "agent_seconds": self.deciding.seconds,
            }
        )
        self.last_saved = time.perf_counter()


def _keep_model(folder: RunFolder, going: _Going, result: Result) -> None:
    """Write the weights and the picture."""
    from dus_gym.trainer import Trainer

    core = going.core
    if isinstance(core.run, Trainer):
        with writing(folder.path / MODEL):
            save_state(folder.path / MODEL, "model", core.run.evaluated_weights())
    title = f"{result.title}\ntrainer {result.trainer}, data {result.data_kind}"
    with writing(folder.path / PICTURE):
        draw_run(folder.path / PICTURE, title, core.modalities, going.records)


@dataclass(frozen=True)
class Finished:
    """A run that has ended, alone or beside others."""

    progress: Progress
    evaluation: Evaluation
    diverged: bool
    epochs: int
    data_kind: str
    dropped: Mapping[str, int]
    data: DataOverview | None
    precision: str | None
    graphs: GraphsUsed | None
    seconds: float
    """Of the whole run; its part of what several runs took together."""
    agent_seconds: float
    prepared: Mapping[str, Any] = field(default_factory=dict)
    """Settings that the agent's driver replaced."""
    together: tuple[int, ...] = ()
    """Seeds of the runs that trained as one computation."""


def result_of(
    spec: RunSpec, agent: Agent, core: DUSEnv, records: Sequence[Record], run: Finished, folder: Path | None
) -> Result:
    """Return settings, figures on the test split, what was drawn and what it cost.

    Args:
        spec: of the run.
        agent: who decided.
        core: an environment of its settings.
        records: of every step.
        run: what came out.
        folder: where the run is kept; None if it is not.
    """
    progress, last = run.progress, records[-1]
    modalities = {
        name: ModalityResult(
            **asdict(scores),
            samples=progress.samples[j],
            score=progress.scores[j],
            coverage=progress.coverage[j],
            val_accuracy=last.get(f"val_accuracy/{name}"),
            val_score=last.get(f"val_score/{name}"),
        )
        for j, (name, scores) in enumerate(run.evaluation.modalities.items())
    }
    return Result(
        format=FORMAT,
        env=spec.env,
        agent=spec.agent,
        agent_options=spec.agent_options,
        method=spec.method,
        method_options=spec.method_options,
        task_options=spec.task_options,
        seed=spec.seed,
        trainer=core.trainer,
        data_kind=run.data_kind,
        dropped=dict(run.dropped),
        data=run.data,
        data_name=spec.data_name,
        fused=run.evaluation.fused,
        modalities=modalities,
        gap=sum(progress.gaps) / len(progress.gaps) if progress.gaps else 0.0,
        score_rise=score_rise(records, core.modalities),
        rate_falls=tuple(progress.rate_falls),
        diverged=run.diverged,
        settings=spec.settings_under(agent) | dict(run.prepared),
        folder_settings=spec.folder_settings(),
        policy=spec.policy,
        together=run.together,
        precision=run.precision,
        graphs=run.graphs,
        select=core.config.select,
        epochs=run.epochs,
        total_batch=core.allocation.total_batch,
        base_batch=core.allocation.base_batch,
        iterations=progress.iterations,
        samples=sum(progress.samples),
        version=dus_gym.__version__,
        training_runs=agent.training_runs if isinstance(agent, Driver) else 0.0,
        seconds=run.seconds,
        agent_seconds=run.agent_seconds,
        peak_memory_mib=peak_memory(),
        peak_device_memory_mib=peak_device_memory(spec.run.device),
        folder=folder,
    )


def score_rise(records: Sequence[Record], modalities: Sequence[str]) -> float | None:
    """Return how much the mean training score rose from the tenth of the steps before the last to the last tenth.

    Args:
        records: of every step.
        modalities: whose scores are averaged.
    """
    if len(records) < 2:
        return None
    tenth = max(1, len(records) // 10)
    means = [fmean(record[f"train_score/{name}"] for name in modalities) for record in records]
    return fmean(means[-tenth:]) - fmean(means[-2 * tenth : -tenth])
