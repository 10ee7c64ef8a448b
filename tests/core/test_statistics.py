"""Means, deviations and the paired test, with SciPy as the oracle."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import nct, t, ttest_rel

from dus_gym.statistics import (
    PairedTest,
    Spread,
    confidence_interval,
    holm,
    holm_levels,
    mean_std,
    paired,
    seeds_needed,
)

properties = settings(deadline=None, derandomize=True, max_examples=100)
figures = st.lists(st.integers(0, 1000).map(lambda k: k / 1000), min_size=2, max_size=12)


@properties
@given(figures)
def test_mean_and_deviation_are_numpys_sample_ones(values):
    found = mean_std(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-12)
    assert found.std == pytest.approx(np.std(values, ddof=1), abs=1e-12)


def test_mean_and_deviation_by_hand():
    assert mean_std([0.7, 0.8, 0.9]) == Spread(pytest.approx(0.8), pytest.approx(0.1))


def test_one_seed_has_no_deviation_and_equal_seeds_have_none_to_speak_of():
    assert mean_std([0.25]) == Spread(0.25, None)
    assert mean_std([0.1, 0.1, 0.1]).std == pytest.approx(0.0, abs=1e-15)


@properties
@given(figures, st.integers(0, 2**32 - 1))
def test_p_is_scipys_and_the_difference_is_in_points(values, seed):
    reference = (np.random.default_rng(seed).integers(0, 1001, len(values)) / 1000).tolist()
    differences = np.subtract(values, reference)
    assume(np.ptp(differences) > 1e-6)
    found = paired(values, reference)
    assert found.points == pytest.approx(100 * differences.mean(), abs=1e-10)
    assert found.p == pytest.approx(ttest_rel(values, reference).pvalue, rel=1e-12)
    mirrored = paired(reference, values)
    assert mirrored.points == pytest.approx(-found.points, abs=1e-10)
    assert mirrored.p == pytest.approx(found.p, rel=1e-9)


def test_the_paired_test_by_hand():
    # Differences .01, .02, .03: mean .02, deviation .01, t = .02 / (.01 / sqrt(3)) = 3.4641 with 2 degrees.
    found = paired([0.71, 0.72, 0.73], [0.70, 0.70, 0.70])
    assert found == PairedTest(pytest.approx(2.0), pytest.approx(0.0741799, abs=1e-6))


def test_seeds_are_paired_in_order():
    reference = [0.5, 0.6, 0.7, 0.8]
    ordered = paired([r + d for r, d in zip(reference, [0.010, 0.011, 0.009, 0.010], strict=True)], reference)
    shuffled = paired([r + d for r, d in zip(reference, [0.010, 0.011, 0.009, 0.010], strict=True)], reference[::-1])
    assert ordered.points == pytest.approx(shuffled.points) == pytest.approx(1.0)
    assert ordered.p < 0.001 < 0.5 < shuffled.p


def test_one_seed_has_no_p():
    assert paired([0.8], [0.7]) == PairedTest(pytest.approx(10.0), None)


@pytest.mark.filterwarnings("error")
def test_differences_without_variance_have_a_p_and_no_warning():
    assert paired([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]) == PairedTest(0.0, 1.0)
    assert 0.8 - 0.7 != 0.3 - 0.2, "the last bits differ"
    assert paired([0.3, 0.8], [0.2, 0.7]) == PairedTest(pytest.approx(10.0), 0.0)
    assert paired([0.5, 0.6], [0.6, 0.7]).p == 0.0


def test_different_numbers_of_seeds_are_refused():
    with pytest.raises(ValueError, match="argument 2"):
        paired([0.1, 0.2], [0.1])


@properties
@given(figures, st.integers(0, 2**32 - 1))
def test_the_interval_is_scipys_and_holds_zero_exactly_when_p_is_not_below_five_per_cent(values, seed):
    reference = (np.random.default_rng(seed).integers(0, 1001, len(values)) / 1000).tolist()
    assume(np.ptp(np.subtract(values, reference)) > 1e-6)
    low, high = confidence_interval(values, reference)
    expected = ttest_rel(values, reference).confidence_interval(0.95)
    assert (low, high) == pytest.approx((100 * expected.low, 100 * expected.high), rel=1e-9, abs=1e-9)
    p = paired(values, reference).p
    assume(abs(p - 0.05) > 1e-9)
    assert (low <= 0 <= high) == (p > 0.05)


def test_the_interval_by_hand():
    # Mean 2 points, deviation 1, t(.975, 2) = 4.3027: 2 ± 4.3027 / sqrt(3).
    assert confidence_interval([0.71, 0.72, 0.73], [0.7] * 3) == pytest.approx((-0.48414, 4.48414), abs=1e-5)


def test_one_seed_has_no_interval_and_equal_differences_have_one_without_width():
    assert confidence_interval([0.8], [0.7]) is None
    assert confidence_interval([0.5, 0.5], [0.4, 0.4]) == pytest.approx((10.0, 10.0))


def test_holm_by_hand():
    # Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, and none below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@properties
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_helps_keeps_the_order_and_is_no_harsher_than_bonferroni(values):
    corrected = holm(values)
    assert all(p <= c <= min(1.0, len(values) * p) + 1e-12 for p, c in zip(values, corrected, strict=True))
    order = sorted(range(len(values)), key=values.__getitem__)
    assert [corrected[i] for i in order] == sorted(corrected)


# -- intervals that say what the corrected p says ----------------------------------------------------


def test_levels_by_hand():
    # Tested at .05/4 and .05/3; the third, .04, is not below .05/2, and what comes after is at that level too.
    assert holm_levels([0.9, 0.001, 0.04, 0.01]) == pytest.approx([0.975, 1 - 0.05 / 4, 0.975, 1 - 0.05 / 3])
    assert holm_levels([0.2, 0.3]) == pytest.approx([0.975, 0.975]), "Bonferroni's where nothing is found"
    assert holm_levels([0.01]) == pytest.approx([0.95])
    assert holm_levels([]) == []


@properties
@given(st.integers(0, 2**32 - 1))
def test_an_interval_at_its_level_excludes_zero_exactly_where_the_corrected_p_is_below_five_per_cent(seed):
    rng = np.random.default_rng(seed)
    count, n = int(rng.integers(1, 15)), int(rng.integers(2, 12))
    effects = rng.choice([0.0, 0.01, 0.03, 0.1], count)
    columns = [(0.5 + rng.normal(effect, 0.02, n)).tolist() for effect in effects] + [[0.5] * n, [0.6] * n]
    reference = [0.5] * n
    values = [paired(column, reference).p for column in columns]
    for column, p, level in zip(columns, holm(values), holm_levels(values), strict=True):
        low, high = confidence_interval(column, reference, level)
        assume(abs(p - 0.05) > 1e-9)
        assert (low > 0 or high < 0) == (p < 0.05)


def power(n, effect):
    edge = t.ppf(0.975, n - 1)
    return nct.sf(edge, n - 1, effect * n**0.5) + nct.cdf(-edge, n - 1, effect * n**0.5)


def test_the_seeds_that_a_difference_needs_are_those_of_the_textbook():
    # Cohen's tables for a two-sided paired test, power .8: 34 pairs for an effect of .5, 15 for .8, 199 for .2.
    for effect, needed in ((0.5, 34), (0.8, 15), (0.2, 199)):
        deviation = 0.01
        values = [0.5 + effect * deviation + k * deviation / 2**0.5 for k in (-1, 1)]
        assert mean_std([v - 0.5 for v in values]).std == pytest.approx(deviation)
        assert seeds_needed(values, [0.5, 0.5]) == needed
        assert power(needed - 1, effect) < 0.8 <= power(needed, effect)


def test_no_number_of_seeds_shows_nothing_and_two_show_what_is_always_the_same():
    assert seeds_needed([0.5, 0.6], [0.6, 0.5]) is None
    assert seeds_needed([0.5, 0.5001], [0.5, 0.5]) is not None
    assert seeds_needed([0.5001, 0.49991], [0.5, 0.5]) is None, "more than a thousand"
    assert seeds_needed([0.6, 0.7], [0.5, 0.6]) == 2
