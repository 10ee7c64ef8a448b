"""The rules by which figures become sentences and warnings: the only verdict there is. docs/compare.md has them all.

A sentence about one agent rests on its corrected paired test against uniform, a sentence about two agents on a direct
paired test of the two. What no test shows "cannot be told"; that never hides a loss that is not excluded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dus_gym.data.dataset import DataOverview
from dus_gym.experiments.results import Result, on_one_line
from dus_gym.experiments.spec import REFERENCE
from dus_gym.experiments.task_comparison import (
    COLLAPSE,
    GAINS,
    HARM,
    HEADLINE,
    LOSES,
    TOO_FEW,
    UNCLEAR,
    Against,
    AgentFigures,
    Correction,
    EqualSamples,
    Interval,
    Statement,
    TaskComparison,
    base_name,
    interval_text,
    is_control,
    signed,
)
from dus_gym.statistics import (
    LEVEL,
    MOST_SEEDS,
    PairedTest,
    confidence_interval,
    holm,
    holm_levels,
    paired,
    seeds_needed,
)

ENOUGH_SEEDS = 5
"""With fewer there is no verdict on any difference."""
HARMFUL = -0.5
"""Points; a mean difference below it is named even where no test tells it from nothing."""
MOST_NEEDED = 3
"""Agents, those with the largest differences, of which the needed seeds are said."""
RISING = 0.006
"""A run is undertrained whose training score rose by more than this from the last tenth of its steps but one to the
last. Under uniform Digits rises by .0074 after 5 epochs and .0008 after 100; of the embedded tasks after 40 epochs,
DigitsControl rises most, by .0051."""
FEW_ITERATIONS = 100
"""A run with fewer is undertrained."""
JOINT, UNIMODAL = "joint", "unimodal"
"""The method whose modalities have no prediction of their own to speak of, and the one that trains each alone."""
FEW_TEST_SAMPLES = 5
"""A class with fewer is named: one sample more or less is a fifth of its figure."""
MOST_NAMED = 5
"""Classes that a warning names; of more it says how many."""
HOLDS = 0.1
"""A modality's confidence holds if validation loses no more than this part of its training score."""
SMALL_GAP = 0.05
"""Below this gap there is nothing to balance."""
CLOSED = 0.02
"""An agent closes the gap if it lowers it by more than this."""


# -- tests of a whole family -------------------------------------------------------------------------


def correct(parts: Sequence[TaskComparison]) -> list[TaskComparison]:
    """Return comparisons with corrected p-values, intervals and outcomes: one family of all headline tests (Holm).

    Args:
        parts: every comparison of one request.
    """
    rows = [
        (part, name, row)
        for part in parts
        for name, agent in part.others.items()
        for row in (agent, agent.equal_samples)
        if row is not None and row.test is not None
    ]
    values = [row.test.p for _, _, row in rows if row.test is not None and row.test.p is not None]
    corrected = iter(zip(holm(values), holm_levels(values), strict=True))
    filled: dict[int, Any] = {}
    for part, name, row in rows:
        assert row.test is not None
        p, ends = None, None
        if row.test.p is not None:
            p, level = next(corrected)
            ends = confidence_interval(*_accuracies(part, name, row), level)
        outcome = outcome_of(row.test, p, row.alone, len(part.seeds))
        filled[id(row)] = replace(row, p_corrected=p, interval_corrected=ends, outcome=outcome)
    correction = Correction("holm", len(values), HEADLINE, LEVEL)
    found = []
    for part in parts:
        agents = {}
        for name, agent in part.agents.items():
            equal = agent.equal_samples
            agents[name] = replace(filled.get(id(agent), agent), equal_samples=filled.get(id(equal), equal))
        found.append(replace(part, correction=correction, agents=agents))
    return found


def outcome_of(test: PairedTest, p_corrected: float | None, alone: Interval | None, seeds: int) -> str:
    """Return a difference to uniform in a word.

    Args:
        test: the headline's.
        p_corrected: its p, corrected over the family.
        alone: its 95 % interval, not corrected.
        seeds: how many.
    """
    if seeds >= ENOUGH_SEEDS and p_corrected is not None and p_corrected < LEVEL:
        return GAINS if test.points > 0 else LOSES
    if test.points < HARMFUL or (alone is not None and alone[1] < 0):
        return HARM
    return UNCLEAR if seeds >= ENOUGH_SEEDS else TOO_FEW


