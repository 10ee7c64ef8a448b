"""The transferable policy: any number and order of modalities, its gradient, learning over runs, its files."""

import json
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from dus_gym.agents import make_agent
from dus_gym.agents.loop import run_episode
from dus_gym.agents.policy_files import agent_from_policy, load_agent, policy_path, shipped_policies
from dus_gym.agents.transfer import INPUTS, Decisions, Transfer, features, returns
from dus_gym.errors import CheckpointError, ConfigError
from dus_gym.state import load_state, save_state

SHIPPED = sorted(shipped_policies())


def info_of(m, seed=0, **more):
    """Figures of a task with m modalities, as the environment gives them."""
    rng = np.random.default_rng(seed)
    info = {"epoch": 30, "epochs": 100}
    for kind in ("train_score", "train_accuracy", "val_score", "val_accuracy"):
        info |= {f"{kind}/m{j}": float(v) for j, v in enumerate(rng.random(m))}
    return info | {f"size/m{j}": int(n) for j, n in enumerate(rng.integers(2, 99, m))} | more


def permuted(info, order):
    names = [f"m{j}" for j in order]
    found = {key: value for key, value in info.items() if "/" not in key}
    for kind in ("train_score", "train_accuracy", "val_score", "val_accuracy", "size"):
        found |= {f"{kind}/m{j}": info[f"{kind}/{name}"] for j, name in enumerate(names)}
    return found


def trained(m=3, **options):
    agent = make_agent("transfer", m, seed=3, options=options)
    # Away from the zero start, so that every term of a gradient is alive.
    rng = np.random.default_rng(0)
    for weight in agent.weights.values():
        weight += 0.3 * rng.standard_normal(weight.shape)
    return agent


def fake(env="DUS-Digits-v0", **settings):
    return gym.make(f"dus_gym:{env}", trainer="fake", **settings)


@pytest.mark.parametrize("m", [2, 3, 4, 7])
def test_permuting_the_modalities_permutes_the_shares(m):
    state, info, order = np.random.default_rng(1).random(m), info_of(m), np.random.default_rng(2).permutation(m)
    shares = trained(m).act(state, info)
    assert shares.shape == (m,)
    assert shares.sum() == pytest.approx(1.0)
    assert shares.max() - shares.min() > 0.01
    np.testing.assert_allclose(trained(m).act(state[order], permuted(info, order)), shares[order], rtol=1e-5)


def test_the_features_by_hand():
    info = {
        "epoch": 1, "epochs": 4, "train_score/a": 0.9, "train_score/b": 0.5, "val_score/a": 0.6, "val_score/b": 0.4,
        "size/a": 96, "size/b": 32,
    }  # fmt: skip
    found = features([0.8, 0.4], info)
    assert found.shape == (2, INPUTS)
    np.testing.assert_allclose(found[0, :8], [0.8, 0.2, 0.9, 0.0, 0.6, 0.0, 0.3, 0.5])
    np.testing.assert_allclose(found[:, 8:16].T, np.repeat(found[:, :8].mean(0)[:, None], 2, axis=1))
    assert found[:, 16].tolist() == [0.25, 0.25]
    # A task that tells nothing but the scores is served too; a train score alone says nothing of over-fitting.
    bare = features([0.8, 0.4], {})
    assert (bare[:, 2:8] == 0.0).all()
    assert (features([0.8, 0.4], {"train_score/a": 0.9, "train_score/b": 0.5})[:, 6] == 0.0).all()


def test_a_new_network_splits_uniformly_and_learns_nothing_in_a_run():
    agent = make_agent("transfer", 3)
    np.testing.assert_allclose(agent.act([0.9, 0.1, 0.5], info_of(3)), np.full(3, 1 / 3), rtol=1e-6)
    run_episode(fake("DUS-Digits3-v0", epochs=20), agent, seed=0)
    agent.begin()
    assert agent.updates == 0


