"""Sentences and warnings of a comparison: by hand, and thousands of drawn ones checked against SciPy."""

import math

import numpy as np
import pytest
from made_results import BETTER, NOISE, OTHER_NOISE, OVERFITS, SEEDS, comparison_of, modality, part_of, result
from scipy import stats

from dus_gym.data.dataset import DataOverview
from dus_gym.experiments.comparison import Comparison, compare_results, conclude
from dus_gym.experiments.task_comparison import CONTROLS
from dus_gym.experiments.verdict import notes, say_run
from dus_gym.records import Scores

TIGHT = [n / 10 for n in NOISE]
ALL_CONTROLS = {"random": 0.0, "reversed": 0.0, "best-fixed": 0.0, "lr-matched": 0.0}


def kinds(comparison, part=0):
    return [statement.kind for statement in comparison.parts[part].statements]


def said(comparison, kind, part=0):
    return [statement.text for statement in comparison.parts[part].statements if statement.kind == kind]


def test_a_whole_verdict():
    found = comparison_of({"reinforce": 0.0, "holdout": 2.1, "lr-matched": 3.6, "reversed": -1.0})
    assert found.verdict == (
        "holdout gains 2.1 points. reversed loses 1.0 points. lr-matched gains 3.6 points. reinforce cannot be told "
        "from uniform. lr-matched gains 1.5 points more than holdout: the gain is not specific to sampling. holdout "
        "gains 3.1 points more than reversed. Controls that did not run: random, best-fixed."
    )


@pytest.mark.parametrize(
    ("gains", "noise", "sentence"),
    [
        ({"pi": 4.0, "lr-matched": 1.5}, TIGHT, "pi gains 2.5 points more than lr-matched."),
        ({"pi": 3.0, "lr-matched": 3.0}, NOISE, "the gain is not specific to sampling"),
        ({"pi": 2.0, "best-fixed": 2.0}, NOISE, "best-fixed gains as much as pi, as far as can be told (+0.0 ["),
        ({"pi": 2.0, "random": 2.0}, NOISE, "random splits do it too."),
        ({"pi": 2.0, "reversed": 2.0}, NOISE, "the direction is not what helps."),
    ],
)  # fmt: skip
def test_a_sentence_about_two_agents_rests_on_their_direct_test(gains, noise, sentence):
    assert sentence in comparison_of(gains, noise=noise).verdict


def test_a_control_that_no_test_shows_to_gain_or_to_be_worse_is_neither():
    results = {}
    wild = [0.03, -0.02, 0.04, -0.03, 0.02]
    for i, seed in enumerate(SEEDS):
        results["uniform", seed] = result(0.70 + OTHER_NOISE[i])
        results["pi", seed] = result(0.72 + OTHER_NOISE[i] + TIGHT[i])
        results["lr-matched", seed] = result(0.715 + OTHER_NOISE[i] + wild[i])
    found = conclude([compare_results(["uniform", "pi", "lr-matched"], SEEDS, results)])
    (text,) = said(found, "apart")
    assert text.startswith("pi cannot be told from lr-matched (")
    assert {"more", "less", "as_much"}.isdisjoint(kinds(found))


def test_no_control_is_the_best_agent():
    assert {"more", "less", "as_much", "apart"}.isdisjoint(kinds(comparison_of({"best-fixed": 3.0, "random": 1.0})))


def test_agents_that_can_not_be_told_share_a_sentence():
    found = comparison_of({"pi": 0.0, "score": 0.1, "reinforce": -0.1} | ALL_CONTROLS)
    assert found.verdict == (
        "score, pi, reinforce, random, reversed, best-fixed and lr-matched cannot be told from uniform."
    )