def _accuracies(part: TaskComparison, name: str, row: Against) -> tuple[Sequence[float], Sequence[float]]:
    """Return the agent's accuracies and the reference's, which a row's headline test compares."""
    reference = row.by_seed if isinstance(row, EqualSamples) else part.uniform.by_seed
    mine, theirs = part.agents[name].by_seed[HEADLINE], reference[HEADLINE]
    assert mine is not None, "rows without the headline's predictor are not tested"
    assert theirs is not None, "the same"
    return mine, theirs


@dataclass(frozen=True)
class DirectTest:
    """The best agent beside a control on the same seeds."""

    part: int
    best: str
    control: str
    points: float
    """The best agent's accuracy minus the control's."""
    p_corrected: float
    interval: Interval
    """At the level at which the difference was tested."""


def direct_tests(parts: Sequence[TaskComparison]) -> list[DirectTest]:
    """Return the tests of each comparison's best gaining agent against each control, corrected as one family (Holm).

    Args:
        parts: every comparison of one request, after :func:`correct`.
    """
    pairs = []
    for i, part in enumerate(parts):
        gaining = {
            name: row.test.points
            for name, row in part.others.items()
            if row.outcome == GAINS and row.test is not None and not is_control(name)
        }
        if not gaining:
            continue
        best = max(gaining, key=gaining.__getitem__)
        pairs += [(i, best, name) for name in part.others if is_control(name)]
    columns = [
        (parts[i].agents[best].by_seed[HEADLINE] or (), parts[i].agents[control].by_seed[HEADLINE] or ())
        for i, best, control in pairs
    ]
    tests = [paired(mine, theirs) for mine, theirs in columns]
    values = [test.p for test in tests if test.p is not None]
    found = []
    for (i, best, control), (mine, theirs), test, p, level in zip(
        pairs, columns, tests, holm(values), holm_levels(values), strict=True
    ):
        ends = confidence_interval(mine, theirs, level)
        assert ends is not None, "an agent gains only on several seeds"
        found.append(DirectTest(i, best, control, test.points, p, ends))
    return found


# -- sentences ---------------------------------------------------------------------------------------

MEANINGS = {
    "lr-matched": ": the gain is not specific to sampling",
    "best-fixed": ": a constant split does it too",
    "random": ": random splits do it too",
    "reversed": ": the direction is not what helps",
}
"""The meaning for a gain of a control that gains as much."""


def state(part: TaskComparison, parts: Sequence[TaskComparison], direct: Sequence[DirectTest]) -> tuple[Statement, ...]:
    """Return the sentences of a comparison's verdict, the most important first.

    Args:
        part: the comparison, after :func:`correct`.
        parts: every comparison of the same request.
        direct: its own tests of an agent against controls.
    """
    others = list(part.others)
    said = [*_single(part, parts), *_undertrained(part)]
    if not others:
        return (*said, Statement("nothing", f"No agent was compared with {REFERENCE}."))
    if part.uniform.test is None:
        said.append(
            Statement(
                "no_prediction", f"Method {part.method} has no prediction of its own, so no difference is tested."
            )
        )
    elif len(part.seeds) < ENOUGH_SEEDS:
        said += _few_seeds(part)
    ordered = sorted(others, key=lambda name: _rank(part, name))
    rows: list[tuple[str, Against]] = [(name, part.agents[name]) for name in ordered]
    equal: list[tuple[str, Against]] = [
        (name, row) for name in ordered if (row := part.agents[name].equal_samples) is not None
    ]
    for which in (rows, equal):
        said += _differences(which) + _harm(part, which) + _unclear(which)
    said += _collapsed(part)
    said += [_compared(part, test) for test in direct]
    if part.missing_controls:
        said.append(
            Statement(
                "missing_controls",
                f"Controls that did not run: {', '.join(part.missing_controls)}.",
                part.missing_controls,
            )
        )
    return tuple(said)


def _rank(part: TaskComparison, name: str) -> tuple[bool, bool, float]:
    """Sort agents before controls, learning rates last of these, and the largest difference first."""
    test = part.agents[name].test
    return is_control(name), base_name(name) == "lr-matched", 0.0 if test is None else -test.points


