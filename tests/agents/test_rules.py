"""The rules against hand-worked numbers."""

import gymnasium as gym
import numpy as np
import pytest

from dus_gym.agents import AGENTS, agent_class, make_agent
from dus_gym.allocation import Allocation
from dus_gym.cli.train import learns_in_runs
from dus_gym.errors import ConfigError
from dus_gym.experiments.drivers import Driver, agent_names, resolve_agent


@pytest.mark.parametrize(("epoch", "size"), [(0, 32), (25, 38), (50, 45), (75, 54), (99, 64), (100, 64)])
def test_the_heuristic_follows_its_formula(epoch, size):
    agent = make_agent("heuristic", 2)
    action = agent.act([0.9, 0.4], {"epoch": epoch, "epochs": 100})
    assert Allocation(2, 128, "fractions")(action)[1] == [size, 64]


@pytest.mark.parametrize(("epoch", "size"), [(0, 3), (25, 4), (50, 4), (75, 5), (100, 6)])
def test_the_heuristic_at_the_papers_small_batch(epoch, size):
    action = make_agent("heuristic", 3).act([0.2, 0.4, 0.1], {"epoch": epoch, "epochs": 100})
    assert Allocation(3, 18, "fractions")(action)[1] == [6, size, 6]


def test_the_heuristics_dominant_modality_is_re_evaluated():
    agent = make_agent("heuristic", 2)
    assert np.argmin(agent.act([0.9, 0.4], {"epoch": 0, "epochs": 10})) == 0
    assert np.argmin(agent.act([0.3, 0.4], {"epoch": 1, "epochs": 10})) == 1


def test_the_heuristics_options_act():
    action = make_agent("heuristic", 2, options={"beta": 0.25, "alpha": 0.0}).act([0.9, 0.1], {"epoch": 7, "epochs": 9})
    assert action.tolist() == [0.25, 1.0]


@pytest.mark.parametrize(
    ("scores", "total", "shares"),
    [([0.6, 0.3], 64, [21.33 / 64, 42.67 / 64]), ([0.6, 0.3, 0.3], 6, [0.2, 0.4, 0.4])],
)
def test_inverse_shares(scores, total, shares):
    action = make_agent("score", len(scores)).act(scores, {})
    np.testing.assert_allclose(action, shares, atol=1e-4)


def test_one_minus_and_softmax_shares():
    scores = [0.9, 0.5]
    one_minus = make_agent("score", 2, options={"rule": "one-minus"}).act(scores, {})
    np.testing.assert_allclose(one_minus, [1 / 6, 5 / 6], rtol=1e-5)
    softmax = make_agent("score", 2, options={"rule": "softmax", "temperature": 0.1}).act(scores, {})
    np.testing.assert_allclose(softmax, [1 / (1 + np.e**4), np.e**4 / (1 + np.e**4)], rtol=1e-5)


@pytest.mark.parametrize("rule", ["inverse", "one-minus", "softmax"])
@pytest.mark.parametrize("scores", [[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1e-30, 0.5]])
def test_score_shares_are_a_point_of_the_simplex_at_the_edges(rule, scores):
    action = make_agent("score", 2, options={"rule": rule}).act(scores, {})
    assert np.isfinite(action).all()
    assert (action >= 0).all()
    assert action.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("name", sorted(agent_names()))
@pytest.mark.parametrize("m", [2, 3])
def test_every_agent_starts_uniform_and_answers_in_its_own_mode(name, m):
    few = {"runs": 2} if learns_in_runs(name) else {}
    agent = resolve_agent(name, m, seed=1, options=few)
    first = agent.uniform_action()
    np.testing.assert_allclose(first, np.full(m, 1.0 if agent.action_mode == "fractions" else 1.0 / m))
    env_id = {2: "DUS-Digits-v0", 3: "DUS-Digits3-v0"}[m]

    def make_env(**settings):
        defaults = {"trainer": "fake", "epochs": 4, "action_mode": agent.action_mode}
        return gym.make(f"dus_gym:{env_id}", **(defaults | settings))

    env = make_env(**agent.prepare(make_env, 1) if isinstance(agent, Driver) else {})
    if isinstance(agent, Driver):
        agent.attach(env)
    env.reset(seed=1)
    observation, _, _, _, info = env.step(first)
    action = agent.act(observation, info)
    assert action.dtype == np.float32
    assert action.shape == (m,)
    Allocation(m, 64 * m, agent.action_mode)(action)


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("reinforc", {}, "reinforc.*reinforce"),
        ("score", {"rul": "inverse"}, "rul.*rule"),
        ("score", {"rule": "invers"}, "rule='invers'.*inverse"),
        ("score", {"temperature": 0.0}, "temperature"),
        ("heuristic", {"beta": 0.0}, "beta"),
        ("reinforce", {"policy": "dirichle"}, "policy='dirichle'.*dirichlet"),
        ("reinforce", {"preset": "fast"}, "preset='fast'"),
        ("reinforce", {"lr": -1.0}, "lr"),
        ("uniform", {"rate": 1}, "it has none"),
    ],
)
def test_unknown_names_and_bad_options_are_refused(name, options, named):
    with pytest.raises(ConfigError, match=named):
        make_agent(name, 2, options=options)


def test_an_agent_needs_two_modalities():
    with pytest.raises(ConfigError, match="num_modalities=1"):
        make_agent("uniform", 1)


def test_every_agent_says_what_it_is():
    for name in AGENTS:
        assert agent_class(name).name == name
        assert len(agent_class(name).summary) > 20
