"""Anybody's policy as an agent: every form of action, what is refused, registered agents and rewards."""

import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

import dus_gym
import dus_gym.cli
from dus_gym import as_agent, make_agent, register_agent, register_reward, rewards, run_episode
from dus_gym.agents import AGENTS
from dus_gym.agents.base import Agent
from dus_gym.agents.sb3 import make_sb3
from dus_gym.allocation import lattice, softmax_shares
from dus_gym.envs.trivial import BestSplit
from dus_gym.envs.wrappers import DiscreteShares, SoftmaxAction
from dus_gym.errors import AgentError, CheckpointError, ConfigError
from dus_gym.experiments.drivers import resolve_agent
from dus_gym.rewards import reward_names

SCORES = np.array([0.9, 0.4], dtype=np.float32)


def fake(**settings):
    return gym.make("dus_gym:DUS-Fake-v0", epochs=8, **settings)


def policy(head, seed=0):
    """A network from two scores to ``head`` numbers."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, head))


# -- models of stable-baselines3 ---------------------------------------------------------------------


def wrapped(name, env, scale=3.0, resolution=None):
    if name == "dqn":
        return DiscreteShares(env, resolution)
    return SoftmaxAction(env, scale) if name in ("sac", "td3") else env


@pytest.mark.parametrize(
    ("name", "settings"),
    [("ppo", {}), ("a2c", {}), ("sac", {}), ("sac", {"scale": 1.0}), ("dqn", {}), ("dqn", {"resolution": 6})],
)
def test_a_trained_model_acts_as_it_did_in_its_own_environment(name, settings, tmp_path):
    model = make_sb3(name, wrapped(name, fake(), **settings), 8, learning_rate=0.05)
    model.learn(24)
    env = wrapped(name, fake(), **settings)

    def by_sb3(epochs):
        # The run's first action is uniform whoever acts.
        observation, _ = env.reset(seed=5)
        observation, *_ = env.unwrapped.step(np.full(2, 0.5, dtype=np.float32))
        rewards = []
        for _ in range(epochs - 1):
            observation, reward, *_ = env.step(model.predict(observation, deterministic=True)[0])
            rewards.append(reward)
        return rewards

    expected = by_sb3(8)
    model.save(tmp_path / "policy.zip")
    for agent in (
        as_agent(model, 2),
        as_agent(model.policy, 2),
        resolve_agent(tmp_path / "policy.zip", 2, trust=True),
    ):
        assert run_episode(fake(), agent, seed=5).rewards[1:] == pytest.approx(expected, abs=1e-6)


def test_a_model_that_learned_on_normalised_scores_sees_them_normalised():
    envs = VecNormalize(make_vec_env(BestSplit, n_envs=1), norm_reward=False)
    model = make_sb3("ppo", envs, 20)
    model.learn(20)
    expected, _ = model.predict(envs.normalize_obs(SCORES), deterministic=True)
    assert as_agent(model, 2).act(SCORES, {}).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_sb3("ppo", BestSplit((1, 1, 1)), 20), r"'PPO' is for 3 modalities, and here are 2"),
        (lambda: make_sb3("ppo", gym.make("CartPole-v1"), 20), r"'PPO' is for 4 modalities, and here are 2"),
        (
            lambda: make_sb3("ppo", gym.wrappers.RescaleAction(BestSplit(), np.float32(-1), np.float32(1)), 20),
            r"not wrapped by SoftmaxAction; say what its actions mean with a function",
        ),
        (
            lambda: make_sb3("ppo", gym.wrappers.RescaleAction(BestSplit(), np.float32(-2), np.float32(2)), 20),
            r"acts in Box\(-2.*must be shares",
        ),
    ],
)
def test_a_model_of_another_world_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        as_agent(make(), 2)


def test_a_recurrent_model_is_refused():
    class Recurrent:
        observation_space = action_space = BestSplit().action_space

        def predict(self, observation, deterministic):
            return observation, (np.zeros(1), np.zeros(1))

    with pytest.raises(ConfigError, match=r"'Recurrent' is recurrent; hand over a function"):
        as_agent(Recurrent(), 2).act(SCORES, {})


# -- networks ------------------------------------------------------------------------------------------


class CleanRL(torch.nn.Module):
    """CleanRL's interface: what acts returns more than the action."""

    def __init__(self, method, form, head=2):
        super().__init__()
        self.net, self.form = policy(head), form
        setattr(self, method, self.ask)

    def ask(self, x):
        assert x.shape == (1, 2)
        out = self.net(x)
        action = {"shares": out.softmax(-1), "logits": out, "index": out.argmax(-1)}[self.form]
        return action, torch.zeros(1), torch.zeros(1), torch.zeros(1)