def _single(part: TaskComparison, parts: Sequence[TaskComparison]) -> list[Statement]:
    """Say if the best single modality beats the fused prediction under uniform; paired, corrected for all of them."""
    source: TaskComparison | None = part
    if part.method == JOINT:
        same = [one for one in parts if one.method == UNIMODAL and (one.env, one.seeds) == (part.env, part.seeds)]
        source = same[0] if same else None
    fused = part.uniform.by_seed[HEADLINE]
    if source is None or fused is None or len(part.seeds) < ENOUGH_SEEDS:
        return []
    modalities = source.uniform.modalities
    best = max(modalities, key=lambda name: modalities[name].accuracy)
    tests = {name: paired(row.by_seed, fused) for name, row in modalities.items()}
    values = [1.0 if test.p is None else test.p for test in tests.values()]
    place = list(tests).index(best)
    if tests[best].points <= 0 or holm(values)[place] >= LEVEL:
        return []
    alone = modalities[best].by_seed
    trained = " trained alone" if source is not part else " alone"
    text = (
        f"One modality beats the fusion: {best}{trained} ({100 * sum(alone) / len(alone):.1f} %) is "
        f"{tests[best].points:.1f} points above the fused prediction ({100 * sum(fused) / len(fused):.1f} %) under "
        f"{REFERENCE}."
    )
    ends = confidence_interval(alone, fused, holm_levels(values)[place])
    return [Statement("single", text, (REFERENCE,), tests[best].points, ends, part.seeds, modality=best)]


def _undertrained(part: TaskComparison) -> list[Statement]:
    """Say if uniform's runs ended early."""
    row, reasons = part.uniform, []
    if row.iterations < FEW_ITERATIONS:
        reasons.append(f"{REFERENCE} ran for {row.iterations:.0f} iterations, fewer than {FEW_ITERATIONS}")
    if row.score_rise is not None and row.score_rise > RISING:
        reasons.append(f"the training score of {REFERENCE} was still rising at the end (by {row.score_rise:.3f})")
    if not reasons:
        return []
    return [Statement("undertrained", f"Undertrained: {' and '.join(reasons)}; train longer.", (REFERENCE,))]


def _few_seeds(part: TaskComparison) -> list[Statement]:
    """Say that there is no verdict, and how many seeds would show the largest differences."""
    n = len(part.seeds)
    if n == 1:
        text = f"One seed gives no p-value and no verdict on any difference; use {ENOUGH_SEEDS} or more."
    else:
        text = f"{n} seeds are too few for a verdict on any difference; use {ENOUGH_SEEDS} or more."
    said = [Statement("few_seeds", text, seeds=part.seeds)]
    if n == 1:
        return said
    points = {
        name: row.test.points
        for name, row in part.others.items()
        if row.test is not None and round(row.test.points, 1) != 0.0
    }
    for name in sorted(points, key=lambda name: -abs(points[name]))[:MOST_NEEDED]:
        needed = seeds_needed(*_accuracies(part, name, part.agents[name]))
        needed = None if needed is None else max(needed, ENOUGH_SEEDS)
        about = f"more than {MOST_SEEDS}" if needed is None else f"about {needed}"
        text = f"{name} {signed(points[name])} points: {about} seeds would show it."
        said.append(Statement("needed", text, (name,), points[name], seeds=part.seeds, needed=needed))
    return said


def _unclear(rows: Sequence[tuple[str, Against]]) -> list[Statement]:
    """Name agents that no test tells from uniform, in one sentence."""
    names = tuple(name for name, row in rows if row.outcome == UNCLEAR)
    if not names:
        return []
    text = f"{listed(names)} cannot be told from {REFERENCE}{_where(rows[0][1])}."
    return [Statement("unclear", text, names, equal_samples=isinstance(rows[0][1], EqualSamples))]


def _differences(rows: Sequence[tuple[str, Against]]) -> list[Statement]:
    """Name agents that gain or lose."""
    return [
        Statement(
            row.outcome,
            f"{name} {row.outcome} {abs(row.test.points):.1f} points{_where(row)}.",
            (name,),
            row.test.points,
            row.interval_corrected,
            equal_samples=isinstance(row, EqualSamples),
        )
        for name, row in rows
        if row.outcome in (GAINS, LOSES) and row.outcome is not None and row.test is not None
    ]


def _harm(part: TaskComparison, rows: Sequence[tuple[str, Against]]) -> list[Statement]:
    """Name agents whose loss no test shows and nothing excludes."""
    said = []
    for name, row in rows:
        if row.outcome != HARM or row.test is None:
            continue
        alone = "one seed" if row.alone is None else f"95 % interval taken alone {interval_text(row.alone)}"
        text = f"{name} {signed(row.test.points)} points{_where(row)} ({alone}): harm not excluded."
        equal = isinstance(row, EqualSamples)
        said.append(Statement("harm", text, (name,), row.test.points, row.alone, part.seeds, equal_samples=equal))
    return said


