"""Print for the commands: the live view of a run and the tables of results."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from dus_gym.experiments.results import SELECTIONS, Result, said_settings
from dus_gym.experiments.table import Table as TextTable

if TYPE_CHECKING:
    from dus_gym.envs.dus_env import DUSEnv
    from dus_gym.experiments.comparison import Comparison
    from dus_gym.experiments.run import OnStep, Record


def percent(value: float | None) -> str:
    """A fraction in per cent, or a dash."""
    return "–" if value is None else f"{100.0 * value:.1f}"


def duration(seconds: float) -> str:
    """Return a length of time as one says it: ``40 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def silent(*_: Any) -> None:
    """Do nothing: a bar that nobody watches."""


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
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

    def table(core: DUSEnv, record: Record) -> Table:
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

        def on_step(core: DUSEnv, record: Record) -> None:
            bar.update(task, total=record["epochs"], completed=record["epoch"])
            live.update(Group(bar, table(core, record)))

        yield on_step


class _ToConsole(logging.Handler):
    """Print what is logged, a line each."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        print_prose(self.console, self.format(record))


def show_log(console: Console) -> None:
    """Let what the package logs, such as how many training runs an agent plans, appear above the tables."""
    log = logging.getLogger("dus_gym")
    log.setLevel(logging.INFO)
    log.handlers = [_ToConsole(console)]


def print_result(console: Console, result: Result) -> None:
    """Print the result of one run."""
    title = (
        f"{result.title}  (trainer {result.trainer}, data {result.data_kind}, {result.total_batch} samples "
        f"per iteration, {result.epochs} epochs, model: {SELECTIONS[result.select]}"
        f"{said_settings(result.settings)}{said_settings(result.folder_settings, 'from the data folder: ')})"
    )
    if result.dropped:
        left_out = ", ".join(f"{count} of {split}" for split, count in result.dropped.items())
        print_line(console, f"Left out because of bad files: {left_out}; the figures are of the others.", "bold yellow")
    if result.diverged:
        print_line(console, "The run diverged: a training loss was not finite.", style="bold red")
    rows = [
        [name, *map(percent, (row.accuracy, row.map, row.macro_f1)), f"{row.score:.3f}", str(row.samples)]
        for name, row in result.modalities.items()
    ]
    rows += [
        [f"fused, {name}", *map(percent, (row.accuracy, row.map, row.macro_f1)), "", ""]
        for name, row in result.fused.items()
        if row is not None
    ]
    print_table(console, TextTable(["test, %", "accuracy", "MAP", "macro-F1", "score", "samples"], rows, title))
    print_line(
        console,
        f"gap {result.gap:.3f}   {result.iterations} iterations   {result.samples} samples   {result.seconds:.1f} s"
        + (f"   after {result.training_runs:.3g} training runs" if result.training_runs else ""),
    )


def print_line(console: Console, text: str, style: str = "") -> None:
    """Print text as it is: nothing in it is markup, and no line is broken."""
    console.print(text, style=style, soft_wrap=True, markup=False, highlight=False)


def print_prose(console: Console, text: str, style: str = "") -> None:
    """Print sentences as they are: on a terminal wrapped between words, elsewhere one line."""
    console.print(text, style=style, soft_wrap=not console.is_terminal, markup=False, highlight=False)


def print_comparison(console: Console, comparison: Comparison, *, full: bool = False) -> None:
    """Print of each comparison the verdict, the warnings and the table, and last the verdict on several.

    Args:
        console: a terminal, or anything that takes text: there no line is wrapped.
        comparison: what to print.
        full: also every predictor and modality, p-values and costs.
    """
    several = len(comparison.parts) > 1
    for part in comparison.parts:
        title = f"{part.title}. " if several else ""
        print_prose(console, f"{title}Verdict: {part.verdict}", style="bold")
        for warning in part.warnings:
            print_prose(console, f"Warning: {warning}", style="yellow")
        console.print()
        print_table(console, part.table(full))
        console.print()
    if several:
        print_prose(console, f"Verdict on all: {comparison.verdict}", style="bold")
        console.print()


def print_table(console: Console, table: TextTable) -> None:
    """Print a table: to a terminal within its width, elsewhere a record per line with tabs between the cells."""
    if console.is_terminal:
        print_line(console, table.text(console.width))
    elif not console.quiet:
        # A console would put spaces in the place of tabs.
        print(table.records(), file=console.file)


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
