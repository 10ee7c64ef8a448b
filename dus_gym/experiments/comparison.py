"""One comparison: agents on one task under one method, each against the uniform split on the same seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dus_gym.experiments.storage.run_folder import FORMAT
from dus_gym.records import FUSED_PREDICTORS
from dus_gym.statistics import confidence_interval, holm, mean_std, paired

REFERENCE = "uniform"
HEADLINE = "method"
"""The predictor that is tested; the others are shown."""
METRICS = ("accuracy", "map", "macro_f1")
CONTROLS = ("reversed", "random", "best-fixed", "lr-matched")
"""What a gain must beat before it is one of choosing batch sizes while training: the wrong direction, chance, a
constant, learning rates (DESIGN.md, section 5.4)."""
AGENTS_OWN = ("action_mode", "interval")
"""Settings that follow from the agent, so that they differ within one comparison."""
SIGNIFICANT = 0.05
"""Of p-values corrected for their number."""
SAME_SAMPLES = 0.01
"""Agents whose samples an iteration are within this part of uniform's see as many."""
GAINS, LOSES, UNCLEAR = "gains", "loses", "not distinguishable"

Summary = Mapping[str, Any]
Summaries = Mapping[tuple[str, int], Summary]
Column = list[float] | None


def base_name(agent: str) -> str:
    """An agent's name without its options."""
    return agent.partition(":")[0]


def is_control(agent: str) -> bool:
    """Whether an agent is in a comparison as a control."""
    return base_name(agent) in CONTROLS


def accuracies(summaries: Sequence[Summary]) -> dict[str, Column]:
    """Test accuracy by predictor, one a run; None where the method has no such head."""
    return {predictor: _column(summaries, predictor, "accuracy") for predictor in FUSED_PREDICTORS}


def _column(summaries: Sequence[Summary], predictor: str, metric: str) -> Column:
    rows = [summary["fused"][predictor] for summary in summaries]
    return None if any(row is None for row in rows) else [row[metric] for row in rows]


def against(mine: Mapping[str, Column], reference: Mapping[str, Column]) -> dict[str, Any]:
    """Paired differences to a reference by predictor, with their intervals; ``correct`` fills in what is None."""
    both = {predictor: (mine[predictor], reference[predictor]) for predictor in FUSED_PREDICTORS}
    tested = {k: None if a is None or b is None else paired(a, b) for k, (a, b) in both.items()}
    intervals = {k: None if a is None or b is None else confidence_interval(a, b) for k, (a, b) in both.items()}
    return {
        "vs_uniform": tested,
        "interval": {k: None if ends is None else list(ends) for k, ends in intervals.items()},
        "p_corrected": None,
        "outcome": None,
    }