@pytest.mark.parametrize(
    ("points", "noise", "interval"),
    [
        (-1.0, [0.03, -0.04, 0.04, -0.03, 0.00], "[-5.4, +3.4]"),  # large, and nothing is shown
        (-0.4, [0.002, -0.003, 0.002, -0.003, 0.002], "[-0.7, -0.1]"),  # small, and shown only without the correction
    ],
)
def test_what_can_not_be_told_never_hides_harm(points, noise, interval):
    others = {f"fixed:shares={k}": 0.0 for k in range(12)}
    found = comparison_of({"score": points} | others, noise=noise)
    (text,) = said(found, "harm")
    assert text == f"score {points:+.1f} points (95 % interval taken alone {interval}): harm not excluded."
    assert found.parts[0].agents["score"].outcome == "harm not excluded"
    assert "score" not in said(found, "unclear")[0]


def test_runs_that_collapsed_are_named_with_their_seeds():
    results = {(name, seed): result(0.7 + OTHER_NOISE[seed]) for name in ("uniform", "pi") for seed in SEEDS}
    results["pi", 3] = result(0.55)
    results["pi", 4] = result(0.7, diverged=True)
    found = conclude([compare_results(["uniform", "pi"], SEEDS, results)])
    assert found.parts[0].agents["pi"].collapsed == (3, 4)
    assert said(found, "collapsed") == [
        "2 of 5 runs of pi collapsed (seeds 3, 4): more than 10 points below uniform, or diverged."
    ]
    assert "pi: 1 of 5 runs diverged; their last figures are in the means." in found.warnings


def test_nothing_is_said_of_no_agent():
    assert comparison_of({}).verdict == "No agent was compared with uniform."


def test_a_method_without_a_prediction_of_its_own_has_no_difference():
    none = {"fused": dict.fromkeys(("method", "concat", "entropy")) | {"sum": Scores(0.7, 0.7, 0.7)}}
    found = comparison_of({"pi": 0.0}, every=none)
    assert kinds(found) == ["no_prediction", "missing_controls"]
    assert found.parts[0].agents["pi"].vs_uniform["sum"].points == 0.0


@pytest.mark.parametrize("seeds", [[0], [0, 1], [0, 1, 2, 3]])
def test_few_seeds_give_no_verdict_on_a_difference_and_say_how_many_would(seeds):
    found = comparison_of({"score": 2.0, "random": -1.0}, seeds=seeds)
    assert kinds(found)[0] == "few_seeds"
    assert {"gains", "loses", "unclear", "more"}.isdisjoint(kinds(found))
    assert ("no p-value" in found.verdict) == (len(seeds) == 1)
    assert len(said(found, "needed")) == (0 if len(seeds) == 1 else 2)
    assert found.parts[0].agents["score"].outcome == "too few seeds"
    assert ": harm not excluded" in said(found, "harm")[0]


@pytest.mark.parametrize(
    ("every", "text"),
    [
        ({"iterations": 99}, "Undertrained: uniform ran for 99 iterations, fewer than 100; train longer."),
        ({"score_rise": 0.0074}, "Undertrained: the training score of uniform was still rising at the end (by 0.007); "
         "train longer."),
        ({"score_rise": 0.0009}, None),
        ({"score_rise": None}, None),
    ],
)  # fmt: skip
def test_runs_that_ended_early_are_said_to(every, text):
    assert said(comparison_of({"pi": 0.0}, every=every), "undertrained") == ([] if text is None else [text])


STRONG = {"pixels": modality(1.0, 0.7, 0.72, accuracy=0.8), "columns": modality(0.6, 0.55, 0.63)}
MUCH_WEAKER = {name: modality(0.6, 0.5, 0.5, accuracy=0.1) for name in STRONG}


def test_a_modality_that_beats_the_fusion_is_said_first():
    found = comparison_of({"pi": 3.0}, every={"modalities": STRONG})
    assert found.verdict.startswith(
        "One modality beats the fusion: pixels alone (80.0 %) is 10.0 points above the fused prediction (70.0 %) under "
        "uniform. pi gains 3.0 points."
    )
    assert "single" not in kinds(comparison_of({"pi": 3.0}, every={"modalities": STRONG}, seeds=SEEDS[:4]))


