"""Figures of a comparison from results made by hand."""

import pytest
from made_results import BETTER, NOISE, OVERFITS, SEEDS, comparison_of, modality, part_of, result

from dus_gym.errors import ConfigError, RunFolderError
from dus_gym.experiments.comparison import Comparison, compare_results, conclude, equal_total
from dus_gym.experiments.task_comparison import Correction

ROUGH = [0.010, -0.012, 0.008, -0.009, 0.003]


def test_a_difference_that_is_one_only_without_the_correction_is_none():
    (alone,) = comparison_of({"score": 1.6}, noise=ROUGH).parts
    row = alone.agents["score"]
    assert row.test.p == row.p_corrected < 0.05
    assert row.interval_corrected == row.alone
    assert row.outcome == "gains"
    others = {"pi": 0.0, "random": 0.0, "reversed": 0.0, "overfit": 0.0}
    (many,) = comparison_of({"score": 1.6} | others, noise=ROUGH).parts
    assert many.correction == Correction("holm", 5, "method", 0.05)
    row = many.agents["score"]
    assert row.p_corrected == pytest.approx(5 * row.test.p)
    assert row.interval_corrected[0] < 0 < row.alone[0]
    assert row.outcome == "cannot be told"


def test_the_correction_counts_every_comparison_of_a_request():
    part = part_of({"score": 1.6}, noise=ROUGH)
    (one,), two = conclude([part]).parts, conclude([part, part]).parts
    assert two[0].correction.tests == 2
    assert two[0].agents["score"].p_corrected == pytest.approx(2 * one.agents["score"].p_corrected)


def test_uniform_differs_from_itself_by_nothing():
    row = comparison_of({"score": 1.0}).parts[0].uniform
    assert (row.test.points, row.test.p, row.alone, row.outcome, row.collapsed) == (0.0, None, None, None, ())
    assert row.vs_uniform["entropy"] is row.by_seed["entropy"] is row.fused["entropy"] is None


def test_one_seed_has_no_deviation_no_p_and_no_interval():
    row = comparison_of({"score": 2.0}, seeds=[0]).parts[0].agents["score"]
    assert row.p_corrected is row.interval_corrected is row.alone is row.fused["sum"].accuracy.std is None


def test_modalities_have_their_own_accuracies():
    row = comparison_of({"pi": 0.0}, every={"modalities": BETTER}).parts[0].agents["pi"].modalities["left"]
    assert (row.accuracy, row.score, row.val_score, row.val_accuracy) == pytest.approx((0.6, 0.91, 0.86, 0.89))
    assert row.by_seed == (0.6,) * 5


def test_costs_are_medians_and_peaks():
    results = {(name, seed): result(0.7) for name in ("uniform", "pi") for seed in SEEDS}
    results["pi", 0] = result(0.7, seconds=50.0, agent_seconds=50.0, peak_memory_mib=120.0)
    costs = compare_results(["uniform", "pi"], SEEDS, results).agents["pi"].costs
    assert (costs.seconds, costs.agent_seconds, costs.agent_share) == (2.0, 0.5, 0.25)
    assert (costs.peak_memory_mib, costs.peak_device_memory_mib) == (120.0, None)


def test_the_batch_of_equal_samples_gives_as_many_samples_in_as_many_iterations():
    uniform = [result(0.7) for _ in SEEDS]
    assert equal_total([result(0.7, samples=9600)] * 5, uniform) == (96, 5)
    assert equal_total([result(0.7, samples=11043)] * 5, uniform) == (110, 5)
    three = OVERFITS | {"rows": modality(0.8, 0.7, 0.7)}
    assert equal_total([result(0.7, samples=10000, modalities=three)] * 5, uniform) == (99, 5)


def test_agents_that_see_as_many_samples_need_no_second_reference():
    uniform = [result(0.7) for _ in SEEDS]
    assert equal_total(uniform, uniform) is None
    stopped = [result(0.7, samples=640, iterations=5, diverged=True)] * 5
    assert equal_total(stopped, uniform) is None, "a run that diverged saw fewer for another reason"


@pytest.mark.parametrize(
    ("names", "seeds", "message"), [(["pi"], [0], "'uniform', the reference, is missing"), (["uniform"], [], "seeds=")]
)
def test_what_can_not_be_compared_is_refused(names, seeds, message):
    with pytest.raises(ConfigError, match=message):
        compare_results(names, seeds, {("pi", 0): result(0.7)})


def test_json_of_one_is_flat_and_of_several_a_list():
    parts = [part_of({"pi": 1.0}), part_of({"score": -1.0, "random": 0.0})]
    one, several = conclude(parts[:1]), conclude(parts)
    found = one.to_json()
    assert found["verdict"] == one.verdict
    assert set(found) >= {
        "format", "env", "method", "method_options", "seeds", "trainer", "data_kind", "select", "settings",
        "missing_controls", "left_out", "version", "agents", "correction", "verdict", "warnings",
    }  # fmt: skip
    assert several.to_json() == {
        "comparisons": [part.to_json() for part in several.parts],
        "verdict": several.verdict,
    }
    for comparison in (one, several):
        assert Comparison.from_json(comparison.to_json()) == comparison


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda found: found.pop("agents"), "agents is missing"),
        (lambda found: found["agents"].pop("uniform"), "agents.uniform is missing"),
        (lambda found: found["agents"]["pi"]["gap"].update(mean="x"), "agents.pi.gap.mean is 'x', not a number"),
        (lambda found: found.update(comparisons=3), "comparisons is not a list"),
    ],
)
def test_damaged_json_is_one_error_that_names_the_key(damage, message):
    found = comparison_of({"pi": 1.0}).to_json()
    damage(found)
    with pytest.raises(RunFolderError, match=message):
        Comparison.from_json(found, "c/comparison.json")


def test_a_comparison_without_its_runs_still_has_a_report_and_shows_in_a_notebook(tmp_path):
    for comparison in (comparison_of({"pi": 1.0}), conclude([part_of({"pi": 1.0}), part_of({"pi": -1.0})])):
        text = comparison.report(tmp_path / "report.html").read_text(encoding="utf-8")
        assert comparison.verdict in text
        shown = comparison._repr_html_()
        assert comparison.verdict in shown
        assert shown.count("<table") == (1 if len(comparison.parts) == 1 else 3)


def test_a_seed_far_below_uniform_has_collapsed():
    results = {(name, seed): result(0.7) for name in ("uniform", "pi") for seed in SEEDS}
    results["pi", 1], results["pi", 2] = result(0.59), result(0.61)
    assert compare_results(["uniform", "pi"], SEEDS, results).agents["pi"].collapsed == (1,)


def test_the_rise_of_the_score_is_known_where_every_run_has_one():
    results = {("uniform", seed): result(0.7, score_rise=NOISE[seed]) for seed in SEEDS}
    assert compare_results(["uniform"], SEEDS, results).uniform.score_rise == pytest.approx(0.0)
    results["uniform", 0] = result(0.7, score_rise=None)
    assert compare_results(["uniform"], SEEDS, results).uniform.score_rise is None
