"""What a comparison shows, in words: its own, or made from its figures where an older version wrote none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dus_gym.records import FUSED_PREDICTORS
from dus_gym.statistics import holm

REFERENCE = "uniform"
SIGNIFICANT = 0.05
"""Of p-values corrected for their number, where the comparison does not say."""


def headline(result: Mapping[str, Any]) -> str:
    """The predictor that is tested: the comparison's, or the first that every agent has."""
    if "correction" in result:
        return str(result["correction"]["predictor"])
    rows = list(result["agents"].values())
    return next((p for p in FUSED_PREDICTORS if all(row["fused"].get(p) for row in rows)), FUSED_PREDICTORS[0])


def level_of(result: Mapping[str, Any]) -> float:
    """Below which a corrected p-value counts."""
    return float(result["correction"]["level"]) if "correction" in result else SIGNIFICANT


def corrected(result: Mapping[str, Any]) -> dict[str, float]:
    """p-values of the agents, corrected for their number (Holm); agents without one are left out."""
    agents, predictor = result["agents"], headline(result)
    if "correction" in result:
        return {name: row["p_corrected"] for name, row in agents.items() if row["p_corrected"] is not None}
    tests = {name: row["vs_uniform"].get(predictor) for name, row in agents.items() if name != REFERENCE}
    values = {name: test["p"] for name, test in tests.items() if test and test["p"] is not None}
    return dict(zip(values, holm(list(values.values())), strict=True))


def tones(result: Mapping[str, Any]) -> dict[str, str]:
    """``better`` or ``worse`` for each agent that differs from the reference by the headline's predictor."""
    predictor, level = headline(result), level_of(result)
    return {
        name: "better" if result["agents"][name]["vs_uniform"][predictor]["points"] > 0 else "worse"
        for name, p in corrected(result).items()
        if p < level
    }


def verdict_of(result: Mapping[str, Any]) -> str:
    """The comparison in a sentence or two."""
    if isinstance(result.get("verdict"), str):
        said = str(result["verdict"])
        # An agent's name keeps its small letters at the head of a sentence.
        named = any(said.startswith(name) for name in result["agents"])
        return said if named else said[:1].upper() + said[1:]
    if len(result["seeds"]) < 2:
        return f"One seed: no agent can be told from {REFERENCE}."
    predictor, found = headline(result), tones(result)
    names = {tone: [name for name in found if found[name] == tone] for tone in ("better", "worse")}
    said_of = [
        f"{tone.capitalize()} than {REFERENCE}: "
        + ", ".join(f"{name} ({points_of(result['agents'][name]['vs_uniform'][predictor])} points)" for name in which)
        + "."
        for tone, which in names.items()
        if which
    ]
    return " ".join(said_of) or f"No agent can be told from {REFERENCE} on {len(result['seeds'])} seeds."


def points_of(against: Mapping[str, Any]) -> str:
    """A difference with its sign."""
    return f"{against['points']:+.1f}".replace("-", "−")
