"""Wrappers that turn the split into logits or a choice, and the trivial environment that agents must solve."""

import math
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from dus_gym.allocation import lattice, softmax_shares
from dus_gym.envs.trivial import BestSplit
from dus_gym.envs.wrappers import DiscreteShares, SoftmaxAction
from dus_gym.errors import ConfigError

FAKE = "dus_gym:DUS-Fake-v0"


@pytest.mark.parametrize(("scale", "least"), [(1.0, 0.12), (3.0, 0.0025)])
def test_the_scale_confines_the_shares_as_documented(scale, least):
    shares = SoftmaxAction(BestSplit(), scale=scale).action(np.array([-1.0, 1.0]))
    assert shares[0] == pytest.approx(1 / (1 + math.exp(2 * scale)))
    assert shares[0] == pytest.approx(least, abs=0.002)
    assert shares.sum() == pytest.approx(1.0)


def test_softmax_shares_are_a_point_of_the_simplex_and_blind_to_a_constant():
    logits = np.array([0.3, -0.2, 0.9])
    shares = softmax_shares(logits)
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares, softmax_shares(logits - 0.7), rtol=1e-6)
    np.testing.assert_allclose(np.log(shares[1:] / shares[:-1]), 3 * np.diff(logits), rtol=1e-5)
    np.testing.assert_allclose(softmax_shares([1e6, -1e6]), [1.0, 0.0])


@pytest.mark.parametrize(("m", "count"), [(2, 9), (3, 28), (4, 35), (5, 126)])
def test_the_lattice_holds_every_split_once_and_the_uniform_one(m, count):
    splits = lattice(m)
    assert splits.shape == (count, m)
    assert len({tuple(row) for row in splits.round(6).tolist()}) == count
    assert (splits > 0).all()
    np.testing.assert_allclose(splits.sum(1), 1.0, rtol=1e-6)
    assert np.isclose(splits, 1 / m).all(1).any()


def test_two_modalities_have_tenths_to_choose_from():
    env = DiscreteShares(BestSplit())
    np.testing.assert_allclose(env.splits[:, 0], np.arange(1, 10) / 10, rtol=1e-6)
    env.reset(seed=0)
    assert env.step(np.int64(1))[1] == pytest.approx(1.0)
    assert DiscreteShares(BestSplit(), resolution=4).action_space.n == 3


@pytest.mark.parametrize("wrapper", [SoftmaxAction, DiscreteShares])
def test_wrapped_environments_pass_sb3s_checker_without_a_warning(wrapper):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3_check(wrapper(gym.make(FAKE)))


@pytest.mark.parametrize("wrapper", [SoftmaxAction, DiscreteShares])
def test_a_wrapped_run_reaches_its_end_and_its_evaluation(wrapper):
    env = wrapper(gym.make(FAKE, epochs=5))
    env.action_space.seed(0)
    env.reset(seed=0)
    ended = False
    while not ended:
        _, _, ended, _, info = env.step(env.action_space.sample())
    assert info["size/pixels"] + info["size/columns"] == 128
    assert env.unwrapped.evaluate().fused["sum"] is not None


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: SoftmaxAction(BestSplit(), scale=0.0), "scale=0.0.*positive"),
        (lambda: SoftmaxAction(BestSplit(), scale=math.inf), "scale=inf"),
        (lambda: SoftmaxAction(SoftmaxAction(BestSplit())), "action_space=.*SoftmaxAction.*Box"),
        (lambda: DiscreteShares(gym.make("CartPole-v1")), "action_space=.*DiscreteShares.*Box"),
        (lambda: SoftmaxAction(gym.make(FAKE, action_mode="fractions")), "action_mode='fractions'.*shares"),
        (lambda: DiscreteShares(BestSplit(), resolution=1), "resolution=1.*2"),
        (lambda: DiscreteShares(BestSplit()).action(9), "action=9.*below 9"),
        (lambda: BestSplit(best=[1.0]), "best=.*2 shares"),
        (lambda: BestSplit(horizon=0), "horizon=0"),
        (lambda: BestSplit(best=[-1.0, 1.0]), "not negative"),
    ],
)
def test_what_can_not_be_is_refused(make, named):
    with pytest.raises(ConfigError, match=named):
        make()


def test_the_wrappers_are_part_of_the_spec():
    env = SoftmaxAction(gym.make(FAKE, epochs=3), scale=2.0)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.get_wrapper_attr("scale") == 2.0
    assert again.action_space == env.action_space


@pytest.mark.parametrize("mode", ["sync", pytest.param("async", marks=pytest.mark.slow)])
@pytest.mark.parametrize("wrapper", [SoftmaxAction, DiscreteShares])
def test_gymnasiums_vector_route_takes_the_wrappers(mode, wrapper):
    envs = gym.make_vec(FAKE, num_envs=2, vectorization_mode=mode, wrappers=(wrapper,), epochs=4)
    try:
        assert envs.single_action_space == wrapper(BestSplit()).action_space
        first, _ = envs.reset(seed=3)
        for _ in range(4):
            _, rewards, ended, _, infos = envs.step(envs.action_space.sample())
            sizes = infos["size/pixels"] + infos["size/columns"]
            assert sizes.tolist() == [128, 128]
        assert ended.all()
        assert np.isfinite(rewards).all()
        assert not np.array_equal(first[0], first[1])
    finally:
        envs.close()


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
@pytest.mark.parametrize("wrapper", [None, SoftmaxAction])
def test_sb3s_sub_processes_find_the_id(start_method, wrapper):
    envs = make_vec_env(
        FAKE,
        n_envs=2,
        seed=0,
        env_kwargs={"epochs": 3},
        wrapper_class=wrapper,
        vec_env_cls=SubprocVecEnv,
        vec_env_kwargs={"start_method": start_method},
    )
    try:
        assert envs.reset().shape == (2, 2)
        for _ in range(3):
            _, rewards, ended, infos = envs.step(np.array([envs.action_space.sample() for _ in range(2)]))
        assert ended.all()
        assert np.isfinite(rewards).all()
        assert all("terminal_observation" in info for info in infos)
    finally:
        envs.close()


@pytest.mark.parametrize("m", [2, 3])
def test_the_trivial_environment_keeps_both_checkers_contracts(m):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gymnasium_check(BestSplit(np.arange(1, m + 1)))
        sb3_check(BestSplit(np.arange(1, m + 1)))
    # Nobody can make it from a spec, and SB3 would like a symmetric box.
    allowed = ("spec", "symmetric and normalized Box")
    assert [str(w.message) for w in caught if not any(word in str(w.message) for word in allowed)] == []


def test_the_trivial_environment_rewards_the_best_split_and_ends_on_time():
    env = BestSplit((1, 4), horizon=3)
    env.reset(seed=0)
    assert env.step([0.2, 0.8])[1:4] == (pytest.approx(1.0), False, False)
    assert env.step([0.5, 0.5])[1] == pytest.approx(0.7)
    assert env.step([1.0, 0.0])[1:3] == (pytest.approx(0.2), True)
