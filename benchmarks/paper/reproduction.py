"""A reproduction: the runs it needs, why some can't be had, and the page of every table and figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dus_gym.benchmarks.paper.cells import cells, markdown
from dus_gym.benchmarks.paper.item import Item, drawing
from dus_gym.benchmarks.paper.plan import Job, Plan, job_of, source_of, unfit
from dus_gym.benchmarks.paper.rows import Row
from dus_gym.benchmarks.paper.settings import Setting, settings
from dus_gym.cli.train import check
from dus_gym.errors import DatasetNotFoundError, RunFolderError
from dus_gym.runs import CONFIG, MARK, RunFolder, as_json, is_ours, listing, read_object
from dus_gym.state import write_atomically

Place = tuple[str, str]
"""Data set as printed, and row's folder."""


@dataclass(frozen=True)
class Wanted:
    """One item, and the part of it that was asked for."""

    item: Item
    datasets: tuple[str, ...]
    rows: tuple[Row, ...]


def prepare(plan: Plan) -> None:
    """Makes the output folder, or goes on in it.

    Raises:
        RunFolderError: for a folder that holds something else, or a reproduction on other data.
    """
    if listing(plan.out):
        if not is_ours(plan.out, "reproduce"):
            raise RunFolderError(f"out={plan.out} is not empty and holds no reproduction; give another folder.")
        if (found := read_object(plan.out / CONFIG).get("mode")) != plan.mode:
            raise RunFolderError(f"out={plan.out} holds a reproduction with mode {found!r}; give another folder.")
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        write_atomically(plan.out / CONFIG, as_json(MARK | {"command": "reproduce", "mode": plan.mode}))
    except OSError as error:
        raise RunFolderError(f"out={plan.out} can't be used ({error}); give another folder.") from error


def mock(plan: Plan, datasets: Sequence[str]) -> None:
    """Made-up media for every data set that has none yet."""
    from dus_gym.data.mock import write_mock

    for name in datasets:
        setting = settings()[name]
        root = source_of(plan, setting).root
        if root is not None and not root.exists():
            write_mock(setting.folder, root, clips=setting.smoke.clips)


def jobs_of(plan: Plan, wanted: Sequence[Wanted]) -> tuple[list[Job], dict[Place, str]]:
    """Every run once, and why the others can't be had.

    Raises:
        ConfigError: for settings that a data set does not have.
    """
    jobs: dict[Path, Job] = {}
    notes: dict[Place, str] = {}
    lacks = {name: _lacks(plan, settings()[name]) for want in wanted for name in want.datasets}
    for want in wanted:
        for name in want.datasets:
            for row in want.rows:
                why = lacks[name] or unfit(row, settings()[name], plan)
                if why is not None:
                    notes[name, row.folder] = why
                    continue
                for seed in plan.seeds:
                    job = job_of(plan, settings()[name], row, seed)
                    jobs[job.folder] = job
    kinds = {job.folder.parent: job for job in reversed(jobs.values())}
    for job in kinds.values():
        if not all(is_done(one) for one in jobs.values() if one.folder.parent == job.folder.parent):
            # What can't be is found out before the first run is trained.
            check(job.request)
    return list(jobs.values()), notes


def _lacks(plan: Plan, setting: Setting) -> str | None:
    """What is missing of a data set and how to get it; None where it is there."""
    from dus_gym.benchmarks.paper.rows import ROWS

    try:
        check(job_of(plan, setting, ROWS["Baseline"], plan.seeds[0]).request)
    except DatasetNotFoundError as error:
        return str(error)
    return None


def is_done(job: Job) -> bool:
    """Whether a run is finished."""
    return (job.folder / CONFIG).is_file() and RunFolder.resume(job.folder, config_of(job)).summary() is not None


def config_of(job: Job) -> dict[str, Any]:
    """What the run's folder says it is."""
    return {"command": "reproduce"} | job.request.as_config()


def write(want: Wanted, plan: Plan, notes: Mapping[Place, str]) -> tuple[dict[str, Any], str]:
    """Writes an item's page, numbers and pictures from the finished runs; returns the numbers and the page."""
    item = want.item
    summaries: dict[Place, list[dict[str, Any]]] = {}
    steps: dict[Place, list[list[dict[str, Any]]]] = {}
    for name in want.datasets:
        for row in want.rows:
            if (name, row.folder) in notes:
                continue
            folders = [job_of(plan, settings()[name], row, seed) for seed in plan.seeds]
            runs = [RunFolder.resume(job.folder, config_of(job)) for job in folders]
            found = [run.summary() for run in runs]
            summaries[name, row.folder] = [summary for summary in found if summary is not None]
            steps[name, row.folder] = [list(run.steps()) for run in runs] if item.draw is not None else []
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
        parts += [f"Ours on {name}:", "", *(f"- {line}" for line in said), ""]
    parts.append(markdown(numbers))
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
    write_atomically(plan.out / f"{item.word}.json", as_json(result))
    write_atomically(plan.out / f"{item.word}.md", text.encode())
    return result, text
