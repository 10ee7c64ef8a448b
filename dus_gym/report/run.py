"""The report of one run."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from itertools import zip_longest
from typing import Any

from dus_gym.experiments.probe_result import kept_probe, nothing_to_probe
from dus_gym.experiments.results import LEGEND, SELECTIONS, Result, data_tables, name_task
from dus_gym.experiments.spec import RunSpec
from dus_gym.experiments.storage.run_folder import PICTURE, flat
from dus_gym.experiments.table import Table
from dus_gym.experiments.verdict import caveats, notes
from dus_gym.options import with_said
from dus_gym.report.curves import Curve, curve, drawn, figure, modalities_of
from dus_gym.report.page import Page, Section, command_html, picture_html

NOT_SETTINGS = ("written_by", "format", "command")


def run_page(config: Mapping[str, Any], result: Result | None, steps: Sequence[Mapping[str, Any]]) -> Page:
    """The page of a run: its headline and its picture, the result and what ``dus probe`` found; all else is folded.

    Args:
        config: of the run folder.
        result: None for a run that is not finished: the page then has its curves so far.
        steps: lines of ``steps.jsonl``.
    """
    agent = with_said(config["agent"], config["agent_options"])
    method = with_said(config["method"], config["method_options"])
    env = name_task(config["env"], config.get("data_name"))
    facts = [("environment", env), ("method", method), ("agent", agent), ("seed", str(config["seed"]))]
    if result is not None:
        facts += [
            ("trainer", result.trainer),
            ("data", result.data_kind),
            ("model", SELECTIONS[result.select]),
            ("samples per iteration", f"{result.total_batch}, an equal share is {result.base_batch}"),
        ]
    charts = run_charts(steps)
    picture = _picture(result, steps)
    # A run without a picture, which goes on or is one of a comparison, opens with the two charts that would be in it.
    opening, charts = ([picture], charts) if picture else ([_side_by_side(charts[:2])], charts[2:])
    return Page(
        title=f"{env}: {method} under {agent}",
        kicker=f"dus-gym run · {env} · {method} under {agent} · seed {config['seed']}",
        verdict=_verdict(result, steps),
        opening=opening,
        remarks=_remarks(result),
        facts=facts,
        sections=[
            Section("result", "Result", [] if result is None else [_result(result)]),
            Section("probe", "What each modality knows and contributes", _probe(config, result)),
            Section("curves", "Over training", charts, grid=True, folded=True),
            Section("data", "Data", _data(result), folded=True),
            Section("cost", "Cost", [] if result is None else [_cost(result)], folded=True),
            Section("configuration", "Configuration", [settings_table(config)], folded=True),
        ],
        following=_next_command(config, result),
        warning=_warning(result),
    )


def _warning(result: Result | None) -> str:
    """Return the caveats that stand above everything else."""
    if result is None:
        return ""
    said = caveats(result.trainer, result.data_kind, result.select)
    return " ".join([*said, *(["The run diverged: a training loss was not finite."] if result.diverged else [])])


def _verdict(result: Result | None, steps: Sequence[Mapping[str, Any]]) -> str:
    if result is None:
        at = f"at epoch {steps[-1]['epoch']} of {steps[-1]['epochs']}" if steps else "before its first step"
        return f"Not finished: {at}."
    fused = {name: row.accuracy for name, row in result.fused.items() if row is not None}
    first = "method" if "method" in fused else next(iter(fused))
    by = "by its own predictor" if first == "method" else f"by {first}"
    best, alone = max(((n, row.accuracy) for n, row in result.modalities.items()), key=lambda pair: pair[1])
    points = 100 * (fused[first] - alone)
    than = "more" if points >= 0 else "LESS"
    return (
        f"{100 * fused[first]:.1f} % test accuracy {by}: {abs(points):.1f} points {than} than {best} alone, "
        f"with a gap of {result.gap:.2f} between the modalities’ scores."
    )


def _picture(result: Result | None, steps: Sequence[Mapping[str, Any]]) -> str:
    """Return the picture that the run's folder keeps; nothing if there is none."""
    if result is None or result.folder is None or not steps:
        return ""
    last, figures, rates = steps[-1], [], False
    for j, name in enumerate(modalities_of(steps)):
        moved = [rate for rate in map(figure(f"rate/{name}"), steps) if rate is not None]
        rates = rates or bool(moved)
        decided = (
            f"learning rate × {math.fsum(moved) / len(moved):.2f}"
            if moved
            else f"{last[f'samples/{name}'] / max(last['iterations'], 1):.0f} samples per iteration"
        )
        figures.append(f"{name}: score {last['observation'][j]:.2f} at the end; {decided} on average")
    dashed = "; dashed: validation" if any(key.startswith("val_score/") for key in last) else ""
    decides = "the factors on the learning rates" if rates else "the samples of each modality per iteration"
    return picture_html(
        result.folder / PICTURE,
        "What the agent saw, and what it decided",
        "Above, the discrepancy scores: the mean probability that a modality gives the true class, over the run so far "
        f"(thin: the last step alone{dashed}). Below, {decides}.",
        f"Two panels over {last['iterations']} iterations: scores of the modalities, and {decides}, stacked.",
        figures=figures,
    )


def _side_by_side(charts: Sequence[str]) -> str:
    """Return charts in two columns where there is room; nothing without charts."""
    return f'<div class="grid">{"".join(charts)}</div>' if any(charts) else ""


