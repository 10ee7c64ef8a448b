"""One run from its settings to its summary: what ``dus train`` does once and ``dus compare`` many times."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import dus_gym
from dus_gym.agents import make_agent
from dus_gym.agents.base import Agent
from dus_gym.agents.loop import run_episode
from dus_gym.agents.transfer import agent_from_policy
from dus_gym.cli.options import OWN_ID, changed, check_env, jsonable, run_settings
from dus_gym.config import RunConfig
from dus_gym.costs import Stopwatch, peak_device_memory, peak_memory, reset_peaks
from dus_gym.data.own.digest import digest_of
from dus_gym.data.tasks import Task
from dus_gym.envs.dus_env import DUSEnv
from dus_gym.errors import CheckpointError, ConfigError
from dus_gym.options import with_said
from dus_gym.records import Evaluation
from dus_gym.report.picture import draw_run
from dus_gym.runs import FORMAT, MODEL, PICTURE, RunFolder, writing
from dus_gym.seeding import RunSeeds
from dus_gym.state import save_state

MOST_THREADS = 1024
CHECKPOINT_SECONDS = float(os.environ.get("DUS_CHECKPOINT_SECONDS", "10"))
"""A killed run loses at most about this much work."""


@dataclass(frozen=True)
class RunRequest:
    """Everything that decides a run's result."""

    env: str
    agent: str = "reinforce"
    agent_options: dict[str, Any] = field(default_factory=dict)
    method: str = "baseline"
    method_options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    trainer: str | None = None
    data_root: str | None = None
    task_options: dict[str, Any] = field(default_factory=dict)
    run: RunConfig = field(default_factory=RunConfig)
    threads: int = 1
    policy: str | None = None
    """A saved policy, which then is the agent."""

    def __post_init__(self) -> None:
        RunSeeds(self.seed)
        if not 1 <= self.threads <= MOST_THREADS:
            raise ConfigError(f"threads={self.threads} is not allowed; it must lie in 1 … {MOST_THREADS}.")

    def task(self) -> Task:
        """The task with the request's options."""
        return check_env(self.env).configured(self.task_options, self.data_root)

    def make_agent(self, num_modalities: int) -> Agent:
        """The agent, seeded by the run's seed."""
        if self.policy is not None:
            return agent_from_policy(self.policy, num_modalities, self.seed, self.agent_options)
        return make_agent(self.agent, num_modalities, self.seed, self.agent_options)

    def make_env(self, agent: Agent, **settings: Any) -> gym.Env[Any, Any]:
        """The environment with the kind of actions and the interval that the agent asks for.

        Args:
            agent: who will act in it.
            settings: replace settings of the run.
        """
        chosen: dict[str, Any] = {} if self.trainer is None else {"trainer": self.trainer}
        env: gym.Env[Any, Any] = gym.make(
            f"dus_gym:{self.env}",
            method=self.method,
            method_options=self.method_options,
            data_root=self.data_root,
            task_options=self.task_options,
            **chosen | run_settings(self.run, agent) | settings,
        )
        return env

    def as_config(self) -> dict[str, Any]:
        """JSON-able; two requests with the same value give the same result."""
        config: dict[str, Any] = jsonable(self)
        if self.env == OWN_ID and self.data_root is not None:
            # Where the data lies is no part of a run, but what it is.
            config["data"] = digest_of(Path(self.data_root).expanduser())
        return config

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> RunRequest:
        """The request that :meth:`as_config` was asked of; what else a run folder's config holds is left out.

        Raises:
            ConfigError: for a setting that there is none of, or a value that can't be.
        """
        names = {field.name for field in fields(cls)} - {"run"}
        try:
            return cls(run=RunConfig.of(config["run"]), **{key: config[key] for key in names if key in config})
        except (KeyError, TypeError) as error:
            raise ConfigError(f"the run's config is damaged ({error!r}).") from error


OnStep = Callable[[DUSEnv, dict[str, Any]], None]


