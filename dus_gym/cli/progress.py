"""Show how far something long is: a bar on a terminal, elsewhere a line on stderr every ten seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from dus_gym.experiments.table import duration, percent

if TYPE_CHECKING:
    from dus_gym.envs.dus_env import DUSEnv
    from dus_gym.experiments.run import Record

Clock = Callable[[], float]
"""Returns seconds."""
LINE_SECONDS = 10.0
"""Between two lines where there is no terminal."""
LOOK_SECONDS = 1.0
"""Between two looks at the clock there."""


class Course:
    """How far something is: done of all, time spent and left, the current figure.

    Args:
        label: what it is.
        total: how many there are; None until that is known.
        unit: what is counted, such as ``runs``.
        say: takes a line; None: nobody reads lines.
        clock: tells the time.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        unit: str,
        say: Callable[[str], None] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.label, self.total, self.unit, self.done, self.figure = label, total, unit, 0, ""
        self._say, self._clock = say, clock
        self._kept = 0
        self._began = self._said = clock()

    def to(self, label: str, done: int, total: int, figure: str, unit: str) -> None:
        """Stand at a place; another label begins again."""
        if label != self.label:
            self._began, self._kept = self._clock(), 0
        self.label, self.done, self.total, self.figure, self.unit = label, done, total, figure, unit

    def advance(self, figure: str, kept: bool = False) -> None:
        """Count one more.

        Args:
            figure: the current figure, or what was done.
            kept: it was there before, so that it says nothing of the time that the others take.
        """
        self.done += 1
        self._kept += kept
        self.figure = figure

    def times(self) -> str:
        """Return the time spent and, where one can tell, left."""
        spent, made = self._clock() - self._began, self.done - self._kept
        said = duration(spent)
        if self.total is not None and made > 0 and self.done < self.total:
            said += f", about {duration(spent / made * (self.total - self.done))} left"
        return said

    def line(self) -> str:
        """Return all of it on one line."""
        count = f"{self.done} of {self.total} {self.unit}, " if self.total is not None else ""
        return f"{self.label}: {count}{self.times()}" + (f"; {self.figure}" if self.figure else "")

    def look(self) -> None:
        """Say the line if the last one is old enough."""
        now = self._clock()
        if self._say is not None and now - self._said >= LINE_SECONDS:
            self._said = now
            self._say(self.line())


def look_until(course: Course, ended: Callable[[float], bool]) -> None:
    """Look at the clock until something has ended.

    Args:
        course: says its lines.
        ended: waits so many seconds and returns whether it has, such as :meth:`threading.Event.wait`.
    """
    while not ended(LOOK_SECONDS):
        course.look()


@contextmanager
def _lines(course: Course) -> Iterator[None]:
    """Say the lines of a course while something goes on that may report nothing for long."""
    ended = threading.Event()
    thread = threading.Thread(target=look_until, args=(course, ended.wait), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _Times(ProgressColumn):
    """The time spent and left."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self.course = course

    def render(self, task: Task) -> Text:
        """Return the text."""
        return Text(self.course.times())


@contextmanager
def _shown(
    console: Console, label: str, total: int | None, unit: str, clock: Clock
) -> Iterator[tuple[Course, Callable[[RenderableType], None]]]:
    """Show a course; yields it and what to call after it has moved, with what stands below the bar."""
    if console.quiet or not console.is_terminal:
        say = None if console.quiet else lambda line: print(line, file=sys.stderr, flush=True)
        course = Course(label, total, unit, say, clock)
        with _lines(course):
            yield course, lambda _: None
        return
    course = Course(label, total, unit, clock=clock)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), _Times(course))
    bar = Progress(*columns, console=console)
    task = bar.add_task(label, total=total)
    with Live(bar, console=console, refresh_per_second=8, transient=True) as live:

        def moved(below: RenderableType) -> None:
            bar.update(task, description=course.label, total=course.total, completed=course.done)
            live.update(Group(bar, below))

        yield course, moved


@contextmanager
def progress_over(
    console: Console, label: str, total: int, clock: Clock = time.monotonic
) -> Iterator[Callable[..., None]]:
    """Show the progress over many runs; yields what to call after each, see :meth:`Course.advance`."""
    with _shown(console, label, total, "runs", clock) as (course, moved):

        def advance(figure: str, kept: bool = False) -> None:
            course.advance(figure, kept)
            moved(Text(figure))

        yield advance


class RunView:
    """The view of one run while it trains, and of the runs that its agent makes before it."""

    def __init__(self, label: str, course: Course, moved: Callable[[RenderableType], None]) -> None:
        self._label, self._course, self._moved = label, course, moved

    def step(self, core: DUSEnv, record: Record) -> None:
        """Show a step: scores and batch sizes of each modality below the bar."""
        found = [f"{name} {percent(record['val_accuracy/' + name])}" for name in core.modalities
                 if record.get("val_accuracy/" + name) is not None]  # fmt: skip
        figure = f"validation accuracy, %: {', '.join(found)}" if found else f"loss {record['loss']:.3f}"
        self._course.to(self._label, record["epoch"], record["epochs"], figure, "epochs")
        self._moved(_scores(core, record))

    def prior(self, done: int, planned: int) -> None:
        """Show that so many of the runs that an agent learns from are done."""
        label = f"{self._label}, runs before the one that counts"
        self._course.to(label, done, planned, "", "runs")
        self._moved("")


@contextmanager
def live_run(console: Console, label: str, clock: Clock = time.monotonic) -> Iterator[RunView]:
    """Show one run while it trains."""
    with _shown(console, label, None, "epochs", clock) as (course, moved):
        yield RunView(label, course, moved)


def _scores(core: DUSEnv, record: Record) -> Table:
    """Return a table of score and batch size per modality."""
    view = Table(box=None, header_style="bold")
    for column in ("modality", "score", "this step", "batch", "samples", "val. accuracy, %"):
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