def test_under_joint_the_rival_is_the_modality_trained_alone_if_it_was():
    joint = part_of({}, every={"method": "joint", "modalities": STRONG})
    alone = part_of({}, every={"method": "unimodal", "modalities": STRONG})
    assert "single" not in kinds(conclude([joint]))
    text = said(conclude([joint, alone]), "single")[0]
    assert text.startswith("One modality beats the fusion: pixels trained alone (80.0 %) is 10.0 points above")
    weak = part_of({}, every={"method": "unimodal", "modalities": MUCH_WEAKER})
    assert "single" not in kinds(conclude([joint, weak]))


def test_several_comparisons_have_an_overall_verdict():
    parts = [part_of({"pi": points, "score": 0.0}, every={"env": f"DUS-{points}-v0"}) for points in (3.0, 3.0, -3.0)]
    assert conclude(parts).verdict == "3 comparisons with uniform. pi gains in 2 and loses in 1."
    assert conclude([part_of({"pi": 0.0})] * 2).verdict.endswith("No agent that was tested can be told from uniform.")
    assert conclude([part_of({})] * 2).verdict.endswith("No agent was compared with uniform.")
    few = conclude([part_of({"pi": 3.0}, seeds=[1, 2])] * 2)
    assert "Too few seeds for a verdict on any difference in 2." in few.verdict


# -- equal samples -----------------------------------------------------------------------------------


def at_equal_samples(points):
    return [result(0.7 + OTHER_NOISE[s] - points / 100, samples=9600, total_batch=96) for s in SEEDS]


@pytest.mark.parametrize(
    ("points", "sentence"),
    [(1.5, "half gains 2.5 points at equal samples."), (-1.0, "half cannot be told from uniform at equal samples.")],
)
def test_an_agent_that_sees_fewer_samples_is_also_compared_at_as_many(points, sentence):
    found = comparison_of({"half": 1.0}, half={"samples": 9600}, equal_samples={"half": at_equal_samples(points)})
    assert found.verdict.startswith(f"half gains 1.0 points. {sentence}")
    assert found.parts[0].correction.tests == 2


# -- warnings ----------------------------------------------------------------------------------------


def test_a_modality_that_is_ahead_because_it_is_better_is_warned_of():
    (warning,) = comparison_of({"score": 0.0}, uniform={"modalities": BETTER}).warnings
    assert warning.startswith("Balancing is likely to hurt here: left is ahead (training score 0.91), keeps that")


@pytest.mark.parametrize(
    ("why", "uniform"),
    [
        ("it overfits", {"modalities": OVERFITS}),
        ("another validates better", {"modalities": BETTER | {"right": modality(0.78, 0.77, 0.93)}}),
        ("nothing is ahead", {"modalities": BETTER, "gap": 0.03}),
        ("there is no validation split", {"modalities": {name: modality(0.9, None, None) for name in BETTER}}),
    ],
)
def test_other_modalities_are_not_warned_of(why, uniform):
    assert comparison_of({"score": 0.0}, uniform=uniform).warnings == ()


def test_an_agent_that_closed_the_gap_and_lost_is_named():
    (warning,) = comparison_of({"score": -2.0, "pi": -2.0}, score={"gap": 0.1}).warnings
    assert warning == "Closing the gap cost accuracy: score lowers it from 0.30 to 0.10 and loses 2.0 points."


@pytest.mark.parametrize(
    ("how", "warning"),
    [
        ({"every": {"trainer": "fake", "data_kind": "mock"}}, "Fake trainer: these figures follow"),
        ({"every": {"data_kind": "mock"}}, "The data are mock, not the real data set."),
        ({"every": {"select": "best_test"}}, "The model was chosen on the test split"),
        ({"left_out": {"best-fixed": "it needs validation."}}, "best-fixed was not run: it needs validation."),
    ],
)
def test_what_makes_figures_less_than_they_look_is_warned_of(how, warning):
    (found,) = comparison_of({"score": 0.0}, **how).warnings
    assert found.startswith(warning)


# -- drawn comparisons -------------------------------------------------------------------------------