def execute(
    request: RunRequest,
    folder: RunFolder | None = None,
    *,
    on_step: OnStep | None = None,
    keep_model: bool = False,
) -> dict[str, Any]:
    """Runs to the end and returns the summary; goes on from the folder's checkpoint if it has one.

    Args:
        request: what to run.
        folder: where steps, checkpoints and the summary go; None keeps nothing.
        on_step: called after each step with the environment and the step's record.
        keep_model: also writes the model's weights and the picture.

    Raises:
        DusError: see the parts; nothing half-written is left as finished.
    """
    import torch

    torch.set_num_threads(request.threads)
    device = request.run.device
    reset_peaks(device)
    modalities = request.task().modalities
    agent = request.make_agent(len(modalities))
    started, spent, deciding = time.perf_counter(), 0.0, Stopwatch()
    records: list[dict[str, Any]] = []
    resume: tuple[Any, dict[str, Any]] | None = None
    checkpoint = folder.load_checkpoint() if folder is not None else None
    if checkpoint is None:
        with deciding:
            prepared = agent.prepare(partial(request.make_env, agent), request.seed)
    else:
        prepared = checkpoint.get("prepared", {})
    env = request.make_env(agent, **prepared)
    core: DUSEnv = env.unwrapped  # type: ignore[assignment]
    if folder is not None and checkpoint is not None:
        try:
            # gym.make's order check wants a reset before a step; the restored run then takes its place.
            env.reset(seed=request.seed)
            if core.run_seed != int(checkpoint["env"]["run_seed"]):
                raise CheckpointError(f"the checkpoint in {folder.path} is of another seed; start again with --force.")
            resume = core.restore(checkpoint["env"])
            agent.load_state_dict(checkpoint["agent"])
            spent, count = float(checkpoint["seconds"]), int(checkpoint["steps"])
            deciding = Stopwatch(float(checkpoint["agent_seconds"]))
        except CheckpointError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the checkpoint in {folder.path} does not fit this run ({error!r}).") from error
        folder.keep_steps(count)
        records = list(folder.steps())
    elif folder is not None:
        folder.keep_steps(0)
    last_saved = time.perf_counter()

    def save(finished: bool = False) -> None:
        nonlocal last_saved
        if folder is None:
            return
        now = time.perf_counter()
        if finished or now - last_saved >= CHECKPOINT_SECONDS:
            state = {
                "env": core.snapshot(),
                "agent": agent.state_dict(),
                "prepared": prepared,
                "steps": len(records),
                "seconds": spent + now - started,
                "agent_seconds": deciding.seconds,
            }
            folder.save_checkpoint(state)
            last_saved = now

    def after_step(observation: Any, reward: float, info: dict[str, Any]) -> None:
        record = {
            "step": len(records) + 1,
            "observation": [float(v) for v in np.asarray(observation)],
            "reward": reward,
            **info,
        }
        records.append(record)
        if folder is not None:
            folder.add_step(record)
        if on_step is not None:
            on_step(core, record)
        save()

    ended = resume is not None and bool(checkpoint and checkpoint["env"]["ended"])
    if not ended:
        run_episode(env, agent, seed=request.seed, resume=resume, on_step=after_step, watch=deciding)
    save(finished=True)
    summary = summarise(request, core, core.evaluate(), records[-1])
    summary |= {
        "training_runs": agent.training_runs,
        "seconds": spent + time.perf_counter() - started,
        "agent_seconds": deciding.seconds,
        "peak_memory_mib": peak_memory(),
        "peak_device_memory_mib": peak_device_memory(device),
    }
    if folder is not None:
        if keep_model and core.trainer == "real":
            with writing(folder.path / MODEL):
                save_state(folder.path / MODEL, "model", {"model": core.run.snapshot()["weights"]["model"]})
        if keep_model:
            title = (
                f"{request.env} · {with_said(request.method, request.method_options)} under "
                f"{with_said(request.agent, request.agent_options)} · seed {request.seed} · "
                f"trainer {summary['trainer']}, data {summary['data_kind']}"
            )
            with writing(folder.path / PICTURE):
                draw_run(folder.path / PICTURE, title, core.modalities, records)
        folder.save_summary(summary)
    env.close()
    return summary


def summarise(request: RunRequest, core: DUSEnv, evaluation: Evaluation, last: Mapping[str, Any]) -> dict[str, Any]:
    """The summary: settings, figures on the test split, what was drawn. JSON-able and reproducible to the bit.

    Args:
        request: what was run.
        core: the environment at its end.
        evaluation: the test split's figures.
        last: the last step's record: it has the validation figures that agents saw.
    """
    run = core.run
    progress = run.progress
    modalities = {
        name: asdict(scores)
        | {"samples": progress.samples[j], "score": progress.scores[j], "coverage": progress.coverage[j]}
        | {key: last.get(f"{key}/{name}") for key in ("val_accuracy", "val_score")}
        for j, (name, scores) in enumerate(evaluation.modalities.items())
    }
    return {
        "format": FORMAT,
        "env": request.env,
        "agent": request.agent,
        "agent_options": jsonable(request.agent_options),
        "method": request.method,
        "method_options": jsonable(request.method_options),
        "task_options": jsonable(request.task_options),
        "seed": request.seed,
        "trainer": core.trainer,
        "data_kind": run.data_kind,
        "dropped": dict(run.dropped),
        "fused": {name: None if s is None else asdict(s) for name, s in evaluation.fused.items()},
        "modalities": modalities,
        "gap": sum(progress.gaps) / len(progress.gaps) if progress.gaps else 0.0,
        "diverged": core.diverged,
        "settings": jsonable(changed(core.config)) | {"action_mode": core.allocation.mode},
        "select": core.config.select,
        "epochs": run.epochs,
        "total_batch": core.allocation.total_batch,
        "base_batch": core.allocation.base_batch,
        "iterations": progress.iterations,
        "rate_falls": list(progress.rate_falls),
        "samples": sum(progress.samples),
        "version": dus_gym.__version__,
    }
