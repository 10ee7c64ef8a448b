"""The report of comparisons: agents over seeds, each against the uniform split."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from dus_gym import __version__
from dus_gym.report.chart import Chart, Series
from dus_gym.report.comparison_tables import (
    Runs,
    cost_table,
    equal_samples_table,
    mean,
    method_of,
    overview_table,
    result_table,
)
from dus_gym.report.curves import MOST_LINES, drawn, figure, mean_curve, modalities_of
from dus_gym.report.page import Page, Section
from dus_gym.report.run import SELECTIONS, settings_table, warning_of
from dus_gym.report.table import Table
from dus_gym.report.verdict import REFERENCE, corrected, headline, level_of, tones, verdict_of
from dus_gym.statistics import confidence_interval, mean_std


def comparison_page(results: Sequence[tuple[Mapping[str, Any], Runs]]) -> Page:
    """One page for one comparison or for several of them.

    Args:
        results: each a comparison as ``comparison.json`` has it, with its runs.
    """
    several = len(results) > 1
    sections = [Section("overview", "Overview", [overview_table([result for result, _ in results])])] if several else []
    for i, (result, runs) in enumerate(results):
        key = f"c{i}-" if several else ""
        name = f"{result['env']}, {method_of(result)}: " if several else ""
        label, rest = (f"{result['env']}, {method_of(result)}", "") if several else (None, None)
        said = [f"<p><strong>{escape(verdict_of(result))}</strong></p>"] if several else []
        beside, *others = _figure1(result, runs, key) or [""]
        pair = f'<div class="grid">{_effects(result, runs, key)}{beside}</div>'
        tables = [result_table(result), equal_samples_table(result)]
        sections += [
            Section(f"{key}result", f"{name}Result", [*said, pair, *tables], link=label),
            Section(f"{key}curves", f"{name}Over training", _curves(runs, key), grid=True, link=rest),
            Section(f"{key}sizes", f"{name}Batch size and score", others, grid=True, link=rest),
            Section(f"{key}cost", f"{name}Cost", [cost_table(result, runs)], link=rest),
            Section(f"{key}configuration", f"{name}Configuration", [_configuration(result, runs)], link=rest),
        ]
    first = results[0][0]
    envs = ", ".join(dict.fromkeys(result["env"] for result, _ in results))
    methods = ", ".join(dict.fromkeys(method_of(result) for result, _ in results))
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
        verdict=verdict_of(first) if not several else _overall(results),
        remarks=_remarks(results),
        facts=facts,
        sections=sections,
        foot=f"Written by dus-gym {__version__}. This page is one file and loads nothing from anywhere.",
        warning=" ".join(dict.fromkeys(filter(None, (warning_of(result) for result, _ in results)))),
    )


def _overall(results: Sequence[tuple[Mapping[str, Any], Runs]]) -> str:
    """How often which agent differs; each comparison's own verdict stands in its section."""
    counts: dict[str, list[int]] = {}
    for result, _ in results:
        for name, tone in tones(result).items():
            counts.setdefault(name, [0, 0])[tone == "worse"] += 1
    said = [
        f"{name} better in {better} and worse in {worse}" if better and worse
        else f"{name} {'better' if better else 'worse'} in {better or worse}"
        for name, (better, worse) in sorted(counts.items(), key=lambda item: (item[1][1] - item[1][0], item[0]))
    ]  # fmt: skip
    return f"{len(results)} comparisons with {REFERENCE}: " + (
        "; ".join(said) + "." if said else "no agent can be told from it in any."
    )


def _remarks(results: Sequence[tuple[Mapping[str, Any], Runs]]) -> list[str]:
    """How to read the differences, and what a reader should know before believing them."""
    tests = results[0][0].get("correction", {}).get("tests") or sum(len(corrected(result)) for result, _ in results)
    said = []
    if tests:
        said.append(
            f"Differences are paired with {REFERENCE} on the same seeds. One counts where the p of its paired t-test "
            f"is below {level_of(results[0][0]):g} after Holm’s correction for {tests} test{'s' if tests > 1 else ''}."
        )
    for result, _ in results:
        about = f"{result['env']}, {method_of(result)}: " if len(results) > 1 else ""
        said += [about + warning for warning in result.get("warnings", ())]
        if "verdict" not in result and result.get("missing_controls"):
            said.append(f"{about}Controls that did not run: {', '.join(result['missing_controls'])}.")
    return said


def _interval(result: Mapping[str, Any], runs: Runs, name: str, predictor: str) -> Sequence[float] | None:
    """Ends of the 95 % interval of a mean difference, points: the comparison's, or from its runs."""
    row = result["agents"][name]
    if "interval" in row:
        ends: Sequence[float] | None = row["interval"].get(predictor)
        return ends
    mine, reference = (
        [summary["fused"][predictor]["accuracy"] for summary in runs.summaries.get(agent, ())]
        for agent in (name, REFERENCE)
    )
    return confidence_interval(mine, reference) if mine and len(mine) == len(reference) else None


def _effects(result: Mapping[str, Any], runs: Runs, key: str) -> str:
    """Differences to uniform with their intervals, one line an agent, for the headline's predictor."""
    predictor = headline(result)
    names = [name for name, row in result["agents"].items() if name != REFERENCE and row["vs_uniform"].get(predictor)]
    points = [result["agents"][name]["vs_uniform"][predictor]["points"] for name in names]
    edges = [_interval(result, runs, name, predictor) for name in names]
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
        f"Test accuracy by {own}, paired by seed, with the 95 % interval of each difference taken alone.",
        f"points of accuracy against {REFERENCE}",
        "",
        points,
        series,
        decimals=1,
        kind="marks",
        y_ticks=names,
        zero=REFERENCE,
    ).html()


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
            name: mean([s["modalities"][modality]["samples"] / max(s["iterations"], 1) for s in summaries])
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


def _configuration(result: Mapping[str, Any], runs: Runs) -> str:
    if runs.config:
        own = {key: value for key, value in runs.config.items() if key not in ("agent", "agent_options", "seed")}
        return settings_table({"agents": ", ".join(result["agents"]), "seeds": result["seeds"]} | own)
    rows = [[key, json.dumps(result[key])] for key in ("env", "method", "method_options", "seeds", "settings")]
    return Table(["setting", "value"], rows, caption="Settings as asked", words=True).html()