AGENTS = ("score", "holdout", "reinforce:policy=literal", *CONTROLS, "lr-matched:match=holdout")
DRAWS = 2000
METHODS = (["joint", "unimodal"], ["baseline", "unimodal"], ["joint"])
"""Of three draws in ten; the others are of one baseline."""


def draw_part(rng, method, seeds, no_prediction):
    """One task's comparison, and what it was made from."""
    n = len(seeds)
    names = ["uniform", *(name for name in AGENTS if rng.random() < 0.4)]
    base = rng.normal(0.7, 0.02, n)
    rise, iterations = rng.choice([0.001, 0.0061, 0.02, np.nan]), int(rng.choice([30, 100, 600]))
    better = rng.choice([-20.0, 0.0, 1.0, 4.0])
    alone = {name: base + rng.normal(better, 1.0, n) / 100 for name in ("pixels", "columns")}
    results, equal, accuracy = {}, {}, {}
    for name in names:
        column = base.copy()
        if name != "uniform":
            column += rng.choice([0.0, 0.3, -0.3, 1.0, -1.0, 3.0, -4.0]) / 100
            column += rng.normal(0.0, 1.0, n) * rng.choice([0.0, 0.002, 0.01, 0.03])
        diverged = rng.random(n) < 0.02
        column -= (rng.random(n) < 0.03) * 0.15
        accuracy[name] = column
        for i, seed in enumerate(seeds):
            score = Scores(float(column[i]), 0.5, 0.5)
            fused = {"method": None if no_prediction else score, "concat": None, "sum": score, "entropy": None}
            modalities = {key: modality(0.9, None, None, accuracy=float(a[i])) for key, a in alone.items()}
            results[name, seed] = result(
                0.0, fused=fused, modalities=modalities, method=method, diverged=bool(diverged[i]),
                iterations=iterations, score_rise=None if np.isnan(rise) else float(rise),
            )  # fmt: skip
        if name != "uniform" and rng.random() < 0.3:
            equal[name] = base + rng.normal(rng.choice([0.0, -2.0, 1.0]), 0.5, n) / 100
    at_equal = {
        name: [result(None if no_prediction else float(a), method=method) for a in column]
        for name, column in equal.items()
    }
    part = compare_results(names, seeds, results, at_equal)
    return part, {"accuracy": accuracy, "equal": equal, "alone": alone, "results": results, "iterations": iterations,
                  "rise": rise, "method": method, "seeds": seeds, "none": no_prediction}  # fmt: skip


def holm_oracle(p):
    order = np.argsort(p, kind="stable")
    found = np.empty(len(p))
    for rank, i in enumerate(order):
        found[i] = min(1.0, max((len(p) - k) * p[order[k]] for k in range(rank + 1)))
    return found


def p_oracle(columns):
    """Two-sided p-values of every pair of columns by SciPy; differences without variance have 1 or 0."""
    all_of = np.array(columns)
    d = all_of[:, None] - all_of[None]
    if d.shape[2] < 2:
        return np.full(d.shape[:2], np.nan)
    same = np.ptp(d, axis=2) < 1e-12
    with np.errstate(all="ignore"):
        p = stats.ttest_rel(all_of[:, None] + 0 * d, all_of[None] + 0 * d, axis=2).pvalue
    return np.where(same, np.where(np.abs(d[..., 0]) < 1e-12, 1.0, 0.0), p)


EDGE = {n: stats.t.ppf(0.975, n - 1) for n in range(2, 11)}


