"""The online loop, the loop over runs, and the plug-in."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from dus_gym import DUS, make_agent, run_episode, run_episodes
from dus_gym.agents import AGENTS
from dus_gym.agents.base import Agent
from dus_gym.errors import ConfigError


class Recorder(gym.Wrapper):
    def __init__(self, env):
        super().__init__(env)
        self.actions = []

    def step(self, action):
        self.actions.append(np.asarray(action).tolist())
        return self.env.step(action)


class Listener(Agent):
    """Chooses corner splits and remembers what it is taught."""

    name = "listener"
    summary = "for this test"

    def __init__(self):
        super().__init__(2)
        self.rewards = []

    def act(self, observation, info, *, deterministic=False):
        return np.array([0.25, 0.75], dtype=np.float32)

    def learn(self, reward):
        self.rewards.append(reward)


def fake(**settings):
    return gym.make("dus_gym:DUS-Fake-v0", **settings)


def test_the_first_action_is_uniform_and_is_not_learned_from():
    env, agent = Recorder(fake(epochs=5)), Listener()
    episode = run_episode(env, agent, seed=0)
    assert env.actions[0] == [0.5, 0.5]
    assert env.actions[1:] == [[0.25, 0.75]] * 4
    assert agent.rewards == episode.rewards[1:]
    assert episode.reward == pytest.approx(sum(episode.rewards))


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_the_same_seed_gives_the_same_actions_and_rewards(name):
    def play():
        agent = make_agent(name, 2, seed=4, options={"preset": "tuned"} if name == "reinforce" else {})
        env = Recorder(fake(epochs=20, action_mode=agent.action_mode))
        return run_episode(env, agent, seed=1).rewards, env.actions

    assert play() == play()


def test_an_agent_of_the_other_mode_is_refused():
    with pytest.raises(ConfigError, match='action_mode="fractions"'):
        run_episode(fake(), make_agent("heuristic", 2))


def test_what_was_learned_in_one_run_is_taken_into_the_next():
    agent = make_agent("reinforce", 2, options={"lr": 1e-2})
    episodes = run_episodes(fake(), agent, range(10))
    assert agent.updates == 10 * 99
    # Eq. 5 alone drives towards the corner, so the return climbs from uniform's.
    assert episodes[-1].reward > episodes[0].reward + 10.0


def test_asking_without_learning_changes_nothing():
    agent = make_agent("reinforce", 2, options={"lr": 1e-2})
    run_episode(fake(), agent, seed=0, learn=False, deterministic=True)
    assert agent.updates == 0


def test_the_plugin_is_algorithm_1():
    dus = DUS(["audio", "video"], batch_size=64, epochs=10, agent="score")
    assert dus.next_sizes() == {"audio": 64, "video": 64}
    dus.observe({"audio": torch.tensor([0.8, 0.4], requires_grad=True), "video": np.array([0.3])})
    assert dus.scores == pytest.approx({"audio": 0.6, "video": 0.3})
    # Inverse scores: 1/.6 to 1/.3 of 128.
    assert dus.next_sizes() == {"audio": 43, "video": 85}
    dus.observe({"audio": [0.9], "video": [0.6]})
    assert dus.scores == pytest.approx({"audio": 0.75, "video": 0.45})


def test_the_plugins_agent_learns_from_eq5():
    dus = DUS(["a", "b"], agent="reinforce", agent_options={"lr": 1e-2, "policy": "pathwise"}, min_fraction=0.25)
    for _ in range(300):
        sizes = dus.next_sizes()
        dus.observe({"a": [0.9], "b": [0.5]})
    assert dus.agent.updates == 299
    assert sizes == {"a": 16, "b": 112}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"a": [0.5]}, "needs"),
        ({"a": [0.5], "c": [0.5]}, "needs"),
        ({"a": [0.5], "b": [1.5]}, "'b'"),
        ({"a": [np.nan], "b": [1]}, "'a'"),
    ],
)
def test_the_plugin_refuses_what_is_no_probability(given, named):
    with pytest.raises(ConfigError, match=named):
        DUS(["a", "b"]).observe(given)


def test_the_plugin_refuses_repeated_names():
    with pytest.raises(ConfigError, match="different"):
        DUS(["a", "a"])


def test_the_plugin_serves_controllers_that_read_the_last_epoch():
    dus = DUS(["a", "b"], batch_size=50, agent="pi")
    for scores in ({"a": [0.9], "b": [0.1]}, {"a": [0.7], "b": [0.5]}):
        dus.next_sizes()
        dus.observe(scores)
    # Errors -0.4 and then -0.1: the integral has both, and the first act came after the first epoch.
    controller = make_agent("pi", 2)
    controller.act([0.9, 0.1], {"train_score/a": 0.9, "train_score/b": 0.1})
    expected = controller.act([0.8, 0.3], {"train_score/a": 0.7, "train_score/b": 0.5})
    assert dus.next_sizes() == {"a": round(100 * float(expected[0])), "b": round(100 * float(expected[1]))}


@pytest.mark.parametrize("agent", ["ppo", "lookahead", "best-fixed", "lr-matched"])
def test_the_plugin_refuses_agents_that_make_runs_of_their_own(agent):
    with pytest.raises(ConfigError, match=rf"agent='{agent}' makes whole runs of its own"):
        DUS(["a", "b"], agent=agent)


def test_the_plugin_serves_the_recommended_agent_with_validation_scores():
    dus = DUS(["a", "b"], batch_size=50, agent="holdout")
    dus.next_sizes()
    dus.observe({"a": [0.9], "b": [0.4]})
    with pytest.raises(ConfigError, match=r"call observe_validation\(\) once an epoch"):
        dus.next_sizes()
    dus.observe_validation({"a": [0.6], "b": [0.4]})
    state = dus.state_dict()
    sizes = dus.next_sizes()
    # a loses a third of its score, b nothing: exp(-(1/3)/0.07) against 1, mixed with a tenth of the equal share.
    weight = np.exp(-(1 / 3) / 0.07)
    assert sizes["a"] == round(100 * (0.05 + 0.9 * weight / (1 + weight)))
    again = DUS(["a", "b"], batch_size=50, agent="holdout")
    again.load_state_dict(state)
    assert again.next_sizes() == sizes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"agent": int}, "agent=<class 'int'>"),
        ({"agent": make_agent("score", 3)}, "agent is for 3 modalities"),
        ({"agent": make_agent("score", 2), "agent_options": {"rule": "inverse"}}, "agent_options"),
    ],
)
def test_the_plugin_refuses_what_does_not_fit(settings, message):
    with pytest.raises(ConfigError, match=message):
        DUS(["a", "b"], **settings)
