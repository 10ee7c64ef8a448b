"""A reproduction: the run behind every cell, why some can't be had, and the page of every table and figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dus_gym.benchmarks.paper import PAPER_SEEDS
from dus_gym.benchmarks.paper.cells import cells_of, markdown
from dus_gym.benchmarks.paper.datasets import DATASETS, SMOKE_RUN, PaperDataset
from dus_gym.benchmarks.paper.tables import ROWS, Item, PaperRow, RowRuns
from dus_gym.data.mock import make_mock
from dus_gym.data.registry import DataSet, data_set
from dus_gym.errors import ConfigError, DatasetNotFoundError, DusError, RunFolderError, check_choice
from dus_gym.experiments.compare import Progress
from dus_gym.experiments.executors.executor import ScaleOptions, open_executor
from dus_gym.experiments.results import Result
from dus_gym.experiments.run_many import PlannedRun, finished, make_folder, run_all, told
from dus_gym.experiments.spec import RunSpec
from dus_gym.experiments.storage.run_folder import (
    CONFIG,
    MARK,
    as_json,
    is_ours,
    listing,
    lock,
    read_object,
    read_steps,
    writing,
)
from dus_gym.lock import FileLock
from dus_gym.methods import method_class
from dus_gym.state import write_atomically

DATA_KINDS = {"real": "real", "standin": "stand-in", "smoke": "mock"}
"""Mode of a reproduction to the kind of its data."""

Missing = Mapping[tuple[str, str], str]
"""Data set as printed and row's folder to the reason why the row can't be run there."""


@dataclass(frozen=True)
class ItemPart:
    """One table or figure, and the part of it that is asked for."""

    item: Item
    datasets: tuple[str, ...]
    """As printed."""
    rows: tuple[PaperRow, ...]


@dataclass(frozen=True)
class DataInUse:
    """The data behind one of the paper's data sets in a reproduction: itself, its stand-in, or made-up media."""

    data: DataSet
    root: Path | None
    task_options: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    """Settings of every run on it."""
    instead: str = ""
    """The data in the data set's place; empty if it is itself."""


@dataclass(frozen=True)
class Reproduction:
    """Settings of a reproduction, and the folder it is kept in."""

    mode: str
    """``real``, ``standin`` (small real data in place of the paper's) or ``smoke`` (made-up media, tiny networks)."""
    out: Path
    seeds: tuple[int, ...]
    data_root: Path | None = None
    """A folder with one folder per data set, named as in ``dus data``; or the folder of the one data set in use."""
    encoder: str | None = None
    trainer: str | None = None
    epochs: int | None = None
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, tuple(DATA_KINDS))

    @property
    def protocol(self) -> str:
        """The seeds and the kind of data in a sentence, for the head of every page."""
        count = len(self.seeds)
        named = "the paper's protocol" if count == PAPER_SEEDS else f"the paper's protocol has {PAPER_SEEDS}"
        data = {
            "real": "the paper's data sets",
            "standin": "STAND-INS: small real data sets in place of the paper's; compare shapes, not numbers",
            "smoke": "SMOKE TEST: made-up media and tiny networks; the numbers mean nothing",
        }[self.mode]
        fake = "; FAKE TRAINER: fitted curves, nothing was trained" if self.trainer == "fake" else ""
        return f"{count} seed{'s' if count > 1 else ''} ({named}); {data}{fake}"

    def data_of(self, dataset: PaperDataset) -> DataInUse:
        """Return the data that one of the paper's data sets is run on.

        Raises:
            DatasetNotFoundError: where nothing can stand in for it.
        """
        run = {} if self.epochs is None else {"epochs": self.epochs}
        if self.mode == "smoke":
            root = self.out / "mock" / dataset.word
            return DataInUse(dataset.known, root, run=SMOKE_RUN | run, instead="made-up media")
        if self.mode == "real":
            return DataInUse(dataset.known, self._root_of(dataset.word), run=run)
        if dataset.standin is None:
            raise DatasetNotFoundError(f"{dataset.name} has no stand-in: no small data set is like it.")
        word, options = dataset.standin.word, dataset.standin.task_options
        return DataInUse(data_set(word), self._root_of(word), options, run, instead=word)

    def _root_of(self, word: str) -> Path | None:
        """Return the data set's folder below the data root; the root itself where it is that folder."""
        root = self.data_root
        return root if root is None or root.expanduser().resolve().name == word else root / word

    def label_of(self, dataset: PaperDataset) -> str:
        """Return a data set's name, and what is in its place."""
        if self.mode == "standin" and dataset.standin is None:
            return dataset.name
        instead = self.data_of(dataset).instead
        return f"{dataset.name} ({instead} in its place)" if instead else dataset.name

    def run_of(self, dataset: PaperDataset, row: PaperRow, seed: int) -> PlannedRun:
        """Return the run behind one row on one data set, with one seed.

        Raises:
            DatasetNotFoundError: see :meth:`data_of`.
        """
        data = self.data_of(dataset)
        encoder = {} if self.encoder is None else {"encoder": self.encoder}
        settings = {**data.run, **row.run} | ({} if self.device == "cpu" else {"device": self.device})
        spec = RunSpec(
            env=data.data.env,
            agent=row.agent,
            agent_options=dict(row.agent_options),
            method=row.method,
            seed=seed,
            trainer=self.trainer,
            data_root=None if data.root is None else str(data.root),
            task_options={**data.task_options, **encoder},
            threads=self.threads,
            settings=settings,
        )
        return PlannedRun(spec, self.out / "runs" / data.data.env / row.folder / f"seed{seed}", "reproduce")


