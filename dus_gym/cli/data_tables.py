"""Print what ``dus data`` shows: its lists, the result of a scan, progress bars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from dus_gym.data.record import SPLITS
from dus_gym.data.scan import Scan


def silent(*_: Any) -> None:
    """Do nothing: a bar that nobody watches."""


def list_table(console: Console, rows: list[dict[str, Any]]) -> None:
    """The data sets, two lines each."""
    for row in rows:
        published = " / ".join(f"{count} {split}" for split, count in row["published"].items())
        made_of = f"{', '.join(row['modalities'])}, {row['classes']} classes"
        head = Text.assemble((row["name"], "bold"), f"  {row['env']}: {made_of}; {published}")
        console.print(head, soft_wrap=True)
        console.print(f"    {row['size']}. {row['how']}", soft_wrap=True, highlight=False)


def scan_table(console: Console, found: Scan) -> None:
    """Files, then samples by class and split beside the published ones."""
    head = Text.assemble((found.name, "bold"), f" in {found.root}  (data {found.data_kind})")
    console.print(head, soft_wrap=True)
    if found.problem is not None:
        console.print(found.problem, style="bold red", soft_wrap=True)
    for part in found.parts:
        size = (
            f"; decoded {_size(part.cache_bytes)}, about {_time(part.seconds)} in one process "
            f"(told from {part.probes} samples)"
        )
        console.print(f"  {part.name}: {part.files} listed" + (size if part.cache_bytes else ""), soft_wrap=True)
        if part.bad:
            bad = ", ".join(f"{count} {kind}" for kind, count in part.bad.items())
            tried = f" (of all files; {part.probes} samples were decoded, dus data build decodes all)"
            said = Text.assemble("  ", (bad, "bold red"), tried if part.probes else "", ":")
            console.print(said, soft_wrap=True)
            for line in part.first:
                console.print(f"    {line}", soft_wrap=True)
            more = sum(part.bad.values()) - len(part.first)
            if more:
                console.print(f"    and {more} more")
    if found.counts:
        console.print(_count_table(found))
    for note in found.notes:
        console.print(f"  {note}", style="dim", soft_wrap=True)
    console.print(_verdict(found), soft_wrap=True)


def _verdict(found: Scan) -> str:
    if found.ok:
        return "everything is there"
    bad: Counter[str] = sum((Counter(part.bad) for part in found.parts), Counter())
    counts = ", ".join(f"{count} {kind}" for kind, count in bad.items())
    pointers = any("Git LFS" in line for part in found.parts for line in part.first)
    return (
        "not everything is there"
        + (f": {counts}" if counts else "")
        + ("; some are Git LFS pointers: run `git lfs pull`" if pointers else "")
    )


def _count_table(found: Scan) -> Table:
    splits = [split for split in SPLITS if split in found.counts or split in found.published]
    table = Table(box=None, header_style="bold")
    table.add_column("samples")
    for split in splits:
        table.add_column(split, justify="right")
    for name in dict.fromkeys(name for counts in found.counts.values() for name in counts):
        table.add_row(name, *(str(found.counts.get(split, {}).get(name, 0)) for split in splits))
    table.add_row(Text("all", "bold"), *(str(sum(found.counts.get(split, {}).values())) for split in splits))
    table.add_row("published", *(str(found.published.get(split, "–")) for split in splits), style="dim")
    return table


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.1f} s"


@contextmanager
def rows_bar(console: Console) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """A bar a modality; yields what gives each modality its function of rows done and all rows."""
    if not console.is_terminal:
        yield lambda _: silent
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bar:

        def progress_of(modality: str) -> Callable[[int, int], None]:
            task = bar.add_task(modality, total=None)
            return lambda done, total: bar.update(task, completed=done, total=total)

        yield progress_of


@contextmanager
def bytes_bar(console: Console, name: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar over bytes; yields a function of bytes done, bytes in all and the file's name."""
    if not console.is_terminal:
        yield silent
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total, file: bar.update(task, completed=done, total=total, description=f"{name}: {file}")
