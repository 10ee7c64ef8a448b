"""The report of comparisons: agents over seeds, each against the uniform split."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from dus_gym import __version__
from dus_gym.options import with_said
from dus_gym.records import FUSED_PREDICTORS
from dus_gym.report.chart import Chart, Series
from dus_gym.report.curves import MOST_LINES, drawn, figure, mean_curve, modalities_of
from dus_gym.report.page import Page, Section
from dus_gym.report.run import SELECTIONS, settings_table, warning_of
from dus_gym.report.table import Cell, Table
from dus_gym.report.verdict import ALPHA, REFERENCE, headline, points_of, tone_of, verdict_of
from dus_gym.statistics import mean_std, paired_interval


@dataclass(frozen=True)
class Runs:
    """The run folders of one comparison, by agent; empty where only ``comparison.json`` was kept."""

    summaries: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """One a seed, in the order of the seeds; an agent that lacks one is left out."""
    steps: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]] = field(default_factory=dict)
    """Lines of ``steps.jsonl`` of the same runs."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings of one of the reference's runs."""


def comparison_page(results: Sequence[tuple[Mapping[str, Any], Runs]], verdict: str | None = None) -> Page:
    """One page for one comparison or for several of them.

    Args:
        results: each a comparison as ``comparison.json`` has it, with its runs.
        verdict: over all; made from the comparisons if not given.
    """
    several = len(results) > 1
    sections: list[Section] = []
    for i, (result, runs) in enumerate(results):
        key = f"c{i}-" if several else ""
        name = f"{result['env']}, {_method(result)}: " if several else ""
        said = [f"<p><strong>{escape(verdict_of(result))}</strong></p>"] if several else []
        beside, *others = _figure1(result, runs, key) or [""]
        pair = f'<div class="grid">{_effects(result, runs, key)}{beside}</div>'
        sections += [
            Section(f"{key}result", f"{name}Result", [*said, pair, _result(result)]),
            Section(f"{key}curves", f"{name}Over training", _curves(runs, key), grid=True),
            Section(f"{key}sizes", f"{name}Batch size and score", others, grid=True),
            Section(f"{key}cost", f"{name}Cost", [_cost(result, runs)]),
            Section(f"{key}configuration", f"{name}Configuration", [_configuration(result, runs)]),
        ]
    first = results[0][0]
    envs = ", ".join(dict.fromkeys(result["env"] for result, _ in results))
    methods = ", ".join(dict.fromkeys(_method(result) for result, _ in results))
    facts = [("environment", envs), ("method", methods), ("seeds", f"{len(first['seeds'])}")]
    facts += [
        (name, ", ".join(dict.fromkeys(str(result[key]) for result, _ in results)))
        for name, key in (("trainer", "trainer"), ("data", "data_kind"))
    ]
    facts += [("model", SELECTIONS[first["select"]])]
    facts += [(key, str(value)) for key, value in first["settings"].items() if key != "select" and not several]
    return Page(
        title=f"{envs}: comparison of agents",
        kicker=f"dus-gym comparison · {envs} · {methods}",
        verdict=verdict or (verdict_of(first) if not several else f"{len(results)} comparisons with {REFERENCE}."),
        remarks=_remarks(results),
        facts=facts,
        sections=sections,
        foot=f"Written by dus-gym {__version__}. This page is one file and loads nothing from anywhere.",
        warning=" ".join(dict.fromkeys(filter(None, (warning_of(result) for result, _ in results)))),
    )


def _method(result: Mapping[str, Any]) -> str:
    return with_said(result["method"], result["method_options"])


def _remarks(results: Sequence[tuple[Mapping[str, Any], Runs]]) -> list[str]:
    said = []
    most = max(len(result["agents"]) - 1 for result, _ in results)
    if most > 0:
        said.append(
            f"Differences are paired with {REFERENCE} on the same seeds; one counts where the p of the paired t-test "
            f"is below {ALPHA:g} / {most} agent{'s' if most > 1 else ''} = {ALPHA / most:.2g}."
        )
    missing = sorted({control for result, _ in results for control in result.get("missing_controls", ())})
    if missing:
        said.append(
            f"Controls that did not run: {', '.join(missing)}. Without them a gain can’t be credited to choosing batch "
            "sizes as training goes on."
        )
    if any(len(result["seeds"]) < 5 for result, _ in results):
        said.append("Fewer than 5 seeds: take no difference for settled.")
    return said


