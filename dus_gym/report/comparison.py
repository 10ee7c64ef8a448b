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
from dus_gym.report.verdict import REFERENCE, corrected, headline, level_of, points_of, tones, verdict_of
from dus_gym.statistics import confidence_interval, mean_std


@dataclass(frozen=True)
class Runs:
    """The run folders of one comparison, by agent; empty where only ``comparison.json`` was kept."""

    summaries: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """One a seed, in the order of the seeds; an agent that lacks one is left out."""
    steps: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]] = field(default_factory=dict)
    """Lines of ``steps.jsonl`` of the same runs."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings of one of the reference's runs."""


def comparison_page(results: Sequence[tuple[Mapping[str, Any], Runs]]) -> Page:
    """One page for one comparison or for several of them.

    Args:
        results: each a comparison as ``comparison.json`` has it, with its runs.
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
            Section(f"{key}result", f"{name}Result", [*said, pair, _result(result), _equal_samples(result)]),
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


def _method(result: Mapping[str, Any]) -> str:
    return with_said(result["method"], result["method_options"])


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
        about = f"{result['env']}, {_method(result)}: " if len(results) > 1 else ""
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


def _result(result: Mapping[str, Any]) -> str:
    columns, tone, p_values = _columns(result), tones(result), corrected(result)
    rows: list[list[str | Cell]] = []
    for name, row in result["agents"].items():
        cells: list[str | Cell] = [name]
        for p in columns:
            tested = p == headline(result) and name in p_values
            found = ({"corrected": p_values[name]} if tested else {}) | (row["vs_uniform"].get(p) or {})
            cells.append(_accuracy(name, row["fused"].get(p), found, tone.get(name, "") if tested else ""))
        cells += [_spread(row["gap"], 1.0, 3), f"{row['samples'] / 1000:.1f}k", f"{row['training_runs']:.3g}"]
        rows.append(cells)
    caption = (
        f"Test accuracy in %, mean ± standard deviation over {len(result['seeds'])} seeds, by way of fusing; below it "
        f"the difference to {REFERENCE} in points with its p, corrected under {columns.get(headline(result), headline(result))}"
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


def _accuracy(name: str, figures: Mapping[str, Any] | None, against: Mapping[str, Any], tone: str) -> str | Cell:
    if not figures:
        return "–"
    text = _spread(figures["accuracy"], 100.0, 1)
    if name == REFERENCE or "points" not in against:
        return text
    p = against.get("corrected", against["p"])
    said = "" if p is None else (" (p < .001)" if p < 0.001 else f" (p {p:.3f})".replace("0.", "."))
    return Cell(text, f"{points_of(against)}{said}{' ' + tone if tone else ''}", tone)


def _equal_samples(result: Mapping[str, Any]) -> str:
    """Agents that see fewer samples, beside the reference at as few."""
    predictor = headline(result)
    rows = []
    for name, row in result["agents"].items():
        equal = row.get("equal_samples")
        if equal and equal["vs_uniform"].get(predictor):
            test, ends = equal["vs_uniform"][predictor], equal["interval"].get(predictor)
            said = "–" if not ends else f"{ends[0]:+.1f} … {ends[1]:+.1f}".replace("-", "−")
            p = "–" if equal["p_corrected"] is None else f"{equal['p_corrected']:.3f}"
            counts = [f"{equal['total_batch']}", f"{equal['samples'] / 1000:.1f}k"]
            rows.append([name, *counts, points_of(test), said, p, equal["outcome"] or "–"])
    head = ["agent", f"N_B of {REFERENCE}", "samples", "points", "95 % interval", "corrected p", "outcome"]
    caption = f"Against {REFERENCE} with as few samples as the agent draws"
    return Table(head, rows, caption=caption).html() if rows else ""


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
    rows = []
    for name, row in result["agents"].items():
        costs = row.get("costs") or {}
        seconds = [summary["seconds"] for summary in runs.summaries.get(name, ())]
        found = {
            "samples": f"{row['samples']:.0f}",
            "iterations": f"{row['iterations']:.0f}",
            "runs before": f"{row['training_runs']:.3g}",
            "diverged": f"{row.get('diverged', 0)}",
            "seconds": _known(costs.get("seconds", _mean(seconds) if seconds else None), ".1f"),
            "agent’s share, %": _known(costs.get("agent_share"), ".1f", 100.0),
            "peak memory, MiB": _known(costs.get("peak_memory_mib"), ".0f"),
            "on the device, MiB": _known(costs.get("peak_device_memory_mib"), ".0f"),
        }
        rows.append((name, found))
    known = [key for key in rows[0][1] if any(found[key] != "–" for _, found in rows)]
    caption = "What one run cost: samples, iterations and training runs before it are means; seconds are medians"
    return Table(
        ["agent", *known], [[name, *(found[k] for k in known)] for name, found in rows], caption=caption
    ).html()


def _known(value: float | None, form: str, scale: float = 1.0) -> str:
    return "–" if value is None else f"{scale * value:{form}}"


def _configuration(result: Mapping[str, Any], runs: Runs) -> str:
    if runs.config:
        own = {key: value for key, value in runs.config.items() if key not in ("agent", "agent_options", "seed")}
        return settings_table({"agents": ", ".join(result["agents"]), "seeds": result["seeds"]} | own)
    rows = [[key, json.dumps(result[key])] for key in ("env", "method", "method_options", "seeds", "settings")]
    return Table(["setting", "value"], rows, caption="Settings as asked", words=True).html()
