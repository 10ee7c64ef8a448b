"""Copies stepped together: the same runs as the single environment's, and what they refuse."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dus_gym import allocation
from dus_gym.envs import fake_vector, run_group
from dus_gym.envs.fake_vector import seed_words
from dus_gym.envs.registration import FAKE_ID
from dus_gym.envs.vector_env import DUSVectorEnv
from dus_gym.errors import ConfigError
from dus_gym.rewards import REWARD_STATES, reward_names
from dus_gym.seeding import RunSeeds

ID = f"dus_gym:{FAKE_ID}"
SHORT = {"epochs": 12}


def native(num_envs=5, **settings):
    return gym.make_vec(ID, num_envs=num_envs, **settings)


def random_actions(rng, num_envs, m):
    """Some near the corners, where floors act, and now and then all zero, which means the uniform split."""
    actions = rng.dirichlet(np.full(m, 0.4), size=num_envs)
    return (actions * rng.choice([0.0, 0.5, 1.0], size=(num_envs, 1), p=[0.1, 0.3, 0.6])).astype(np.float32)


def difference(mine, theirs):
    """The largest difference of two answers; everything that is not a float must be equal."""
    assert mine.keys() == theirs.keys()
    largest = 0.0
    for key, expected in theirs.items():
        assert (mine[key].dtype, mine[key].shape) == (expected.dtype, expected.shape), key
        if expected.dtype.kind == "f":
            largest = max(largest, float(np.abs(mine[key] - expected).max()))
        else:
            np.testing.assert_array_equal(mine[key], expected, err_msg=key)
    return largest


@pytest.mark.parametrize(
    ("seed", "settings"),
    [
        (0, {}),
        (1, {"loss_norm": "fixed"}),
        (2, {"interval": 5} | SHORT),
        (3, {"interval": 13, "cumulative": "ema"} | SHORT),
        (4, {"interval": 1, "epochs": 60}),
        (5, {"task": "Digits3", "min_fraction": 0.25} | SHORT),
        (6, {"task": "Digits3", "cumulative": "none", "eval_every": 5} | SHORT),
        (7, {"task": "Digits3", "loss_norm": "fixed", "min_samples": 9, "total_batch": 50} | SHORT),
        (8, {"task": "KineticsSounds", "cumulative": "epoch", "interval": 100, "epochs": 4}),
        (9, {"task": "DigitsControl", "action_mode": "fractions"} | SHORT),
        (10, {"method": "mla", "predict_with": "sum", "pairing": "independent"} | SHORT),
        (11, {"total_batch": 51, "iterations": 3} | SHORT),
        (13, {"task": "Digits3", "size_step": 4} | SHORT),
        (14, {"action_mode": "fractions", "size_step": 7} | SHORT),
        *((12, {"reward": name, "reward_state": state} | SHORT) for name in reward_names() for state in REWARD_STATES),
    ],
    ids=str,
)
def test_whole_episodes_and_what_follows_them_are_the_single_environments(seed, settings):
    n = 5
    together = native(n, **settings)
    # SyncVectorEnv is the single environment, n times.
    apart = gym.make_vec(ID, num_envs=n, vectorization_mode="sync", **settings)
    assert together.metadata["autoreset_mode"] == apart.metadata["autoreset_mode"]
    assert together.observation_space == apart.observation_space
    assert together.action_space == apart.action_space
    rng, m = np.random.default_rng(seed), together.single_action_space.shape[0]
    observed, infos = together.reset(seed=seed)
    expected, expected_infos = apart.reset(seed=seed)
    horizon, ends = together.unwrapped.horizon, 0
    for step in range(horizon + 4):
        assert observed.dtype == expected.dtype == np.float32
        # One unit in the last place of a float32 at most.
        np.testing.assert_allclose(observed, expected, rtol=0, atol=6e-8)
        assert difference(infos, expected_infos) < 1e-12
        actions = random_actions(rng, n, m)
        observed, rewards, terminated, truncated, infos = together.step(actions)
        expected, expected_rewards, expected_terminated, expected_truncated, expected_infos = apart.step(actions)
        assert rewards.dtype == expected_rewards.dtype
        np.testing.assert_allclose(rewards, expected_rewards, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(terminated, expected_terminated)
        np.testing.assert_array_equal(truncated, expected_truncated)
        assert terminated.all() == (step == horizon - 1)
        ends += terminated.all()
        if step == horizon:
            assert not rewards.any()
            assert not infos["iterations"].any()
    assert ends == 1


def test_same_step_autoreset_is_gymnasiums():
    together = native(4, autoreset_mode=AutoresetMode.SAME_STEP, **SHORT)
    apart = gym.make_vec(
        ID, num_envs=4, vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}, **SHORT
    )
    assert together.metadata["autoreset_mode"] == apart.metadata["autoreset_mode"]
    together.reset(seed=3)
    apart.reset(seed=3)
    rng, ends = np.random.default_rng(0), 0
    for _ in range(2 * together.unwrapped.horizon + 2):
        actions = random_actions(rng, 4, 2)
        *found, infos = together.step(actions)
        *expected, expected_infos = apart.step(actions)
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=6e-8)
        assert infos.keys() == expected_infos.keys()
        last, expected_last = infos.pop("final_info", {}), expected_infos.pop("final_info", {})
        assert difference(last, expected_last) < 1e-12
        for mine, theirs in zip(infos.pop("final_obs", []), expected_infos.pop("final_obs", []), strict=True):
            ends += 1
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=6e-8)
        assert difference(infos, expected_infos) < 1e-12
    assert ends == 2 * 4


def test_more_steps_than_one_draw_of_noise_covers(monkeypatch):
    monkeypatch.setattr(fake_vector, "NOISE_ROWS", 7)
    a, b = native(3, epochs=30), gym.make_vec(ID, num_envs=3, vectorization_mode="sync", epochs=30)
    a.reset(seed=1)
    b.reset(seed=1)
    for _ in range(30):
        actions = a.action_space.sample()
        np.testing.assert_allclose(a.step(actions)[0], b.step(actions)[0], rtol=0, atol=6e-8)


def test_seeds_are_one_integer_a_list_or_none():
    envs = native(3, **SHORT)
    first, _ = envs.reset(seed=4)
    listed, _ = envs.reset(seed=[6, 4, 5])
    np.testing.assert_array_equal(listed, first[[2, 0, 1]])
    going_on, _ = envs.reset()
    assert not np.array_equal(going_on, listed)
    again, _ = envs.reset(seed=[6, 4, 5])
    np.testing.assert_array_equal(again, listed)
    # A None in a list lets that copy's generator go on.
    mixed, _ = envs.reset(seed=[None, 4, None])
    np.testing.assert_array_equal(mixed, [going_on[0], first[0], going_on[2]])
    unseeded, _ = native(2, **SHORT).reset()
    other, _ = native(2, **SHORT).reset()
    assert not np.array_equal(unseeded, other)
    with pytest.raises(ConfigError, match="one integer or 3 of them"):
        envs.reset(seed=[1, 2])


def test_nothing_that_was_returned_changes_later():
    envs = native(4, **SHORT)
    answers, copies = [], []

    def keep(observations, infos):
        answers.append((observations, dict(infos)))
        copies.append((observations.copy(), {key: value.copy() for key, value in infos.items()}))

    keep(*envs.reset(seed=0))
    for _ in range(14):
        observations, *_, infos = envs.step(envs.action_space.sample())
        keep(observations, infos)
    for (observations, infos), (kept, kept_infos) in zip(answers, copies, strict=True):
        np.testing.assert_array_equal(observations, kept)
        assert difference(infos, kept_infos) == 0.0


def test_the_id_makes_it_and_the_other_modes_remain():
    assert type(native().unwrapped) is DUSVectorEnv
    assert native().metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert type(gym.make_vec(ID, num_envs=2, vectorization_mode="sync")) is gym.vector.SyncVectorEnv
    assert gym.spec(FAKE_ID).vector_entry_point == "dus_gym.envs.vector_env:DUSVectorEnv"


def test_gymnasiums_vector_wrappers_take_it():
    envs = gym.wrappers.vector.RecordEpisodeStatistics(native(3, **SHORT))
    envs.reset(seed=0)
    for _ in range(12):
        *_, infos = envs.step(envs.action_space.sample())
    assert infos["episode"]["l"].tolist() == [12, 12, 12]


def test_closing_twice_is_once_and_nothing_works_afterwards():
    envs = native(2, **SHORT)
    with pytest.raises(ResetNeeded):
        envs.step(envs.action_space.sample())
    envs.reset(seed=0)
    envs.close()
    envs.close()
    with pytest.raises(ClosedEnvironmentError):
        envs.step(envs.action_space.sample())
    with pytest.raises(ClosedEnvironmentError):
        envs.reset()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1])
def test_a_bad_action_is_refused_with_the_index_of_its_copy(bad):
    envs = native(4, **SHORT)
    envs.reset(seed=0)
    actions = np.full((4, 2), 0.5)
    actions[2, 1] = bad
    with pytest.raises(ConfigError, match=r"of copy 2 is not allowed; every entry must be finite and not negative"):
        envs.step(actions)
    *_, infos = envs.step(np.full((4, 2), 0.5))
    assert infos["iterations"].tolist() == [6] * 4, "a refused step trains nothing"


def test_malformed_actions_are_refused():
    envs = native(4, **SHORT)
    envs.reset(seed=0)
    with pytest.raises(ConfigError, match=r"shape \(2,\); it must be \(4, 2\)"):
        envs.step(np.ones(2))
    with pytest.raises(ConfigError, match="4 rows of 2 numbers"):
        envs.step([["a", "b"]] * 4)
    envs = native(4, action_mode="fractions", **SHORT)
    envs.reset(seed=0)
    with pytest.raises(ConfigError, match=r"of copy 3 is not allowed; fractions lie in \[0, 1\]"):
        envs.step([[1.0, 1.0]] * 3 + [[1.0, 1.5]])


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("render_mode", "ansi"),
        ("select", "validation"),
        ("autoreset_mode", AutoresetMode.DISABLED),
        ("autoreset_mode", "next"),
        ("max_episode_steps", 5),
    ],
)
def test_what_it_does_not_support_is_refused_by_name(argument, value):
    with pytest.raises(ConfigError, match=rf'{argument}=.*vectorization_mode="sync"'):
        native(2, **{argument: value})


def test_some_copies_alone_are_not_reset():
    envs = native(2, **SHORT)
    with pytest.raises(ConfigError, match=r'reset_mask.*vectorization_mode="sync"'):
        envs.reset(options={"reset_mask": np.array([True, False])})
    envs.reset(seed=0, options={"reset_mask": np.array([True, True])})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"total_batch": 128, "size_step": 64}, r"size_step=64 .*\[64, 64\].*must be at most 62"),
        ({"total_batch": 128, "size_step": 63, "action_mode": "fractions"}, r"size_step=63 .*must be at most 62"),
        ({"total_batch": 128, "size_step": 49, "min_fraction": 0.25}, r"size_step=49 .*must be at most 48"),
        ({"size_step": 2, "lever": "rates"}, r"size_step=2 .*lever='rates'.*must be 1"),
    ],
)
def test_a_step_that_leaves_no_choice_of_sizes_is_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        gym.make(ID, **settings)
    with pytest.raises(ConfigError, match=named):
        native(2, **settings)


def test_a_bad_setting_is_refused_as_the_single_environment_does():
    with pytest.raises(ConfigError, match="Did you mean 'interval'"):
        native(2, intervall=3)
    with pytest.raises(ConfigError, match="num_envs"):
        native(0)


# -- allocation ----------------------------------------------------------------------------------------

entries = st.one_of(
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0, width=32),
    st.sampled_from([0.0, 1.0, 0.5, 0.25, 1e-9, 1e-320, 1e300, 1.7e308]),
)


@given(
    actions=st.integers(1, 5).flatmap(
        lambda m: st.integers(1, 6).flatmap(lambda n: arrays(np.float64, (n, m), elements=entries))
    ),
    batch=st.integers(1, 200),
    extra=st.integers(0, 4),
    tightness=st.floats(0.0, 1.0),
)
def test_the_rule_on_columns_is_the_rule_on_one_split(actions, batch, extra, tightness):
    m = actions.shape[1]
    total, floor = m * batch + extra, int(tightness * batch)
    shares = run_group.normalised(actions.T.copy())
    sizes = run_group.sizes_from_shares(shares, total, floor)
    for i, action in enumerate(actions):
        # From Python 3.12 on sum() rounds better than NumPy's; then shares may differ in the last bit.
        np.testing.assert_allclose(shares[:, i], allocation.normalise(action.tolist()), rtol=1e-15, atol=0)
        assert sizes[:, i].tolist() == allocation.sizes_from_shares(shares[:, i].tolist(), total, floor)
    assert (sizes.sum(axis=0) == total).all()
    assert (sizes >= floor).all()


@pytest.mark.parametrize("name", ["fake/steps", "fake/run"])
def test_seeds_for_many_runs_are_the_seeds_of_each(name):
    seeds = [0, 1, 2**32 - 1, 2**32, 2**63 - 2, *np.random.default_rng(0).integers(2**63 - 1, size=50).tolist()]
    for words, seed in zip(seed_words(seeds, name), seeds, strict=True):
        np.testing.assert_array_equal(words, RunSeeds(seed).sequence(name).generate_state(4, np.uint64))
        assert fake_vector._generator(words).random() == RunSeeds(seed).generator(name).random()
