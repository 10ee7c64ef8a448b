"""``dus data``: list, scan, build, fetch and mock data sets."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dus_gym.cli.arguments import Group, Parsed, dispatch, parse, read
from dus_gym.cli.console import open_console
from dus_gym.data.registry import DATA_SETS, DataSet, data_set
from dus_gym.errors import BadMediaError, ConfigError
from dus_gym.experiments.serialize import to_json

if TYPE_CHECKING:
    from rich.console import Console

    from dus_gym.data.media_source import BuiltModality


@dataclass(frozen=True)
class ListOptions:
    """Options of ``dus data list``."""

    json: bool = False
    """Print one JSON object on the last line."""
    quiet: bool = False
    """Print nothing but errors and the --json line."""


@dataclass(frozen=True)
class RootOptions:
    """Options of every command about one data set."""

    name: str = field(metadata={"positional": True, "choices": DATA_SETS})
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
    on_error: str = field(default="fail", metadata={"choices": ("fail", "skip")})
    """What a bad file means: fail, or skip: it is reported, and runs with --task.on-error skip leave it out."""


@dataclass(frozen=True)
class FetchOptions(RootOptions):
    """Options of ``dus data fetch``."""

    source: Path | None = field(default=None, metadata={"name": "from"})
    """A folder, zip or tar that holds the files already; nothing is downloaded then."""


@dataclass(frozen=True)
class MockOptions(RootOptions):
    """Options of ``dus data mock``."""

    clips: int = 60
    """Samples in all splits together, 12 or more."""
    seed: int = 0
    """The same seed gives the same files."""


def main(words: list[str]) -> None:
    """Run one of the five."""
    dispatch(words, "data", COMMANDS)


def list_sets(words: list[str]) -> None:
    """List names, ids, what they are made of and how one gets them."""
    options = read(ListOptions, words, "data list", "List the data sets.")
    rows = [_described(known) for known in DATA_SETS.values()]
    if not options.quiet:
        from dus_gym.cli.data_tables import list_table

        list_table(open_console(), rows)
    _print_json(options.json, {"data": rows})


def scan_root(words: list[str]) -> None:
    """Exit with 0 if everything is there, with 1 if anything is missing or broken."""
    parsed = _parsed(RootOptions, words, "scan", "Say what of a data set is there; writes nothing.")
    options = parsed.build(RootOptions)

    from dus_gym.cli.data_tables import scan_table
    from dus_gym.data.scan import scan

    found = scan(data_set(options.name), options.root.expanduser(), parsed.group("task"))
    if not options.quiet:
        scan_table(open_console(), found)
    _print_json(options.json, to_json(found) | {"ok": found.ok})
    if not found.ok:
        sys.exit(1)


def build(words: list[str]) -> None:
    """Decode everything and report every bad file."""
    parsed = _parsed(BuildOptions, words, "build", "Decode a data set once, so that runs start at once.")
    options = parsed.build(BuildOptions)

    from dus_gym.cli.data_tables import rows_bar
    from dus_gym.cli.tables import show_log
    from dus_gym.data.media_source import build_stores
    from dus_gym.data.scan import media_task

    root = options.root.expanduser()
    task, source = media_task(data_set(options.name), root, parsed.group("task"))
    console = open_console(quiet=options.quiet)
    show_log(console)
    with rows_bar(console) as progress_of:
        built = build_stores(task, source, root, options.on_error, options.workers, progress_of)
    _report(open_console(stderr=True), built)
    for modality in built:
        where = "nothing was decoded" if modality.store is None else f"in {modality.store}"
        console.print(f"{modality.name}: {modality.rows} samples, {len(modality.bad)} bad, {where}", soft_wrap=True)
    _print_json(options.json, {"name": options.name, "root": str(root), "modalities": to_json(built)})
    count = sum(len(modality.bad) for modality in built)
    if count and options.on_error == "fail":
        raise BadMediaError(f"{count} bad files; mend them, or leave their samples out with --on-error skip.")


def fetch_set(words: list[str]) -> None:
    """Download what may be downloaded, checked against committed checksums."""
    options = read(FetchOptions, words, "data fetch", "Fetch a small data set.")
    known = data_set(options.name)
    if not known.can_be_fetched:
        raise ConfigError(
            f"name={known.name!r} can't be fetched: its media are not ours to pass on. {known.how()} "
            f"Then `dus data scan {known.name} --root DIR` says what is missing."
        )

    from dus_gym.cli.data_tables import bytes_bar
    from dus_gym.cli.tables import show_log
    from dus_gym.data.fetch import fetch

    console = open_console(quiet=options.quiet)
    show_log(console)
    with bytes_bar(console, known.name) as progress:
        found = fetch(known.name, options.root, options.source, progress)
    console.print(f"{len(found.new)} files new, {len(found.present)} were there, in {found.root}", soft_wrap=True)
    _print_json(
        options.json,
        {"name": known.name, "root": str(found.root), "new": len(found.new), "present": len(found.present)},
    )


def mock(words: list[str]) -> None:
    """Write a tiny copy of made-up media."""
    options = read(MockOptions, words, "data mock", "Write a tiny copy of a data set, of made-up media.")
    known = data_set(options.name)

    from dus_gym.data.mock import make_mock

    root = make_mock(known.name, options.root, options.clips, options.seed)
    if not options.quiet:
        print(f"written to {root}; try it: dus train {known.env} --data-root {root}")
    _print_json(options.json, {"name": known.name, "root": str(root), "clips": options.clips, "seed": options.seed})


COMMANDS: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "list": (list_sets, "the data sets: modalities, classes, sizes, how to get them"),
    "scan": (scan_root, "what is there and what is missing; writes nothing"),
    "build": (build, "decode everything once, and report every bad file"),
    "fetch": (fetch_set, "download a small data set, checked file by file"),
    "mock": (mock, "write a tiny copy of made-up media, to rehearse with"),
}


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


def _parsed(kind: type[Any], words: list[str], command: str, description: str) -> Parsed:
    """Return what was said, with the options of the data set's task (``--task.NAME``)."""

    def task(given: Mapping[str, Any]) -> tuple[str, type[Any]] | None:
        name = given.get("name")
        return None if name is None else (f"data set {name!r}", data_set(name).task.options_type)

    return parse(words, f"data {command}", description, kind, groups={"task": Group(("name",), task)})


def _report(console: Console, built: list[BuiltModality]) -> None:
    """Print every bad file, one a line."""
    for modality in built:
        for bad in modality.bad:
            console.print(f"{modality.name}: {bad.path}: {bad.kind}: {bad.message}", soft_wrap=True)


def _print_json(wanted: bool, value: dict[str, Any]) -> None:
    if wanted:
        print(json_module.dumps(value, allow_nan=False))