@pytest.mark.parametrize("method", ["get_action_and_value", "get_action"])
@pytest.mark.parametrize("form", ["shares", "logits", "index"])
def test_a_network_of_cleanrl(method, form):
    module = CleanRL(method, form, head=9 if form == "index" else 2)
    out = module.net(torch.as_tensor(SCORES)).detach()
    expected = {
        "shares": lambda: out.softmax(-1).numpy(),
        "logits": lambda: softmax_shares(out, 3.0),
        "index": lambda: lattice(2)[int(out.argmax())],
    }[form]()
    agent = as_agent(module, 2)
    np.testing.assert_allclose(agent.act(SCORES, {}), expected, rtol=1e-5)
    assert len(run_episode(fake(), agent, seed=0).rewards) == 8


def test_a_plain_network_gives_logits_or_shares():
    logits, shares = policy(2), torch.nn.Sequential(policy(2), torch.nn.Softmax(-1))
    expected = logits(torch.as_tensor(SCORES)).softmax(-1).detach().numpy()
    for module, settings in ((logits, {}), (shares, {}), (logits, {"actions": "logits"})):
        np.testing.assert_allclose(as_agent(module, 2, **settings).act(SCORES, {}), expected, rtol=1e-5)
    sharper = as_agent(logits, 2, scale=2.0).act(SCORES, {})
    np.testing.assert_allclose(sharper, softmax_shares(logits(torch.as_tensor(SCORES)).detach(), 2.0), rtol=1e-5)
    positive = torch.nn.Sequential(policy(2), torch.nn.Sigmoid())
    raw = positive(torch.as_tensor(SCORES)).detach().numpy()
    np.testing.assert_allclose(as_agent(positive, 2, actions="shares").act(SCORES, {}), raw, rtol=1e-6)


def test_actions_that_change_their_form_are_refused():
    class Changing(torch.nn.Module):
        def forward(self, x):
            return torch.tensor([[0.5, 0.5]]) if x[0, 0] > 0.5 else torch.tensor([[2.0, 3.0]])

    agent = as_agent(Changing(), 2)
    agent.act(SCORES, {})
    with pytest.raises(AgentError, match=r"agent 'Changing', action 2.*\[2.0, 3.0\] does not sum to 1"):
        agent.act(1.0 - SCORES, {})


def test_what_a_network_draws_comes_from_the_seed_and_leaves_the_generators_alone():
    class Drawing(torch.nn.Module):
        def forward(self, x):
            return torch.rand(1, 2)

    def draws(seed):
        agent = as_agent(Drawing(), 2, seed=seed)
        return [agent.act(SCORES, {}).tolist() for _ in range(3)]

    torch.manual_seed(1)
    expected = torch.rand(1).item()
    torch.manual_seed(1)
    assert draws(4) == draws(4) != draws(5)
    assert torch.rand(1).item() == expected


def test_a_policy_of_torchrl():
    pytest.importorskip("torchrl")
    from tensordict.nn import TensorDictModule
    from torchrl.modules import ProbabilisticActor

    net = torch.nn.Sequential(policy(2), torch.nn.Softplus())
    plain = TensorDictModule(torch.nn.Sequential(policy(2), torch.nn.Softmax(-1)), ["observation"], ["action"])
    expected = policy(2)(torch.as_tensor(SCORES)).softmax(-1).detach().numpy()
    np.testing.assert_allclose(as_agent(plain, 2).act(SCORES, {}), expected, rtol=1e-5)
    actor = ProbabilisticActor(
        TensorDictModule(lambda x: 2.0 + net(x), ["observation"], ["concentration"]),
        in_keys=["concentration"],
        distribution_class=torch.distributions.Dirichlet,
    )
    one, other = (as_agent(actor, 2, seed=seed).act(SCORES, {}) for seed in (0, 1))
    assert one.tolist() == other.tolist()
    assert one.sum() == pytest.approx(1.0)
    assert len(run_episode(fake(), as_agent(actor, 2), seed=0).rewards) == 8


# -- functions, and what is no action --------------------------------------------------------------------