def test_a_split_holds_until_the_next_decision():
    agent = trained(2, learn=True, decisions=4)
    env = fake(epochs=20)
    observation, info = env.reset(seed=0)
    agent.begin()
    splits = []
    for _ in range(20):
        action = agent.act(observation, info)
        splits.append(tuple(action.tolist()))
        observation, reward, *_, info = env.step(action)
        agent.learn(reward)
    assert [len(set(splits[i : i + 5])) for i in range(0, 20, 5)] == [1, 1, 1, 1]
    assert len(set(splits)) == 4


@pytest.mark.parametrize("entropy", [0.0, 0.3])
@pytest.mark.parametrize("algorithm", ["reinforce", "ppo"])
def test_the_gradient_is_that_of_automatic_differentiation(algorithm, entropy):
    agent = trained(2, learn=True, algorithm=algorithm, entropy=entropy, clip=0.05)
    for m in (2, 3, 4, 3, 2, 2):
        agent.begin()
        agent.act(np.random.default_rng(m).random(m), info_of(m, seed=m))
        agent.learn(0.5)
    agent.end_run()
    batch = Decisions.of([decision for run in agent._runs for decision in run["decisions"]])
    advantages = np.array([1.0, -0.7, 0.4, -1.2, 0.3, -0.1])
    if algorithm == "ppo":
        # The weights have moved since: ratios differ from 1 and some are clipped.
        for weight in agent.weights.values():
            weight += 0.15 * np.random.default_rng(8).standard_normal(weight.shape)
    weights = {name: torch.tensor(w, requires_grad=True) for name, w in agent.weights.items()}
    objective = torch.zeros((), dtype=torch.float64)
    ratios = []
    for i, advantage in enumerate(advantages):
        rows = batch.owner == i
        logits = torch.tanh(torch.tensor(batch.inputs[rows]) @ weights["w1"].T + weights["b1"]) @ weights["w2"]
        drawn = torch.tensor(batch.logits[rows])
        away = drawn - (logits - logits.mean())
        log_probability = -(away**2).sum() / (2 * agent.options.sigma**2)
        if algorithm == "ppo":
            ratio = torch.exp(log_probability - batch.log_probability[i])
            objective = objective + torch.minimum(ratio * advantage, ratio.clamp(0.95, 1.05) * advantage)
            ratios.append(ratio.item())
        else:
            objective = objective + advantage * log_probability
        split = logits.softmax(0)
        objective = objective - entropy * (split * split.log()).sum()
    (objective / len(advantages)).backward()
    if algorithm == "ppo":
        clipped = [(r > 1.05) if a > 0 else (r < 0.95) for r, a in zip(ratios, advantages, strict=True)]
        assert any(clipped)
        assert not all(clipped)
    for name, gradient in agent.gradient(batch, advantages).items():
        np.testing.assert_allclose(gradient, weights[name].grad.numpy(), rtol=1e-8, atol=1e-12, err_msg=name)


def test_returns_are_discounted_sums_to_go():
    assert returns([1.0, 2.0, 3.0], 0.5) == [1.0 + 0.5 * (2.0 + 0.5 * 3.0), 3.5, 3.0]
    assert returns([1.0, 2.0, 3.0], 1.0) == [6.0, 5.0, 3.0]


def test_advantages_are_relative_to_the_same_task_and_decision():
    agent = make_agent("transfer", 2, options={"learn": True, "batch": 99})
    for env, reward in (("A", 1.0), ("A", 3.0), ("B", 100.0), ("B", 300.0)):
        agent.begin_task(env, 2)
        agent.begin()
        agent.act([0.9, 0.5], info_of(2))
        agent.learn(reward)
        agent.end_run()
    # Each task's scale is its own; the second batch is set against what the first led to expect.
    np.testing.assert_allclose(agent.advantages(), [-1.0, 1.0, -1.0, 1.0], atol=1e-6)
    assert agent._expected == {"A": [2.0], "B": [200.0]}
    agent._runs = agent._runs[:1]
    assert agent.advantages() == pytest.approx([-1.0])
    assert agent._expected["A"] == pytest.approx([1.8])


