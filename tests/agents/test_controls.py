"""Rules and controllers: worked numbers, floors, what they need, what they refuse."""

import gymnasium as gym
import numpy as np
import pytest

from dus_gym.agents import make_agent
from dus_gym.agents.lookahead import best_of, line
from dus_gym.agents.loop import run_episode
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
        ("lookahead", {"splits": 4}, r"splits=4.*odd"),
        ("best-fixed", {"splits": 1}, r"splits=1.*odd"),
        ("lr-matched", {"match": "lr-matched"}, r"match='lr-matched'"),
        ("lr-matched", {"match": "scor"}, r"agent 'scor'.*'score'"),
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


# -- lookahead and the drivers ---------------------------------------------------------------------


def test_the_line_goes_through_uniform():
    np.testing.assert_allclose([s[0] for s in line(5, 2, 0)], [0.2, 0.35, 0.5, 0.65, 0.8], rtol=1e-6)
    for split in line(5, 3, 1):
        assert split.sum() == pytest.approx(1.0)
        assert split[0] == split[2]
    np.testing.assert_allclose(line(5, 3, 1)[2], 1 / 3)


def test_of_equal_splits_the_one_nearest_to_uniform_wins():
    splits = line(5, 2, 0)
    assert best_of([0.5, 0.5, 0.5, 0.5, 0.5], splits) == 2
    assert best_of([0.6, 0.5, 0.5, 0.6, 0.5], splits) == 3
    assert best_of([0.6, 0.5, 0.5, 0.5, 0.7], splits) == 4


def fake(**settings):
    return gym.make("dus_gym:DUS-Digits-v0", trainer="fake", loss_norm="fixed", **settings)


def test_lookahead_takes_what_its_forks_show_and_says_what_it_cost():
    env = fake(epochs=6)
    agent = make_agent("lookahead", 2)
    observation, info = env.reset(seed=0)
    agent.attach(env)
    action = agent.act(observation, info)
    accuracies = []
    for split in line(5, 2, int(np.argmax(observation))):
        fork = env.unwrapped.fork()
        *_, after = fork.step(split)
        accuracies.append(after["val_fused/method"])
    expected = line(5, 2, int(np.argmax(observation)))[best_of(accuracies, line(5, 2, 0))]
    assert np.array_equal(action, expected)
    run_episode(env, make_agent("lookahead", 2), seed=0)
    agent = make_agent("lookahead", 2)
    run_episode(env, agent, seed=0)
    # The first step is uniform for every agent; the five after it are looked ahead of.
    assert agent.training_runs == pytest.approx(5 * 5 / 6)


def test_lookahead_leaves_the_run_it_looks_at_alone():
    plain, looked = fake(epochs=4), fake(epochs=4)
    plain.reset(seed=3)
    observation, info = looked.reset(seed=3)
    agent = make_agent("lookahead", 2)
    agent.attach(looked)
    for _ in range(4):
        action = agent.act(observation, info)
        observation, *_, info = looked.step(action)
        assert info == plain.step(action)[4]


def test_lookahead_says_what_it_needs():
    agent = make_agent("lookahead", 2)
    with pytest.raises(ConfigError, match=r"has no environment; call attach"):
        agent.act(SCORES[:2], {})
    with pytest.raises(ConfigError, match=r"forks a DUS environment and got CartPoleEnv"):
        agent.attach(gym.make("CartPole-v1"))


def test_best_fixed_chooses_on_validation():
    agent = make_agent("best-fixed", 2)
    assert agent.prepare(fake, 7) == {}
    assert agent.training_runs == 5.0
    found = []
    for split in line(5, 2, 0):
        options = {"shares": "/".join(map(str, split.tolist()))}
        found.append(run_episode(fake(), make_agent("fixed", 2, options=options), seed=7).info["val_fused/method"])
    # On the fake Digits the first modality is dominant.
    assert np.array_equal(agent.act(SCORES[:2], {}), line(5, 2, 0)[best_of(found, line(5, 2, 0))])
    other = make_agent("best-fixed", 2)
    other.load_state_dict(agent.state_dict())
    assert np.array_equal(other.act(SCORES[:2], {}), agent.act(SCORES[:2], {}))
    assert other.training_runs == 5.0


def test_lr_matched_turns_a_mean_split_into_learning_rates():
    agent = make_agent("lr-matched", 2, seed=3, options={"match": "direct"})
    settings = agent.prepare(fake, 3)
    samples = run_episode(fake(), make_agent("direct", 2, seed=3), seed=3).info
    mine = np.array([samples["samples/pixels"], samples["samples/columns"]])
    np.testing.assert_allclose(settings["lr_scale"], 2 * mine / mine.sum())
    assert agent.act(SCORES[:2], {}).tolist() == [0.5, 0.5]
    assert agent.training_runs == 1.0


def test_lr_matched_passes_options_to_the_agent_that_is_matched():
    agent = make_agent("lr-matched", 2, seed=3, options={"match": "score/rule=softmax/temperature=0.3"})
    options = {"rule": "softmax", "temperature": 0.3}
    samples = run_episode(fake(), make_agent("score", 2, seed=3, options=options), seed=3).info
    mine = np.array([samples["samples/pixels"], samples["samples/columns"]])
    np.testing.assert_allclose(agent.prepare(fake, 3)["lr_scale"], 2 * mine / mine.sum())
    with pytest.raises(ConfigError, match=r"'score'.*'rul'.*'rule'"):
        make_agent("lr-matched", 2, options={"match": "score/rul=softmax"})


@pytest.mark.parametrize(
    ("name", "options", "equal"),
    [
        ("uniform", {}, True),
        ("fixed", {}, True),
        ("fixed", {"shares": "2/2"}, True),
        ("fixed", {"shares": "1/2"}, False),
        ("lr-matched", {"match": "uniform"}, True),
        ("lr-matched", {}, False),
        ("score", {}, False),
        ("lookahead", {}, False),
    ],
)
def test_an_agent_knows_whether_its_batches_are_equal(name, options, equal):
    assert make_agent(name, 2, options=options).equal_batches is equal


def test_lr_matched_of_an_agent_that_speaks_fractions():
    agent = make_agent("lr-matched", 2, options={"match": "half"})
    scale = agent.prepare(fake, 0)["lr_scale"]
    assert scale[0] < 1.0 < scale[1]
    assert sum(scale) == pytest.approx(2.0)


def test_lr_matched_does_not_throw_away_learning_rates_that_were_asked_for():
    agent = make_agent("lr-matched", 2)
    with pytest.raises(ConfigError, match=r"lr_scale=\(1\.0, 2\.0\).*'lr-matched'"):
        agent.prepare(lambda **settings: fake(lr_scale=(1.0, 2.0), **settings), 0)


@pytest.mark.parametrize("name", ["lookahead", "best-fixed", "lr-matched"])
def test_a_second_run_does_not_pay_for_the_first(name):
    agent = make_agent(name, 2)
    spent = []
    for _ in range(2):
        agent.prepare(lambda **settings: fake(epochs=3, **settings), 0)
        run_episode(fake(epochs=3), agent, seed=0)
        spent.append(agent.training_runs)
    assert spent[0] == spent[1] > 0
