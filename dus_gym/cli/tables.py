"""What commands print: the live view of a run and the tables of results."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from dus_gym.envs.dus_env import DUSEnv
from dus_gym.experiments.comparison import Comparison
from dus_gym.experiments.results import SELECTIONS, said_settings
from dus_gym.experiments.run import OnStep
from dus_gym.experiments.table import Table as TextTable
from dus_gym.options import with_said


def percent(value: float | None) -> str:
    """A fraction in per cent, or a dash."""
    return "–" if value is None else f"{100.0 * value:.1f}"


def silent(*_: Any) -> None:
    """What a bar does where nobody watches."""


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


@contextmanager
def live_run(console: Console, label: str) -> Iterator[OnStep]:
    """A progress bar over epochs above a table of score and batch size per modality."""
    bar = _progress(console)
    task = bar.add_task(label, total=None)

    def table(core: DUSEnv, record: dict[str, Any]) -> Table:
        view = Table(box=None, header_style="bold")
        for column in ("modality", "score ŝ", "this step", "batch", "samples", "val. accuracy"):
            view.add_column(column, justify="left" if column == "modality" else "right")
        for j, name in enumerate(core.modalities):
            view.add_row(
                name,
                f"{record['observation'][j]:.3f}",
                f"{record['train_score/' + name]:.3f}",
                str(record["size/" + name]),
                str(record["samples/" + name]),
                percent(record.get("val_accuracy/" + name)),
            )
        return view

    if not console.is_terminal:
        yield silent
        return
    with Live(bar, console=console, refresh_per_second=8, transient=True) as live:

        def on_step(core: DUSEnv, record: dict[str, Any]) -> None:
            bar.update(task, total=record["epochs"], completed=record["epoch"])
            live.update(Group(bar, table(core, record)))

        yield on_step


def show_log(console: Console) -> None:
    """Lets what the package logs, such as how many training runs an agent plans, appear above the tables."""
    log = logging.getLogger("dus_gym")
    log.setLevel(logging.INFO)
    log.handlers = [RichHandler(console=console, show_time=False, show_level=False, show_path=False)]


def run_table(console: Console, summary: dict[str, Any]) -> None:
    """The result of one run."""
    console.print(
        f"[bold]{summary['env']}[/]  {with_said(summary['method'], summary['method_options'])} under "
        f"{with_said(summary['agent'], summary['agent_options'])}, seed {summary['seed']}  "
        f"(trainer {summary['trainer']}, data {summary['data_kind']}, B = {summary['base_batch']}, "
        f"N_B = {summary['total_batch']}, {summary['epochs']} epochs, model: {SELECTIONS[summary['select']]}"
        f"{said_settings(summary['settings'])})"
    )
    if summary.get("dropped"):
        left_out = ", ".join(f"{count} of {split}" for split, count in summary["dropped"].items())
        console.print(f"[bold yellow]Left out because of bad files: {left_out}; the figures are of the others.[/]")
    if summary["diverged"]:
        console.print("[bold red]The run diverged: a training loss was not finite.[/]")
    table = Table(box=None, header_style="bold")
    for column in ("test, %", "accuracy", "MAP", "macro-F1", "score", "samples"):
        table.add_column(column, justify="left" if column == "test, %" else "right")
    for name, row in summary["modalities"].items():
        figures = [percent(row[key]) for key in ("accuracy", "map", "macro_f1")]
        table.add_row(name, *figures, f"{row['score']:.3f}", str(row["samples"]))
    for name, row in summary["fused"].items():
        if row is not None:
            table.add_row(f"fused, {name}", *(percent(row[key]) for key in ("accuracy", "map", "macro_f1")), "", "")
    console.print(table)
    console.print(
        f"gap {summary['gap']:.3f}   {summary['iterations']} iterations   {summary['samples']} samples   "
        f"{summary['seconds']:.1f} s"
        + (f"   after {summary['training_runs']:.3g} training runs" if summary["training_runs"] else "")
    )


def print_comparison(console: Console, comparison: Comparison, *, full: bool = False) -> None:
    """Print the table, the warnings and the verdict of each comparison, and the verdict on several.

    Args:
        console: a terminal, or anything that takes text: there no line is wrapped.
        comparison: what to print.
        full: also every predictor and modality, p-values and costs.
    """
    for part in comparison.parts:
        console.print()
        print_table(console, part.table(full))
        for warning in part.warnings:
            console.print(f"[yellow]Warning:[/] {escape(warning)}", soft_wrap=True, highlight=False)
        console.print(f"[bold]Verdict:[/] {escape(part.verdict)}", soft_wrap=True, highlight=False)
    if len(comparison.parts) > 1:
        console.print(f"\n[bold]Verdict:[/] {escape(comparison.verdict)}", soft_wrap=True, highlight=False)


def print_table(console: Console, table: TextTable) -> None:
    """Print a table: to a terminal with its head wrapped to the width, elsewhere with nothing wrapped."""
    text = table.text(console.width if console.is_terminal else None)
    console.print(text, soft_wrap=True, markup=False, highlight=False)


@contextmanager
def progress_over(console: Console, label: str, total: int) -> Iterator[Any]:
    """A bar over many runs; yields a function to call after each with what comes next."""
    if not console.is_terminal:
        yield silent
        return
    with _progress(console) as bar:
        task = bar.add_task(label, total=total)

        def advance(what: str) -> None:
            bar.update(task, advance=1, description=f"{label}: {what}")

        yield advance