def expected(parts):
    """Every sentence that must be there, and no other, from what the comparisons were made of."""
    places = {}
    for i, made in enumerate(parts):
        for what in ("accuracy", "equal", "alone"):
            places |= {(i, what, name): column for name, column in made[what].items()}
    p_of_all, place = p_oracle(list(places.values())), {key: k for k, key in enumerate(places)}

    def p_of(one, other):
        return p_of_all[place[one], place[other]]

    family, p_family = {}, []
    for i, made in enumerate(parts):
        if made["none"] or len(made["seeds"]) < 2:
            continue
        for name, column in made["accuracy"].items():
            if name != "uniform":
                family[i, name, False] = (column, made["accuracy"]["uniform"])
                p_family.append(p_of((i, "accuracy", name), (i, "accuracy", "uniform")))
                if name in made["equal"]:
                    family[i, name, True] = (column, made["equal"][name])
                    p_family.append(p_of((i, "accuracy", name), (i, "equal", name)))
    corrected = dict(zip(family, holm_oracle(p_family), strict=True))
    direct = []
    for i, made in enumerate(parts):
        gaining = {
            name: (a - b).mean()
            for (k, name, equal), (a, b) in family.items()
            if k == i and not equal and len(made["seeds"]) >= 5 and corrected[k, name, equal] < 0.05
            and (a - b).mean() > 0 and name.partition(":")[0] not in CONTROLS
        }  # fmt: skip
        if gaining:
            best = max(gaining, key=gaining.get)
            controls = [name for name in made["accuracy"] if name.partition(":")[0] in CONTROLS]
            direct += [(i, best, name) for name in controls]
    p_direct = holm_oracle([p_of((i, "accuracy", a), (i, "accuracy", b)) for i, a, b in direct])
    found = []
    for i, made in enumerate(parts):
        wanted = set()
        n, accuracy = len(made["seeds"]), made["accuracy"]
        others = [name for name in accuracy if name != "uniform"]
        k = i
        if made["method"] == "joint":
            k = next((k for k, one in enumerate(parts) if one["method"] == "unimodal"), None)
        if k is not None and not made["none"] and n >= 5:
            source = parts[k]["alone"]
            p = holm_oracle([p_of((k, "alone", name), (i, "accuracy", "uniform")) for name in source])
            best = max(source, key=lambda name: source[name].mean())
            above = (source[best] - accuracy["uniform"]).mean()
            if above > 0 and p[list(source).index(best)] < 0.05:
                wanted.add(("single", ("uniform",), False, best))
        if made["iterations"] < 100 or made["rise"] > 0.006:
            wanted.add(("undertrained", ("uniform",), False, None))
        if not others:
            found.append(wanted | {("nothing", (), False, None)})
            continue
        if made["none"]:
            wanted.add(("no_prediction", (), False, None))
        elif n < 5:
            wanted.add(("few_seeds", (), False, None))
            if n > 1:
                seen = {name: 100 * abs((accuracy[name] - accuracy["uniform"]).mean()) for name in others}
                largest = sorted((name for name in others if seen[name] > 0.05), key=lambda name: -seen[name])[:3]
                wanted |= {("needed", (name,), False, None) for name in largest}
        unclear = {False: set(), True: set()}
        for name in others if not made["none"] else []:
            for equal in [False, True][: 1 + (name in made["equal"])]:
                reference = made["equal"][name] if equal else accuracy["uniform"]
                d = 100 * (accuracy[name] - reference)
                shown = n >= 5 and corrected[i, name, equal] < 0.05
                high = math.inf if n < 2 else d.mean() + EDGE[n] * d.std(ddof=1) / math.sqrt(n)
                if shown:
                    wanted.add(("gains" if d.mean() > 0 else "loses", (name,), equal, None))
                elif d.mean() < -0.5 or high < 0:
                    wanted.add(("harm", (name,), equal, None))
                elif n >= 5:
                    unclear[equal].add(name)
        wanted |= {("unclear", tuple(sorted(names)), equal, None) for equal, names in unclear.items() if names}
        for name, column in accuracy.items():
            fell = 100 * (accuracy["uniform"] - column) > 10 if not made["none"] else np.zeros(n, bool)
            if any(bad or made["results"][name, s].diverged for bad, s in zip(fell, made["seeds"], strict=True)):
                wanted.add(("collapsed", (name,), False, None))
        for (k, best, control), p in zip(direct, p_direct, strict=True):
            if k == i:
                ahead = (accuracy[best] - accuracy[control]).mean() > 0
                as_well = ("gains", (control,), False, None) in wanted
                kind = ("more" if ahead else "less") if p < 0.05 else ("as_much" if as_well else "apart")
                wanted.add((kind, (best, control), False, None))
        if missing := tuple(c for c in CONTROLS if c not in [name.partition(":")[0] for name in others]):
            wanted.add(("missing_controls", missing, False, None))
        found.append(wanted)
    return found, corrected


