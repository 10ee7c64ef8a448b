"""``dus data``: list, scan, build, fetch and mock data sets."""

from __future__ import annotations

import dataclasses
import json as json_module
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from dus_gym.cli.data_tables import bytes_bar, list_table, rows_bar, scan_table
from dus_gym.cli.options import changed, jsonable, parse
from dus_gym.cli.tables import show_log
from dus_gym.data.fetch import fetch
from dus_gym.data.media_source import BuiltModality, build_stores
from dus_gym.data.mock import make_mock
from dus_gym.data.registry import DATA_SETS, DataSet, data_set
from dus_gym.data.scan import media_task, scan
from dus_gym.data.task import DataOptions
from dus_gym.errors import BadMediaError, ConfigError, unknown_name


@dataclass(frozen=True)
class ListOptions:
    """Options of ``dus data list``."""

    json: bool = False
    """Print one JSON object on the last line."""
    quiet: bool = False
    """Print nothing but errors and the --json line."""


@dataclass(frozen=True)
class RootOptions:
    """What every command about one data set takes."""

    name: tyro.conf.Positional[str]
    """A data set; `dus data list` lists them."""
    root: Path
    """The data root: the folder that holds its files, later --data-root."""
    json: bool = False
    """Print the result as one JSON object on the last line."""
    quiet: bool = False
    """Print nothing but errors and the --json line."""


@dataclass(frozen=True)
class BuildOptions(RootOptions):
    """Options of ``dus data build``."""

    workers: int = 0
    """Processes that decode; 0: none but this one. Results do not depend on it."""
    on_error: str = "fail"
    """What a bad file means: fail, or skip: it is reported, and runs with --task.on-error skip leave it out."""


@dataclass(frozen=True)
class FetchOptions(RootOptions):
    """Options of ``dus data fetch``."""

    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """A folder, zip or tar that holds the files already; nothing is downloaded then."""


@dataclass(frozen=True)
class MockOptions(RootOptions):
    """Options of ``dus data mock``."""

    clips: int = 60
    """Samples in all splits together, 12 or more."""
    seed: int = 0
    """The same seed gives the same files."""


def main(words: list[str]) -> None:
    """Runs one of the five."""
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        sys.exit(0 if words else 2)
    if words[0] not in COMMANDS:
        raise unknown_name("data command", words[0], COMMANDS)
    COMMANDS[words[0]][0](words[1:])


def list_sets(words: list[str]) -> None:
    """Names, ids, what they are made of and how one gets them."""
    options = parse(ListOptions, words, "data list", "List the data sets.")
    rows = [_described(known) for known in DATA_SETS.values()]
    if not options.quiet:
        list_table(Console(), rows)
    _print_json(options.json, {"data": rows})


def scan_root(words: list[str]) -> None:
    """Exits 0 if everything is there, 1 if anything is missing or broken."""
    options, known = _parsed(RootOptions, words, "scan", "Say what of a data set is there; writes nothing.")
    found = scan(known, options.root.expanduser(), _task_options(options))
    if not options.quiet:
        scan_table(Console(), found)
    _print_json(options.json, jsonable(found) | {"ok": found.ok})
    if not found.ok:
        sys.exit(1)


def build(words: list[str]) -> None:
    """Decodes everything and reports every bad file."""
    options, known = _parsed(BuildOptions, words, "build", "Decode a data set once, so that runs start at once.")
    root = options.root.expanduser()
    task, source = media_task(known, root, _task_options(options))
    console = Console(quiet=options.quiet)
    show_log(console)
    with rows_bar(console) as progress_of:
        built = build_stores(task, source, root, options.on_error, options.workers, progress_of)
    _report(Console(stderr=True), built)
    for modality in built:
        where = "nothing was decoded" if modality.store is None else f"in {modality.store}"
        console.print(f"{modality.name}: {modality.rows} samples, {len(modality.bad)} bad, {where}", soft_wrap=True)
    _print_json(options.json, {"name": known.name, "root": str(root), "modalities": jsonable(built)})
    count = sum(len(modality.bad) for modality in built)
    if count and options.on_error == "fail":
        raise BadMediaError(f"{count} bad files; mend them, or leave their samples out with --on-error skip.")


