"""``dus validate``: run a run again and say whether every bit is the same."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from dus_gym import __version__
from dus_gym.cli.arguments import read
from dus_gym.cli.console import open_console
from dus_gym.cli.runs import differences
from dus_gym.errors import DusError, RunFolderError
from dus_gym.experiments.storage.run_folder import (
    CONFIG,
    MARK,
    MODEL,
    NOT_REPRODUCIBLE,
    STEPS,
    SUMMARY,
    RunFolder,
    holds_runs,
    read_object,
    read_run,
)
from dus_gym.experiments.storage.run_index import find_runs

if TYPE_CHECKING:
    from rich.console import Console

    from dus_gym.experiments.results import Result
    from dus_gym.experiments.spec import RunSpec

NOT_RESULTS = (*NOT_REPRODUCIBLE, "version", "format", "data_name")
"""Of a summary: what a second run may say otherwise although it came to the same."""


@dataclass(frozen=True)
class ValidateOptions:
    """Options of ``dus validate``."""

    run: Path = field(metadata={"positional": True})
    """The folder of a finished run, or of a comparison or a reproduction: then all its runs."""
    data_root: Path | None = None
    """Where the data set's files lie now, if not where they lay."""
    json: bool = False
    """Print the result as one JSON object on the last line."""
    quiet: bool = False
    """Print nothing but errors and the --json line."""


def main(words: list[str]) -> None:
    """Exit with 0 if all is identical, else with 1."""
    options = read(ValidateOptions, words, "validate", "Run a run again and say whether every bit is the same.")
    console = open_console(quiet=options.quiet)
    results = []
    with tempfile.TemporaryDirectory(prefix="dus-validate-") as scratch:
        again = Again(Path(scratch), options.data_root, console)
        for path in _runs(options.run):
            difference = validate(path, again)
            results.append({"run": str(path), "identical": difference is None, "difference": difference})
            said = ("identical", "green") if difference is None else ("different", "red")
            behind = "" if difference is None else f": {difference}"
            console.print(Text.assemble(f"{path}: ", said, behind), soft_wrap=True)
    if options.json:
        print(json.dumps({"identical": all(row["identical"] for row in results), "runs": results}))
    if not all(row["identical"] for row in results):
        sys.exit(1)


def _runs(path: Path) -> list[Path]:
    """The runs to validate, all of them finished."""
    many = (path / CONFIG).is_file() and holds_runs(read_object(path / CONFIG))
    runs = list(find_runs(path)) if many else [path]
    for run in runs:
        if read_run(run)[1] is None:
            raise RunFolderError(f"{run} is not finished; go on with --resume, then validate it.")
    return runs


class Again:
    """Runs that are run again, each once: those that trained as one computation do so again, and serve each other.

    Args:
        scratch: a folder for them.
        data_root: replaces the configs', where it is given.
        console: shows a run while it goes on.
    """

    def __init__(self, scratch: Path, data_root: Path | None, console: Console) -> None:
        self._scratch, self._data_root, self._console = scratch, data_root, console
        self._done: dict[Any, Path | DusError] = {}

    def of(self, path: Path, before: Result) -> Path:
        """Return the folder of the second run of what the config of a finished run asks for."""
        from dus_gym.experiments.spec import RunSpec

        spec = RunSpec.of(read_run(path)[0], str(path / CONFIG))
        if self._data_root is not None:
            spec = dataclasses.replace(spec, data_root=str(self._data_root))
        if not before.together:
            return self._alone(spec, keep_model=(path / MODEL).is_file())
        from dus_gym.experiments.together import execute_together, kind_of

        key = (kind_of(spec), before.together)
        if (*key, spec.seed) not in self._done:
            specs = [dataclasses.replace(spec, seed=seed) for seed in before.together]
            with ExitStack() as held:
                folders = [held.enter_context(self._folder(one)) for one in specs]
                found = execute_together(specs, folders)
            for one, folder, result in zip(specs, folders, found, strict=True):
                self._done[(*key, one.seed)] = result if isinstance(result, DusError) else folder.path
        second = self._done[(*key, spec.seed)]
        if isinstance(second, DusError):
            raise second
        return second

    def _alone(self, spec: RunSpec, keep_model: bool) -> Path:
        from dus_gym.cli.progress import live_run
        from dus_gym.experiments.run import execute

        with self._folder(spec) as folder, live_run(self._console, f"{spec.task_name} again") as view:
            execute(spec, folder, on_step=view.step, on_prior=view.prior, keep_model=keep_model)
        return folder.path

    def _folder(self, spec: RunSpec) -> RunFolder:
        path = self._scratch / f"run{len([*self._scratch.iterdir()])}"
        return RunFolder.create(path, MARK | spec.as_config())


def validate(path: Path, again: Again) -> str | None:
    """Run again what a folder's config asks for, elsewhere, and compare.

    Args:
        path: a finished run; nothing in it is changed.
        again: makes the second run.

    Returns:
        The first difference, with both values; None if steps, summary (all but what the run cost, and the
        version) and model weights are the same to the bit.
    """
    before = read_run(path)[1]
    assert before is not None
    second = again.of(path, before)
    after = read_run(second)[1]
    assert after is not None
    found = next(_differences(path, second, before, after), None)
    if found is not None and before.version != __version__:
        found += f" (it was written by version {before.version}; this is {__version__})"
    return found


def _differences(old: Path, new: Path, before: Result, after: Result) -> Iterator[str]:
    """Every difference in words, earliest first."""
    with (old / STEPS).open("rb") as ours, (new / STEPS).open("rb") as theirs:
        for number, (one, other) in enumerate(zip_longest(ours, theirs), 1):
            if one != other:
                yield f"{STEPS}, line {number}: {_lines(one, other)}"
    compared = ({k: v for k, v in of.to_json().items() if k not in NOT_RESULTS} for of in (before, after))
    for key, (one, other) in differences(*compared).items():
        yield f"{SUMMARY}, {key}: {one!r} then, {other!r} now"
    if (old / MODEL).is_file() and (old / MODEL).read_bytes() != (new / MODEL).read_bytes():
        yield f"{MODEL}: other weights"


def _lines(one: bytes | None, other: bytes | None) -> str:
    """Return where two lines differ."""
    if one is None or other is None:
        return f"the run {'then' if other is None else 'now'} has more steps"
    try:
        found = differences(json.loads(one), json.loads(other))
    except ValueError:
        return "the line then is damaged"
    return "; ".join(f"{key}: {a!r} then, {b!r} now" for key, (a, b) in [*found.items()][:1]) or "the text differs"