@pytest.mark.parametrize("algorithm", ["reinforce", "ppo"])
def test_learning_beats_uniform_in_return(algorithm):
    options = {"learn": True, "algorithm": algorithm, "batch": 10, "lr": 0.01}
    agent = make_agent("transfer", 2, seed=0, options=options)
    settings = {"epochs": 20, "reward": "gap", "loss_norm": "fixed", "min_fraction": 0.25}
    env = fake(**settings)
    for run in range(300):
        run_episode(env, agent, seed=100 + run % 20)
        agent.end_run()

    def mean_return(who):
        runs = [run_episode(env, who, seed=s, learn=False, deterministic=True).reward for s in range(120, 130)]
        return np.mean(runs)

    # The floor of a quarter closes about a quarter of the gap of these twenty epochs.
    assert mean_return(agent) > mean_return(make_agent("uniform", 2)) + 0.25


def test_one_policy_learns_from_tasks_with_other_numbers_of_modalities():
    agent = make_agent("transfer", 2, options={"learn": True, "batch": 4})
    for seed, (name, m) in enumerate([("DUS-Digits-v0", 2), ("DUS-Digits3-v0", 3)] * 2):
        agent.begin_task(name, m)
        run_episode(fake(name, epochs=10, reward="learning-progress"), agent, seed=100 + seed)
        agent.end_run()
    assert agent.updates == 10
    assert set(agent._expected) == {"DUS-Digits-v0", "DUS-Digits3-v0"}


def test_a_reward_that_is_not_finite_is_left_out():
    agent = make_agent("transfer", 2, options={"learn": True, "batch": 1})
    agent.act([0.9, 0.5], info_of(2))
    agent.learn(float("nan"))
    agent.end_run()
    assert all(np.isfinite(w).all() for w in agent.weights.values())


def test_a_policy_that_is_not_finite_acts_uniformly():
    agent = make_agent("transfer", 2)
    agent.weights["w2"][:] = np.nan
    assert agent.act([0.9, 0.5], info_of(2)).tolist() == [0.5, 0.5]


def test_saving_keeps_everything_in_the_middle_of_a_run(tmp_path):
    def play(agent, start, end):
        found = []
        for epoch in range(start, end):
            found.append(agent.act([0.9, 0.5], info_of(2, seed=epoch, epoch=epoch)).tolist())
            agent.learn(0.1 * epoch)
        return found

    agent = trained(2, learn=True, batch=2)
    agent.begin()
    play(agent, 0, 100)
    agent.begin()
    play(agent, 0, 45)
    agent.save(tmp_path / "policy")
    again = load_agent(tmp_path / "policy")
    assert play(agent, 45, 100) == play(again, 45, 100)
    for one in (agent, again):
        one.begin()
    assert agent.updates == again.updates == 10
    assert all((agent.weights[name] == again.weights[name]).all() for name in agent.weights)


def test_a_policy_file_serves_another_number_of_modalities(tmp_path):
    agent = trained(2, hidden=7, decisions=3)
    agent.save(tmp_path / "policy")
    for m in (2, 3, 4):
        found = make_agent("transfer", m, options={"policy": str(tmp_path / "policy")})
        state, info = np.linspace(0.2, 0.9, m), info_of(m)
        # The network's size and its decisions are the file's.
        assert (found.options.hidden, found.options.decisions, found.num_modalities) == (7, 3, m)
        assert found.act(state, info).tolist() == agent.act(state, info).tolist()
        agent.begin()
        # A copy must not depend on the file it came from.
        assert found.options.policy is None


def test_what_cannot_be_a_policy_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"'gian'.*Did you mean 'gain'"):
        make_agent("transfer", 2, options={"policy": "gian"})
    make_agent("reinforce", 2).save(tmp_path / "reinforce")
    with pytest.raises(ConfigError, match="one number of modalities"):
        make_agent("transfer", 2, options={"policy": str(tmp_path / "reinforce")})
    with pytest.raises(ConfigError, match="for 2 modalities, and this task has 3"):
        agent_from_policy(str(tmp_path / "reinforce"), 3)
    with pytest.raises(ConfigError, match="leave out lr"):
        agent_from_policy(str(tmp_path / "reinforce"), 2, options={"lr": 0.1})
    assert agent_from_policy(str(tmp_path / "reinforce"), 2).name == "reinforce"