def _where(row: Against) -> str:
    """Return the words that tell a comparison at equal samples."""
    return " at equal samples" if isinstance(row, EqualSamples) else ""


def _collapsed(part: TaskComparison) -> list[Statement]:
    """Name agents of which single runs collapsed."""
    return [
        Statement(
            "collapsed",
            f"{len(row.collapsed)} of {len(part.seeds)} runs of {name} collapsed (seed{'s' * (len(row.collapsed) > 1)} "
            f"{', '.join(map(str, row.collapsed))}): more than {COLLAPSE:.0f} points below {REFERENCE}, or diverged.",
            (name,),
            seeds=row.collapsed,
        )
        for name, row in part.agents.items()
        if row.collapsed
    ]


def _compared(part: TaskComparison, test: DirectTest) -> Statement:
    """Say what a direct test shows of the best agent that is no control, and a control."""
    best, control = test.best, test.control
    meaning = MEANINGS[base_name(control)]
    between = f"{signed(test.points)} {interval_text(test.interval)} between them"
    if test.p_corrected < LEVEL and test.points > 0:
        kind, text = "more", f"{best} gains {test.points:.1f} points more than {control}."
    elif test.p_corrected < LEVEL:
        kind, text = "less", f"{control} gains {-test.points:.1f} points more than {best}{meaning}."
    elif part.agents[control].outcome == GAINS:
        kind, text = "as_much", f"{control} gains as much as {best}, as far as can be told ({between}){meaning}."
    else:
        kind, text = "apart", f"{best} cannot be told from {control} ({between})."
    return Statement(kind, text, (best, control), test.points, test.interval, part.seeds)


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them: ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def overall(parts: Sequence[TaskComparison]) -> str:
    """Return the verdict on several comparisons: in how many which agent gains, loses or may do harm.

    Args:
        parts: with their statements.
    """
    said = [f"{len(parts)} comparisons with {REFERENCE}."]
    single = sum(any(one.kind == "single" for one in part.statements) for part in parts)
    few = sum(any(one.kind == "few_seeds" for one in part.statements) for part in parts)
    if single:
        said.append(f"One modality alone beats the fusion in {single}.")
    if few:
        said.append(f"Too few seeds for a verdict on any difference in {few}.")
    for kind, what in (("undertrained", "Runs are undertrained"), ("collapsed", "Single runs collapsed")):
        if count := sum(any(one.kind == kind for one in part.statements) for part in parts):
            said.append(f"{what} in {count}.")
    names = list(dict.fromkeys(name for part in parts for name in part.others))
    counts = {
        name: [found.outcome for part in parts if name in part.agents for found in _against(part.agents[name])]
        for name in names
    }
    differ = []
    for name, outcomes in counts.items():
        found = [
            f"{word} in {outcomes.count(outcome)}"
            for outcome, word in ((GAINS, "gains"), (LOSES, "loses"), (HARM, "may do harm"))
            if outcome in outcomes
        ]
        if found:
            differ.append(f"{name} {listed(found)}")
    if differ:
        said.append("; ".join(differ) + ".")
    elif not names:
        said.append(f"No agent was compared with {REFERENCE}.")
    elif any(outcome == UNCLEAR for outcomes in counts.values() for outcome in outcomes):
        said.append(f"No agent that was tested can be told from {REFERENCE}.")
    return " ".join(said)


def _against(row: AgentFigures) -> list[Against]:
    """An agent beside uniform, and beside uniform at as many samples where it drew others."""
    return [row] if row.equal_samples is None else [row, row.equal_samples]


# -- one run -----------------------------------------------------------------------------------------


def say_run(word: str, result: Result, uniform: Result | None = None) -> str:
    """Return what one run reached, in one sentence; it never holds a verdict: one seed decides nothing.

    Args:
        word: the agent.
        result: its run.
        uniform: the uniform split's run of the same seed and settings; None if there is none.
    """
    if result.accuracy is None:
        own = f"method {result.method} has no prediction of its own to set beside another's"
        return f"{word} trained to the end; {own}."
    ended = ", though its training loss was not finite" if result.diverged else ""
    said = f"{word} reached {100 * result.accuracy:.1f} % test accuracy{ended}"
    if uniform is not None and uniform.accuracy is not None:
        points = 100 * (result.accuracy - uniform.accuracy)
        theirs = f"{REFERENCE} {100 * uniform.accuracy:.1f} % with the same seed and settings"
        said += f", {theirs} ({signed(points)} points)"
    return f"{said}; one seed decides nothing."


