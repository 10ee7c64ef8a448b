"""The lever: an action that moves learning rates at equal batches instead of batch sizes."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from command import dus
from hypothesis import given
from hypothesis import strategies as st

import dus_gym
from dus_gym.agents.policy_files import read_policy
from dus_gym.allocation import Allocation
from dus_gym.config import RunConfig
from dus_gym.envs.run_group import normalised, rates_of
from dus_gym.errors import ConfigError, UnfitAgentError
from dus_gym.experiments.spec import make_spec
from dus_gym.methods import METHODS
from dus_gym.state import load_state, save_state

DIGITS = "dus_gym:DUS-Digits-v0"


def make(env_id=DIGITS, **settings):
    return gym.make(env_id, **({"epochs": 4, "lever": "rates"} | settings))


def last_line(done):
    """The object that --json prints."""
    return json.loads(done.stdout.splitlines()[-1])


def weights(env):
    return env.unwrapped.run.model.state_dict()


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("shares", "settings", "rates"),
    [
        ([0.5, 0.5], {}, [1.0, 1.0]),
        ([0.2, 0.8], {}, [0.4, 1.6]),
        # Two of 64 samples are the least, and so a 32nd of the rate.
        ([0.0, 1.0], {}, [1 / 32, 2 - 1 / 32]),
        ([0.0, 1.0], {"min_fraction": 0.25}, [0.25, 1.75]),
    ],
)
def test_a_share_times_m_multiplies_the_rate_and_has_the_floors_of_sizes(shares, settings, rates):
    rule = Allocation(2, 128, lever="rates", **settings)
    found, sizes = rule(shares)
    assert found == shares
    assert sizes == [64, 64]
    assert rule.rates(found) == pytest.approx(rates)
    assert Allocation(2, 128).rates(found) is None


@given(
    entries=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=5),
    batch=st.integers(2, 100),
    least=st.floats(0.0, 1.0),
)
def test_rates_sum_to_m_keep_the_floor_and_are_alike_as_arrays(entries, batch, least):
    m = len(entries)
    rule = Allocation(m, m * batch, lever="rates", min_fraction=least)
    shares, _ = rule(entries)
    rates = rule.rates(shares)
    assert sum(rates) == pytest.approx(m)
    assert min(rates) >= rule.floor / batch - 1e-9
    together = rates_of(rule, normalised(np.array([entries] * 2).T))
    np.testing.assert_allclose(together, np.array([rates] * 2).T, rtol=1e-12)


def test_a_constant_action_is_the_setting_lr_scale_to_the_bit():
    env, scaled = make(), make(lever="samples", lr_scale=(0.4, 1.6))
    env.reset(seed=0)
    scaled.reset(seed=0)
    for _ in range(4):
        *_, info = env.step(np.array([0.2, 0.8]))
        *_, expected = scaled.step(np.array([0.5, 0.5]))
        assert info["loss"] == expected["loss"]
    assert same(weights(env), weights(scaled))
    assert (info["rate/pixels"], info["rate/columns"]) == pytest.approx((0.4, 1.6))
    assert info["size/pixels"] == info["size/columns"] == 64


def test_observation_reward_and_info_are_those_of_the_other_lever():
    env, samples = make(), make(lever="samples")
    (first, info), (expected, expected_info) = env.reset(seed=0), samples.reset(seed=0)
    np.testing.assert_array_equal(first, expected)
    assert info.keys() - expected_info.keys() == {"rate/pixels", "rate/columns"}
    assert info["rate/pixels"] == 1.0
    action = np.array([0.3, 0.7])
    # Eq. 5 is of what the agent saw and chose.
    assert env.step(action)[1] == samples.step(action)[1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", ["Digits", "Digits3"])
def test_every_method_trains_under_it(method, task):
    runs = []
    for share in (0.2, 0.6):
        env = make(f"dus_gym:DUS-{task}-v0", method=method, epochs=8)
        env.reset(seed=0)
        m = env.action_space.shape[0]
        action = np.array([share, *[(1 - share) / (m - 1)] * (m - 1)])
        ended = False
        while not ended:
            *_, ended, _, info = env.step(action)
        assert not info["diverged"]
        assert len({info[f"size/{name}"] for name in env.unwrapped.modalities}) == 1
        runs.append(weights(env))
    assert not same(*runs)


def test_no_rate_reaches_a_phase_that_the_agent_does_not_steer():
    """The second stage of di_mml trains the concat head on ordinary batches."""
    env = make(method="di_mml", epochs=8)
    env.reset(seed=0)
    for _ in range(8):
        *_, info = env.step(np.array([0.2, 0.8]))
    assert (info["rate/pixels"], info["rate/columns"]) == (1.0, 1.0)
    optimizer = env.unwrapped.run.optimizer
    assert env.unwrapped.run.phase.name == "fusion"
    assert {group["lr"] for group in optimizer.torch.param_groups} == {env.unwrapped.run._factor() * 0.03}


def test_a_run_goes_on_to_the_same_bits(tmp_path):
    env = make()
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    env.step(rng.random(2))
    save_state(tmp_path / "s", "checkpoint", env.unwrapped.snapshot())
    actions = rng.random((3, 2))
    for action in actions:
        *_, info = env.step(action)
    resumed = make()
    resumed.reset(seed=0, options={"snapshot": load_state(tmp_path / "s", "checkpoint")})
    for action in actions:
        *_, found = resumed.step(action)
    assert found == info
    assert same(weights(env), weights(resumed))


@pytest.mark.parametrize(
    "settings", [{"id": DIGITS}, {"id": "dus_gym:DUS-Fake-v0"}, {"id": DIGITS, "method": "ogm"}], ids=str
)
def test_copies_stepped_together_are_the_single_environments(settings):
    settings = {"epochs": 4, "lever": "rates"} | settings
    mine = gym.make_vec(num_envs=3, **settings)
    theirs = gym.make_vec(num_envs=3, vectorization_mode="sync", **settings)
    mine.reset(seed=0)
    theirs.reset(seed=0)
    for step in range(4):
        actions = np.random.default_rng(step).random((3, 2))
        observed, rewards, *_, infos = mine.step(actions)
        expected, expected_rewards, *_, expected_infos = theirs.step(actions)
        assert infos.keys() == expected_infos.keys()
        np.testing.assert_allclose(observed, expected, atol=1e-4)
        np.testing.assert_allclose(rewards, expected_rewards, rtol=1e-3)
        np.testing.assert_allclose(infos["rate/pixels"], expected_infos["rate/pixels"], rtol=1e-9)
        np.testing.assert_allclose(infos["loss"], expected_infos["loss"], rtol=1e-3)
        np.testing.assert_array_equal(infos["size/pixels"], [64] * 3)


def test_what_can_not_use_it_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"lever='rate' is not allowed.*'rates'"):
        RunConfig.of({"lever": "rate"})
    with pytest.raises(ConfigError, match=r"action_mode='fractions' is not allowed under lever='rates'"):
        make(action_mode="fractions")
    for agent, why in (("heuristic", "how many samples"), ("half", "how many samples"), ("lr-matched", "itself lever")):
        with pytest.raises(UnfitAgentError, match=rf"agent='{agent}'.*{why}"):
            make_spec("DUS-Digits-v0", agent, lever="rates").check()
    # Methods that need every sample in all modalities can be steered by rates.
    make_spec("DUS-Digits-v0", "score", method="ogm", lever="rates").check()
    with pytest.raises(UnfitAgentError, match="unequal batches"):
        make_spec("DUS-Digits-v0", "score", method="ogm").check()


def test_the_command_line_has_it(tmp_path):
    words = ("DUS-Digits-v0", "--lever", "rates", "--epochs", 3, "--json", "--quiet")
    trained = dus("train", *words, "--agent", "score", "--out", "run", cwd=tmp_path, check=0)
    assert last_line(trained)["settings"]["lever"] == "rates"
    asked = ("--agents", "score,best-fixed", "--method", "ogm", "--seeds", 2)
    compared = dus("compare", *words, *asked, cwd=tmp_path, check=0)
    assert set(last_line(compared)["agents"]) == {"uniform", "score", "best-fixed"}


def test_a_policy_learned_under_one_lever_is_refused_under_the_other_and_says_so(tmp_path):
    settings = {"epochs": 3, "method": "baseline"}
    dus_gym.train("DUS-Digits-v0", agent="reinforce", lever="rates", out=tmp_path / "run", **settings)
    policy = tmp_path / "run" / "policy.safetensors"
    assert read_policy(policy)["lever"] == "rates"
    with pytest.raises(ConfigError, match=r"agent='.*' was learned under lever='rates' and this run has lever='samp"):
        dus_gym.train("DUS-Digits-v0", agent=str(policy), **settings)
    dus_gym.train("DUS-Digits-v0", agent=str(policy), lever="rates", **settings)
    for shipped in ({"agent": "gain"}, {"agent": "transfer", "agent_options": {"policy": "gain"}}):
        with pytest.raises(ConfigError, match="gain' was learned under lever='samples'"):
            dus_gym.train("DUS-Digits-v0", lever="rates", **shipped, **settings)
    with pytest.raises(ConfigError, match="learned under 'samples'"):
        dus_gym.DUS(["a", "b"], agent="gain", lever="rates")
    dus_gym.DUS(["a", "b"], agent="reinforce", lever="rates").agent.save(tmp_path / "plugin.safetensors")
    with pytest.raises(ConfigError, match="learned under 'rates'"):
        dus_gym.DUS(["a", "b"], agent=tmp_path / "plugin.safetensors")


def test_a_model_of_stable_baselines3_remembers_the_lever_too(tmp_path):
    settings = {"epochs": 3, "trust": True}
    learned = settings | {"agent": "ppo", "agent_options": {"runs": 1}, "lever": "rates"}
    dus_gym.train("DUS-Fake-v0", out=tmp_path / "run", **learned)
    policy = str(tmp_path / "run" / "policy.zip")
    with pytest.raises(ConfigError, match=r"learned under lever='rates' and this run has lever='samples'"):
        dus_gym.train("DUS-Fake-v0", agent=policy, **settings)
    dus_gym.train("DUS-Fake-v0", agent=policy, lever="rates", **settings)
