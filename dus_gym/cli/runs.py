"""``dus runs``: list, show, compare and delete the runs below a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dus_gym.cli.arguments import dispatch, read
from dus_gym.cli.console import open_console
from dus_gym.errors import ConfigError, RunFolderError, check_choice
from dus_gym.experiments.results import SELECTIONS, name_task
from dus_gym.experiments.storage.run_export import check_parquet, write_csv, write_parquet
from dus_gym.experiments.storage.run_folder import (
    clear,
    flat,
    holds_ceiling,
    is_ours,
    lock,
    read_run,
    read_steps,
)
from dus_gym.experiments.storage.run_index import STATUSES, find_runs, last_step, list_runs
from dus_gym.experiments.table import Table, percent


@dataclass(frozen=True, kw_only=True)
class _Printing:
    json: bool = False
    """Print the result as one JSON object on the last line."""
    quiet: bool = False
    """Print nothing but errors and the --json line."""


@dataclass(frozen=True, kw_only=True)
class _Exporting(_Printing):
    csv: Path | None = None
    """Also write a CSV file."""
    parquet: Path | None = None
    """Also write a Parquet file; needs pip install "dus-gym[parquet]"."""


@dataclass(frozen=True, kw_only=True)
class ListOptions(_Exporting):
    """Options of ``dus runs list``."""

    root: Path = field(default=Path("runs"), metadata={"positional": True})
    """The folder that holds the runs, at any depth."""
    env: str | None = None
    """Only runs of this id; DUS-Own-v0/NAME: of own data of that name."""
    agent: str | None = None
    """Only runs under this agent, whatever its options."""
    method: str | None = None
    """Only runs of this method, whatever its options."""
    status: str | None = field(default=None, metadata={"choices": STATUSES})
    """Only runs that are finished, running, stopped or damaged."""
    rebuild: bool = False
    """Read every folder again, whatever the index says."""


@dataclass(frozen=True, kw_only=True)
class ShowOptions(_Exporting):
    """Options of ``dus runs show``."""

    run: Path = field(metadata={"positional": True})
    """A run folder."""


@dataclass(frozen=True, kw_only=True)
class DiffOptions(_Printing):
    """Options of ``dus runs diff``."""

    one: Path = field(metadata={"positional": True})
    """A run folder."""
    other: Path = field(metadata={"positional": True})
    """Another."""


@dataclass(frozen=True, kw_only=True)
class RemoveOptions(_Printing):
    """Options of ``dus runs rm``."""

    paths: tuple[Path, ...] = field(default=(), metadata={"positional": True})
    """Folders of runs, comparisons or ceilings."""
    yes: bool = False
    """Delete; without it, the command says what it would delete."""


def main(words: list[str]) -> None:
    """Run one of the four commands."""
    commands: dict[str, tuple[Callable[[list[str]], None], str]] = {
        "list": (_list, "every run below a folder; --csv and --parquet export the list"),
        "show": (_show, "one run: settings and result; --csv and --parquet export its steps"),
        "diff": (_diff, "two runs: the settings and figures that differ"),
        "rm": (_remove, "delete runs, or a comparison or a ceiling with its runs"),
    }
    dispatch(words, "runs", commands)


def _list(words: list[str]) -> None:
    options = read(ListOptions, words, "runs list", "List the runs below a folder.")
    if options.status is not None:
        check_choice("status", options.status, STATUSES)
    if options.parquet is not None:
        check_parquet()

    from dus_gym.cli.tables import show_log

    show_log(open_console(stderr=True))
    rows = [row for row in list_runs(options.root, rebuild=options.rebuild) if _wanted(row, options)]
    _export(options, rows)
    if not options.quiet:
        _print_rows(rows, options.root)
    if options.json:
        print(json.dumps({"root": str(options.root), "runs": rows}))


def _wanted(row: dict[str, Any], options: ListOptions) -> bool:
    for name in ("env", "agent", "method"):
        asked = getattr(options, name)
        said = (row[name], _task(row) if name == "env" else str(row[name]).partition(":")[0])
        if asked is not None and asked not in said:
            return False
    return options.status in (None, row["status"])


def _print_rows(rows: Sequence[dict[str, Any]], root: Path) -> None:
    """Print the runs as a table, and on stderr that there is none and what is wrong with damaged ones."""
    from dus_gym.cli.tables import print_line, print_table

    aside = open_console(stderr=True)
    if not rows:
        print_line(aside, f"no run below {root} is one of these")
        return
    head = ["run", "status", "env", "agent", "method", "seed", "acc., %"]
    print_table(open_console(), Table(head, [_cells(row) for row in rows], "", words=True))
    for row in rows:
        if row["problem"] is not None:
            print_line(aside, f"{row['run']}: {row['problem']}")


def _cells(row: dict[str, Any]) -> list[str]:
    """Return one run as text."""
    progress = "" if row["status"] == "finished" or row["epoch"] is None else f" {row['epoch']}/{row['epochs']}"
    accuracy = row["accuracy_method"] if row["accuracy_method"] is not None else row["accuracy_sum"]
    return [
        row["run"],
        row["status"] + progress,
        _task(row) + (" fake" if row["trainer"] == "fake" else ""),
        *(str(row[name]) if row[name] is not None else "?" for name in ("agent", "method", "seed")),
        percent(accuracy) + (f" ({SELECTIONS['best_test']})" if row["select"] == "best_test" else ""),
    ]


def _task(row: dict[str, Any]) -> str:
    """Return the id of a run's task, with the name of own data."""
    return name_task(row["env"] or "?", row["data_name"])


