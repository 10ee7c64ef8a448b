"""The hand-derived gradients against automatic differentiation, and what each policy does."""

import numpy as np
import pytest
import torch

from dus_gym.agents import make_agent
from dus_gym.agents.policy_files import load_agent
from dus_gym.agents.reinforce import POLICIES
from dus_gym.errors import CheckpointError
from dus_gym.rewards import paper_reward

STATE = np.array([0.9, 0.4, 0.6])


def agent_of(policy, m=3, **options):
    agent = make_agent("reinforce", m, seed=3, options={"policy": policy, **options})
    # Away from the zero start, so that every term of a gradient is alive.
    rng = np.random.default_rng(0)
    for weight in agent.weights.values():
        weight += 0.3 * rng.standard_normal(weight.shape)
    return agent


def torch_logits(agent, weights):
    hidden = torch.tanh(weights["w1"] @ torch.tensor(STATE) + weights["b1"])
    return weights["w2"] @ hidden + weights["b2"]


def torch_mean(agent, logits):
    if agent.options.policy == "dirichlet":
        alpha = 1.0 + agent.concentration.scale * torch.nn.functional.softplus(logits)
        return alpha / alpha.sum()
    return logits.softmax(0)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("entropy", [0.0, 0.5])
def test_the_gradient_is_that_of_automatic_differentiation(policy, entropy):
    agent = agent_of(policy, entropy=entropy)
    weights = {name: torch.tensor(w, requires_grad=True) for name, w in agent.weights.items()}
    reward = -0.7
    agent.act(STATE, {})
    pending = agent._pending
    ours = agent.gradient(pending, agent.ascent(pending, reward))

    logits = torch_logits(agent, weights)
    shares = torch.tensor(pending.shares)
    if policy == "dirichlet":
        alpha = 1.0 + agent.concentration.scale * torch.nn.functional.softplus(logits)
        objective = reward * torch.distributions.Dirichlet(alpha).log_prob(shares)
    elif policy == "logistic_normal":
        sigma = agent.options.sigma
        drawn = logits.detach() + sigma * torch.tensor(pending.noise)
        objective = reward * torch.distributions.Normal(logits, sigma).log_prob(drawn).sum()
    elif policy == "literal":
        objective = reward * torch.log(logits.softmax(0)).sum()
    else:
        split = logits.softmax(0)
        weak = torch.tensor(STATE.max() != STATE)
        objective = (torch.log(split) * weak).sum() / len(STATE)
    mean = torch_mean(agent, logits)
    (objective + entropy * -(mean * mean.log()).sum()).backward()
    for name, gradient in agent._views(ours).items():
        np.testing.assert_allclose(gradient, weights[name].grad.numpy(), rtol=1e-9, atol=1e-12, err_msg=name)


