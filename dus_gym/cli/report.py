"""``dus report``: a run or a comparison as one HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dus_gym.cli.arguments import read
from dus_gym.cli.runs import read_run
from dus_gym.errors import RunFolderError
from dus_gym.experiments.storage.run_folder import (
    COMPARISON,
    CONFIG,
    REPORT,
    SUMMARY,
    folder_of,
    read_object,
    read_steps,
    writing,
)
from dus_gym.experiments.storage.run_index import find_runs
from dus_gym.options import with_said
from dus_gym.report.comparison import comparison_page
from dus_gym.report.comparison_tables import Runs
from dus_gym.report.page import Page
from dus_gym.report.run import run_page
from dus_gym.report.verdict import REFERENCE
from dus_gym.state import write_atomically


@dataclass(frozen=True)
class ReportOptions:
    """Options of ``dus report``."""

    path: Path = field(metadata={"positional": True})
    """The folder of a run or of a comparison, or a comparison.json alone."""
    out: Path | None = None
    """The HTML file; report.html in the folder if not given."""
    json: bool = False
    """Print the path and the verdict as one JSON object on the last line."""
    quiet: bool = False
    """Print nothing but errors and the --json line."""


def main(words: list[str]) -> None:
    """Write the page and print its verdict."""
    options = read(ReportOptions, words, "report", "Write a run or a comparison as one HTML page.")
    page = page_of(options.path)
    folder = options.path if options.path.is_dir() else options.path.parent
    out = options.out or folder / REPORT
    if out.is_dir():
        raise RunFolderError(f"out={out} is a folder; give a file, such as {out / REPORT}.")
    with writing(out):
        write_atomically(out, page.html().encode())
    if not options.quiet:
        print(page.verdict)
        print(f"written to {out}")
    if options.json:
        print(json.dumps({"out": str(out), "verdict": page.verdict}))


def page_of(path: Path) -> Page:
    """Return the page of a run folder, a comparison's folder or a ``comparison.json``.

    Raises:
        RunFolderError: for anything else, and for a comparison that has not come to its end.
    """
    if path.is_file():
        return _comparison(path, read_object(path), None)
    if (path / COMPARISON).is_file():
        return _comparison(path / COMPARISON, read_object(path / COMPARISON), path)
    if (path / CONFIG).is_file() and "agents" in read_object(path / CONFIG):
        raise RunFolderError(f"{path} holds a comparison that is not finished; go on with dus compare --resume.")
    config, summary = read_run(path)
    return run_page(config, summary, list(read_steps(path)))


def _comparison(file: Path, found: Mapping[str, Any], folder: Path | None) -> Page:
    """The page of one or, under ``comparisons``, several comparisons."""
    results = found.get("comparisons", [found])
    try:
        pairs = [(result, _runs(result, folder)) for result in results]
        return comparison_page(pairs)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise RunFolderError(f"{file} is damaged or no comparison ({error!r}); run dus compare --resume.") from error


def _runs(result: Mapping[str, Any], folder: Path | None) -> Runs:
    """What the folders below a comparison hold of it."""
    if folder is None:
        return Runs()
    found: dict[tuple[str, int], tuple[Path, dict[str, Any]]] = {}
    for path in find_runs(folder):
        config = read_object(path / CONFIG)
        same = (config["env"], with_said(config["method"], config["method_options"]))
        if (
            same == (result["env"], with_said(result["method"], result["method_options"]))
            and (path / SUMMARY).is_file()
        ):
            found[path.parent.name, config["seed"]] = (path, config)
    keys = {name: [(folder_of(name), seed) for seed in result["seeds"]] for name in result["agents"]}
    whole = {name: [found[key][0] for key in wanted] for name, wanted in keys.items() if found.keys() >= set(wanted)}
    reference = keys.get(REFERENCE, next(iter(keys.values())))
    return Runs(
        {name: [read_object(path / SUMMARY) for path in paths] for name, paths in whole.items()},
        {name: [list(read_steps(path)) for path in paths] for name, paths in whole.items()},
        found[reference[0]][1] if reference[0] in found else {},
    )
