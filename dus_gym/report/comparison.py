"""The report of comparisons: agents over seeds, each against the uniform split."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from dus_gym import __version__
from dus_gym.experiments.comparison import Comparison
from dus_gym.experiments.results import SELECTIONS
from dus_gym.experiments.spec import REFERENCE
from dus_gym.experiments.storage.run_folder import writing
from dus_gym.experiments.table import Table
from dus_gym.experiments.task_comparison import (
    GAINS,
    HARM,
    HEADLINE,
    LOSES,
    TaskComparison,
    cost_columns,
    figure_columns,
    name_column,
)
from dus_gym.experiments.verdict import caveats
from dus_gym.report.chart import Chart, Series
from dus_gym.report.curves import MOST_LINES, drawn, figure, mean_curve, modalities_of
from dus_gym.report.page import Page, Section
from dus_gym.report.run import settings_table
from dus_gym.report.runs import Runs, read_runs
from dus_gym.state import write_atomically
from dus_gym.statistics import mean_std


def write_comparison_page(comparison: Comparison, path: Path) -> Path:
    """Write the page of a comparison and return its path.

    Raises:
        RunWriteError: if the file can't be written.
    """
    with writing(path, "try again"):
        write_atomically(path, comparison_page(comparison).html().encode(errors="backslashreplace"))
    return path


def comparison_page(comparison: Comparison) -> Page:
    """Return one page for one comparison or for several of them.

    Args:
        comparison: where it has a folder, the runs in it are drawn.
    """
    parts = comparison.parts
    several = len(parts) > 1
    sections = [Section("overview", "Overview", [comparison.table().html()])] if several else []
    for i, part in enumerate(parts):
        runs = read_runs(part, comparison.folder)
        key = f"c{i}-" if several else ""
        name = f"{part.title}: " if several else ""
        label, rest = (part.title, "") if several else (None, None)
        said = [f"<p><strong>{escape(part.verdict)}</strong></p>"] if several else []
        beside, *others = _figure1(runs, key) or [""]
        pair = f'<div class="grid">{_effects(part, key)}{beside}</div>'
        figures = part.table_of(
            name_column() | figure_columns(part), "Other predictors, each modality alone, and the gap"
        )
        costs = part.table_of(name_column() | cost_columns(part), "What one run cost")
        sections += [
            Section(f"{key}result", f"{name}Result", [*said, pair, part.table().html(), figures.html()], link=label),
            Section(f"{key}curves", f"{name}Over training", _curves(part, runs, key), grid=True, link=rest),
            Section(f"{key}sizes", f"{name}Batch size and score", others, grid=True, link=rest),
            Section(f"{key}cost", f"{name}Cost", [costs.html()], link=rest),
            Section(f"{key}configuration", f"{name}Configuration", [_configuration(part, runs)], link=rest),
        ]
    first = parts[0]
    envs, methods = _each(part.task_name for part in parts), _each(part.method_said for part in parts)
    facts = [
        ("environment", envs),
        ("method", methods),
        ("seeds", f"{len(first.seeds)}"),
        ("trainer", _each(part.trainer for part in parts)),
        ("data", _each(part.data_kind for part in parts)),
        ("model", SELECTIONS[first.select]),
    ]
    facts += [(key, str(value)) for key, value in first.settings.items() if key != "select" and not several]
    above = [caveat for part in parts for caveat in caveats(part.trainer, part.data_kind, part.select)]
    return Page(
        title=f"{envs}: comparison of agents",
        kicker=f"dus-gym comparison · {envs} · {methods}",
        verdict=comparison.verdict,
        remarks=_remarks(comparison, above),
        facts=facts,
        sections=sections,
        foot=f"Written by dus-gym {__version__}. This page is one file and loads nothing from anywhere.",
        warning=" ".join(dict.fromkeys(above)),
    )


def _each(words: Iterable[str]) -> str:
    """Different words, each once."""
    return ", ".join(dict.fromkeys(words))


def _remarks(comparison: Comparison, above: Sequence[str]) -> list[str]:
    """Return how to read the differences, and warnings."""
    said = []
    correction = comparison.parts[0].correction
    if correction is not None and correction.tests:
        said.append(
            f"Differences are paired with {REFERENCE} on the same seeds. One counts where the p of its paired t-test "
            f"is below {correction.level:g} after Holm’s correction for {correction.tests} "
            f"test{'s' if correction.tests > 1 else ''}; its interval, corrected alike, is then without 0."
        )
    return said + [warning for warning in comparison.warnings if not any(warning.endswith(one) for one in above)]


def _effects(part: TaskComparison, key: str) -> str:
    """Draw differences to uniform with their intervals, one line per agent, for the headline's predictor."""
    rows = {
        name: (row.test.points, row.interval_corrected) for name, row in part.others.items() if row.test is not None
    }
    names = list(rows)
    series = [
        Series(
            name,
            [float(k) if k == i else None for k in range(len(names))],
            [edge[0] if edge and k == i else None for k in range(len(names))],
            [edge[1] if edge and k == i else None for k in range(len(names))],
        )
        for i, (name, (_, edge)) in enumerate(rows.items())
    ]
    return Chart(
        f"{key}effects",
        f"Difference to {REFERENCE}",
        "Test accuracy of the method’s own prediction, paired by seed, with the interval of each difference, corrected "
        "for the number of tests.",
        f"points of accuracy against {REFERENCE}",
        "",
        [points for points, _ in rows.values()],
        series,
        decimals=1,
        kind="marks",
        y_ticks=names,
        zero=REFERENCE,
    ).html()