def reproduce(
    reproduction: Reproduction,
    parts: Sequence[ItemPart],
    scale: ScaleOptions | None = None,
    progress: Progress | None = None,
) -> list[tuple[dict[str, Any], str]]:
    """Run what is missing, and write the page, numbers and pictures of every part.

    Args:
        reproduction: on which data, with which settings, and where it is kept.
        parts: tables and figures.
        scale: how many runs go on at once and where; one after another in this process if None.
        progress: shows how far it is.

    Returns:
        The numbers and the page of each part, as written.

    Raises:
        DusError: before the first run for what can't be; the error of a failed run after all others are done and the
            pages are written.
    """
    held = _hold_folder(reproduction)
    try:
        if reproduction.mode == "smoke":
            _make_mocks(reproduction, sorted({name for part in parts for name in part.datasets}))
        runs, missing = _runs_of(reproduction, parts)
        bar: Any = nullcontext(lambda *_: None) if progress is None else progress("reproduce", len(runs))
        with (
            open_executor(
                scale or ScaleOptions(), threads=reproduction.threads, device=reproduction.device
            ) as executor,
            bar as advance,
        ):
            try:
                run_all(
                    runs,
                    executor,
                    lambda run, of, kept: advance(told(run, of), kept),
                    (scale or ScaleOptions()).parallel_runs,
                )
            except (DusError, OSError):
                # A failed run takes nothing from the others: their cells are written, and its own says so.
                for part in parts:
                    _write(part, reproduction, missing)
                raise
        return [_write(part, reproduction, missing) for part in parts]
    finally:
        held.release()


def _hold_folder(reproduction: Reproduction) -> FileLock:
    """Make the output folder, or go on in it, and hold it until the lock is released.

    Raises:
        RunFolderError: for a folder that holds something else, a reproduction on other data, or one under way.
    """
    out, mode = reproduction.out, reproduction.mode
    if listing(out):
        if not is_ours(out, "reproduce"):
            raise RunFolderError(f"out={out} is not empty and holds no reproduction; give another folder.")
        if (found := read_object(out / CONFIG).get("mode")) != mode:
            raise RunFolderError(f"out={out} holds a reproduction with mode {found!r}; give another folder.")
    make_folder(out)
    held = lock(out)
    try:
        write_atomically(out / CONFIG, as_json(MARK | {"command": "reproduce", "mode": mode}))
    except BaseException:
        held.release()
        raise
    return held


def _make_mocks(reproduction: Reproduction, names: Sequence[str]) -> None:
    """Make media for every data set that has none yet."""
    for name in names:
        dataset = DATASETS[name]
        root = reproduction.data_of(dataset).root
        if root is not None and not root.exists():
            make_mock(dataset.word, root, dataset.smoke_clips)


def _runs_of(reproduction: Reproduction, parts: Sequence[ItemPart]) -> tuple[list[PlannedRun], Missing]:
    """Return every run once, and why the others can't be had.

    Raises:
        ConfigError: for settings that a data set does not have.
    """
    names = dict.fromkeys(name for part in parts for name in part.datasets)
    without_data = {name: _why_no_data(reproduction, DATASETS[name]) for name in names}
    runs: dict[Path, PlannedRun] = {}
    missing: dict[tuple[str, str], str] = {}
    for part in parts:
        for name in part.datasets:
            for row in part.rows:
                why = without_data[name] or _why_unfit(row, reproduction.data_of(DATASETS[name]))
                if why is not None:
                    missing[name, row.folder] = why
                    continue
                for seed in reproduction.seeds:
                    run = reproduction.run_of(DATASETS[name], row, seed)
                    runs[run.folder] = run
    # What can't be is found out before the first run is trained, with one seed of each row.
    for run in {run.folder.parent: run for run in runs.values() if finished(run) is None}.values():
        run.spec.check()
    return list(runs.values()), missing