def test_a_function_is_an_agent_and_gets_a_generator_if_it_wants_one():
    def more_for_the_weaker(observation, info):
        assert info["epochs"] == 8
        return 1.0 - observation

    assert run_episode(fake(), as_agent(more_for_the_weaker, 2), seed=0).info["size/columns"] > 64

    def drawn(observation, info, rng):
        return rng.dirichlet(np.ones(2))

    one, again, other = (as_agent(drawn, 2, seed=seed).act(SCORES, {}).tolist() for seed in (3, 3, 4))
    assert one == again != other


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: [0.5, 0.3, 0.2], r"shape \(3,\); it must be \(2,\)"),
        (lambda: [float("nan"), 1.0], r"every entry must be finite"),
        (lambda: [-1.0, 2.0], r"not negative"),
        (lambda: None, r"must be 2 numbers"),
        (lambda: "half", r"must be 2 numbers"),
        (lambda: torch.tensor([1.0]), r"shape \(1,\)"),
    ],
)
def test_a_wrong_action_names_the_agent_and_its_number_before_the_environment_sees_it(wrong, message):
    class Stepped(gym.Wrapper):
        steps = 0

        def step(self, action):
            self.steps += 1
            return super().step(action)

    calls = []

    def third(observation, info):
        calls.append(1)
        return [0.5, 0.5] if len(calls) < 3 else wrong()

    env = Stepped(fake())
    with pytest.raises(AgentError, match=rf"agent 'third', action 3.*{message}"):
        run_episode(env, as_agent(third, 2), seed=0)
    # The uniform first action, and two of the agent's.
    assert env.steps == 3


@pytest.mark.parametrize("module", [torch.nn.Linear(2, 3), torch.nn.Linear(2, 1)])
def test_a_network_of_another_width_is_named(module):
    with pytest.raises(AgentError, match=r"agent 'Linear', action 1.*shape"):
        as_agent(module, 2).act(SCORES, {})


def test_a_network_that_is_not_finite_is_named():
    module = policy(2)
    torch.nn.init.constant_(module[-1].bias, float("nan"))
    with pytest.raises(AgentError, match=r"agent 'mine', action 1.*finite"):
        as_agent(module, 2, "mine").act(SCORES, {})


@pytest.mark.parametrize(
    ("x", "settings", "message"),
    [
        (int, {}, r"agent=<class 'int'> is not allowed"),
        (3, {}, r"agent=3 is not allowed"),
        ("score", {}, r"agent='score' is not allowed"),
        (make_agent("score", 3), {}, r"agent 'score' is for 3 modalities, and here are 2"),
        (policy(2), {"scale": 0.0}, r"scale=0.0"),
        (policy(2), {"actions": "logit"}, r"actions='logit'.*logits"),
        (len, {"actions": "shares"}, r"actions='shares' is for a network"),
        (len, {"scale": 1.0}, r"scale=1.0 is for a model or a network"),
    ],
)
def test_what_decides_nothing_is_refused(x, settings, message):
    with pytest.raises(ConfigError, match=message):
        as_agent(x, 2, **settings)


def test_what_was_handed_over_is_not_written():
    agent = as_agent(policy(2), 2)
    assert not agent.learns
    with pytest.raises(ConfigError, match="by the means of the library that made it"):
        agent.save("policy")


# -- agents and rewards of one's own -------------------------------------------------------------------


@pytest.fixture
def tables():
    """Both registries, as they were afterwards."""
    before, earlier = dict(AGENTS), dict(rewards._BY_NAME)
    yield
    for table, kept in ((AGENTS, before), (rewards._BY_NAME, earlier)):
        table.clear()
        table.update(kept)


class Weaker(Agent):
    """More for the weaker."""

    def act(self, observation, info, *, deterministic=False):
        return np.float32(1.0) - np.asarray(observation)


def test_a_subclass_is_an_agent_of_the_command_line(tables, tmp_path):
    register_agent("weaker", Weaker, "more for the weaker")
    assert Weaker.name == "Weaker"
    agent = make_agent("weaker", 2)
    assert isinstance(agent, Weaker)
    assert (agent.name, agent.summary, resolve_agent("weaker", 2).name) == ("weaker", "more for the weaker", "weaker")
    agent.save(tmp_path / "policy")
    assert isinstance(resolve_agent(tmp_path / "policy", 2), Weaker)
    del AGENTS["weaker"]
    with pytest.raises(ConfigError, match=r"unknown agent.*'weaker'.*dus_gym\.register_agent, and --import MODULE\."):
        resolve_agent("weaker", 2)
    with pytest.raises(CheckpointError, match=r"unknown agent 'weaker'"):
        resolve_agent(tmp_path / "policy", 2)