def notes(result: Result) -> list[str]:
    """Return what one run's figures show of its task: a modality that is better alone, classes that are hardly tested.

    Of several runs a comparison tells by a test whether a modality is better (rule ``single``). Nothing for a fake run,
    whose curves are of no data.
    """
    if result.trainer == "fake":
        return []
    predictor, fused = next((name, row.accuracy) for name, row in result.fused.items() if row is not None)
    best, alone = max(((name, row.accuracy) for name, row in result.modalities.items()), key=lambda pair: pair[1])
    by = "" if predictor == HEADLINE else f" by {predictor}"
    better = (
        f"{best} alone is right on {100 * alone:.1f} % of the test split, the fusion{by} on {100 * fused:.1f} %: here "
        "one modality by itself was better than all together."
    )
    return ([better] if alone > fused else []) + _hardly_tested(result.data)


def _hardly_tested(data: DataOverview | None) -> list[str]:
    """Say which classes have fewer test samples than figures can rest on."""
    rare = {} if data is None else data.rare(FEW_TEST_SAMPLES)
    if data is None or not rare:
        return []
    named = [f"{on_one_line(name)} {count}" for name, count in sorted(rare.items(), key=lambda pair: pair[1])]
    more = [f"{len(named) - MOST_NAMED} more"] if len(named) > MOST_NAMED else []
    return [
        f"{len(rare)} of {len(data.classes)} classes {'has' if len(rare) == 1 else 'have'} fewer than "
        f"{FEW_TEST_SAMPLES} test samples ({listed(named[:MOST_NAMED] + more)}): MAP and macro-F1, which count every "
        "class alike, rest on very little."
    ]


# -- warnings ----------------------------------------------------------------------------------------


def caveats(trainer: str, data_kind: str, select: str) -> list[str]:
    """Return what must stand above every figure of a run or a comparison: that nothing real was measured."""
    found = []
    if trainer == "fake":
        found.append("Fake trainer: these figures follow fitted learning curves; nothing was trained.")
    elif data_kind not in ("real", "own"):
        found.append(f"The data are {data_kind}, not the real data set.")
    if select == "best_test":
        found.append("The model was chosen on the test split: the figures are optimistic.")
    return found


def warn(part: TaskComparison) -> tuple[str, ...]:
    """Return what a reader should know before believing a table.

    Args:
        part: a comparison after :func:`correct`.
    """
    found = caveats(part.trainer, part.data_kind, part.select)
    found += _likely_to_hurt(part) + _has_hurt(part) + _hardly_tested(part.data)
    found += [
        f"{name}: {row.diverged} of {len(part.seeds)} runs diverged; their last figures are in the means."
        for name, row in part.agents.items()
        if row.diverged
    ]
    found += [f"{name} was not run: {reason}" for name, reason in part.left_out.items()]
    return tuple(found)


def _likely_to_hurt(part: TaskComparison) -> list[str]:
    """Warn if, under uniform, the modality ahead does not overfit and validates best: it is ahead because it is better.

    Prototype study, section 7: taking samples from such a modality cost 1 to 3 points wherever it was tried.
    """
    modalities = part.uniform.modalities
    validated = {
        name: (row.val_score, row.val_accuracy)
        for name, row in modalities.items()
        if row.val_score is not None and row.val_accuracy is not None
    }
    if part.uniform.gap.mean < SMALL_GAP or len(validated) < len(modalities):
        return []
    ahead = max(modalities, key=lambda name: modalities[name].score)
    score, (val_score, val_accuracy) = modalities[ahead].score, validated[ahead]
    lost = 1.0 - val_score / max(score, 1e-8)
    if lost > HOLDS or val_accuracy < max(accuracy for _, accuracy in validated.values()):
        return []
    return [
        f"Balancing is likely to hurt here: {ahead} is ahead (training score {score:.2f}), keeps that on validation "
        f"({val_score:.2f}) and is the most accurate there ({100 * val_accuracy:.0f} %): it is better, it does not "
        "overfit."
    ]


def _has_hurt(part: TaskComparison) -> list[str]:
    """Warn of agents that closed the gap and lost accuracy."""
    before = part.uniform.gap.mean
    return [
        f"Closing the gap cost accuracy: {name} lowers it from {before:.2f} to {row.gap.mean:.2f} and loses "
        f"{abs(row.test.points):.1f} points."
        for name, row in part.agents.items()
        if row.outcome == LOSES and row.test is not None and row.gap.mean < before - CLOSED
    ]
