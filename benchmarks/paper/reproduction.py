"""A reproduction: the runs it needs, why some can't be had, and the page of every table and figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dus_gym.benchmarks.paper.cells import cells, markdown
from dus_gym.benchmarks.paper.item import Item, drawing
from dus_gym.benchmarks.paper.plan import Plan, label_of, run_of, source_of, unfit
from dus_gym.benchmarks.paper.rows import ROWS, Row
from dus_gym.benchmarks.paper.settings import Setting, settings
from dus_gym.cli.train import check
from dus_gym.data.mock import make_mock
from dus_gym.errors import ConfigError, DatasetNotFoundError, RunFolderError
from dus_gym.experiments.run import RunRequest
from dus_gym.experiments.run_many import Run, finished, make_folder
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
from dus_gym.state import write_atomically

Place = tuple[str, str]
"""Data set as printed, and row's folder."""


@dataclass(frozen=True)
class Wanted:
    """One item, and the part of it that was asked for."""

    item: Item
    datasets: tuple[str, ...]
    rows: tuple[Row, ...]


def prepare(plan: Plan) -> FileLock:
    """Makes the output folder, or goes on in it, and holds it until the lock is released.

    Raises:
        RunFolderError: for a folder that holds something else, a reproduction on other data, or one under way.
    """
    if listing(plan.out):
        if not is_ours(plan.out, "reproduce"):
            raise RunFolderError(f"out={plan.out} is not empty and holds no reproduction; give another folder.")
        if (found := read_object(plan.out / CONFIG).get("mode")) != plan.mode:
            raise RunFolderError(f"out={plan.out} holds a reproduction with mode {found!r}; give another folder.")
    make_folder(plan.out)
    held = lock(plan.out)
    try:
        write_atomically(plan.out / CONFIG, as_json(MARK | {"command": "reproduce", "mode": plan.mode}))
    except BaseException:
        held.release()
        raise
    return held


def mock(plan: Plan, datasets: Sequence[str]) -> None:
    """Made-up media for every data set that has none yet."""
    for name in datasets:
        setting = settings()[name]
        root = source_of(plan, setting).root
        if root is not None and not root.exists():
            make_mock(setting.folder, root, setting.smoke.clips)


def runs_of(plan: Plan, wanted: Sequence[Wanted]) -> tuple[list[Run], dict[Place, str]]:
    """Every run once, and why the others can't be had.

    Raises:
        ConfigError: for settings that a data set does not have.
    """
    runs: dict[Path, Run] = {}
    notes: dict[Place, str] = {}
    lacks = {name: _lacks(plan, settings()[name]) for name in dict.fromkeys(n for w in wanted for n in w.datasets)}
    for want in wanted:
        for name in want.datasets:
            for row in want.rows:
                why = lacks[name] or unfit(row, settings()[name], plan)
                if why is not None:
                    notes[name, row.folder] = why
                    continue
                for seed in plan.seeds:
                    run = run_of(plan, settings()[name], row, seed)
                    runs[run.folder] = run
    kinds = {run.folder.parent: run for run in runs.values() if finished(run) is None}
    for run in kinds.values():
        # What can't be is found out before the first run is trained.
        check(run.request)
    return list(runs.values()), notes


def _lacks(plan: Plan, setting: Setting) -> str | None:
    """What is missing of a data set and how to get it; None where it is there."""
    try:
        request = run_of(plan, setting, ROWS["Baseline"], plan.seeds[0]).request
        if plan.encoder is not None:
            _check_encoder(request, label_of(plan, setting))
        check(request)
    except DatasetNotFoundError as error:
        return str(error)
    return None


def _check_encoder(request: RunRequest, name: str) -> None:
    """Raises ConfigError, which names the data set, if the task does not offer the encoder that is asked for."""
    try:
        request.task()
    except ConfigError as error:
        raise ConfigError(f"{name}: {error} Leave that data set out by --datasets.") from error


def write(want: Wanted, plan: Plan, notes: Mapping[Place, str]) -> tuple[dict[str, Any], str]:
    """Writes an item's page, numbers and pictures from the finished runs; returns the numbers and the page.

    Runs that are not finished, and runs that diverged, are named below the table.
    """
    item, notes = want.item, dict(notes)
    summaries: dict[Place, list[dict[str, Any]]] = {}
    steps: dict[Place, list[list[dict[str, Any]]]] = {}
    for name in want.datasets:
        for row in want.rows:
            if (name, row.folder) in notes:
                continue
            runs = [run_of(plan, settings()[name], row, seed) for seed in plan.seeds]
            done = [(run, summary) for run in runs if (summary := finished(run)) is not None]
            if known := _known([summary for _, summary in done], len(runs)):
                notes[name, row.folder] = known
            if done:
                summaries[name, row.folder] = [summary for _, summary in done]
                steps[name, row.folder] = [list(read_steps(run.folder)) for run, _ in done if item.draw is not None]
    numbers = cells(item, plan, want.datasets, want.rows, summaries, notes)
    parts = [f"# {item.title}", "", f"{plan.protocol[0].upper()}{plan.protocol[1:]}.", ""]
    pictures: dict[str, Any] = {}
    if item.draw is None:
        parts += ["Ours, mean ± deviation / printed (difference), in per cent and points.", ""]
    for name in want.datasets if item.draw is not None else ():
        what = drawing(item, plan, name, want.rows, summaries, steps)
        if what is None:
            continue
        picture = plan.out / f"{item.word}-{settings()[name].folder}.png"
        said = item.draw(picture, what) if item.draw is not None else []
        pictures[name] = {"picture": picture.name, "ours": said, "paper": item.shape}
        parts += [f"![{item.title}, {name}]({picture.name})", "", f"The paper: {item.shape}", ""]
        parts += [f"Ours on {label_of(plan, settings()[name])}:", "", *(f"- {line}" for line in said), ""]
    parts.append(markdown(numbers, plan))
    text = "\n".join(parts).rstrip() + "\n"
    result = {
        "item": item.word,
        "title": item.title,
        "mode": plan.mode,
        "protocol": plan.protocol,
        "trainer": plan.trainer or "real",
        "data_kind": {"real": "real", "standin": "stand-in", "smoke": "mock"}[plan.mode],
        "seeds": list(plan.seeds),
        "cells": [cell.as_json() for cell in numbers],
        "figures": pictures,
    }
    for file, content in ((f"{item.word}.json", as_json(result)), (f"{item.word}.md", text.encode())):
        with writing(plan.out / file):
            write_atomically(plan.out / file, content)
    return result, text


def _known(done: Sequence[Mapping[str, Any]], seeds: int) -> str:
    """What to know of a row's runs: how many are not finished, how many diverged; empty if all is well."""
    said = [] if len(done) == seeds else [f"{len(done)} of {seeds} runs finished"]
    if diverged := sum(summary["diverged"] for summary in done):
        said.append(f"{diverged} of {len(done)} runs diverged and stopped early")
    return "; ".join(said)
