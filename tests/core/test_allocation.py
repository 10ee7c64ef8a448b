"""Eq. 4: what every split of N_B must keep, and hand-worked numbers."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dus_gym import allocation
from dus_gym.allocation import Allocation, normalise, read_action, sizes_from_fractions, sizes_from_shares
from dus_gym.config import RunConfig
from dus_gym.errors import ConfigError

properties = settings(deadline=None, derandomize=True, max_examples=120)

magnitudes = st.one_of(
    st.just(0.0),
    st.floats(0.0, 1.0),
    st.floats(0.0, allow_infinity=False, allow_nan=False),  # up to 1.8e308, down to 5e-324
    st.integers(0, 1000).map(float),
)


@st.composite
def shares_rules(draw, entries=magnitudes):
    """A rule that splits N_B and an action for it."""
    m = draw(st.integers(1, 5))
    least = draw(st.integers(1, 4))
    total = draw(st.integers(m * least, m * least + 200))
    rule = Allocation(m, total, min_samples=least, min_fraction=draw(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])))
    return rule, draw(st.lists(entries, min_size=m, max_size=m))


def exact_sizes(weights, total, floor):
    """Largest remainder with floors in exact arithmetic, and the gap that decides who rounds up."""
    m = len(weights)
    weights = [Fraction(w) for w in weights] if any(weights) else [Fraction(1)] * m
    free = set(range(m))
    while True:
        budget, mass = total - floor * (m - len(free)), sum(weights[j] for j in free)
        quotas = {j: budget * weights[j] / mass for j in free}
        lifted = {j for j in free if quotas[j] < floor}
        if not lifted:
            break
        free -= lifted
    remainders = sorted((quotas[j] - math.floor(quotas[j]) for j in free), reverse=True)
    up = budget - sum(math.floor(quotas[j]) for j in free)
    margin = remainders[up - 1] - remainders[up] if 0 < up < len(remainders) else 1
    order = sorted(free, key=lambda j: (math.floor(quotas[j]) - quotas[j], j))
    return [floor if j not in free else math.floor(quotas[j]) + (j in order[:up]) for j in range(m)], margin


# -- properties ------------------------------------------------------------------------------------


@properties
@given(shares_rules())
@example((Allocation(3, 6), [1.0, 0.0, 0.0]))
@example((Allocation(3, 7), [5e-324, 5e-324, 5e-324]))
@example((Allocation(2, 128), [1.7e308, 1.7e308]))
def test_sizes_sum_to_the_total_and_none_is_below_the_floor(case):
    rule, action = case
    shares, sizes = rule(action)
    assert sum(sizes) == rule.total_batch
    assert min(sizes) >= rule.floor
    assert all(type(size) is int for size in sizes)
    assert sum(shares) == pytest.approx(1.0)
    assert min(shares) >= 0.0


@properties
@given(shares_rules(st.integers(0, 1000)))
def test_sizes_are_those_of_exact_arithmetic(case):
    rule, weights = case
    expected, margin = exact_sizes(weights, rule.total_batch, rule.floor)
    assume(margin > 1e-9)  # an exact tie is decided by the last bit of a float, and by the order
    assert rule([float(w) for w in weights])[1] == expected


@properties
@given(shares_rules())
def test_a_larger_share_never_gets_fewer_samples(case):
    rule, action = case
    shares, sizes = rule(action)
    for j in range(len(sizes)):
        for k in range(len(sizes)):
            if shares[j] > shares[k] + 1e-12:
                assert sizes[j] >= sizes[k]


@properties
@given(shares_rules(st.integers(0, 1000)), st.randoms(use_true_random=False))
def test_the_order_of_the_modalities_changes_no_modalitys_size(case, random):
    rule, weights = case
    order = list(range(len(weights)))
    random.shuffle(order)
    sizes = rule([float(w) for w in weights])[1]
    shuffled = rule([float(weights[j]) for j in order])[1]
    if exact_sizes(weights, rule.total_batch, rule.floor)[1] > 1e-9:
        assert shuffled == [sizes[j] for j in order]
    else:  # a tie goes by position
        assert max(abs(shuffled[i] - sizes[j]) for i, j in enumerate(order)) <= 1


@properties
@given(shares_rules(st.one_of(st.just(0.0), st.floats(1e-200, 1e200))), st.integers(-300, 300))
def test_scaling_an_action_by_a_power_of_two_changes_no_bit(case, power):
    rule, action = case
    assert rule([math.ldexp(a, power) for a in action]) == rule(action)


@properties
@given(shares_rules(st.integers(0, 1000)), st.floats(1e-6, 1e6))
def test_scaling_an_action_changes_no_size(case, factor):
    rule, weights = case
    assume(exact_sizes(weights, rule.total_batch, rule.floor)[1] > 1e-9)
    assert rule([w * factor for w in weights])[1] == rule([float(w) for w in weights])[1]


@properties
@given(st.integers(1, 9), st.integers(2, 100), st.sampled_from([0.0, 0.25, 1.0]), st.floats(1e-300, 1e300))
def test_uniform_shares_give_every_modality_its_ordinary_batch(m, base, min_fraction, level):
    rule = Allocation(m, m * base, min_fraction=min_fraction)
    assert rule([level] * m)[1] == [base] * m
    assert rule(rule.uniform())[1] == [base] * m


@pytest.mark.parametrize("m", [2, 3, 7])
def test_an_all_zero_action_is_the_uniform_one(m):
    rule = Allocation(m, 10 * m + 1)
    assert rule([0.0] * m) == rule([1.0] * m)
    assert rule([-0.0] * m) == rule([1.0] * m)
    np.testing.assert_allclose(rule([0.0] * m)[0], 1 / m)


# -- by hand ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shares", "total", "floor", "sizes"),
    [
        ([0.25, 0.75], 128, 0, [32, 96]),
        ([0.6, 0.4], 64, 0, [38, 26]),  # quotas 38.4, 25.6
        ([0.5, 0.3, 0.2], 9, 0, [4, 3, 2]),  # 4.5, 2.7, 1.8: .8 and .7 round up
        ([1 / 3, 1 / 3, 1 / 3], 8, 0, [3, 3, 2]),  # 2.67 each: two go up, the first ones
        ([0.5, 0.5], 5, 0, [3, 2]),  # a tie goes to the first
        ([0.15, 0.15, 0.7], 10, 0, [2, 1, 7]),  # printed Eq. 4 rounds to 2 + 2 + 7 = 11
        ([0.42, 0.35, 0.23], 10, 0, [4, 4, 2]),  # 4.2, 3.5, 2.3
        ([0.999, 0.001], 128, 2, [126, 2]),
        ([1.0, 0.0, 0.0], 18, 2, [14, 2, 2]),
        ([0.9, 0.08, 0.02], 100, 10, [80, 10, 10]),
        # .05 is lifted to 20; the rest share 80 as .6 : .35 = 50.53 : 29.47
        ([0.6, 0.35, 0.05], 100, 20, [51, 29, 20]),
        # Lifting the last leaves 70 for .68 : .3, of which the second's 21.4 is too little as well.
        ([0.68, 0.3, 0.02], 100, 30, [40, 30, 30]),
        ([0.9, 0.1], 4, 2, [2, 2]),
        ([1.0], 7, 2, [7]),
    ],
)
def test_largest_remainders_by_hand(shares, total, floor, sizes):
    assert sizes_from_shares(shares, total, floor) == sizes


def test_the_floor_is_the_larger_of_samples_and_fraction_and_never_above_the_equal_share():
    assert Allocation(2, 128).floor == 2
    assert Allocation(2, 128, min_fraction=0.25).floor == 16
    assert Allocation(2, 128, min_samples=20, min_fraction=0.25).floor == 20
    assert Allocation(2, 20, min_fraction=0.25).floor == 3  # 2.5 samples: a floor rounds up
    assert Allocation(2, 200, min_fraction=0.07).floor == 7  # though .07 * 100 is 7.000000000000001
    assert Allocation(2, 128, min_fraction=1.0).floor == 64
    assert Allocation(3, 20, min_fraction=1.0)([1, 0, 0])[1] == [8, 6, 6]


def test_the_defaults_are_the_papers_with_two_samples_for_batchnorm():
    rule = Allocation(2, 128)
    assert (rule.mode, rule.min_samples, rule.min_fraction, rule.base_batch) == ("shares", 2, 0.0, 64)
    assert rule([0.0, 1.0]) == ([0.0, 1.0], [2, 126])  # the reward is about the shares the agent chose


def test_normalise_keeps_proportions_at_both_ends_of_the_float_range():
    assert normalise([1.0, 3.0]) == [0.25, 0.75]
    assert normalise([5e-324, 5e-324]) == [0.5, 0.5]
    assert normalise([1.7e308, 1.7e308]) == [0.5, 0.5]
    assert normalise([0.0, 0.0, 0.0, 0.0]) == [0.25] * 4


# -- fractions -------------------------------------------------------------------------------------


def test_fractions_round_half_up_and_the_total_may_shrink():
    rule = Allocation(2, 128, "fractions")
    assert rule([0.5, 1.0]) == (normalise([32, 64]), [32, 64])
    assert rule([38.5 / 64, 37.4 / 64])[1] == [39, 37]
    assert sizes_from_fractions([0.5, 0.25, 0.1], 5) == [3, 1, 1]  # 2.5, 1.25, .5


@properties
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(2, 200), st.sampled_from([0.0, 0.25, 1.0]))
def test_fractions_are_each_modalitys_own(fractions, base, min_fraction):
    assume(max(fractions) > 0)
    rule = Allocation(len(fractions), base * len(fractions), "fractions", min_fraction=min_fraction)
    shares, sizes = rule(fractions)
    for fraction, size in zip(fractions, sizes, strict=True):
        assert rule.floor <= size <= base
        if size > rule.floor:
            assert -0.5 - 1e-9 <= fraction * base - size < 0.5 + 1e-9
    np.testing.assert_allclose(shares, np.array(sizes) / sum(sizes))


def test_fractions_respect_the_floor():
    assert Allocation(2, 128, "fractions")([0.0, 1.0])[1] == [2, 64]
    assert Allocation(2, 128, "fractions", min_fraction=0.25)([0.1, 1.0])[1] == [16, 64]


def test_fractions_all_zero_is_every_modalitys_whole_batch():
    rule = Allocation(3, 18, "fractions")
    assert rule([0, 0, 0]) == rule([1, 1, 1]) == (normalise([6, 6, 6]), [6, 6, 6])
    assert rule.uniform().tolist() == [1.0, 1.0, 1.0]


def test_fractions_forgive_float32_dust_above_one():
    assert Allocation(2, 8, "fractions")(np.array([1.0000001, 0.5], dtype=np.float32))[1] == [4, 2]


# -- steps of sizes --------------------------------------------------------------------------------


@properties
@given(shares_rules(), st.integers(2, 40))
@example((Allocation(3, 20), [1.0, 0.0, 0.0]), 5)
@example((Allocation(3, 21), [0.0, 0.0, 1.0]), 5)
def test_sizes_in_steps_are_multiples_away_from_equal_ones_and_keep_the_sum(given_rule, step):
    rule, action = given_rule
    step = min(step, max(1, rule.largest_step))
    stepped = replace(rule, size_step=step)
    shares, sizes = stepped(action)
    assert shares == rule(action)[0]
    assert sum(sizes) == rule.total_batch
    assert min(sizes) >= rule.floor
    assert all((size - equal) % step == 0 for size, equal in zip(sizes, rule.equal_sizes, strict=True))
    assert tuple(stepped([1.0] * len(sizes))[1]) == rule.equal_sizes
    lowest = [equal - (equal - rule.floor) // step * step for equal in rule.equal_sizes]
    for share, size, least in zip(shares, sizes, lowest, strict=True):
        # Nobody gets a whole step more or less than the share but by a floor, one's own or another's.
        if size > least and all(rule.total_batch * other >= low for other, low in zip(shares, lowest, strict=True)):
            assert abs(rule.total_batch * share - size) < step + 1e-6


@properties
@given(shares_rules())
def test_a_step_of_one_is_the_paper(given_rule):
    rule, action = given_rule
    m = rule.num_modalities
    found = allocation._in_steps(
        normalise(action), [rule.total_batch * share for share in normalise(action)], rule.equal_sizes, rule.floor, 1
    )
    expected, margin = exact_sizes(action, rule.total_batch, rule.floor)
    if margin > 1e-6 and len(action) == m:
        assert found == expected == rule(action)[1]


@properties
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(2, 200), st.integers(2, 40))
def test_fractions_in_steps_are_multiples_below_the_whole_batch(fractions, base, step):
    assume(max(fractions) > 0)
    rule = Allocation(len(fractions), base * len(fractions), "fractions", min_fraction=0.25)
    step = min(step, max(1, rule.largest_step))
    rule = replace(rule, size_step=step)
    for fraction, size in zip(fractions, rule(fractions)[1], strict=True):
        assert rule.floor <= size <= base
        assert (base - size) % step == 0
        if size - step >= rule.floor:
            assert -step / 2 - 1e-6 <= fraction * base - size <= step / 2 + 1e-6
    assert rule([1.0] * len(fractions))[1] == [base] * len(fractions)


@pytest.mark.parametrize(
    ("shares", "total", "floor", "step", "sizes"),
    [
        ([0.3, 0.7], 128, 2, 8, [40, 88]),  # 38.4 and 89.6, steps of 8 from 64: -3.2 and 3.2
        ([0.0, 1.0], 128, 2, 8, [8, 120]),  # 2 samples or more, and seven steps below 64 is 8
        ([0.5, 0.5], 40, 2, 8, [20, 20]),  # 40 is 5 steps: equal sizes stay equal
        ([0.6, 0.4], 40, 2, 8, [28, 12]),  # 24 and 16: half a step each way, of which the first rounds up
        ([0.1, 0.1, 0.8], 21, 2, 4, [3, 3, 15]),  # 2.1, 2.1 and 16.8, steps of 4 from 7, no lower than 3
        ([0.2, 0.3, 0.5], 20, 2, 100, [7, 7, 6]),  # a step that never fits
    ],
)
def test_steps_by_hand(shares, total, floor, step, sizes):
    assert sizes_from_shares(shares, total, floor, step) == sizes


def test_steps_of_fractions_by_hand():
    assert sizes_from_fractions([1.0, 0.9, 0.55, 0.5, 0.0], 64, 2, 8) == [64, 56, 32, 32, 8]  # 57.6 and 35.2
    assert sizes_from_fractions([0.9375], 64, 2, 8) == [64]  # 60, half a step: up


@pytest.mark.parametrize(
    ("settings_", "largest"),
    [
        ({}, 62),
        ({"min_fraction": 0.25}, 48),
        ({"min_samples": 40}, 24),
        ({"mode": "fractions"}, 62),
        ({"mode": "fractions", "min_fraction": 0.5}, 32),
        ({"num_modalities": 3, "total_batch": 20}, 5),  # 7, 7 and 6: the first two can give 5
        ({"num_modalities": 3, "total_batch": 20, "mode": "fractions"}, 4),
    ],
)
def test_the_largest_step_leaves_a_choice_and_the_next_is_refused(settings_, largest):
    how = {"num_modalities": 2, "total_batch": 128} | settings_
    rule = Allocation(**how, size_step=largest)
    assert rule.largest_step == largest
    corner = [0.0] * (rule.num_modalities - 1) + [1.0]
    assert rule(corner)[1] != rule(rule.uniform())[1]
    named = rf"size_step={largest + 1} .*every action would give the sizes .*at most {largest}; take a smaller one"
    with pytest.raises(ConfigError, match=named):
        Allocation(**how, size_step=largest + 1)


def test_where_floors_leave_no_choice_there_is_no_step_but_one():
    how = {"num_modalities": 2, "total_batch": 128, "min_fraction": 1.0}
    assert Allocation(**how)([0.3, 0.7])[1] == [64, 64]
    with pytest.raises(ConfigError, match=r"size_step=2 .*64 samples at least .*min_fraction=1\.0.*at most 1"):
        Allocation(**how, size_step=2)


def test_equal_batches_have_no_steps():
    assert Allocation(2, 128, lever="rates")([0.3, 0.7]) == ([0.3, 0.7], [64, 64])
    with pytest.raises(ConfigError, match=r"size_step=8 is not allowed under lever='rates'.*must be 1"):
        Allocation(2, 128, lever="rates", size_step=8)
    with pytest.raises(ConfigError, match=r"size_step=8 is not allowed under lever='rates'.*must be 1"):
        RunConfig(lever="rates", size_step=8)


# -- what can't be ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["shares", "fractions"])
@pytest.mark.parametrize(
    ("action", "named"),
    [
        ([math.nan, 0.5], r"action=\[nan, 0\.5\].*finite and not negative"),
        ([math.inf, 0.5], r"action=\[inf, 0\.5\].*finite and not negative"),
        ([-0.1, 0.5], r"action=\[-0\.1, 0\.5\].*finite and not negative"),
        ([0.2, 0.3, 0.5], r"action has shape \(3,\).*\(2,\)"),
        ([[0.5, 0.5]], r"action has shape \(1, 2\).*\(2,\)"),
        (0.5, r"action has shape \(\).*\(2,\)"),
        ([], r"action has shape \(0,\).*\(2,\)"),
    ],
)
def test_a_malformed_action_is_refused(mode, action, named):
    with pytest.raises(ConfigError, match=named):
        Allocation(2, 128, mode)(action)


@pytest.mark.parametrize("action", [["a", "b"], [[0.5], [0.25, 0.25]]])
def test_an_action_that_is_no_array_of_numbers_is_refused_by_name(action):
    with pytest.raises(ConfigError, match="action"):
        read_action(action, 2)


def test_fractions_above_one_are_refused():
    with pytest.raises(ConfigError, match=r"action=\[1\.01, 0\.5\].*\[0, 1\]"):
        Allocation(2, 128, "fractions")([1.01, 0.5])


@pytest.mark.parametrize(
    ("settings_", "named"),
    [
        ({"total_batch": 5}, r"total_batch=5 .*at least 6: 3 modalities times min_samples=2"),
        ({"total_batch": 18, "min_samples": 7}, r"total_batch=18 .*at least 21"),
        ({"min_samples": 0}, r"min_samples=0 .*at least 1"),
        ({"size_step": 0}, r"size_step=0 .*at least 1"),
        ({"size_step": 2.0}, r"size_step=2\.0 .*whole number"),
        ({"min_fraction": -0.1}, r"min_fraction=-0\.1 .*\[0, 1\]"),
        ({"min_fraction": 1.1}, r"min_fraction=1\.1 .*\[0, 1\]"),
        ({"min_fraction": math.nan}, r"min_fraction=nan .*\[0, 1\]"),
        ({"mode": "share"}, r"action_mode='share' .*shares, fractions.*Did you mean 'shares'"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(settings_, named):
    with pytest.raises(ConfigError, match=named):
        Allocation(**({"num_modalities": 3, "total_batch": 192} | settings_))


def test_the_smallest_total_is_allowed():
    assert Allocation(3, 6)([0.9, 0.1, 0.0])[1] == [2, 2, 2]
