"""The online loop and the loop over runs."""

import gymnasium as gym
import numpy as np
import pytest

from dus_gym import make_agent, run_episode, run_episodes
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


def test_a_function_is_run_as_it_is_and_a_word_says_what_to_do():
    env = gym.make("dus_gym:DUS-Fake-v0", epochs=3)
    seen = []

    def keep(observation, info):
        seen.append(info["epoch"])
        return [0.25, 0.75]

    episode = run_episode(env, keep, seed=0)
    assert seen == [1, 2]
    assert episode.info["size/columns"] == 96
    with pytest.raises(ConfigError, match="make_agent"):
        run_episode(env, "score", seed=0)
