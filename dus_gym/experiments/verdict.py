"""What a comparison says in plain words, and when it warns. Every rule is in docs/compare.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dus_gym.experiments.comparison import GAINS, HEADLINE, LOSES, REFERENCE, SIGNIFICANT, base_name, is_control
from dus_gym.statistics import paired

ENOUGH_SEEDS = 5
HOLDS = 0.1
"""A modality's confidence holds if validation loses no more than this part of its training score."""
SMALL_GAP = 0.05
"""Below this gap there is nothing to balance."""
CLOSED = 0.02
"""An agent closes the gap if it lowers it by more than this."""


def verdict(result: dict[str, Any]) -> str:
    """One line: who gains, who loses, who can't be told from uniform, whether a gain is one of sampling.

    Args:
        result: a comparison after :func:`dus_gym.experiments.comparison.correct`.
    """
    agents = {name: row for name, row in result["agents"].items() if name != REFERENCE}
    # Learning rates last: what they say of the gains before them follows.
    ordered = sorted(agents, key=lambda name: (is_control(name), base_name(name) == "lr-matched"))
    if len(result["seeds"]) == 1:
        said = [
            f"{name} {agents[name]['vs_uniform'][HEADLINE]['points']:+.1f} points"
            for name in ordered
            if agents[name]["vs_uniform"][HEADLINE] is not None
        ]
        line = "one seed gives no p-value and no verdict" + (f" ({', '.join(said)})" if said else "")
    else:
        line = "; ".join(_clauses(agents, ordered)) + _specific(agents)
    missing = result["missing_controls"]
    return f"{line}." + (f" Controls that did not run: {', '.join(missing)}." if missing else "")


def _clauses(agents: dict[str, Any], ordered: Sequence[str]) -> list[str]:
    """Who is not distinguishable, in one clause; then one for each of the others."""
    unclear = [name for name in ordered if agents[name]["outcome"] not in (GAINS, LOSES)]
    said = []
    if unclear:
        names = " and ".join(filter(None, [", ".join(unclear[:-1]), unclear[-1]]))
        same = _at_equal_samples(agents[unclear[0]]) if len(unclear) == 1 else ""
        said.append(f"{names} {'is' if len(unclear) == 1 else 'are'} not distinguishable from {REFERENCE}{same}")
        if len(unclear) > 1:
            said += [
                f"{name} {row['equal_samples']['outcome']} {_points(row['equal_samples'])} at equal samples"
                for name, row in agents.items()
                if name in unclear and row["equal_samples"] and row["equal_samples"]["outcome"] in (GAINS, LOSES)
            ]
    for name in ordered:
        row = agents[name]
        if row["outcome"] in (GAINS, LOSES):
            said.append(f"{name} {row['outcome']} {_points(row)}{_at_equal_samples(row)}")
    return said


def _points(row: dict[str, Any]) -> str:
    points = abs(row["vs_uniform"][HEADLINE]["points"])
    return f"{points:.1f} points"


def _at_equal_samples(row: dict[str, Any]) -> str:
    """What differs where uniform sees as few samples as the agent."""
    equal = row["equal_samples"]
    if equal is None or equal["outcome"] is None:
        return ""
    if equal["outcome"] in (GAINS, LOSES):
        return f" ({equal['outcome']} {_points(equal)} at equal samples)"
    return "" if row["outcome"] not in (GAINS, LOSES) else " (not distinguishable at equal samples)"


def as_much(rival: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether a rival gains, and the other is not distinguishably better on the same seeds."""
    if rival["outcome"] != GAINS:
        return False
    test = paired(row["by_seed"][HEADLINE], rival["by_seed"][HEADLINE])
    return test["points"] is None or test["points"] <= 0 or test["p"] is None or test["p"] >= SIGNIFICANT


def _best(agents: dict[str, Any]) -> str | None:
    """The agent that gains most; None if none gains."""
    gaining = {name: row for name, row in agents.items() if row["outcome"] == GAINS}
    return max(gaining, key=lambda name: gaining[name]["vs_uniform"][HEADLINE]["points"], default=None)


def _specific(agents: dict[str, Any]) -> str:
    """What the controls say about the gains."""
    rates = {name: row for name, row in agents.items() if base_name(name) == "lr-matched"}
    sampling = {name: row for name, row in agents.items() if name not in rates}
    said = ""
    if (best := _best(sampling)) is not None and rates:
        if any(as_much(row, agents[best]) for row in rates.values()):
            said += ": the gain is not specific to sampling"
        else:
            said += f": matched learning rates do not gain as much as {best}"
    if (best := _best({name: row for name, row in agents.items() if not is_control(name)})) is not None:
        meanings = {
            "best-fixed": "a constant split gains as much as {}",
            "random": "random splits gain as much as {}",
            "reversed": "the reversed split gains as much as {}: the direction is not what helps",
        }
        for name, row in agents.items():
            if base_name(name) in meanings and as_much(row, agents[best]):
                said += "; " + meanings[base_name(name)].format(best)
    return said


def warnings(result: dict[str, Any]) -> list[str]:
    """What a reader should know before believing the table."""
    found = []
    seeds = len(result["seeds"])
    if 1 < seeds < ENOUGH_SEEDS:
        found.append(f"{seeds} seeds are few: use {ENOUGH_SEEDS} or more before calling anything a difference.")
    found += _likely_to_hurt(result) + _has_hurt(result)
    found += [
        f"{name}: {row['diverged']} of {seeds} runs diverged; their last figures are in the means."
        for name, row in result["agents"].items()
        if row["diverged"]
    ]
    found += [f"{name} was not run: {reason}" for name, reason in result["left_out"].items()]
    return found


def _likely_to_hurt(result: dict[str, Any]) -> list[str]:
    """Under uniform, the modality that is ahead does not overfit and validates best: it is ahead because it is better.

    Prototype study, section 7: taking samples from such a modality cost 1 to 3 points wherever it was tried.
    """
    uniform = result["agents"][REFERENCE]
    modalities = uniform["modalities"]
    if uniform["gap"]["mean"] < SMALL_GAP or any(row["val_score"] is None for row in modalities.values()):
        return []
    ahead = max(modalities, key=lambda name: modalities[name]["score"])
    row = modalities[ahead]
    lost = 1.0 - row["val_score"] / max(row["score"], 1e-8)
    validates_best = row["val_accuracy"] >= max(other["val_accuracy"] for other in modalities.values())
    if lost > HOLDS or not validates_best:
        return []
    return [
        f"Balancing is likely to hurt here: {ahead} is ahead (training score {row['score']:.2f}), keeps that on "
        f"validation ({row['val_score']:.2f}) and is the most accurate there ({100 * row['val_accuracy']:.0f} %): it "
        "is better, it does not overfit."
    ]


def _has_hurt(result: dict[str, Any]) -> list[str]:
    """Agents that closed the gap and lost accuracy."""
    before = result["agents"][REFERENCE]["gap"]["mean"]
    return [
        f"Closing the gap cost accuracy: {name} lowers it from {before:.2f} to {row['gap']['mean']:.2f} and loses "
        f"{_points(row)}."
        for name, row in result["agents"].items()
        if row["outcome"] == LOSES and row["gap"]["mean"] < before - CLOSED
    ]