def test_adam_is_torchs_adam():
    agent = agent_of("pathwise", lr=1e-2)
    weights = {name: torch.tensor(w, requires_grad=True) for name, w in agent.weights.items()}
    optimizer = torch.optim.Adam(weights.values(), lr=1e-2)
    for _ in range(20):
        agent.act(STATE, {})
        pending = agent._pending
        gradient = agent.gradient(pending, agent.ascent(pending, 0.0))
        for name, weight in weights.items():
            weight.grad = -torch.tensor(agent._views(gradient)[name])
        optimizer.step()
        agent.learn(0.0)
    for name, weight in weights.items():
        np.testing.assert_allclose(agent.weights[name], weight.detach().numpy(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("policy", ["dirichlet", "logistic_normal", "pathwise"])
def test_training_starts_at_the_uniform_split(policy):
    agent = make_agent("reinforce", 3, options={"policy": policy})
    np.testing.assert_allclose(agent.act([0.9, 0.1, 0.5], {}, deterministic=True), np.full(3, 1 / 3), rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("policy", ["dirichlet", "logistic_normal", "pathwise"])
def test_every_proper_policy_learns_to_feed_the_weak_modality(policy, seed):
    agent = make_agent("reinforce", 2, seed=seed, options={"policy": policy, "lr": 1e-2})
    state = np.array([0.9, 0.5])
    for _ in range(500):
        agent.learn(paper_reward(state, agent.act(state, {})))
    assert agent.act(state, {}, deterministic=True)[1] > 0.8


def test_the_literal_policy_walks_where_its_random_start_leans():
    # Eq. 6 on a deterministic split: half the starts feed the dominant modality ever more.
    ends = []
    for seed in range(12):
        agent = make_agent("reinforce", 2, seed=seed, options={"policy": "literal", "lr": 1e-2})
        state = np.array([0.9, 0.5])
        start = agent.act(state, {})[1]
        for _ in range(200):
            agent.learn(paper_reward(state, agent.act(state, {})))
        end = agent.act(state, {})[1]
        assert (end > start) == (start > 0.5)
        ends.append(end > 0.5)
    assert 0 < sum(ends) < 12


def test_the_papers_settings_hardly_move_and_the_preset_moves():
    def end(preset):
        agent = make_agent("reinforce", 2, options={"preset": preset})
        state = np.array([0.9, 0.5])
        for _ in range(100):
            agent.learn(paper_reward(state, agent.act(state, {})))
        return float(agent.act(state, {}, deterministic=True)[1])

    assert 0.49 < end("paper") < 0.53
    assert end("tuned") > 0.6


def test_the_preset_gives_way_to_what_is_said():
    agent = make_agent("reinforce", 2, options={"preset": "tuned", "lr": 1e-3, "every": 9})
    assert (agent.lr, agent.entropy, agent.interval) == (1e-3, 0.5, 9)
    assert make_agent("reinforce", 2, options={"preset": "tuned"}).interval == 5
    assert make_agent("reinforce", 2).interval is None


def test_the_entropy_bonus_holds_an_interior_split():
    # Eq. 5 plus half the entropy has its maximum at share log-odds where r' = -H'/2: about .2 for the dominant.
    agent = make_agent("reinforce", 2, options={"policy": "pathwise", "lr": 1e-2, "entropy": 0.5})
    state = np.array([0.9, 0.5])
    for _ in range(4000):
        agent.learn(paper_reward(state, agent.act(state, {})))
    grid = np.linspace(0.01, 0.99, 981)
    objective = 0.5 * np.log(1 - grid) - 0.5 * (grid * np.log(grid) + (1 - grid) * np.log(1 - grid))
    assert agent.act(state, {}, deterministic=True)[0] == pytest.approx(grid[objective.argmax()], abs=0.01)


def test_a_reward_that_is_not_finite_is_skipped_and_counted():
    agent = make_agent("reinforce", 2, options={"lr": 1e-2})
    before = {name: w.copy() for name, w in agent.weights.items()}
    agent.act([0.9, 0.5], {})
    agent.learn(float("nan"))
    assert agent.skipped == 1
    assert all((agent.weights[name] == w).all() for name, w in before.items())
    agent.act([0.9, 0.5], {})
    agent.learn(-0.3)
    agent.act([0.9, 0.5], {})
    agent.learn(-0.4)
    assert all(np.isfinite(w).all() for w in agent.weights.values())


def test_a_policy_that_is_not_finite_acts_uniformly():
    agent = make_agent("reinforce", 2)
    agent.weights["w2"][:] = np.nan
    assert agent.act([0.9, 0.5], {}).tolist() == [0.5, 0.5]
    agent.learn(-1.0)
    assert agent.updates == 0


def test_a_reward_without_a_decision_teaches_nothing():
    agent = make_agent("reinforce", 2, options={"lr": 1.0})
    agent.learn(-1.0)
    assert agent.updates == 0
    agent.act([0.9, 0.5], {}, deterministic=True)
    agent.learn(-1.0)
    assert agent.updates == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_saving_keeps_everything(tmp_path, policy):
    agent = make_agent("reinforce", 2, seed=5, options={"policy": policy, "lr": 1e-2})
    state = np.array([0.9, 0.5])
    for _ in range(10):
        agent.learn(paper_reward(state, agent.act(state, {})))
    agent.save(tmp_path / "policy")
    again = load_agent(tmp_path / "policy")
    for _ in range(10):
        one, other = agent.act(state, {}), again.act(state, {})
        assert one.tolist() == other.tolist()
        agent.learn(paper_reward(state, one))
        again.learn(paper_reward(state, other))
    assert all((agent.weights[name] == again.weights[name]).all() for name in agent.weights)


def test_a_pickle_is_refused_and_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"x": Bomb()}, tmp_path / "zip")
    torch.save({"x": Bomb()}, tmp_path / "old", _use_new_zipfile_serialization=False)
    for name in ("zip", "old"):
        with pytest.raises(CheckpointError, match="pickle"):
            load_agent(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_a_truncated_policy_is_refused(tmp_path):
    make_agent("reinforce", 2).save(tmp_path / "policy")
    whole = (tmp_path / "policy").read_bytes()
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "policy").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="policy"):
            load_agent(tmp_path / "policy")
