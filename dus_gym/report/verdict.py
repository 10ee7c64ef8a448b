"""What a comparison shows, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dus_gym.records import FUSED_PREDICTORS

REFERENCE = "uniform"
ALPHA = 0.05
"""Of a whole comparison: it is shared among its agents (Bonferroni)."""


def headline(result: Mapping[str, Any]) -> str:
    """The predictor of the verdict: the method's own, or the first that every agent has."""
    rows = list(result["agents"].values())
    return next((p for p in FUSED_PREDICTORS if all(row["fused"].get(p) for row in rows)), FUSED_PREDICTORS[0])


def verdict_of(result: Mapping[str, Any]) -> str:
    """What the comparison shows, in a sentence; the comparison's own words where it has some."""
    if isinstance(result.get("verdict"), str):
        return str(result["verdict"])
    predictor, others = headline(result), [name for name in result["agents"] if name != REFERENCE]
    if len(result["seeds"]) < 2:
        return f"One seed: no agent can be told from {REFERENCE}."
    found: dict[str, list[str]] = {"better": [], "worse": []}
    for name in others:
        against = result["agents"][name]["vs_uniform"].get(predictor)
        if tone := tone_of(against, len(others)):
            found[tone].append(f"{name} ({points_of(against)})")
    said = [
        f"{tone.capitalize()} than {REFERENCE}{' in points of test accuracy' if first else ''}: {', '.join(names)}."
        for tone, names, first in (("better", found["better"], True), ("worse", found["worse"], not found["better"]))
        if names
    ]
    return " ".join(said) or f"No agent can be told from {REFERENCE} on {len(result['seeds'])} seeds."


def points_of(against: Mapping[str, Any]) -> str:
    """A difference with its sign."""
    return f"{against['points']:+.1f}".replace("-", "−")


def tone_of(against: Mapping[str, Any] | None, agents: int) -> str:
    """Better or worse where the paired difference is distinguishable at this many comparisons, else nothing."""
    if against is None or against["p"] is None or against["p"] >= ALPHA / agents or against["points"] == 0:
        return ""
    return "better" if against["points"] > 0 else "worse"