@pytest.mark.parametrize("factory", [lambda m, seed: policy(m), lambda m, seed: Weaker(m, seed)])
def test_a_factory_is_asked_at_every_run(tables, factory):
    register_agent("made", factory=factory)
    one, other = make_agent("made", 2), make_agent("made", 2)
    assert one is not other
    assert one.act(SCORES, {}).shape == (2,)
    assert dus_gym.DUS(["a", "b"], agent="made").agent is not one


def test_a_function_of_what_is_seen_is_registered_as_it_is(tables):
    register_agent("mine", lambda observation, info: 1.0 - observation, "more for the unsure")
    agent = make_agent("mine", 2)
    assert AGENTS["mine"].summary == "more for the unsure"
    assert agent.name == "mine"
    assert agent.act(np.float32([0.75, 0.5]), {}) == pytest.approx([0.25, 0.5])
    register_agent("net", torch.nn.Linear(2, 2))
    one, other = make_agent("net", 2), make_agent("net", 2, seed=1)
    assert one.act(SCORES, {}) == pytest.approx(other.act(SCORES, {}))


def test_a_name_that_exists_is_refused(tables):
    for name in ("uniform", "ppo"):
        with pytest.raises(ConfigError, match=rf"name='{name}'.*already"):
            register_agent(name, Weaker)
    with pytest.raises(ConfigError, match=r"name='a b'.*letters"):
        register_agent("a b", Weaker)
    for given in (int, 3, Weaker(2)):
        with pytest.raises(ConfigError, match=r"agent=.*subclass of dus_gym.Agent"):
            register_agent("mine", given)
        with pytest.raises(ConfigError, match=r"agent=.* and factory=.*one of the two"):
            register_agent("mine", given, factory=policy)
    for factory in (int, 3):
        with pytest.raises(ConfigError, match=r"factory=.*function of \(num_modalities, seed\)"):
            register_agent("mine", factory=factory)
    with pytest.raises(ConfigError, match=r"agent=None and factory=None are not allowed"):
        register_agent("mine")


def test_a_reward_of_ones_own(tables):
    seen = []

    def evenness(step):
        seen.append(step)
        return -max(step.shares)

    register_reward("evenness", evenness)
    assert "evenness" in reward_names()
    episode = run_episode(fake(reward="evenness"), make_agent("fixed", 2, shares="1/3"), seed=0)
    assert episode.rewards == pytest.approx([-0.5] + [-0.75] * 7)
    assert len(seen) == 8
    with pytest.raises(ConfigError, match=r"name='gap'.*already"):
        register_reward("gap", evenness)
    with pytest.raises(ConfigError, match=r"function=3"):
        register_reward("three", 3)
    register_reward("endless", lambda step: float("inf"))
    with pytest.raises(ConfigError, match=r"reward='endless' returned inf; it must return a finite number"):
        run_episode(fake(reward="endless"), make_agent("uniform", 2), seed=0)


def test_options_by_keyword_or_by_name_and_never_twice():
    assert make_agent("reinforce", 2, lr=0.5).lr == make_agent("reinforce", 2, options={"lr": 0.5}).lr == 0.5
    with pytest.raises(ConfigError, match=r"lr stands in options and as a keyword"):
        make_agent("reinforce", 2, options={"lr": 0.5}, lr=0.5)
    with pytest.raises(ConfigError, match=r"'lrr'.*'lr'"):
        make_agent("reinforce", 2, lrr=0.5)


def test_an_agent_and_a_reward_of_a_module_serve_the_command_line(tables, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(
        "import dus_gym\n"
        "dus_gym.register_agent('half-half', lambda observation, info: [1.0] * len(observation))\n"
        "dus_gym.register_reward('minus-gap', lambda step: -step.gap_after)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["train", "--import", "mine", "DUS-Fake-v0", "--agent", "half-half", "--reward", "minus-gap"]
    dus_gym.cli.main([*words, "--epochs", "3", "--quiet", "--json"])
    assert '"agent": "half-half"' in capsys.readouterr().out
    sys.modules.pop("mine")
