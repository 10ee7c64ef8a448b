"""Print for the commands: the tables and sentences of results."""

from __future__ import annotations

import logging
import shlex
import textwrap
from typing import TYPE_CHECKING

from rich.console import Console

from dus_gym.experiments.results import LEGEND, SELECTIONS, Result, data_tables, said_settings
from dus_gym.experiments.table import Table as TextTable
from dus_gym.experiments.verdict import notes

if TYPE_CHECKING:
    from dus_gym.experiments.comparison import Comparison
    from dus_gym.experiments.spec import RunSpec


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
    print_table(console, result.table(title))
    print_line(
        console,
        f"gap {result.gap:.3f}   {result.iterations} iterations   {result.samples} samples   {result.seconds:.1f} s"
        + (f"   after {result.training_runs:.3g} training runs" if result.training_runs else ""),
    )
    print_prose(console, LEGEND)
    for note in notes(result):
        print_prose(console, f"Warning: {note}", style="yellow")


def print_data(console: Console, spec: RunSpec) -> None:
    """Print what a run on own data trains and tests on, before it begins; nothing for other tasks and fake runs."""
    if console.quiet or spec.data_name is None or (data := spec.overview()) is None:
        return
    for table in data_tables(spec.task_name, data):
        print_table(console, table)
        console.print()


def print_line(console: Console, text: str, style: str = "") -> None:
    """Print text as it is: nothing in it is markup, and no line is broken."""
    console.print(text, style=style, soft_wrap=True, markup=False, highlight=False)


def print_prose(console: Console, text: str, style: str = "") -> None:
    """Print sentences as they are: on a terminal wrapped between words, elsewhere one line.

    A word that is wider than the terminal, such as a path, stays whole.
    """
    if console.is_terminal:
        width = console.width
        lines = [
            textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) for line in text.split("\n")
        ]
        text = "\n".join(lines)
    print_line(console, text, style)


def print_command(console: Console, label: str, command: str) -> None:
    """Print a command to be copied: on a terminal wrapped between words as a shell reads it, elsewhere one line."""
    if not console.is_terminal:
        print_line(console, f"{label}{command}")
        return
    first, *words = shlex.split(command)
    lines = [label + first]
    for word in map(shlex.quote, words):
        # Two more columns, for the mark that the line goes on.
        if len(lines[-1]) + 1 + len(word) + 2 > console.width:
            lines[-1] += " \\"
            lines.append(" " * (len(label) - 1))
        lines[-1] += f" {word}"
    print_line(console, "\n".join(lines))


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
