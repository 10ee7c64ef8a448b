"""Promises that hold for every registered id; any warning that is not named here fails."""

import json
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

import dus_gym
from dus_gym.data.registry import SETS
from dus_gym.envs.registration import FAKE_ID, ids, register_ids

IDS = sorted(ids())
EMBEDDED = sorted(f"DUS-{name}-v0" for name in SETS["embedded"])
# SB3 would like a symmetric box; the simplex is the contract.
ALLOWED = "We recommend you to use a symmetric and normalized Box action space"


def make(env_id, **settings):
    return gym.make(f"dus_gym:{env_id}", **settings)


def run_checkers(env_id, **settings):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = make(env_id, **settings).unwrapped
        gymnasium_check(env)
        sb3_check(make(env_id, **settings).unwrapped)
    unexpected = [str(w.message) for w in caught if ALLOWED not in str(w.message)]
    assert unexpected == []


def test_the_embedded_tasks_are_the_five_of_the_design():
    assert EMBEDDED == [
        "DUS-Digits-v0",
        "DUS-Digits3-v0",
        "DUS-DigitsControl-v0",
        "DUS-DigitsHalves-v0",
        "DUS-DigitsRowsCols-v0",
    ]


@pytest.mark.parametrize("env_id", IDS)
def test_both_checkers_pass_on_the_fake_trainer(env_id):
    run_checkers(env_id, trainer="fake")


@pytest.mark.parametrize("env_id", EMBEDDED)
@pytest.mark.parametrize("mode", ["shares", "fractions"])
def test_both_checkers_pass_on_the_real_trainer(env_id, mode):
    run_checkers(env_id, epochs=12, action_mode=mode)


@pytest.mark.parametrize("env_id", IDS)
def test_info_is_flat_jsonable_and_has_the_same_keys_at_reset_and_step(env_id):
    env = make(env_id, trainer="fake", epochs=3)
    _, first = env.reset(seed=0)
    ended = False
    while not ended:
        _, reward, ended, truncated, info = env.step(env.action_space.sample())
        assert list(info) == list(first)
        assert type(reward) is float
        assert not truncated
        assert all(isinstance(value, int | float | bool) for value in info.values())
        json.dumps(info, allow_nan=False)
    forbidden = ("test", "time", "path", "pid", "second")
    assert not [key for key in first if any(word in key for word in forbidden)]


@pytest.mark.parametrize("env_id", [i for i in IDS if i not in (*EMBEDDED, FAKE_ID)])
def test_a_task_without_its_data_says_so_at_reset_and_not_before(env_id):
    env = make(env_id, data_root="/nowhere/at/all")
    with pytest.raises(dus_gym.DatasetNotFoundError) as caught:
        env.reset(seed=0)
    message = str(caught.value)
    assert "/nowhere/at/all" in message
    assert 'trainer="fake"' in message


def test_registering_twice_changes_nothing_and_warns_of_nothing():
    before = dict(gym.registry)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register_ids()
    assert dict(gym.registry) == before


@pytest.mark.parametrize("env_id", IDS)
def test_a_spec_survives_json(env_id):
    spec = gym.spec(env_id)
    assert gym.envs.registration.EnvSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_environments_work(mode):
    envs = gym.make_vec(f"dus_gym:{FAKE_ID}", num_envs=2, vectorization_mode=mode, epochs=2)
    observations, _ = envs.reset(seed=[1, 2])
    assert observations.shape == (2, 2)
    _, rewards, _, _, infos = envs.step(np.full((2, 2), 0.5, dtype=np.float32))
    np.testing.assert_allclose(rewards, 0.5 * np.log(0.5), rtol=1e-6)
    assert infos["size/pixels"].tolist() == [64, 64]
    envs.close()