def _differences(runs: Runs, name: str, predictor: str) -> list[float]:
    """Accuracy minus the reference's by seed, in points; empty where the runs are not there."""
    pairs = zip(runs.summaries.get(name, ()), runs.summaries.get(REFERENCE, ()), strict=False)
    return [
        100.0 * (one["fused"][predictor]["accuracy"] - other["fused"][predictor]["accuracy"])
        for one, other in pairs
        if one["fused"].get(predictor) and other["fused"].get(predictor)
    ]


def _effects(result: Mapping[str, Any], runs: Runs, key: str) -> str:
    """Differences to uniform with their intervals, one line an agent, for the headline's predictor."""
    predictor = headline(result)
    names = [name for name, row in result["agents"].items() if name != REFERENCE and row["vs_uniform"].get(predictor)]
    points = [result["agents"][name]["vs_uniform"][predictor]["points"] for name in names]
    edges = [paired_interval(_differences(runs, name, predictor)) for name in names]
    series = [
        Series(
            name,
            [float(k) if k == i else None for k in range(len(names))],
            [edge[0] if edge and k == i else None for k in range(len(names))],
            [edge[1] if edge and k == i else None for k in range(len(names))],
        )
        for i, (name, edge) in enumerate(zip(names, edges, strict=True))
    ]
    own = "the method’s own predictor" if predictor == "method" else f"the predictor {predictor}"
    return Chart(
        f"{key}effects",
        f"Difference to {REFERENCE}",
        f"Test accuracy by {own}, paired by seed, with the 95 % interval of each mean difference taken alone.",
        f"points of accuracy against {REFERENCE}",
        "",
        points,
        series,
        decimals=1,
        kind="marks",
        y_ticks=names,
        zero=REFERENCE,
    ).html()


def _result(result: Mapping[str, Any]) -> str:
    columns = _columns(result)
    others = len(result["agents"]) - 1
    rows: list[list[str | Cell]] = []
    for name, row in result["agents"].items():
        cells: list[str | Cell] = [name]
        cells += [_accuracy(name, row["fused"].get(p), row["vs_uniform"].get(p), others) for p in columns]
        cells += [_spread(row["gap"], 1.0, 3), f"{row['samples'] / 1000:.1f}k", f"{row['training_runs']:.3g}"]
        rows.append(cells)
    caption = (
        f"Test accuracy in %, mean ± standard deviation over {len(result['seeds'])} seeds, by way of fusing; "
        f"below it the difference to {REFERENCE} in points (p), in colour and bold where it counts"
    )
    return Table(["agent", *columns.values(), "gap", "samples", "runs spent"], rows, caption=caption).html()


def _columns(result: Mapping[str, Any]) -> dict[str, str]:
    """Predictors to the names of their columns; those with the same figures throughout share one."""
    columns: dict[str, str] = {}
    for predictor in FUSED_PREDICTORS:
        figures = [row["fused"].get(predictor) for row in result["agents"].values()]
        twin = next((p for p in columns if figures == [row["fused"].get(p) for row in result["agents"].values()]), None)
        if any(figures):
            columns |= {twin: f"{columns[twin]} = {predictor}"} if twin else {predictor: predictor}
    return columns


def _accuracy(
    name: str, figures: Mapping[str, Any] | None, against: Mapping[str, Any] | None, others: int
) -> str | Cell:
    if not figures:
        return "–"
    text = _spread(figures["accuracy"], 100.0, 1)
    if name == REFERENCE or not against:
        return text
    p = "" if against["p"] is None else (" (p < .001)" if against["p"] < 0.001 else f" (p {against['p']:.3f})")
    tone = tone_of(against, others)
    return Cell(text, f"{points_of(against)}{p.replace('0.', '.')}{' ' + tone if tone else ''}", tone)


def _spread(figure: Mapping[str, Any], scale: float, decimals: int) -> str:
    std = "" if figure.get("std") is None else f" ± {scale * figure['std']:.{decimals}f}"
    return f"{scale * figure['mean']:.{decimals}f}{std}"