def compare(
    names: Sequence[str],
    seeds: Sequence[int],
    summaries: Summaries,
    equal_samples: Mapping[str, Sequence[Summary]] | None = None,
    left_out: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Means, deviations, paired differences to uniform and costs, from the runs' summaries.

    Args:
        names: the agents, uniform among them.
        seeds: of the runs.
        summaries: by agent and seed.
        equal_samples: uniform's runs at as many samples as an agent that sees fewer, by that agent; one a seed.
        left_out: agents that can't run here, with the reason.
    """
    runs = {name: [summaries[name, seed] for seed in seeds] for name in names}
    columns = {name: accuracies(runs[name]) for name in names}
    agents: dict[str, Any] = {}
    for name in names:
        fused: dict[str, Any] = {}
        for predictor in FUSED_PREDICTORS:
            figures = {metric: _column(runs[name], predictor, metric) for metric in METRICS}
            found = {metric: mean_std(column) for metric, column in figures.items() if column is not None}
            fused[predictor] = found or None
        difference = against(columns[name], columns[REFERENCE])
        if name == REFERENCE:
            difference["vs_uniform"] = {
                k: v and {"points": 0.0, "p": None} for k, v in difference["vs_uniform"].items()
            }
            difference["interval"] = dict.fromkeys(FUSED_PREDICTORS)
        row = {
            "fused": fused,
            "by_seed": columns[name],
            "gap": mean_std([run["gap"] for run in runs[name]]),
            "samples": _mean([run["samples"] for run in runs[name]]),
            "iterations": _mean([run["iterations"] for run in runs[name]]),
            "training_runs": _mean([run["training_runs"] for run in runs[name]]),
            "diverged": sum(run["diverged"] for run in runs[name]),
            **difference,
            "modalities": _modalities(runs[name]),
            "costs": costs(runs[name]),
            "equal_samples": None,
        }
        if equal_samples and name in equal_samples:
            references = equal_samples[name]
            row["equal_samples"] = {
                "total_batch": references[0]["total_batch"],
                "samples": _mean([run["samples"] for run in references]),
                "iterations": _mean([run["iterations"] for run in references]),
                **against(columns[name], accuracies(references)),
            }
        agents[name] = row
    one = runs[REFERENCE][0]
    return {
        "format": FORMAT,
        "env": one["env"],
        "method": one["method"],
        "method_options": one["method_options"],
        "seeds": list(seeds),
        "trainer": one["trainer"],
        "data_kind": one["data_kind"],
        "select": one["select"],
        "settings": {key: value for key, value in one["settings"].items() if key not in AGENTS_OWN},
        "missing_controls": [control for control in CONTROLS if control not in map(base_name, names)],
        "left_out": dict(left_out or {}),
        "version": one["version"],
        "agents": agents,
    }


def correct(results: Sequence[dict[str, Any]]) -> None:
    """Fills in corrected p-values and outcomes: one family of all headline tests of one command (Holm)."""
    family = [
        row
        for result in results
        for name, agent in result["agents"].items()
        if name != REFERENCE
        for row in (agent, agent["equal_samples"])
        if row is not None
    ]
    tested = [row for row in family if (found := row["vs_uniform"][HEADLINE]) is not None and found["p"] is not None]
    for row, p in zip(tested, holm([row["vs_uniform"][HEADLINE]["p"] for row in tested]), strict=True):
        row["p_corrected"] = p
        points = row["vs_uniform"][HEADLINE]["points"]
        row["outcome"] = UNCLEAR if p >= SIGNIFICANT else GAINS if points > 0 else LOSES
    for result in results:
        result["correction"] = {"method": "holm", "tests": len(tested), "predictor": HEADLINE, "level": SIGNIFICANT}


def equal_total(runs: Sequence[Summary], reference: Sequence[Summary]) -> tuple[int, int] | None:
    """The N_B at which uniform sees as many samples in as many iterations as an agent that draws fewer or more.

    Args:
        runs: the agent's, one a seed.
        reference: uniform's.

    Returns:
        N_B, a multiple of the number of modalities, and the iterations of an epoch; None for an agent that draws as
        many as uniform, or whose runs all diverged.
    """
    whole = [run for run in runs if not run["diverged"]]
    if not whole:
        return None
    drawn = sum(run["samples"] for run in whole) / sum(run["iterations"] for run in whole)
    if abs(drawn / reference[0]["total_batch"] - 1.0) <= SAME_SAMPLES:
        return None
    m = len(whole[0]["modalities"])
    return m * max(1, round(drawn / m)), whole[0]["iterations"] // whole[0]["epochs"]


def costs(runs: Sequence[Summary]) -> dict[str, float | None]:
    """What one run costs beside samples and iterations; None what was not measured (runs of older versions).

    Seconds are medians: the first run of a process also loads libraries and data. The agent's share is that of deciding
    and learning, and of the whole runs that it makes to do so.
    """
    keys = ("seconds", "agent_seconds", "peak_memory_mib", "peak_device_memory_mib")
    seconds, agent, memory, device = ([run.get(key) for run in runs] for key in keys)
    shares = [None if spent is None else spent / all_ for spent, all_ in zip(agent, seconds, strict=True)]
    return {
        "seconds": _of_all(statistics.median, seconds),
        "agent_seconds": _of_all(statistics.median, agent),
        "agent_share": _of_all(statistics.median, shares),
        "peak_memory_mib": _of_all(max, memory),
        "peak_device_memory_mib": _of_all(max, device),
    }


def _of_all(figure: Callable[[list[Any]], float], values: list[Any]) -> float | None:
    """A figure of values that are all known, else None."""
    return None if None in values else float(figure(values))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _modalities(runs: Sequence[Summary]) -> dict[str, dict[str, float | None]]:
    """Means over runs: test accuracy, and the last epoch's training score, validation score and accuracy."""
    keys = ("accuracy", "score", "val_score", "val_accuracy")
    return {
        name: {key: _of_all(_mean, [run["modalities"][name].get(key) for run in runs]) for key in keys}
        for name in runs[0]["modalities"]
    }