def _why_no_data(reproduction: Reproduction, dataset: PaperDataset) -> str | None:
    """Return what is missing of a data set and how to get it; None where it is there.

    Raises:
        ConfigError: if the task does not offer the encoder that is asked for; the message names the data set.
    """
    try:
        spec = reproduction.run_of(dataset, ROWS["Baseline"], reproduction.seeds[0]).spec
        if reproduction.encoder is not None:
            try:
                spec.task()
            except ConfigError as error:
                name = reproduction.label_of(dataset)
                raise ConfigError(f"{name}: {error} Leave that data set out by --datasets.") from error
        spec.check()
    except DatasetNotFoundError as error:
        return str(error)
    return None


def _why_unfit(row: PaperRow, data: DataInUse) -> str | None:
    """Return why a row can't be run on a data set: its method takes fewer modalities; None where it can."""
    most, count = method_class(row.method).max_modalities, len(data.data.task.modalities)
    return f"{row.method} takes at most {most} modalities" if most is not None and count > most else None


def _row_runs(part: ItemPart, reproduction: Reproduction, missing: Missing) -> list[RowRuns]:
    """Return every row of a part on every data set, with its finished runs and what to know of them."""
    found = []
    for name in part.datasets:
        dataset = DATASETS[name]
        for row in part.rows:
            if (why := missing.get((name, row.folder))) is not None:
                found.append(RowRuns(dataset, row, (), note=why))
                continue
            runs = [reproduction.run_of(dataset, row, seed) for seed in reproduction.seeds]
            done = [result for run in runs if (result := finished(run)) is not None]
            folders = [result.folder for result in done if result.folder is not None]
            steps = [list(read_steps(folder)) for folder in folders] if part.item.draw is not None else []
            modalities = reproduction.data_of(dataset).data.task.modalities
            found.append(RowRuns(dataset, row, modalities, done, steps, _note(done, len(runs))))
    return found


def _note(results: Sequence[Result], seeds: int) -> str:
    """Return how many of a row's runs are not finished and how many diverged; empty if all is well."""
    said = [] if len(results) == seeds else [f"{len(results)} of {seeds} runs finished"]
    if diverged := sum(result.diverged for result in results):
        said.append(f"{diverged} of {len(results)} runs diverged and stopped early")
    return "; ".join(said)


def _write(part: ItemPart, reproduction: Reproduction, missing: Missing) -> tuple[dict[str, Any], str]:
    """Write an item's page, numbers and pictures from the finished runs; return the numbers and the page.

    Runs that are not finished, and runs that diverged, are named below the table.
    """
    item, out = part.item, reproduction.out
    rows = _row_runs(part, reproduction, missing)
    labels = {name: reproduction.label_of(DATASETS[name]) for name in part.datasets}
    lines = [f"# {item.title}", "", f"{reproduction.protocol[0].upper()}{reproduction.protocol[1:]}.", ""]
    pictures: dict[str, Any] = {}
    if item.draw is None:
        lines += ["Ours, mean ± deviation / printed (difference), in per cent and points.", ""]
    else:
        for name in part.datasets:
            drawn = [of for of in rows if of.dataset.name == name and of.results]
            if not drawn:
                continue
            picture = out / f"{item.word}-{DATASETS[name].word}.png"
            said = item.draw(picture, f"{item.title} · {labels[name]}\n{reproduction.protocol}", drawn)
            pictures[name] = {"picture": picture.name, "ours": said, "paper": item.shape}
            lines += [f"![{item.title}, {name}]({picture.name})", "", f"The paper: {item.shape}", ""]
            lines += [f"Ours on {labels[name]}:", "", *(f"- {line}" for line in said), ""]
    cells = cells_of(item, rows)
    lines.append(markdown(cells, labels))
    text = "\n".join(lines).rstrip() + "\n"
    result = {
        "item": item.word,
        "title": item.title,
        "mode": reproduction.mode,
        "protocol": reproduction.protocol,
        "trainer": reproduction.trainer or "real",
        "data_kind": DATA_KINDS[reproduction.mode],
        "seeds": list(reproduction.seeds),
        "cells": [cell.as_json() for cell in cells],
        "figures": pictures,
    }
    for file, content in ((f"{item.word}.json", as_json(result)), (f"{item.word}.md", text.encode())):
        with writing(out / file):
            write_atomically(out / file, content)
    return result, text