def fetch_set(words: list[str]) -> None:
    """Downloads what may be downloaded, checked against committed checksums."""
    options, known = _parsed(FetchOptions, words, "fetch", "Fetch a small data set.", of_task=False)
    if not known.can_be_fetched:
        raise ConfigError(
            f"name={known.name!r} can't be fetched: its media are not ours to pass on. {known.how()} "
            f"Then `dus data scan {known.name} --root DIR` says what is missing."
        )
    console = Console(quiet=options.quiet)
    show_log(console)
    with bytes_bar(console, known.name) as progress:
        found = fetch(known.name, options.root, options.source, progress)
    console.print(f"{len(found.new)} files new, {len(found.present)} were there, in {found.root}", soft_wrap=True)
    _print_json(
        options.json,
        {"name": known.name, "root": str(found.root), "new": len(found.new), "present": len(found.present)},
    )


def mock(words: list[str]) -> None:
    """Writes a tiny copy of made-up media."""
    options, known = _parsed(
        MockOptions, words, "mock", "Write a tiny copy of a data set, of made-up media.", of_task=False
    )
    root = make_mock(known.name, options.root, options.clips, options.seed)
    if not options.quiet:
        Console().print(f"written to {root}; try it: dus train {known.env} --data-root {root}", soft_wrap=True)
    _print_json(options.json, {"name": known.name, "root": str(root), "clips": options.clips, "seed": options.seed})


COMMANDS: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "list": (list_sets, "the data sets: modalities, classes, sizes, how to get them"),
    "scan": (scan_root, "what is there and what is missing; writes nothing"),
    "build": (build, "decode everything once, and report every bad file"),
    "fetch": (fetch_set, "download a small data set, checked file by file"),
    "mock": (mock, "write a tiny copy of made-up media, to rehearse with"),
}
USAGE = (
    "usage: dus data COMMAND [NAME --root DIR] [options]\n\n"
    + "".join(f"  {name:<8}{text}\n" for name, (_, text) in COMMANDS.items())
    + "\ndus data COMMAND --help shows a command's options."
)


def _described(known: DataSet) -> dict[str, Any]:
    return {
        "name": known.name,
        "env": known.env,
        "modalities": list(known.task.modalities),
        "classes": known.task.num_classes,
        "published": dict(known.published),
        "size": known.volume(),
        "how": known.how(),
        "mock": known.has_mock,
    }


def _parsed(
    base: type[Any], words: list[str], command: str, description: str, *, of_task: bool = True
) -> tuple[Any, DataSet]:
    """The options, with those of the data set's task (``--task.NAME``) where the command reads its media."""
    name = next((word for word in words if word in DATA_SETS), None)
    kind = DATA_SETS[name].task.options_type if name is not None and of_task else DataOptions
    if dataclasses.fields(kind):
        named: Any = Annotated[kind, tyro.conf.arg(name="task")]
        fields: list[Any] = [("task_options", named, dataclasses.field(default_factory=kind))]
        base = dataclasses.make_dataclass(base.__name__, fields, bases=(base,), frozen=True)
    options: Any = parse(base, words, f"data {command}", description)
    return options, data_set(options.name)


def _task_options(options: Any) -> dict[str, Any]:
    return changed(options.task_options) if hasattr(options, "task_options") else {}


def _report(console: Console, built: list[BuiltModality]) -> None:
    """Every bad file, one a line."""
    for modality in built:
        for bad in modality.bad:
            console.print(f"{modality.name}: {bad.path}: {bad.kind}: {bad.message}", markup=False, soft_wrap=True)


def _print_json(wanted: bool, value: dict[str, Any]) -> None:
    if wanted:
        print(json_module.dumps(value, allow_nan=False))
