"""Open the console that commands print to."""

from __future__ import annotations

from rich.console import Console

UNBROKEN = 10_000
"""Columns where nobody looks at a terminal: a line is one record and is never broken."""


class _Console(Console):
    """A console that leaves a closed pipe to the command line, as :func:`print` does."""

    def on_broken_pipe(self) -> None:
        """Let the error through: Rich would end the process with 1."""
        raise


def open_console(*, quiet: bool = False, stderr: bool = False, markup: bool = False) -> Console:
    """Return a console; through a pipe it has no colour and breaks no line.

    Args:
        quiet: print nothing.
        stderr: print there.
        markup: read ``[bold]`` in text as a style. Text from outside, such as a path, must be escaped then.
    """
    console = _Console(quiet=quiet, stderr=stderr, markup=markup)
    if not console.is_terminal:
        console.width = UNBROKEN
    return console