def _curves(runs: Runs, key: str) -> list[str]:
    """Figures 5 and 4 of the paper with a line an agent, a chart a modality; then gap and validation."""
    first = next((steps[0] for steps in runs.steps.values() if steps), [])
    band = "Mean over seeds; the band is one standard deviation to either side."
    off = list(runs.steps)[MOST_LINES:]

    def chart(name: str, title: str, y_name: str, read: Callable[[Mapping[str, Any]], Any], **look: Any) -> str:
        curves = {agent: mean_curve(steps, read) for agent, steps in runs.steps.items()}
        return drawn(key + name, title, band, y_name, curves, off=off, **look)

    charts = []
    for j, name in enumerate(modalities_of(first)):
        charts.append(chart(f"scores-{j}", f"Score of {name}", "score ŝ", figure("observation", j), y_range=(0, 1)))
        charts.append(
            chart(
                f"sizes-{j}",
                f"Batch size of {name}",
                "samples an iteration",
                figure(f"size/{name}"),
                decimals=1,
            )
        )
    charts.append(chart("gap", "Gap between the modalities’ scores", "gap", figure("gap")))
    predictor = "method" if first and first[0].get("val_fused/method") is not None else "sum"
    charts.append(
        chart(
            "validation",
            f"Validation accuracy, fused by {predictor}",
            "accuracy, %",
            figure(f"val_fused/{predictor}", scale=100.0),
            decimals=1,
        )
    )
    return charts


def _figure1(result: Mapping[str, Any], runs: Runs, key: str) -> list[str]:
    """Figure 1 of the paper: accuracy, and each modality's score, against its average batch size."""
    predictor = headline(result)
    there = {name: summaries for name, summaries in runs.summaries.items() if summaries}
    if not there:
        return []
    modalities = list(next(iter(there.values()))[0]["modalities"])
    charts = []
    for j, modality in enumerate(modalities):
        sizes = {
            name: _mean([s["modalities"][modality]["samples"] / max(s["iterations"], 1) for s in summaries])
            for name, summaries in there.items()
        }
        accuracies = {
            name: [100.0 * s["fused"][predictor]["accuracy"] for s in summaries if s["fused"].get(predictor)]
            for name, summaries in there.items()
        }
        scores = {name: [s["modalities"][modality]["score"] for s in summaries] for name, summaries in there.items()}
        x_name = f"average batch size of {modality}"
        charts.append(
            _scatter(
                f"{key}accuracy-{j}",
                f"Accuracy and batch size of {modality}",
                x_name,
                "accuracy, %",
                sizes,
                accuracies,
                1,
            )
        )
        charts.append(
            _scatter(
                f"{key}score-{j}",
                f"Score and batch size of {modality}",
                x_name,
                "score of the last epoch",
                sizes,
                scores,
                3,
            )
        )
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
        middle, std = spread["mean"] or 0.0, spread["std"] or 0.0
        series.append(Series(name, alone(i, middle), alone(i, middle - std), alone(i, middle + std)))
    says = "A mark an agent; the whisker is one standard deviation over seeds (Figure 1)."
    return Chart(key, title, says, x_name, y_name, [x[name] for name in names], series, decimals, kind="marks").html()


def _mean(values: Sequence[float]) -> float:
    return float(mean_std(values)["mean"] or 0.0)


def _cost(result: Mapping[str, Any], runs: Runs) -> str:
    timed = any(runs.summaries.values())
    rows = []
    for name, row in result["agents"].items():
        seconds = [summary["seconds"] for summary in runs.summaries.get(name, ())]
        cells = [name, f"{row['samples']:.0f}", f"{row['iterations']:.0f}", f"{row['training_runs']:.3g}"]
        cells += [f"{row.get('diverged', 0)}"]
        rows.append(cells + ([f"{_mean(seconds):.1f}" if seconds else "–"] if timed else []))
    head = ["agent", "samples", "iterations", "training runs before", "runs that diverged"]
    return Table(head + (["seconds"] if timed else []), rows, caption="What a run cost, mean over seeds").html()


def _configuration(result: Mapping[str, Any], runs: Runs) -> str:
    if runs.config:
        own = {key: value for key, value in runs.config.items() if key not in ("agent", "agent_options", "seed")}
        return settings_table({"agents": ", ".join(result["agents"]), "seeds": result["seeds"]} | own)
    rows = [[key, json.dumps(result[key])] for key in ("env", "method", "method_options", "seeds", "settings")]
    return Table(["setting", "value"], rows, caption="Settings as asked", words=True).html()
