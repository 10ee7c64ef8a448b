"""What a comparison concludes, from hand-made summaries whose answer is known."""

import pytest

from dus_gym.experiments.comparison import compare, correct, equal_total
from dus_gym.experiments.verdict import verdict, warnings

SEEDS = [0, 1, 2, 3, 4]
NOISE = [0.000, 0.004, -0.003, 0.002, -0.003]
OTHER_NOISE = [0.002, -0.001, 0.000, -0.003, 0.002]


def modality(score, val_score, val_accuracy, accuracy=0.6):
    return {"score": score, "val_score": val_score, "val_accuracy": val_accuracy, "accuracy": accuracy}


OVERFITS = {"pixels": modality(1.0, 0.7, 0.72), "columns": modality(0.6, 0.55, 0.63)}
BETTER = {"left": modality(0.91, 0.86, 0.89), "right": modality(0.78, 0.56, 0.61)}


def summary(accuracy, *, gap=0.3, samples=12800, modalities=OVERFITS, diverged=False, total_batch=128, **costs):
    row = {"accuracy": accuracy, "map": accuracy, "macro_f1": accuracy}
    return {
        "env": "DUS-Hand-v0", "method": "baseline", "method_options": {}, "trainer": "real", "data_kind": "real",
        "select": "last", "settings": {"action_mode": "shares"}, "version": "0", "epochs": 20, "iterations": 100,
        "fused": {"method": row, "concat": row, "sum": row, "entropy": None}, "modalities": modalities, "gap": gap,
        "samples": samples, "total_batch": total_batch, "training_runs": 0, "diverged": diverged, "seconds": 2.0,
        "agent_seconds": 0.5, "peak_memory_mib": 100.0, "peak_device_memory_mib": None,
    } | costs  # fmt: skip


def result_of(gains, *, seeds=SEEDS, equal_samples=None, left_out=None, noise=NOISE, **settings):
    """A comparison in which each agent gains so many points over uniform, give or take its noise."""
    names = ["uniform", *gains]
    summaries = {}
    for name in names:
        for i, seed in enumerate(seeds):
            accuracy = 0.7 + OTHER_NOISE[i] + (gains[name] / 100 + noise[i] if name in gains else 0.0)
            own = settings.get(name.partition(":")[0].replace("-", "_"), {})
            summaries[name, seed] = summary(accuracy, **own)
    result = compare(names, seeds, summaries, equal_samples, left_out)
    correct([result])
    return result


def test_the_sentence_of_the_specification():
    result = result_of({"reinforce": 0.0, "best-fixed": 2.1, "lr-matched": 3.6})
    assert verdict(result) == (
        "reinforce is not distinguishable from uniform; best-fixed gains 2.1 points; lr-matched gains 3.6 points: the "
        "gain is not specific to sampling. Controls that did not run: reversed, random."
    )


def test_learning_rates_that_gain_less_say_so():
    said = verdict(result_of({"pi": 3.0, "lr-matched": 1.5, "best-fixed": 1.0, "random": 0.0, "reversed": -1.0}))
    assert said == (
        "random is not distinguishable from uniform; pi gains 3.0 points; best-fixed gains 1.0 points; reversed loses "
        "1.0 points; lr-matched gains 1.5 points: matched learning rates do not gain as much as pi."
    )


def test_learning_rates_that_gain_nothing_say_so_too():
    said = verdict(result_of({"pi": 3.0, "lr-matched": 0.0}))
    assert "lr-matched is not distinguishable from uniform; pi gains 3.0 points: matched learning rates do not" in said


def test_without_learning_rates_nothing_is_said_of_them_but_that_they_did_not_run():
    said = verdict(result_of({"pi": 3.0}))
    assert said == (
        "pi gains 3.0 points. Controls that did not run: reversed, random, best-fixed, lr-matched."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("control", "sentence"),
    [
        ("best-fixed", "a constant split gains as much as pi"),
        ("random", "random splits gain as much as pi"),
        ("reversed", "the reversed split gains as much as pi: the direction is not what helps"),
    ],
)
def test_a_control_that_gains_as_much_is_named(control, sentence):
    assert sentence in verdict(result_of({"pi": 2.0, control: 2.2}))
    assert sentence not in verdict(result_of({"pi": 4.0, control: 2.2}, noise=[n / 10 for n in NOISE]))
    assert sentence not in verdict(result_of({"pi": 2.0, control: 0.0}))


def test_many_agents_that_can_not_be_told_from_uniform_share_a_clause():
    said = verdict(result_of({"pi": 0.0, "score": 0.1, "reinforce": -0.1}))
    assert said.startswith("pi, score and reinforce are not distinguishable from uniform. ")


def test_a_difference_that_is_one_only_without_the_correction_is_none():
    noise = [0.010, -0.012, 0.008, -0.009, 0.003]
    alone = result_of({"score": 1.6}, noise=noise)
    row = alone["agents"]["score"]
    assert row["vs_uniform"]["method"]["p"] == row["p_corrected"] < 0.05
    assert row["outcome"] == "gains"
    many = result_of({"score": 1.6, "pi": 0.0, "random": 0.0, "reversed": 0.0, "overfit": 0.0}, noise=noise)
    assert many["correction"] == {"method": "holm", "tests": 5, "predictor": "method", "level": 0.05}
    row = many["agents"]["score"]
    assert row["p_corrected"] == pytest.approx(5 * row["vs_uniform"]["method"]["p"])
    assert row["outcome"] == "not distinguishable"


