"""List what can be named: ``dus envs``, ``dus methods``, ``dus agents`` and ``dus rewards``."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dus_gym.cli.arguments import read
from dus_gym.errors import unknown_name
from dus_gym.options import option_table

Row = dict[str, Any]


@dataclass(frozen=True)
class ListOptions:
    """Options of a listing."""

    json: bool = False
    """Print one JSON object on the last line."""
    quiet: bool = False
    """Print nothing but the --json line."""


@dataclass(frozen=True)
class NameOptions(ListOptions):
    """Options of a listing that also shows one entry."""

    name: str = field(default="", metadata={"positional": True})
    """Show this one alone, with its options."""


def envs(words: list[str]) -> None:
    """List ids, modalities, classes, epochs and what data they need."""
    options = read(ListOptions, words, "envs", "List the registered environments.")

    from dus_gym.data.registry import get_task
    from dus_gym.envs.registration import FAKE_ID, ids

    rows = []
    for env_id, name in ids().items():
        task, fake = get_task(name), env_id == FAKE_ID
        rows.append(
            {
                "env": env_id,
                "modalities": list(task.modalities),
                "classes": task.num_classes,
                "epochs": task.epochs,
                "total_batch": task.batch * len(task.modalities),
                "trainer": "fake" if fake else "real",
                "data": "none" if fake else _data_of(task),
                "summary": "fitted learning curves of DUS-Digits-v0" if fake else task.summary,
            }
        )

    def show(rows: Sequence[Row]) -> None:
        for row in rows:
            head = f"{row['env']:<25}{', '.join(row['modalities']):<24}{row['epochs']} epochs"
            print(f"{head}, {row['total_batch']} samples per iteration, data: {row['data']}\n    {row['summary']}")

    _give("envs", options, rows, show)


def methods(words: list[str]) -> None:
    """List names, papers, what each changes, and the options with their defaults."""
    options = read(NameOptions, words, "methods", "List the multimodal methods, or one with its options.")

    from dus_gym.methods import METHODS, method_class

    rows = [describe_method(method_class(name)) for name in _chosen("method", options.name, METHODS)]

    def show(rows: Sequence[Row]) -> None:
        if not options.name:
            _table(
                ("method", "year", "under DUS", "modalities", "what it changes"),
                [
                    (row["method"], str(row["year"]), "yes" if row["under_dus"] else "no", row["modalities"],
                     row["changes"])
                    for row in rows
                ],
            )  # fmt: skip
        for row in rows:
            print(end="" if options.name else "\n")
            _show_options(row["method"], row["paper"], "method", row["options"])

    _give("methods", options, rows, show)


def agents(words: list[str]) -> None:
    """List names and what each does; of one agent also its options."""
    options = read(NameOptions, words, "agents", "List the agents, or one with its options.")

    from dus_gym.experiments.drivers import agent_names, agent_type

    rows = []
    for name in _chosen("agent", options.name, agent_names()):
        kind = agent_type(name)
        rows.append({"agent": name, "summary": kind.summary, "options": option_table(kind.options_type)})

    def show(rows: Sequence[Row]) -> None:
        if options.name:
            _show_options(rows[0]["agent"], rows[0]["summary"], "agent", rows[0]["options"])
        else:
            _table(("agent", "what it does"), [(row["agent"], row["summary"]) for row in rows])

    _give("agents", options, rows, show)


def rewards(words: list[str]) -> None:
    """List names and what each rewards."""
    options = read(ListOptions, words, "rewards", "List the rewards (--reward of dus train).")

    from dus_gym.rewards import reward_function, reward_names

    rows = [
        {"reward": name, "summary": str(reward_function(name).__doc__).partition("\n")[0]} for name in reward_names()
    ]  # fmt: skip
    _give("rewards", options, rows, lambda rows: _table(
        ("reward", "what it is"), [(row["reward"], row["summary"]) for row in rows]
    ))  # fmt: skip


def describe_method(method: Any) -> Row:
    """Return what a method is and takes, JSON-able."""
    from dus_gym.methods.base import Method

    most = method.max_modalities
    return {
        "method": method.name,
        "paper": method.paper,
        "year": method.year,
        "changes": method.changes,
        "modalities": f"{method.min_modalities}+" if most is None else f"{method.min_modalities}-{most}",
        "under_dus": method.supports_unpaired,
        "needs_validation": method.needs_validation,
        "own_predictor": method.own_predictor if method.predict is Method.predict else "rule of its own",
        "figures": list(method.logs),
        "options": option_table(method.options_type),
    }


def _data_of(task: Any) -> str:
    """Say in a few words where a task's data comes from; imports no reader of data."""
    from dus_gym.data.registry import DATA_SETS, OWN_TASK, REGISTERED

    if task.name == OWN_TASK:
        return "yours: --data FILE"
    if task.name in REGISTERED:
        return "registered"
    name = task.data_source().dataset
    if not name:
        return "embedded"
    return f"dus data {'fetch' if DATA_SETS[name].can_be_fetched else 'scan'} {name}"


def _chosen(kind: str, name: str, table: Sequence[str] | dict[str, Any]) -> list[str]:
    """Return the one name that was asked for, or all.

    Raises:
        ConfigError: for a name that is not in the table.
    """
    if name and name not in table:
        raise unknown_name(kind, name, table)
    return [name] if name else list(table)


def _give(what: str, options: ListOptions, rows: Sequence[Row], show: Callable[[Sequence[Row]], None]) -> None:
    if options.json:
        print(json_module.dumps({what: rows}))
    elif not options.quiet:
        show(rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table

    from dus_gym.cli.console import open_console

    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column != columns[-1])
    for row in rows:
        table.add_row(*row)
    open_console().print(table)


def _show_options(name: str, about: str, group: str, options: Sequence[Row]) -> None:
    """Print one entry: its name, what it is, and each option in a line."""
    print(f"{name}  {about}")
    for option in options:
        flag = f"--{group}.{option['name'].replace('_', '-')}"
        print(f"    {flag} (default {option['default']})  {option['doc']}")
