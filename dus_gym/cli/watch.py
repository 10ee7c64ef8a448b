"""``dus watch``: a run in the terminal while another process trains it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dus_gym.cli.arguments import read
from dus_gym.cli.console import open_console
from dus_gym.errors import check_at_least
from dus_gym.experiments.results import name_task
from dus_gym.experiments.storage.run_folder import STEPS, SUMMARY, parse_steps, read_run, writer
from dus_gym.options import with_said
from dus_gym.records import FUSED_PREDICTORS

BARS = "▁▂▃▄▅▆▇█"
RECENT = 20
"""Steps whose pace the time left is reckoned from."""


@dataclass(frozen=True)
class WatchOptions:
    """Options of ``dus watch``."""

    run: Path = field(metadata={"positional": True})
    """A run folder; of a comparison, one of its runs."""
    once: bool = False
    """Print what there is now and end."""
    every: float = 0.5
    """Seconds between two looks at the folder."""


def main(words: list[str]) -> None:
    """Follow a run to its end; exit with 0 when it is finished, with 1 when its process has stopped before."""
    options = read(WatchOptions, words, "watch", "Show a run while it goes on.")
    check_at_least("every", options.every, 0.05)
    console = open_console()
    config, result = read_run(options.run)
    view = View(options.run, config)
    if options.once:
        view.look()
        console.print(view.frame(console.width))
    else:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while result is None:
                at_work = writer(options.run) is not None
                view.look()
                live.update(view.frame(console.width), refresh=True)
                # Asked again after the look: the process may have written its summary just before it let go.
                result = read_run(options.run)[1]
                if result is None and not at_work:
                    console.print(view.frame(console.width))
                    sys.exit(1)
                time.sleep(0 if result else options.every)
    if result is not None:
        from dus_gym.cli.tables import print_result

        print_result(console, result)


class View:
    """View of a run: what is known of it so far.

    Args:
        path: the run folder.
        config: its settings.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config
        self.steps: list[dict[str, Any]] = []
        self._seen: list[tuple[float, int]] = []
        self._read = 0

    def look(self) -> None:
        """Reads the lines that are new and whole, and notes when.

        Raises:
            RunFolderError: for a line that is no record of a step.
        """
        file = self.path / STEPS
        if file.is_file():
            if file.stat().st_size < self._read:
                self.steps, self._seen, self._read = [], [], 0  # resumed from a checkpoint: begun again
            with file.open("rb") as lines:
                lines.seek(self._read)
                new = lines.read()
            whole = new[: new.rfind(b"\n") + 1]
            self.steps += parse_steps(whole.splitlines(), file, len(self.steps))
            self._read += len(whole)
        if not self._seen or self._seen[-1][1] != len(self.steps):
            self._seen = [*self._seen[-RECENT:], (time.monotonic(), len(self.steps))]

    def seconds_left(self) -> float | None:
        """At the pace of the last looks; None while there is none."""
        (first, before), (last, now) = self._seen[0], self._seen[-1]
        if now <= before or not self.steps:
            return None
        done, whole = float(self.steps[-1]["iterations"]), self._iterations()
        pace = (last - first) / (done - self._iterations_at(before))
        return max(0.0, (whole - done) * pace - (time.monotonic() - last))

    def _iterations_at(self, count: int) -> int:
        return int(self.steps[count - 1]["iterations"]) if count else 0

    def _iterations(self) -> float:
        """Of the whole run, as far as its first steps tell."""
        last = self.steps[-1]
        return float(last["iterations"] / last["epoch"] * last["epochs"]) if last["epoch"] else float("inf")

    def frame(self, width: int) -> RenderableType:
        """The view as it is now.

        Args:
            width: columns of the terminal.
        """
        config = self.config
        head = Text.assemble(
            (name_task(config["env"], config.get("data_name")), "bold"),
            f"  {with_said(config['method'], config['method_options'])} under "
            f"{with_said(config['agent'], config['agent_options'])}, seed {config['seed']}",
        )
        state = self._state()
        hint = ["No process writes it; go on with --resume."] if state.plain == "stopped" else []
        if not self.steps:
            return Group(head, Text("no step yet, ").append(state), *hint)
        last = self.steps[-1]
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=last["epochs"], completed=last["epoch"], width=max(10, min(40, width - 45))),
            f"epoch {last['epoch']} of {last['epochs']}",
            state,
        )
        return Group(head, bar, self._table(width), self._line(), *hint)

    def _state(self) -> Text:
        if (self.path / SUMMARY).is_file():
            return Text("finished", "green")
        if writer(self.path) is None:
            return Text("stopped", "red")
        left = self.seconds_left() if self._seen else None
        return Text("running" if left is None or left == float("inf") else f"running, {clock(left)} left")

    def _table(self, width: int) -> Table:
        from dus_gym.experiments.table import percent

        last = self.steps[-1]
        view = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("modality", "score ŝ", "this step", "batch", "samples", "val. accuracy"):
            view.add_column(column, justify="left" if column == "modality" else "right", no_wrap=True)
        room = width - 75
        if room >= 8:
            view.add_column("batch over time", no_wrap=True)
        names = [key.removeprefix("size/") for key in last if key.startswith("size/")]
        most = max(step["size/" + name] for step in self.steps for name in names)
        for j, name in enumerate(names):
            cells = [
                name,
                f"{last['observation'][j]:.3f}",
                f"{last['train_score/' + name]:.3f}",
                str(last["size/" + name]),
                str(last["samples/" + name]),
                percent(last.get("val_accuracy/" + name)),
            ]
            if room >= 8:
                cells.append(sparkline([step["size/" + name] for step in self.steps], min(room, 40), most))
            view.add_row(*cells)
        return view

    def _line(self) -> Text:
        from dus_gym.experiments.table import percent

        last = self.steps[-1]
        fused = [
            f"{name} {percent(last['val_fused/' + name])}"
            for name in FUSED_PREDICTORS
            if last.get("val_fused/" + name) is not None
        ]
        parts = [f"gap {last['gap']:.3f}", f"loss {last['loss']:.4g}", f"reward {last['reward']:+.3f}"]
        if fused:
            parts.append("validation, %: " + ", ".join(fused))
        return Text("   ".join(parts) + ("   DIVERGED" if last["diverged"] else ""))


def sparkline(values: Sequence[float], width: int, most: float) -> str:
    """Values as a line of bars, from 0 to ``most``; means of neighbours where there are more than ``width``."""
    return "".join(BARS[min(int(v / most * len(BARS)), len(BARS) - 1)] if most > 0 else BARS[0]
                   for v in _means(values, width))  # fmt: skip


def _means(values: Sequence[float], width: int) -> Iterator[float]:
    count = min(len(values), width)
    for i in range(count):
        part = values[i * len(values) // count : (i + 1) * len(values) // count]
        yield sum(part) / len(part)


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