def test_the_correction_counts_every_comparison_of_a_command():
    names = ["uniform", "score"]
    one, other = (
        compare(
            names,
            SEEDS,
            {(n, s): summary(0.7 + (NOISE[s] + 0.01 if n == "score" else 0.0)) for n in names for s in SEEDS},
        )
        for _ in range(2)
    )
    correct([one])
    p = one["agents"]["score"]["p_corrected"]
    correct([one, other])
    assert one["correction"]["tests"] == 2
    assert one["agents"]["score"]["p_corrected"] == pytest.approx(2 * p)


def test_intervals_stand_beside_the_differences():
    row = result_of({"score": 2.0})["agents"]["score"]
    low, high = row["interval"]["method"]
    assert low < row["vs_uniform"]["method"]["points"] < high
    assert (low + high) / 2 == pytest.approx(2.0)
    assert row["interval"]["entropy"] is None, "a predictor that the method does not have"


def test_one_seed_gives_differences_and_no_verdict():
    result = result_of({"score": 2.0, "random": -1.0}, seeds=[0])
    assert result["agents"]["score"]["p_corrected"] is result["agents"]["score"]["outcome"] is None
    assert result["agents"]["score"]["interval"]["method"] is None
    assert verdict(result).startswith(
        "one seed gives no p-value and no verdict (score +2.0 points, random -1.0 points)."
    )
    assert warnings(result) == []


def test_few_seeds_are_warned_of():
    assert "3 seeds are few" in warnings(result_of({"score": 2.0}, seeds=[0, 1, 2]))[0]
    assert warnings(result_of({"score": 2.0})) == []


# -- equal samples -----------------------------------------------------------------------------------


def at_equal_samples(points):
    return [summary(0.7 + OTHER_NOISE[s] - points / 100, samples=9600, total_batch=96) for s in SEEDS]


def test_an_agent_that_sees_fewer_samples_is_also_compared_at_as_many():
    result = result_of({"half": 1.0}, half={"samples": 9600}, equal_samples={"half": at_equal_samples(1.5)})
    equal = result["agents"]["half"]["equal_samples"]
    assert (equal["total_batch"], equal["samples"], equal["iterations"]) == (96, 9600, 100)
    assert equal["vs_uniform"]["method"]["points"] == pytest.approx(2.5)
    assert result["correction"]["tests"] == 2
    assert "half gains 1.0 points (gains 2.5 points at equal samples)" in verdict(result)


def test_a_gain_that_is_none_at_equal_samples_says_so():
    result = result_of({"half": 1.0}, half={"samples": 9600}, equal_samples={"half": at_equal_samples(-1.0)})
    assert "half gains 1.0 points (not distinguishable at equal samples)" in verdict(result)


def test_the_batch_of_equal_samples_gives_as_many_samples_in_as_many_iterations():
    uniform = [summary(0.7) for _ in SEEDS]
    assert equal_total([summary(0.7, samples=9600)] * 5, uniform) == (96, 5)
    assert equal_total([summary(0.7, samples=11043)] * 5, uniform) == (110, 5)
    three = OVERFITS | {"rows": modality(0.8, 0.7, 0.7)}
    assert equal_total([summary(0.7, samples=10000, modalities=three)] * 5, uniform) == (99, 5)


def test_agents_that_see_as_many_samples_need_no_second_reference():
    uniform = [summary(0.7) for _ in SEEDS]
    assert equal_total(uniform, uniform) is None
    stopped = [summary(0.7, samples=640, iterations=5, diverged=True)] * 5
    assert equal_total(stopped, uniform) is None, "a run that diverged saw fewer for another reason"


# -- warnings ----------------------------------------------------------------------------------------


def test_a_modality_that_is_ahead_because_it_is_better_is_warned_of():
    (warning,) = warnings(result_of({"score": 0.0}, uniform={"modalities": BETTER}))
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
    assert warnings(result_of({"score": 0.0}, uniform=uniform)) == []


def test_an_agent_that_closed_the_gap_and_lost_is_named():
    (warning,) = warnings(result_of({"score": -2.0, "pi": -2.0}, score={"gap": 0.1}))
    assert warning == "Closing the gap cost accuracy: score lowers it from 0.30 to 0.10 and loses 2.0 points."


def test_divergence_and_agents_left_out_are_named():
    found = warnings(result_of({"pi": 0.0}, pi={"diverged": True}, left_out={"best-fixed": "it needs validation."}))
    assert found == [
        "pi: 5 of 5 runs diverged; their last figures are in the means.",
        "best-fixed was not run: it needs validation.",
    ]


def test_costs_stand_beside_accuracy():
    row = result_of({"pi": 0.0}, pi={"seconds": 4.0, "agent_seconds": 1.0, "peak_memory_mib": 120.0})["agents"]["pi"]
    assert row["costs"] == {
        "seconds": 4.0,
        "agent_seconds": 1.0,
        "agent_share": 0.25,
        "peak_memory_mib": 120.0,
        "peak_device_memory_mib": None,
    }


def test_runs_of_before_costs_were_measured_are_compared_without_them():
    old = {"agent_seconds": None, "peak_memory_mib": None}
    row = result_of({"pi": 0.0}, pi=old)["agents"]["pi"]
    assert (row["costs"]["seconds"], row["costs"]["agent_share"], row["costs"]["peak_memory_mib"]) == (2.0, None, None)
    summaries = {(name, seed): summary(0.7) for name in ("uniform", "pi") for seed in SEEDS}
    for row in summaries.values():
        for key in ("agent_seconds", "peak_memory_mib", "peak_device_memory_mib"):
            del row[key]
        row["modalities"] = {name: {"accuracy": 0.6, "score": 0.9} for name in BETTER}
    result = compare(["uniform", "pi"], SEEDS, summaries)
    correct([result])
    assert result["agents"]["pi"]["costs"]["agent_seconds"] is None
    assert warnings(result) == []
