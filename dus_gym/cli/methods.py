"""``dus methods``: what can be minimised."""

from __future__ import annotations

import json as json_module
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from dus_gym.cli.options import parse
from dus_gym.methods import METHODS, method_class
from dus_gym.methods.base import Method
from dus_gym.options import option_table


@dataclass(frozen=True)
class MethodsOptions:
    """Options of ``dus methods``."""

    json: bool = False
    """Print one JSON object on the last line."""
    quiet: bool = False
    """Print nothing but the --json line."""


def describe(method: type[Method]) -> dict[str, Any]:
    """What a method is and takes, JSON-able."""
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


def main(words: list[str]) -> None:
    """Lists names, papers, what each changes, and the options with their defaults."""
    options = parse(MethodsOptions, words, "methods", "List the multimodal methods and their options.")
    rows = [describe(method_class(name)) for name in METHODS]
    if options.json:
        print(json_module.dumps({"methods": rows}))
    if options.json or options.quiet:
        return
    console = Console()
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("method", "year", "under DUS", "modalities", "what it changes"):
        table.add_column(column, overflow="fold", no_wrap=column != "what it changes")
    for row in rows:
        under = "yes" if row["under_dus"] else "no"
        table.add_row(row["method"], str(row["year"]), under, row["modalities"], row["changes"])
    console.print(table)
    for row in rows:
        console.print(f"\n[bold]{row['method']}[/]  {row['paper']}", soft_wrap=True)
        for option in row["options"]:
            flag = f"--method.{option['name'].replace('_', '-')}"
            console.print(f"    {flag} [dim](default {option['default']})[/]  {option['doc']}", soft_wrap=True)
