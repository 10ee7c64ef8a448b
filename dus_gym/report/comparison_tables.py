"""The tables of a comparison's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dus_gym.options import with_said
from dus_gym.records import FUSED_PREDICTORS
from dus_gym.report.table import Cell, Table
from dus_gym.report.verdict import REFERENCE, corrected, headline, points_of, tones
from dus_gym.statistics import mean_std


@dataclass(frozen=True)
class Runs:
    """The run folders of one comparison, by agent; empty where only ``comparison.json`` was kept."""

    summaries: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """One a seed, in the order of the seeds; an agent that lacks one is left out."""
    steps: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]] = field(default_factory=dict)
    """Lines of ``steps.jsonl`` of the same runs."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings of one of the reference's runs."""


def overview_table(results: Sequence[Mapping[str, Any]]) -> str:
    """A line a comparison, a column an agent."""
    names = [name for name in dict.fromkeys(n for result in results for n in result["agents"]) if name != REFERENCE]
    rows: list[list[str | Cell]] = []
    for result in results:
        predictor, tone = headline(result), tones(result)
        reference = result["agents"][REFERENCE]["fused"].get(predictor)
        cells: list[str | Cell] = [f"{result['env']}, {method_of(result)}"]
        cells.append(_spread(reference["accuracy"], 100.0, 1) if reference else "–")
        for name in names:
            test = result["agents"].get(name, {}).get("vs_uniform", {}).get(predictor)
            cells.append(Cell(points_of(test), tone.get(name, " "), tone.get(name, "")) if test else "–")
        rows.append(cells)
    caption = f"Test accuracy of {REFERENCE} in %, and each agent’s difference to it, points, in words where it counts"
    return Table(["comparison", REFERENCE, *names], rows, caption=caption).html()


def result_table(result: Mapping[str, Any]) -> str:
    """Accuracy by way of fusing, differences, gap, samples."""
    columns, tone, p_values, tested_by = _columns(result), tones(result), corrected(result), headline(result)
    rows: list[list[str | Cell]] = []
    for name, row in result["agents"].items():
        cells: list[str | Cell] = [name]
        for p in columns:
            tested = p == tested_by and name in p_values
            found = ({"corrected": p_values[name]} if tested else {}) | (row["vs_uniform"].get(p) or {})
            cells.append(_accuracy(name, row["fused"].get(p), found, tone.get(name, "") if tested else ""))
        cells += [_spread(row["gap"], 1.0, 3), f"{row['samples'] / 1000:.1f}k", f"{row['training_runs']:.3g}"]
        rows.append(cells)
    caption = (
        f"Test accuracy in %, mean ± standard deviation over {len(result['seeds'])} seeds, by way of fusing; below it "
        f"the difference to {REFERENCE} in points with its p, corrected under {columns.get(tested_by, tested_by)}"
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


def _spread(figure: Mapping[str, Any], scale: float, decimals: int) -> str:
    std = "" if figure.get("std") is None else f" ± {scale * figure['std']:.{decimals}f}"
    return f"{scale * figure['mean']:.{decimals}f}{std}"


def equal_samples_table(result: Mapping[str, Any]) -> str:
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


def cost_table(result: Mapping[str, Any], runs: Runs) -> str:
    """What a run cost, by agent."""
    rows = []
    for name, row in result["agents"].items():
        costs = row.get("costs") or {}
        seconds = [summary["seconds"] for summary in runs.summaries.get(name, ())]
        found = {
            "samples": f"{row['samples']:.0f}",
            "iterations": f"{row['iterations']:.0f}",
            "runs before": f"{row['training_runs']:.3g}",
            "diverged": f"{row.get('diverged', 0)}",
            "seconds": _known(costs.get("seconds", mean(seconds) if seconds else None), ".1f"),
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


def method_of(result: Mapping[str, Any]) -> str:
    """The method with the options that were set."""
    return with_said(result["method"], result["method_options"])


def mean(values: Sequence[float]) -> float:
    """The mean of one value or more."""
    return float(mean_std(values)["mean"] or 0.0)
