"""Eq. 5 and the other rewards, by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dus_gym.errors import ConfigError
from dus_gym.rewards import REWARD_STATES, SHARE_FLOOR, Transition, paper_reward, reward_function, reward_names

properties = settings(deadline=None, derandomize=True, max_examples=200)

STEP = Transition(
    seen=[0.7, 0.3],
    reached=[0.4, 0.5],
    shares=[0.4, 0.6],
    gap_before=0.35,
    gap_after=0.10,
    accuracy_before=0.55,
    accuracy_after=0.61,
    loss_before=1.3,
    loss_after=1.05,
)


@pytest.mark.parametrize(
    ("scores", "shares", "reward"),
    [
        ([0.7, 0.3], [0.4, 0.6], -0.255413),  # log(.6) / 2
        ([0.3, 0.7], [0.4, 0.6], -0.458145),  # log(.4) / 2: the other one is dominant
        ([0.9, 0.2, 0.3], [0.5, 0.2, 0.3], -0.937804),  # (log .2 + log .3) / 3
        ([0.9, 0.2, 0.3], [0.25, 0.4, 0.35], -0.655371),
        ([0.2, 0.3, 0.9], [0.4, 0.35, 0.25], -0.655371),
        ([0.9, 0.1], [0.5, 0.5], -0.346574),  # uniform, m = 2
        ([0.9, 0.1, 0.2], [1 / 3, 1 / 3, 1 / 3], -0.732408),  # uniform, m = 3
    ],
)
def test_equation_five_by_hand(scores, shares, reward):
    assert paper_reward(scores, shares) == pytest.approx(reward, abs=1e-6)


def test_every_modality_that_shares_the_maximum_counts_as_dominant():
    assert paper_reward([0.5, 0.5], [0.1, 0.9]) == 0.0
    assert paper_reward([0.5, 0.5, 0.5], [0.1, 0.2, 0.7]) == 0.0
    assert paper_reward([0.5, 0.2, 0.5], [0.1, 0.3, 0.6]) == pytest.approx(math.log(0.3) / 3)


def test_a_share_of_nothing_is_clamped():
    assert SHARE_FLOOR == 1e-8
    assert paper_reward([0.9, 0.1], [1.0, 0.0]) == pytest.approx(math.log(1e-8) / 2)
    assert paper_reward([0.9, 0.1], [1.0, 1e-300]) == pytest.approx(math.log(1e-8) / 2)
    assert paper_reward([0.9, 0.1], [0.0, 1.0]) == 0.0, "the dominant modality's share has no part in it"


@properties
@given(st.data(), st.integers(1, 5))
def test_equation_five_is_finite_and_never_positive(data, m):
    unit = st.lists(st.floats(0.0, 1.0), min_size=m, max_size=m)
    reward = paper_reward(data.draw(unit), data.draw(unit))
    assert math.log(SHARE_FLOOR) <= reward <= 0.0


def test_scores_and_shares_must_be_of_the_same_modalities():
    with pytest.raises(ValueError, match="argument 2"):
        paper_reward([0.1, 0.2], [0.2, 0.3, 0.5])


def test_the_papers_reward_reads_the_state_the_agent_saw_unless_told_otherwise():
    assert reward_function("paper")(STEP) == pytest.approx(math.log(0.6) / 2)
    assert reward_function("paper", "before")(STEP) == pytest.approx(math.log(0.6) / 2)
    assert reward_function("paper", "after")(STEP) == pytest.approx(math.log(0.4) / 2)


@pytest.mark.parametrize("state", REWARD_STATES)
@pytest.mark.parametrize(
    ("name", "reward"),
    [
        ("gap", -0.10),
        ("gap-change", 0.25),  # it shrank: good
        ("validation-gain", 0.06),
        ("learning-progress", 0.25),
    ],
)
def test_the_other_rewards_by_hand(name, state, reward):
    assert reward_function(name, state)(STEP) == pytest.approx(reward)


def test_a_gap_that_grows_and_an_accuracy_that_falls_cost():
    worse = STEP._replace(gap_before=0.1, gap_after=0.3, accuracy_before=0.6, accuracy_after=0.5)
    assert reward_function("gap-change")(worse) == pytest.approx(-0.2)
    assert reward_function("validation-gain")(worse) == pytest.approx(-0.1)


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_a_step_that_diverged_made_no_progress(loss):
    assert reward_function("learning-progress")(STEP._replace(loss_after=loss)) == 0.0


def test_every_name_and_state_has_a_reward():
    for name in reward_names():
        for state in REWARD_STATES:
            assert math.isfinite(reward_function(name, state)(STEP))


@pytest.mark.parametrize(
    ("name", "state", "named"),
    [
        ("papr", "before", "reward='papr' .*paper, gap, gap-change, validation-gain.*Did you mean 'paper'"),
        ("gap_change", "before", "Did you mean 'gap-change'"),
        ("validation", "before", "Did you mean 'validation-gain'"),
        ("paper", "befor", "reward_state='befor' .*before, after.*Did you mean 'before'"),
        ("gap", "later", "reward_state='later'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, state, named):
    with pytest.raises(ConfigError, match=named):
        reward_function(name, state)
