"""The report of one run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dus_gym import __version__
from dus_gym.experiments.storage.run_folder import flat
from dus_gym.options import with_said
from dus_gym.report.curves import Curve, curve, drawn, figure, modalities_of
from dus_gym.report.page import Page, Section
from dus_gym.report.table import Table

SELECTIONS = {
    "last": "last epoch",
    "validation": "best validation epoch",
    "best_test": "best TEST epoch, optimistic",
}
NOT_SETTINGS = ("written_by", "format", "command")


def run_page(config: Mapping[str, Any], summary: Mapping[str, Any] | None, steps: Sequence[Mapping[str, Any]]) -> Page:
    """The page of a run.

    Args:
        config: of the run folder.
        summary: None for a run that is not finished: the page then has its curves so far.
        steps: lines of ``steps.jsonl``.
    """
    agent = with_said(config["agent"], config["agent_options"])
    method = with_said(config["method"], config["method_options"])
    facts = [("environment", config["env"]), ("method", method), ("agent", agent), ("seed", str(config["seed"]))]
    if summary is not None:
        facts += [
            ("trainer", summary["trainer"]),
            ("data", summary["data_kind"]),
            ("model", SELECTIONS[summary["select"]]),
            ("batch", f"B = {summary['base_batch']}, N_B = {summary['total_batch']}"),
        ]
    return Page(
        title=f"{config['env']}: {method} under {agent}",
        kicker=f"dus-gym run · {config['env']} · {method} under {agent} · seed {config['seed']}",
        verdict=_verdict(summary, steps),
        remarks=_remarks(config, summary),
        facts=facts,
        sections=[
            Section("result", "Result", [] if summary is None else [_result(summary)]),
            Section("curves", "Over training", run_charts(steps), grid=True),
            Section("cost", "Cost", [] if summary is None else [_cost(summary)]),
            Section("configuration", "Configuration", [settings_table(config)]),
        ],
        foot=f"Written by dus-gym {__version__}. This page is one file and loads nothing from anywhere.",
        warning=warning_of(summary),
    )


def warning_of(summary: Mapping[str, Any] | None) -> str:
    """What must stand above everything else."""
    if summary is None:
        return ""
    said = []
    if summary["trainer"] == "fake":
        said.append("Fake trainer: these figures follow fitted learning curves; nothing was trained.")
    if summary["data_kind"] not in ("real", "own") and summary["trainer"] != "fake":
        said.append(f"The data are {summary['data_kind']}, not the real data set.")
    if summary["select"] == "best_test":
        said.append("The model was chosen on the test split: the figures are optimistic.")
    if summary.get("diverged") is True:
        said.append("The run diverged: a training loss was not finite.")
    return " ".join(said)


def _verdict(summary: Mapping[str, Any] | None, steps: Sequence[Mapping[str, Any]]) -> str:
    if summary is None:
        at = f"at epoch {steps[-1]['epoch']} of {steps[-1]['epochs']}" if steps else "before its first step"
        return f"Not finished: {at}."
    fused = {name: row["accuracy"] for name, row in summary["fused"].items() if row is not None}
    first = "method" if "method" in fused else next(iter(fused))
    by = "by its own predictor" if first == "method" else f"by {first}"
    best, alone = max(((n, row["accuracy"]) for n, row in summary["modalities"].items()), key=lambda pair: pair[1])
    points = 100 * (fused[first] - alone)
    than = "more" if points >= 0 else "LESS"
    return (
        f"{100 * fused[first]:.1f} % test accuracy {by}: {abs(points):.1f} points {than} than {best} alone, "
        f"with a gap of {summary['gap']:.2f} between the modalities’ scores."
    )


def _remarks(config: Mapping[str, Any], summary: Mapping[str, Any] | None) -> list[str]:
    if summary is None:
        return ["No test figure exists before the end of a run."]
    said = []
    if config["agent"] != "uniform":
        said.append(
            "One run of one seed can’t say whether choosing batch sizes helped; "
            f"dus compare {config['env']} --agents {with_said(config['agent'], config['agent_options'])} can."
        )
    spread = [row["accuracy"] for name, row in summary["fused"].items() if row is not None and name != "method"]
    if len(spread) > 1 and max(spread) - min(spread) >= 0.005:
        said.append(
            f"The way of fusing moves the figure by {100 * (max(spread) - min(spread)):.1f} points on this same run, "
            "so all of them are shown."
        )
    return said


def _result(summary: Mapping[str, Any]) -> str:
    rows = [
        [name, *_percents(row), f"{row['score']:.3f}", f"{row['samples']}", f"{100 * row['coverage']:.0f}"]
        for name, row in summary["modalities"].items()
    ]
    rows += [
        [f"fused, {name}", *_percents(row), "–", "–", "–"] for name, row in summary["fused"].items() if row is not None
    ]
    head = ["", "accuracy, %", "MAP, %", "macro-F1, %", "score", "samples", "data seen, %"]
    return Table(head, rows, caption="Test split, scored once after the end").html()


def _percents(row: Mapping[str, float]) -> list[str]:
    return [f"{100 * row[key]:.1f}" for key in ("accuracy", "map", "macro_f1")]


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
            "samples an iteration",
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


def _cost(summary: Mapping[str, Any]) -> str:
    rows = [
        ["samples", f"{summary['samples']}"],
        ["iterations", f"{summary['iterations']}"],
        ["epochs", f"{summary['epochs']}"],
        ["training runs before this one", f"{summary['training_runs']:.3g}"],
        ["seconds", f"{summary['seconds']:.1f}"],
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
