"""The run folders of one comparison, read for its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dus_gym.experiments.results import Result
from dus_gym.experiments.spec import REFERENCE
from dus_gym.experiments.storage.run_folder import CONFIG, SUMMARY, folder_of, read_object, read_steps
from dus_gym.experiments.storage.run_index import find_runs
from dus_gym.experiments.task_comparison import TaskComparison
from dus_gym.options import with_said


@dataclass(frozen=True)
class Runs:
    """The runs of one comparison, by agent; empty where only ``comparison.json`` was kept."""

    results: Mapping[str, Sequence[Result]] = field(default_factory=dict)
    """One per seed, in the order of the seeds; an agent that lacks one is left out."""
    steps: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]] = field(default_factory=dict)
    """Lines of ``steps.jsonl`` of the same runs."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings of one of the reference's runs."""


def read_runs(part: TaskComparison, folder: Path | None) -> Runs:
    """Return what the folders below a comparison hold of one of its parts.

    Args:
        part: the comparison.
        folder: where its runs are; None: nowhere.

    Raises:
        RunFolderError: for a run that is damaged.
    """
    if folder is None:
        return Runs()
    found: dict[tuple[str, int], tuple[Path, dict[str, Any]]] = {}
    for path in find_runs(folder):
        config = read_object(path / CONFIG)
        method = with_said(config["method"], config["method_options"])
        if (config["env"], method) == (part.env, part.method_said) and (path / SUMMARY).is_file():
            found[path.parent.name, config["seed"]] = (path, config)
    keys = {name: [(folder_of(name), seed) for seed in part.seeds] for name in part.agents}
    whole = {name: [found[key][0] for key in wanted] for name, wanted in keys.items() if found.keys() >= set(wanted)}
    reference = keys[REFERENCE][0]
    return Runs(
        {
            name: [Result.from_json(read_object(path / SUMMARY), str(path / SUMMARY), path) for path in paths]
            for name, paths in whole.items()
        },
        {name: [list(read_steps(path)) for path in paths] for name, paths in whole.items()},
        found[reference][1] if reference in found else {},
    )
