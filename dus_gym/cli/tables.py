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
from dus_gym.experiments.run import OnStep
from dus_gym.options import with_said
from dus_gym.records import FUSED_PREDICTORS


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
        f"N_B = {summary['total_batch']}, {summary['epochs']} epochs, model: {selection(summary['select'])}"
        f"{_said(summary['settings'])})"
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


def selection(select: str) -> str:
    """How the evaluated model was chosen, with a warning where that was on the test split."""
    return {
        "last": "last epoch",
        "validation": "best validation epoch",
        "best_test": "BEST TEST EPOCH, optimistic",
    }[select]


def _said(settings: dict[str, Any]) -> str:
    """Settings that are not the defaults, where the rest of the line does not name them."""
    named = ("select", "epochs", "total_batch", "action_mode")
    return "".join(f", {key} {value}" for key, value in settings.items() if key not in named)


def _against_uniform(figures: dict[str, Any] | None, against: dict[str, Any] | None, *, reference: bool) -> str:
    """Mean ± deviation, and below it the paired difference to uniform."""
    if figures is None or against is None:
        return "–"
    std, p = figures["accuracy"]["std"], against["p"]
    text = percent(figures["accuracy"]["mean"]) + ("" if std is None else f" ±{100.0 * std:.1f}")
    if reference:
        return text
    return f"{text}\n{against['points']:+.1f}" + ("" if p is None else f" ({p:.3f})".replace("(0.", "(."))


def comparison_table(console: Console, result: dict[str, Any], baseline: str = "uniform") -> None:
    """The result of a comparison: means, deviations, and paired differences to uniform."""
    n = len(result["seeds"])
    method = with_said(result["method"], result["method_options"])
    console.print(
        f"[bold]{result['env']}[/]  {method}, {n} seed{'s' if n > 1 else ''}  (trainer {result['trainer']}, "
        f"data {result['data_kind']}, model: {selection(result['select'])}{_said(result['settings'])})"
    )
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("accuracy, %\n Δ points (p)", overflow="fold", min_width=13)
    for predictor in FUSED_PREDICTORS:
        table.add_column(predictor, justify="right", no_wrap=True)
    table.add_column("gap", justify="right", no_wrap=True)
    table.add_column("samples", justify="right", no_wrap=True)
    for name, row in result["agents"].items():
        cells = [
            _against_uniform(row["fused"][predictor], row["vs_uniform"][predictor], reference=name == baseline)
            for predictor in FUSED_PREDICTORS
        ]
        runs = f"\n+{row['training_runs']:.3g} runs" if row["training_runs"] else ""
        table.add_row(name, *cells, f"{row['gap']['mean']:.3f}", f"{row['samples'] / 1000:.1f}k{runs}")
    console.print(table)


def evidence_table(console: Console, result: dict[str, Any], baseline: str = "uniform") -> None:
    """What the differences of the method's own prediction are worth, what they cost, and the verdict."""
    tests = result["correction"]["tests"]
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("method's own\nprediction", overflow="fold", min_width=13)
    for column in ("Δ points\n[95 %]", f"p, Holm\nof {tests}", "seconds", "agent's\nshare", "iter-\nations", "MiB"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in result["agents"].items():
        cost = row["costs"]
        table.add_row(
            name,
            *(("", "") if name == baseline else _tested(row)),
            f"{cost['seconds']:.1f}",
            "–" if cost["agent_share"] is None else f"{100 * cost['agent_share']:.1f} %",
            f"{row['iterations']:.0f}",
            _mebibytes(cost),
        )
        if (equal := row["equal_samples"]) is not None:
            table.add_row(f"  at {equal['samples'] / 1000:.1f}k samples", *_tested(equal), "", "", "", "")
    console.print(table)
    if len(result["seeds"]) == 1:
        console.print("One seed: no deviation and no p-value can be given.")
    for warning in result["warnings"]:
        console.print(f"[yellow]Warning:[/] {escape(warning)}", soft_wrap=True, highlight=False)
    console.print(f"[bold]Verdict:[/] {escape(result['verdict'])}", soft_wrap=True, highlight=False)


def _tested(row: dict[str, Any]) -> tuple[str, str]:
    """The difference with its interval, and the corrected p-value."""
    found, ends, p = row["vs_uniform"]["method"], row["interval"]["method"], row["p_corrected"]
    interval = "" if ends is None else f" \\[{ends[0]:+.1f}, {ends[1]:+.1f}]"
    return f"{found['points']:+.1f}{interval}", "" if p is None else f"{p:.3f}"


def _mebibytes(cost: dict[str, Any]) -> str:
    """The device's peak where there is one, else the process's."""
    peak = cost["peak_device_memory_mib"] or cost["peak_memory_mib"]
    return "–" if peak is None else f"{peak:.0f}"


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
