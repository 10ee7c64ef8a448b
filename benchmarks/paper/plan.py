"""What a reproduction runs: the paper's data, its stand-ins or made-up media, and the run behind every cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dus_gym.benchmarks.paper import PAPER_SEEDS
from dus_gym.benchmarks.paper.rows import Row
from dus_gym.benchmarks.paper.settings import Setting
from dus_gym.config import RunConfig
from dus_gym.errors import DatasetNotFoundError
from dus_gym.experiments.run import RunRequest
from dus_gym.experiments.run_many import Run
from dus_gym.methods import method_class


@dataclass(frozen=True)
class Plan:
    """What the user asked for, and where it goes."""

    mode: str
    """``real``, ``standin`` (small real data in place of the paper's) or ``smoke`` (made-up media, tiny networks)."""
    out: Path
    seeds: tuple[int, ...]
    data_root: Path | None = None
    """One folder a data set below it, named as in ``dus data``."""
    encoder: str | None = None
    trainer: str | None = None
    epochs: int | None = None
    device: str = "cpu"
    threads: int = 1

    @property
    def protocol(self) -> str:
        """How the figures came about, for the head of every table."""
        count = len(self.seeds)
        named = "the paper's protocol" if count == PAPER_SEEDS else f"the paper's protocol has {PAPER_SEEDS}"
        what = {
            "real": "the paper's data sets",
            "standin": "STAND-INS: small real data sets in place of the paper's; compare shapes, not numbers",
            "smoke": "SMOKE TEST: made-up media and tiny networks; the numbers mean nothing",
        }[self.mode]
        fake = "; FAKE TRAINER: fitted curves, nothing was trained" if self.trainer == "fake" else ""
        return f"{count} seed{'s' if count > 1 else ''} ({named}); {what}{fake}"


@dataclass(frozen=True)
class Source:
    """One data set as a plan uses it."""

    env: str
    root: Path | None
    modalities: Mapping[str, str]
    """The printed word to the environment's modality."""
    task: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    shown: str = ""
    """What stands in for the data set; empty if it is itself."""


def source_of(plan: Plan, setting: Setting) -> Source:
    """Where a data set's samples come from under a plan.

    Raises:
        DatasetNotFoundError: where nothing can stand in for it.
    """
    run = {} if plan.epochs is None else {"epochs": plan.epochs}
    if plan.mode == "smoke":
        root = plan.out / "mock" / setting.folder
        return Source(
            setting.env, root, setting.modalities, setting.task, {**setting.smoke.run, **run}, "made-up media"
        )
    base = plan.data_root
    if plan.mode == "standin":
        stand = setting.standin
        if stand is None:
            raise DatasetNotFoundError(f"{setting.name} has no stand-in: no small data set is like it.")
        return Source(stand.env, _below(base, stand.folder), stand.modalities, stand.task, run, stand.folder)
    return Source(setting.env, _below(base, setting.folder), setting.modalities, setting.task, run)


def label_of(plan: Plan, setting: Setting) -> str:
    """A data set's name, and what is in its place."""
    if plan.mode == "real" or (plan.mode == "standin" and setting.standin is None):
        return setting.name
    return f"{setting.name} ({source_of(plan, setting).shown} in its place)"


def _below(base: Path | None, folder: str) -> Path | None:
    """``base/folder``; ``base`` itself where it is that data set's own folder."""
    return base if base is None or base.expanduser().resolve().name == folder else base / folder


def run_of(plan: Plan, setting: Setting, row: Row, seed: int) -> Run:
    """The run behind one row of one data set, with one seed."""
    source = source_of(plan, setting)
    encoder = {} if plan.encoder is None else {"encoder": plan.encoder}
    request = RunRequest(
        env=source.env,
        agent=row.agent,
        agent_options=dict(row.agent_options),
        method=row.method,
        seed=seed,
        trainer=plan.trainer,
        data_root=None if source.root is None else str(source.root),
        task_options={**source.task, **encoder},
        threads=plan.threads,
        run=replace(RunConfig.of({**source.run, **row.run}), device=plan.device),
    )
    return Run(request, plan.out / "runs" / source.env / row.folder / f"seed{seed}", "reproduce")


def unfit(row: Row, setting: Setting, plan: Plan) -> str | None:
    """Why a row can't be run on a data set, or None: the method takes fewer modalities."""
    most, count = method_class(row.method).max_modalities, len(source_of(plan, setting).modalities)
    return f"{row.method} takes at most {most} modalities" if most is not None and count > most else None
