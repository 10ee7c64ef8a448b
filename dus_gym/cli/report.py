"""``dus report``: a run, a comparison or a ceiling as one HTML page."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from dus_gym.cli.arguments import read
from dus_gym.errors import RunFolderError
from dus_gym.experiments.storage.comparison_folder import read_comparison
from dus_gym.experiments.storage.run_folder import (
    COMPARISON,
    CONFIG,
    REPORT,
    holds_ceiling,
    read_object,
    read_run,
    read_steps,
    writing,
)
from dus_gym.report.comparison import comparison_page
from dus_gym.report.page import Page
from dus_gym.report.run import run_page
from dus_gym.state import write_atomically


@dataclass(frozen=True)
class ReportOptions:
    """Options of ``dus report``."""

    path: Path = field(metadata={"positional": True})
    """The folder of a run, a comparison or a ceiling, or a comparison.json alone."""
    out: Path | None = None
    """The HTML file; report.html in the folder if not given."""
    json: bool = False
    """Print the path and the verdict as one JSON object on the last line."""
    quiet: bool = False
    """Print nothing but errors and the --json line."""


def main(words: list[str]) -> None:
    """Write the page and print its verdict."""
    options = read(ReportOptions, words, "report", "Write a run, a comparison or a ceiling as one HTML page.")
    page = page_of(options.path)
    folder = options.path if options.path.is_dir() else options.path.parent
    out = options.out or folder / REPORT
    if out.is_dir():
        raise RunFolderError(f"out={out} is a folder; give a file, such as {out / REPORT}.")
    with writing(out, "try again"):
        write_atomically(out, page.html().encode(errors="backslashreplace"))
    if not options.quiet:
        print(page.verdict)
        print(f"written to {out}")
    if options.json:
        print(json.dumps({"out": str(out), "verdict": page.verdict}))


def page_of(path: Path) -> Page:
    """Return the page of a run folder, the folder of a comparison or a ceiling, or a ``comparison.json``.

    Raises:
        RunFolderError: for anything else, and for a comparison or a ceiling that has not come to its end.
    """
    if holds_ceiling(path):
        # A ceiling is read with what searches for one, which loads PyTorch; other pages need none.
        from dus_gym.report.ceiling import ceiling_page

        return ceiling_page(path)
    if path.is_file() or (path / COMPARISON).is_file():
        return comparison_page(read_comparison(path))
    if (path / CONFIG).is_file() and "agents" in read_object(path / CONFIG):
        raise RunFolderError(f"{path} holds a comparison that is not finished; go on with dus compare --resume.")
    config, result = read_run(path)
    return run_page(config, result, list(read_steps(path)))