def power(n, effect):
    edge, shift = stats.t.ppf(0.975, n - 1), effect * math.sqrt(n)
    return stats.nct.sf(edge, n - 1, shift) + (stats.nct.cdf(-edge, n - 1, shift) if shift < 6 else 0.0)


@pytest.mark.filterwarnings("ignore:Precision loss")
def test_every_sentence_of_a_drawn_verdict_is_true_and_none_is_missing():
    rng = np.random.default_rng(0)
    met = {}
    for drawn in range(DRAWS):
        seeds = [int(seed) for seed in rng.permutation(30)[: rng.integers(1, 11)]]
        methods = METHODS[drawn % 10] if drawn % 10 < len(METHODS) else ["baseline"]
        pairs = [draw_part(rng, method, seeds, rng.random() < 0.03) for method in methods]
        comparison = conclude([part for part, _ in pairs])
        wanted, corrected = expected([made for _, made in pairs])
        for i, part in enumerate(comparison.parts):
            made, statements = pairs[i][1], part.statements
            found = {
                (s.kind, tuple(sorted(s.agents)) if s.kind == "unclear" else s.agents, s.equal_samples, s.modality)
                for s in statements
            }
            assert found == wanted[i], (drawn, part.verdict)
            assert len(found) == len(statements)
            assert part.verdict == " ".join(s.text for s in statements)
            assert all(name in s.text for s in statements for name in s.agents)
            if any(s.kind == "single" for s in statements):
                assert statements[0].kind == "single"
            for s in statements:
                met[s.kind] = met.get(s.kind, 0) + 1
                check_figures(s, made)
            for name, row in part.others.items():
                for equal, one in ((False, row), (True, row.equal_samples)):
                    if one is not None and one.p_corrected is not None:
                        assert one.p_corrected == pytest.approx(corrected[i, name, equal], rel=1e-9, abs=1e-300)
                        low, high = one.interval_corrected
                        assert (low > 0 or high < 0) == (corrected[i, name, equal] < 0.05)
    assert len(met) == 16, "every kind of sentence was drawn"


def check_figures(statement, made):
    """The numbers of a sentence are those of the data."""
    accuracy, n = made["accuracy"], len(made["seeds"])
    if statement.kind == "collapsed":
        (name,) = statement.agents
        fell = [
            seed
            for i, seed in enumerate(made["seeds"])
            if made["results"][name, seed].diverged
            or (not made["none"] and 100 * (accuracy["uniform"][i] - accuracy[name][i]) > 10)
        ]
        assert list(statement.seeds) == fell
        assert f"{len(fell)} of {n} runs" in statement.text
        assert ", ".join(map(str, fell)) in statement.text
    if statement.points is None or statement.kind == "single":
        return
    first = accuracy[statement.agents[0]]
    if len(statement.agents) == 2:
        reference = accuracy[statement.agents[1]]
    else:
        reference = made["equal"][statement.agents[0]] if statement.equal_samples else accuracy["uniform"]
    d = 100 * (first - reference)
    assert statement.points == pytest.approx(d.mean(), abs=1e-9)
    assert f"{round(abs(statement.points), 1):.1f}" in statement.text
    assert ("at equal samples" in statement.text) == statement.equal_samples
    if statement.kind == "harm" and n > 1:
        half = EDGE[n] * d.std(ddof=1) / math.sqrt(n)
        assert statement.interval == pytest.approx((d.mean() - half, d.mean() + half), abs=1e-9)
    if statement.kind == "needed" and d.std(ddof=1) > 1e-9:
        effect = abs(d.mean()) / d.std(ddof=1)
        if statement.needed is None:
            assert power(1000, effect) < 0.8
        else:
            assert f"about {statement.needed} seeds" in statement.text
            assert power(statement.needed, effect) >= 0.8 - 1e-6 or effect > 10
            assert statement.needed == 5 or power(statement.needed - 1, effect) < 0.8


