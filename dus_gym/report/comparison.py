"""The report of comparisons: agents over seeds, each against the uniform split."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from dus_gym.errors import ConfigError
from dus_gym.experiments.comparison import Comparison
from dus_gym.experiments.drivers import name_agent
from dus_gym.experiments.results import SELECTIONS
from dus_gym.experiments.spec import REFERENCE, RunSpec
from dus_gym.experiments.storage.run_folder import writing
from dus_gym.experiments.table import Table
from dus_gym.experiments.task_comparison import (
    GAINS,
    HEADLINE,
    Against,
    Column,
    TaskComparison,
    at_equal_samples,
    cost_columns,
    difference_text,
    figure_columns,
    is_control,
    name_column,
    spread_text,
)
from dus_gym.experiments.verdict import ENOUGH_SEEDS, caveats
from dus_gym.report.chart import Chart, Series
from dus_gym.report.curves import MOST_LINES, drawn, figure, mean_curve, modalities_of
from dus_gym.report.page import Page, Section, command_html
from dus_gym.report.rows import AGENT, CONTROL, ZERO, Bar, Difference, bars, differences
from dus_gym.report.run import settings_table
from dus_gym.report.runs import Runs, read_runs
from dus_gym.state import write_atomically
from dus_gym.statistics import mean_std

SAMPLES = "Who got how many samples"


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

    It opens with the verdict and its picture; then who got how many samples; all else is folded.

    Args:
        comparison: where it has a folder, the runs in it are drawn.
    """
    parts = comparison.parts
    several = len(parts) > 1
    above = [caveat for part in parts for caveat in caveats(part.trainer, part.data_kind, part.select)]
    sections = [Section("overview", "Overview", [comparison.table().html()])] if several else []
    following: list[str] = []
    for i, part in enumerate(parts):
        runs = read_runs(part, comparison.folder)
        key = f"c{i}-" if several else ""
        ahead = next_command(part, runs)
        command = [] if ahead is None else [command_html(*ahead)]
        following = [] if several else command
        samples = _samples(part, runs, f"{key}split", SAMPLES if several else "")
        figures = part.table_of(
            name_column() | figure_columns(part), "Other predictors, each modality alone, and the gap"
        )
        costs = part.table_of(name_column() | cost_columns(part), "What one run cost")
        curves = _curves(part, runs, key)
        if several:
            inside = [
                f"<p><strong>{escape(part.verdict)}</strong></p>",
                *command,
                part.table().html(),
                samples,
                *_titled("Over training", curves),
                *_titled("Batch size and score", _figure1(runs, key)),
                figures.html(),
                costs.html(),
                _configuration(part, runs),
            ]
            sections.append(Section(f"{key}result", part.title, inside, folded=True))
            continue
        table = part.table().html()
        sections += [
            Section("samples", SAMPLES, [samples]),
            # Without a prediction of the method's own there is no picture, and the table is what there is.
            Section("result", "Result", [table, figures.html()], folded=part.uniform.test is not None),
            Section("curves", "Over training", curves, grid=True, folded=True),
            Section("sizes", "Batch size and score", _figure1(runs, key), grid=True, folded=True),
            Section("cost", "Cost", [costs.html()], folded=True),
            Section("configuration", "Configuration", [_configuration(part, runs)], folded=True),
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
    return Page(
        title=f"{envs}: comparison of agents",
        kicker=f"dus-gym comparison · {envs} · {methods} · {_count(len(first.seeds), 'seed')}",
        verdict=comparison.verdict,
        opening=[_differences(parts)],
        remarks=[one for one in comparison.warnings if not any(one.endswith(caveat) for caveat in above)],
        following=following,
        facts=facts,
        sections=sections,
        warning=" ".join(dict.fromkeys(above)),
    )


def _each(words: Iterable[str]) -> str:
    """Different words, each once."""
    return ", ".join(dict.fromkeys(words))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _titled(title: str, charts: Sequence[str]) -> list[str]:
    """Return charts in two columns below a heading; nothing without charts."""
    return [f'<h3>{escape(title)}</h3><div class="grid">{"".join(charts)}</div>'] if any(charts) else []


# -- the picture of the verdict ----------------------------------------------------------------------


def _differences(parts: Sequence[TaskComparison]) -> str:
    """Draw each agent's difference to uniform with its interval, the largest first and uniform at zero.

    Nothing for methods without a prediction of their own: no difference is tested there.
    """
    tested = [part for part in parts if part.uniform.test is not None]
    if not tested or not any(part.others for part in tested):
        return ""
    groups = {part.title if len(parts) > 1 else "": _rows(part) for part in tested}
    tests = tested[0].correction.tests if tested[0].correction is not None else 0
    wider = f", wider because {tests} differences are tested (Holm’s correction)" if tests > 1 else ""
    enough = all(len(part.seeds) >= ENOUGH_SEEDS for part in tested)
    means = "; where it is clear of 0, the agent gains or loses" if enough else ""
    return differences(
        "effects",
        f"Difference to {REFERENCE}",
        "Test accuracy of the method’s own prediction minus that of uniform on the same seeds, the largest first.",
        groups,
        reference=REFERENCE,
        legend={
            AGENT: "an agent",
            CONTROL: "a control, which a gain must beat to be one of choosing samples",
            ZERO: f"{REFERENCE}, equal batches: what all are compared with",
            "interval": f"95 % interval{wider}{means}",
            "seed": "single seeds",
        },
    )


def _rows(part: TaskComparison) -> list[Difference]:
    """Return uniform, every agent, and agents at equal samples, in falling order of the difference."""
    found = [Difference(REFERENCE, ZERO, 0.0, None, (), f"{spread_text(part.uniform, HEADLINE)} % accuracy", "")]
    for name, row in part.others.items():
        pairs: list[tuple[str, Against, Mapping[str, Column]]] = [(name, row, part.uniform.by_seed)]
        if row.equal_samples is not None:
            pairs.append((at_equal_samples(name), row.equal_samples, row.equal_samples.by_seed))
        for said, against, reference in pairs:
            mine, theirs = row.by_seed[HEADLINE], reference[HEADLINE]
            if against.test is None or mine is None or theirs is None:
                continue
            found.append(
                Difference(
                    said,
                    CONTROL if is_control(name) else AGENT,
                    against.test.points,
                    against.interval_corrected,
                    [100.0 * (a - b) for a, b in zip(mine, theirs, strict=True)],
                    difference_text(name, against).replace("-", "−"),
                    against.outcome or "",
                )
            )
    return sorted(found, key=lambda one: -one.points)


def _samples(part: TaskComparison, runs: Runs, key: str, title: str) -> str:
    """Draw how many samples of each modality an iteration had, uniform first and then as in the verdict's picture.

    Nothing where the runs are not kept.
    """
    if REFERENCE not in runs.results:
        return ""
    names = list(part.uniform.modalities)
    order = [
        REFERENCE,
        *sorted(part.others, key=lambda name: -(test.points if (test := part.agents[name].test) else 0)),
    ]
    drawn = []
    for name in order:
        if name not in runs.results:
            continue
        results = runs.results[name]
        sizes = [mean_std([r.modalities[m].samples / max(r.iterations, 1) for r in results]).mean for m in names]
        said = ", ".join(f"{size:.0f}" for size in sizes)
        rates = [mean_curve(runs.steps[name], figure(f"rate/{m}")).mean for m in names]
        known = [[value for value in of if value is not None] for of in rates]
        if all(known):
            said += f"; learning rates × {', '.join(f'{math.fsum(of) / len(of):.2f}' for of in known)}"
        drawn.append(Bar(name, sizes, said))
    return bars(
        key,
        title,
        "Samples of each modality per iteration: the mean over whole runs and all seeds. “Over training” has their "
        "course.",
        names,
        drawn,
        unit="samples per iteration",
    )


def next_command(part: TaskComparison, runs: Runs) -> tuple[str, str] | None:
    """Return the comparison that would be next, with the settings of this one: what it is for, and the command.

    Args:
        part: this one.
        runs: its runs; without them the settings are not known.

    Returns:
        None where no command can name it, such as for objects of a Python program.
    """
    others = list(part.others)
    try:
        for name in others:
            name_agent(name)
    except ConfigError:
        return None
    if not runs.config or not others:
        return None
    spec, n = RunSpec.of(runs.config), len(part.seeds)
    if n < ENOUGH_SEEDS:
        said = f"Next: {ENOUGH_SEEDS} seeds, the fewest that a verdict takes"
        return said, spec.compare_command(others, range(ENOUGH_SEEDS))
    # Under the lever on rates lr-matched is the agent itself.
    unfit = {*part.left_out, *(["lr-matched"] if spec.run.lever == "rates" else [])}
    missing = [name for name in part.missing_controls if name not in unfit]
    if missing and any(row.outcome == GAINS and not is_control(name) for name, row in part.others.items()):
        said = "Next: the same with the controls that did not run, which tell whether a gain is one of choosing samples"
        return said, spec.compare_command([*others, *missing], part.seeds)
    start = max(part.seeds) + 1
    return "Next: the same on seeds that were not used yet", spec.compare_command(others, range(start, start + n))


# -- what is folded ----------------------------------------------------------------------------------


def _named(part: TaskComparison) -> list[str]:
    """Return uniform and the agents that the verdict names, in its order."""
    return list(dict.fromkeys([REFERENCE, *(name for one in part.statements for name in one.agents)]))


def _curves(part: TaskComparison, runs: Runs, key: str) -> list[str]:
    """Draw Figures 5 and 4 of the paper with a line per agent, a chart per modality; then gap and validation."""
    first = next((steps[0] for steps in runs.steps.values() if steps), [])
    band = "Mean over seeds; the band is one standard deviation to either side."
    # What the verdict names first is shown; every series keeps its colour.
    shown = [name for name in _named(part) if name in runs.steps][:MOST_LINES]
    off = [name for name in runs.steps if name not in shown]

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
    """Return every setting of the comparison."""
    if runs.config:
        own = {key: value for key, value in runs.config.items() if key not in ("agent", "agent_options", "seed")}
        return settings_table({"agents": ", ".join(part.agents), "seeds": list(part.seeds)} | own)
    found = part.to_json()
    rows = [[key, json.dumps(found[key])] for key in ("env", "method", "method_options", "seeds", "settings")]
    return Table(["setting", "value"], rows, caption="Settings as asked", words=True).html()