def _export(options: _Exporting, rows: Sequence[dict[str, Any]]) -> None:
    if options.csv is not None:
        write_csv(options.csv, rows)
    if options.parquet is not None:
        write_parquet(options.parquet, rows)


def _show(words: list[str]) -> None:
    options = read(ShowOptions, words, "runs show", "Show one run.")
    config, result = read_run(options.run)
    _export(options, list(read_steps(options.run)))
    if not options.quiet:
        from dus_gym.cli.tables import print_result, print_table

        console = open_console()
        if result is None:
            last = last_step(options.run)
            at = "before its first step" if last is None else f"at epoch {last['epoch']} of {last['epochs']}"
            console.print(f"{options.run} is not finished: {at}.", soft_wrap=True)
        else:
            print_result(console, result)
        rows = [[key, json.dumps(value)] for key, value in flat(config).items()]
        print_table(console, Table(["setting", "value"], rows, "", words=True))
    if options.json:
        print(
            json.dumps(
                {"run": str(options.run), "config": config, "summary": None if result is None else result.to_json()}
            )
        )


def _diff(words: list[str]) -> None:
    options = read(DiffOptions, words, "runs diff", "Show where two runs differ.")
    (config, result), (other_config, other_result) = read_run(options.one), read_run(options.other)
    settings = differences(config, other_config)
    figures = differences(result.to_json(), other_result.to_json()) if result and other_result else {}
    shared = figures.keys() & flat(config).keys()
    figures = {key: pair for key, pair in figures.items() if key not in shared and not key.startswith("settings.")}
    if not options.quiet:
        from dus_gym.cli.tables import print_table

        console = open_console()
        if not (settings or figures):
            console.print("nothing differs")
        for title, found in (("settings", settings), ("figures", figures)):
            if found:
                rows = [[key, *_told_apart(pair)] for key, pair in found.items()]
                print_table(console, Table([title, str(options.one), str(options.other)], rows, "", words=True))
        for path, of in ((options.one, result), (options.other, other_result)):
            if of is None:
                console.print(f"{path} is not finished: it has no figures yet.", soft_wrap=True)
    if options.json:
        print(json.dumps({"settings": settings, "figures": figures}))


def _told_apart(pair: Sequence[Any]) -> list[str]:
    """Return two values that differ as text, numbers with six digits where these tell them apart."""
    short = [f"{value:.6g}" if isinstance(value, float) else json.dumps(value) for value in pair]
    return short if short[0] != short[1] else [json.dumps(value) for value in pair]


def differences(one: Any, other: Any) -> dict[str, list[Any]]:
    """Return, by dotted name, what two nested objects have there; None where one has nothing."""
    ours, theirs = flat(one), flat(other)
    keys = [*ours, *(key for key in theirs if key not in ours)]
    return {key: [ours.get(key), theirs.get(key)] for key in keys if ours.get(key) != theirs.get(key)}


def _remove(words: list[str]) -> None:
    options = read(RemoveOptions, words, "runs rm", "Delete runs.")
    if not options.paths:
        raise ConfigError("runs rm needs at least one folder.")
    doomed = {path: _doomed(path) for path in options.paths}
    if not options.yes:
        said = "\n".join(f"  {path}: {len(runs)} run{'s' if len(runs) > 1 else ''}" for path, runs in doomed.items())
        raise ConfigError(f"this would delete\n{said}\nSay so with --yes.")
    left: list[str] = []
    for path, runs in doomed.items():
        folders = list(dict.fromkeys([*runs, *_between(path), path]))
        with ExitStack() as held:
            for folder in folders:
                held.callback(lock(folder).release)
            for folder in folders:
                clear(folder)
        for folder in sorted({*folders, *(run.parent for run in runs)}, key=lambda folder: -len(folder.parts)):
            if folder.is_relative_to(path) and not any(folder.iterdir()):
                folder.rmdir()
        if path.is_dir():
            left += [str(file) for file in sorted(path.rglob("*")) if not file.is_dir()]
    deleted = sum(map(len, doomed.values()))
    if not options.quiet:
        print(f"deleted {deleted} run{'s' if deleted != 1 else ''}")
    if left and not options.quiet:
        print("left alone, not written by dus-gym: " + ", ".join(left))
    if options.json:
        print(json.dumps({"deleted": deleted, "left": left}))


def _between(path: Path) -> list[Path]:
    """The folder of a ceiling's comparison, if it has one."""
    from dus_gym.experiments.ceiling import COMPARED

    place = path / COMPARED
    return [place] if holds_ceiling(path) and is_ours(place) else []


def _doomed(path: Path) -> list[Path]:
    """The runs of a folder that is one, or is a comparison, a ceiling or a reproduction."""
    if not (is_ours(path) or holds_ceiling(path)):
        raise RunFolderError(f"{path} holds no run and no comparison of dus-gym; nothing was deleted.")
    runs = list(find_runs(path))
    return [path] if path in runs else runs