def _next_command(config: Mapping[str, Any], result: Result | None) -> list[str]:
    """Return the comparison of this run's agent with this run's settings."""
    if result is None:
        return []
    said = "One run of one seed can’t say whether choosing batch sizes helps. Next: the same settings over seeds"
    return [command_html(said, RunSpec.of(config).compare_command())]


def _probe(config: Mapping[str, Any], result: Result | None) -> list[str]:
    """Return what ``dus probe`` has found; before it ran, the command, or why it can't."""
    if result is None or result.folder is None:
        return []
    found = kept_probe(result.folder)
    if found is None:
        reason = nothing_to_probe(result.folder, RunSpec.of(config), result)
        if reason is not None:
            return [f"<p>{escape(reason)}</p>"]
        said = "Linear probes, contributions, classes, size and speed: not measured yet. Write this report again after"
        return [command_html(said, shlex.join(["dus", "probe", str(result.folder)]))]
    overview, subsets, *rest = (table.html() for table in found.tables())
    warnings = [f"<p>{escape(warning)}</p>" for warning in found.warnings]
    return [
        *warnings,
        f'<div class="inside">{overview}{subsets}</div>',
        f'<details class="fold"><summary>Classes, confusions, size and speed</summary>'
        f'<div class="inside">{"".join(rest)}</div></details>',
    ]


def _remarks(result: Result | None) -> list[str]:
    if result is None:
        return ["No test figure exists before the end of a run."]
    said = notes(result)
    spread = [row.accuracy for name, row in result.fused.items() if row is not None and name != "method"]
    if len(spread) > 1 and max(spread) - min(spread) >= 0.005:
        said.append(
            f"The way of fusing moves the figure by {100 * (max(spread) - min(spread)):.1f} points on this same run, "
            "so all of them are shown."
        )
    return said


def _result(result: Result) -> str:
    table = result.table(f"Scored once after the end. {LEGEND}")
    seen = [f"{100 * row.coverage:.0f}" for row in result.modalities.values()]
    rows = [[*row, cell] for row, cell in zip_longest(table.rows, seen, fillvalue="")]
    return replace(table, head=[*table.head, "data seen, %"], rows=rows).html()


def run_charts(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Figures 5 and 4 of the paper for this run, then gap, validation, loss and reward."""
    names = modalities_of(steps)
    scores: dict[str, Curve] = {}
    for j, name in enumerate(names):
        scores[name] = curve(steps, figure("observation", j))
        scores[f"{name}, last step"] = curve(steps, figure(f"train_score/{name}"))
    # In this order a modality has the same colour in every chart.
    order = [*names, *(key for key in scores if key not in names)]
    validation = {
        name: curve(steps, figure(key, scale=100.0)) for key in (steps[0] if steps else ()) if (name := _validated(key))
    }
    return [
        drawn(
            "scores", "Discrepancy scores",
            "What the agent sees: the mean probability that a modality gives the true class, averaged over the run "
            "so far (Figure 5).",
            "score ŝ", {key: scores[key] for key in order}, off=order[len(names) :], y_range=(0.0, 1.0),
        ),
        drawn(
            "sizes", "Batch sizes", "What the agent decides: samples of each modality in an iteration (Figure 4).",
            "samples per iteration",
            {name: curve(steps, figure(f"size/{name}")) for name in names}, decimals=0,
        ),
        drawn(
            "gap", "Gap", "The largest minus the smallest score of each epoch. A smaller gap is not a better model.",
            "gap", {"gap": curve(steps, figure("gap"))},
        ),
        drawn(
            "validation", "Validation accuracy",
            "Of each modality alone and of the ways of fusing them, on samples that were not trained on.",
            "accuracy, %", validation,
            off=[name for name in validation if name.startswith("fused, ") and name != "fused, method"], decimals=1,
        ),
        drawn("loss", "Training loss", "The mean of each step.", "loss",
              {"loss": curve(steps, figure("loss"))}),
        drawn("reward", "Reward", "What the agent got for each step’s choice.", "reward",
              {"reward": curve(steps, figure("reward"))}),
    ]  # fmt: skip


def _validated(key: str) -> str:
    """The name of a curve of validation accuracy; empty for another key."""
    if key.startswith("val_accuracy/"):
        return key.removeprefix("val_accuracy/")
    return key.replace("val_fused/", "fused, ") if key.startswith("val_fused/") else ""


def _data(result: Result | None) -> list[str]:
    if result is None or result.data is None:
        return []
    return [table.html() for table in data_tables(name_task(result.env, result.data_name), result.data)]


def _cost(result: Result) -> str:
    rows = [
        ["samples", f"{result.samples}"],
        ["iterations", f"{result.iterations}"],
        ["epochs", f"{result.epochs}"],
        ["training runs before this one", f"{result.training_runs:.3g}"],
        ["seconds", f"{result.seconds:.1f}"],
    ]
    return Table(["", "spent"], rows, caption="What the result cost").html()


def settings_table(config: Mapping[str, Any]) -> str:
    """Every setting of a run."""
    rows = [
        [key, value if isinstance(value, str) else json.dumps(value)]
        for key, value in flat(config).items()
        if key not in NOT_SETTINGS
    ]
    return Table(["setting", "value"], rows, caption="Settings as asked; null is the task’s own", words=True).html()