def test_a_damaged_newer_or_pickled_policy_is_refused(tmp_path):
    path = tmp_path / "policy"
    trained(2).save(path)
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="policy"):
            make_agent("transfer", 2, options={"policy": str(path)})
    path.write_bytes(whole.replace(b'"format":"1"', b'"format":"9"'))
    with pytest.raises(CheckpointError, match="format 9"):
        make_agent("transfer", 2, options={"policy": str(path)})
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="pickle"):
        make_agent("transfer", 2, options={"policy": str(path)})
    save_state(path, "policy", {"agent": "transfer"})
    with pytest.raises(CheckpointError, match="missing"):
        make_agent("transfer", 2, options={"policy": str(path)})
    content = {"agent": "transfer", "num_modalities": 2, "options": {"hidden": 24, "decisions": 10}}
    lacking = trained(2).state_dict()
    del lacking["moments"]
    save_state(path, "policy", content | {"state": lacking})
    with pytest.raises(CheckpointError, match="moments"):
        make_agent("transfer", 2, options={"policy": str(path)})
    save_state(path, "policy", content | {"state": trained(2, hidden=5).state_dict()})
    with pytest.raises(CheckpointError, match="shapes"):
        make_agent("transfer", 2, options={"policy": str(path)})


@pytest.mark.parametrize(
    ("option", "value"), [("algorithm", "dqn"), ("batch", 0), ("lr", 0.0), ("discount", 1.5), ("entropy", -1.0)]
)
def test_options_that_cannot_be_are_refused(option, value):
    with pytest.raises(ConfigError, match=option):
        make_agent("transfer", 2, options={option: value})


def test_two_policies_come_with_the_package():
    assert {"gain", "gap"} <= set(SHIPPED)
    assert policy_path("gain").is_file()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_policy_is_small_says_where_it_comes_from_and_acts(name):
    assert policy_path(name).stat().st_size < 100_000
    made = load_state(policy_path(name), "policy")["state"]["made"]
    json.dumps(made, allow_nan=False)
    assert made["command"].startswith("dus meta-train ")
    assert made["command"].count(f"{name}.safetensors") == 1
    assert min(made["seeds"]) >= 100
    assert not set(made["seeds"]) & set(made["eval_seeds"])
    assert set(made["score"]) == set(made["envs"])
    for m in (2, 3, 4):
        agent = make_agent("transfer", m, options={"policy": name})
        assert isinstance(agent, Transfer)
        shares = agent.act(np.linspace(0.3, 0.9, m), info_of(m))
        assert np.isfinite(shares).all()
        assert (shares > 0.0).all()
        assert shares.sum() == pytest.approx(1.0)
    env = fake("DUS-Digits3-v0", epochs=10)
    agent.begin_task("DUS-Digits3-v0", 3)
    run_episode(env, agent, seed=0)
    assert agent.num_modalities == 3
    assert agent.updates == load_state(policy_path(name), "policy")["state"]["updates"]


def test_learning_can_go_on_from_a_policy():
    agent = make_agent("transfer", 2, options={"policy": SHIPPED[0], "learn": True, "batch": 1})
    before = agent.updates
    run_episode(fake(epochs=10), agent, seed=100)
    agent.end_run()
    assert agent.updates > before
    assert replace(agent.options, policy=None) == agent.options


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("options", True, "options is True, not dict"),
        ("options", {"hidden": True, "decisions": 10}, "hidden=True is not allowed"),
        ("options", {"hidden": 0}, "hidden=0 is not allowed"),
        ("num_modalities", True, "num_modalities is True, not int"),
        ("agent", "nobody", "unknown agent 'nobody'"),
        ("state", [], "state is .*, not dict"),
    ],
)
def test_a_policy_with_a_value_of_another_kind_is_refused_in_one_line(part, value, said, tmp_path):
    path = tmp_path / "policy"
    trained(2).save(path)
    save_state(path, "policy", load_state(path, "policy") | {part: value})
    for read in (lambda: agent_from_policy(path, 2), lambda: load_agent(path)):
        with pytest.raises(CheckpointError, match=rf"^{path} is damaged.*{said}"):
            read()