def test_drawn_comparisons_come_back_from_json():
    rng = np.random.default_rng(1)
    for methods in (["baseline"], ["joint", "unimodal"]):
        parts = [draw_part(rng, method, [3, 1, 4, 5, 9], False)[0] for method in methods]
        comparison = conclude(parts)
        assert Comparison.from_json(comparison.to_json()) == comparison


# -- one run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "theirs", "sentence"),
    [
        (result(0.7531), result(0.7612), "pi reached 75.3 % test accuracy, uniform 76.1 % with the same seed and "
                                         "settings (-0.8 points); one seed decides nothing."),
        (result(0.7), None, "pi reached 70.0 % test accuracy; one seed decides nothing."),
        (result(0.1, diverged=True), None, "pi reached 10.0 % test accuracy, though its training loss was not finite; "
                                           "one seed decides nothing."),
        (result(None, fused={"method": None, "concat": Scores(0.5, 0.5, 0.5), "sum": None, "entropy": None}), None,
         "pi trained to the end; method baseline has no prediction of its own to set beside another's."),
    ],
)  # fmt: skip
def test_one_run_is_one_sentence_without_a_verdict(mine, theirs, sentence):
    assert say_run("pi", mine, theirs) == sentence


# -- one modality alone, classes hardly tested -------------------------------------------------------

FEW = (
    "2 of 4 classes have fewer than 5 test samples (d 0 and c 4): MAP and macro-F1, which count every class alike, "
    "rest on very little."
)


def data_of(test, names="abcd"):
    counts = {"train": tuple(9 for _ in test), "test": tuple(test)}
    return DataOverview({"pixels": (64,), "columns": (8,)}, {}, tuple(names), counts, {})


def alone(pixels, columns):
    return {"pixels": modality(0.8, 0.7, 0.7, pixels), "columns": modality(0.8, 0.7, 0.7, columns)}


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (result(0.70, modalities=alone(0.6, 0.7)), []),
        (
            result(0.70, modalities=alone(0.6, 0.712)),
            ["columns alone is right on 71.2 % of the test split, the fusion on 70.0 %: here one modality by "
             "itself was better than all together."],
        ),
        (
            result(None, modalities=alone(0.8, 0.7), fused={
                "method": None, "concat": None, "sum": Scores(0.75, 0.7, 0.7), "entropy": Scores(0.9, 0.7, 0.7)
            }),
            ["pixels alone is right on 80.0 % of the test split, the fusion by sum on 75.0 %: here one modality "
             "by itself was better than all together."],
        ),
        (result(0.70, modalities=alone(0.6, 0.8), trainer="fake"), []),
        (result(0.70, data=data_of((8, 5, 4, 0))), [FEW]),
        (result(0.70, data=data_of((8, 5, 5, 5))), []),
        (
            result(0.70, data=data_of((5, 4, 5, 5))),
            ["1 of 4 classes has fewer than 5 test samples (b 4): MAP and macro-F1, which count every class alike, "
             "rest on very little."],
        ),
        (
            result(0.70, data=data_of([9, *[1] * 7], "abcdefgh")),
            ["7 of 8 classes have fewer than 5 test samples (b 1, c 1, d 1, e 1, f 1 and 2 more): MAP and macro-F1, "
             "which count every class alike, rest on very little."],
        ),
    ],
)  # fmt: skip
def test_what_a_run_shows_of_its_task_is_said(run, said):
    assert notes(run) == said


def test_a_comparison_warns_of_classes_that_are_hardly_tested():
    for test, warned in (((8, 5, 4, 0), True), ((8, 5, 5, 5), False)):
        assert (FEW in comparison_of({"pi": 5.0}, every={"data": data_of(test)}).warnings) == warned