def _curves(part: TaskComparison, runs: Runs, key: str) -> list[str]:
    """Draw Figures 5 and 4 of the paper with a line per agent, a chart per modality; then gap and validation."""
    first = next((steps[0] for steps in runs.steps.values() if steps), [])
    band = "Mean over seeds; the band is one standard deviation to either side."
    order = (None, GAINS, LOSES, HARM)
    # Uniform and those that differ from it are shown first; every series keeps its colour.
    shown = sorted(
        runs.steps,
        key=lambda name: order.index(outcome) if (outcome := part.agents[name].outcome) in order else len(order),
    )
    off = shown[MOST_LINES:]

    def chart(name: str, title: str, y_name: str, read: Callable[[Mapping[str, Any]], Any], **look: Any) -> str:
        curves = {agent: mean_curve(steps, read) for agent, steps in runs.steps.items()}
        return drawn(key + name, title, band, y_name, curves, off=off, **look)

    charts = []
    for j, name in enumerate(modalities_of(first)):
        charts.append(chart(f"scores-{j}", f"Score of {name}", "score ŝ", figure("observation", j), y_range=(0, 1)))
        sizes = figure(f"size/{name}")
        charts.append(chart(f"sizes-{j}", f"Batch size of {name}", "samples per iteration", sizes, decimals=1))
    charts.append(chart("gap", "Gap between the modalities’ scores", "gap", figure("gap")))
    predictor = HEADLINE if first and first[0].get(f"val_fused/{HEADLINE}") is not None else "sum"
    validation = figure(f"val_fused/{predictor}", scale=100.0)
    title = f"Validation accuracy, fused by {predictor}"
    charts.append(chart("validation", title, "accuracy, %", validation, decimals=1))
    return charts


def _figure1(runs: Runs, key: str) -> list[str]:
    """Draw Figure 1 of the paper: accuracy, and each modality's score, against its average batch size."""
    there = {name: results for name, results in runs.results.items() if results}
    if not there:
        return []
    charts = []
    accuracies = {
        name: [100.0 * result.accuracy for result in results if result.accuracy is not None]
        for name, results in there.items()
    }
    for j, modality in enumerate(next(iter(there.values()))[0].modalities):
        sizes = {
            name: mean_std([r.modalities[modality].samples / max(r.iterations, 1) for r in results]).mean
            for name, results in there.items()
        }
        scores = {name: [r.modalities[modality].score for r in results] for name, results in there.items()}
        x_name = f"average batch size of {modality}"
        charts += [
            _scatter(f"{key}accuracy-{j}", f"Accuracy and batch size of {modality}", x_name, "accuracy, %",
                     sizes, accuracies, 1),
            _scatter(f"{key}score-{j}", f"Score and batch size of {modality}", x_name, "score of the last epoch",
                     sizes, scores, 3),
        ]  # fmt: skip
    return charts


def _scatter(
    key: str,
    title: str,
    x_name: str,
    y_name: str,
    x: Mapping[str, float],
    y: Mapping[str, Sequence[float]],
    decimals: int,
) -> str:
    names = [name for name in x if y[name]]

    def alone(i: int, value: float) -> list[float | None]:
        return [value if k == i else None for k in range(len(names))]

    series = []
    for i, name in enumerate(names):
        spread = mean_std(y[name])
        std = spread.std or 0.0
        series.append(Series(name, alone(i, spread.mean), alone(i, spread.mean - std), alone(i, spread.mean + std)))
    says = "One mark per agent; the whisker is one standard deviation over seeds (Figure 1)."
    return Chart(key, title, says, x_name, y_name, [x[name] for name in names], series, decimals, kind="marks").html()


def _configuration(part: TaskComparison, runs: Runs) -> str:
    if runs.config:
        own = {key: value for key, value in runs.config.items() if key not in ("agent", "agent_options", "seed")}
        return settings_table({"agents": ", ".join(part.agents), "seeds": list(part.seeds)} | own)
    found = part.to_json()
    rows = [[key, json.dumps(found[key])] for key in ("env", "method", "method_options", "seeds", "settings")]
    return Table(["setting", "value"], rows, caption="Settings as asked", words=True).html()
