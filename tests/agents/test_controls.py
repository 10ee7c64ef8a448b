"""Rules and controllers: worked numbers, floors, what they need, what they refuse."""

import numpy as np
import pytest

from dus_gym.agents import make_agent
from dus_gym.errors import ConfigError

SCORES = np.array([0.9, 0.6, 0.3], dtype=np.float32)


def info(train=(0.9, 0.6, 0.3), val=(0.5, 0.5, 0.3)):
    found = {f"train_score/{i}": v for i, v in enumerate(train)}
    return found | {f"val_score/{i}": v for i, v in enumerate(val)} | {"epoch": 1, "epochs": 10}


def act(name, options=None, scores=SCORES, seed=0, **figures):
    return make_agent(name, len(scores), seed, options).act(scores, info(**figures))


def test_half_halves_the_dominant_batch():
    assert act("half").tolist() == [0.5, 1.0, 1.0]


def test_fixed_gives_its_split_normalised():
    np.testing.assert_allclose(act("fixed", {"shares": "1/2/1"}), [0.25, 0.5, 0.25])
    np.testing.assert_allclose(act("fixed"), [1 / 3] * 3)


@pytest.mark.parametrize("shares", ["1/2", "a/b/c", "1/-1/1", "0/0/0", "nan/1/1", ""])
def test_fixed_refuses_what_is_no_split(shares):
    with pytest.raises(ConfigError, match=r"shares=.*give 3 numbers"):
        make_agent("fixed", 3, options={"shares": shares})


def test_random_is_a_dirichlet_of_its_own_seed():
    draws = np.array([make_agent("random", 3, seed).act(SCORES, {}) for seed in range(2000)])
    np.testing.assert_allclose(draws.mean(0), 1 / 3, atol=0.015)
    np.testing.assert_allclose(draws.var(0), 2 * 4 / (36 * 7), atol=0.004)
    assert np.array_equal(draws[5], act("random", seed=5))


def test_reversed_is_proportional_to_the_score():
    np.testing.assert_allclose(act("reversed"), [0.5, 1 / 3, 1 / 6], rtol=1e-5)


def test_direct_is_the_softmax_rule():
    weights = np.exp(-SCORES / 0.1)
    np.testing.assert_allclose(act("direct"), weights / weights.sum(), rtol=1e-4)
    assert np.array_equal(act("direct"), act("score", {"rule": "softmax"}))


def test_pi_by_hand():
    agent = make_agent("pi", 3)
    errors = np.array([-0.3, 0.0, 0.3])
    for step in (1, 2, 3):
        weights = np.exp(2.0 * errors + 0.5 * step * errors)
        expected = 0.1 / 3 + 0.9 * weights / weights.sum()
        np.testing.assert_allclose(agent.act(SCORES, info()), expected, rtol=1e-5)
    other = make_agent("pi", 3)
    other.load_state_dict(agent.state_dict())
    assert np.array_equal(other.act(SCORES, info()), agent.act(SCORES, info()))
    agent.begin()
    assert np.array_equal(agent.act(SCORES, info()), make_agent("pi", 3).act(SCORES, info()))


def test_overfit_by_hand():
    weights = np.exp(-np.array([0.4, 0.1, 0.0]) / 0.1)
    np.testing.assert_allclose(act("overfit"), 0.25 / 3 + 0.75 * weights / weights.sum(), rtol=1e-5)


def test_holdout_by_hand():
    weights = np.exp(-np.array([4 / 9, 1 / 6, 0.0]) / 0.07)
    np.testing.assert_allclose(act("holdout"), 0.1 / 3 + 0.9 * weights / weights.sum(), rtol=1e-4)
    # What counts is the part that is lost, not how sure a modality is.
    small = act("holdout", train=(0.3, 0.2, 0.1), val=(0.2, 0.2, 0.1))
    np.testing.assert_allclose(small, act("holdout", train=(0.9, 0.2, 0.1), val=(0.6, 0.2, 0.1)), rtol=1e-5)


@pytest.mark.parametrize("name", ["pi", "overfit", "holdout"])
def test_no_share_falls_below_the_floor(name):
    sharp = {"kp": 100.0} if name == "pi" else {"temperature": 0.01}
    shares = act(name, {"floor": 0.6} | sharp, train=(1.0, 0.5, 0.5), val=(0.0, 0.5, 0.5))
    assert shares.min() == pytest.approx(0.2, abs=1e-6)
    assert shares.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pi", {"floor": 1.5}, r"floor=1\.5"),
        ("pi", {"kp": -1.0}, r"kp=-1\.0"),
        ("overfit", {"temperature": 0.0}, r"temperature=0\.0"),
        ("overfit", {"floor": -0.1}, r"floor=-0\.1"),
    ],
)
def test_options_that_can_not_be_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        make_agent(name, 3, options=options)


def test_figures_that_are_not_there_are_named():
    with pytest.raises(ConfigError, match=r"agent='overfit' needs val_score/NAME.*validation split"):
        make_agent("overfit", 2).act(SCORES[:2], {"train_score/a": 0.1, "train_score/b": 0.2})
    with pytest.raises(ConfigError, match=r"agent='pi' needs train_score/NAME"):
        make_agent("pi", 2).act(SCORES[:2], {})
