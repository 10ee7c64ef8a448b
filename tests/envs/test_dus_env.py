"""The environment's contract."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded

from dus_gym.envs.dus_env import DUSEnv
from dus_gym.errors import CheckpointError, ConfigError, DusError
from dus_gym.state import load_state, save_state

UNIFORM = np.array([0.5, 0.5], dtype=np.float32)


def digits(**settings):
    return DUSEnv("Digits", **({"epochs": 3} | settings))


def finish(env, action=UNIFORM):
    ended, infos, observations, rewards = False, [], [], []
    while not ended:
        observation, reward, ended, _, info = env.step(action)
        observations.append(observation)
        rewards.append(reward)
        infos.append(info)
    return observations, rewards, infos


def test_reset_shows_a_forward_only_score_that_eq3_never_averages():
    env = digits(epochs=1)
    observation, info = env.reset(seed=0)
    weights = {name: value.clone() for name, value in env.run.model.state_dict().items()}
    env.run.probe()
    assert all(torch.equal(weights[name], value) for name, value in env.run.model.state_dict().items())
    assert info["iterations"] == 0
    # An untrained network gives ten classes about a tenth each.
    assert observation == pytest.approx([0.1, 0.1], abs=0.03)
    interval = []
    original = env.run.train
    env.run.train = lambda sizes, k, rates: interval.append(original(sizes, k, rates)) or interval[-1]
    observation, *_ = env.step(UNIFORM)
    means = np.mean([scores for scores, _ in interval[0].iteration_scores], axis=0)
    np.testing.assert_allclose(observation, means, rtol=1e-5)


def test_uniform_shares_are_the_ordinary_batch():
    env = digits()
    env.reset(seed=0)
    *_, info = env.step(UNIFORM)
    assert (info["size/pixels"], info["size/columns"]) == (64, 64)
    assert info["samples/pixels"] == 6 * 64
    assert info["iterations"] == 6


@pytest.mark.parametrize(
    ("action", "sizes"),
    [([0.25, 0.75], (32, 96)), ([2.0, 6.0], (32, 96)), ([0.0, 0.0], (64, 64)), ([1.0, 0.0], (126, 2))],
)
def test_shares_are_renormalised_and_floored(action, sizes):
    env = digits()
    env.reset(seed=0)
    *_, info = env.step(np.array(action, dtype=np.float32))
    assert (info["size/pixels"], info["size/columns"]) == sizes


def test_fractions_are_of_each_modalitys_own_batch():
    env = digits(action_mode="fractions", min_fraction=0.25)
    env.reset(seed=0)
    *_, info = env.step(np.array([0.5, 1.0], dtype=np.float32))
    assert (info["size/pixels"], info["size/columns"]) == (32, 64)
    *_, info = env.step(np.array([0.0, 1.0], dtype=np.float32))
    assert (info["size/pixels"], info["size/columns"]) == (16, 64)


def test_the_reward_is_eq5_on_the_state_the_agent_saw():
    env = digits(epochs=20)
    env.reset(seed=0)
    for _ in range(6):
        observation, *_ = env.step(UNIFORM)
    dominant = int(np.argmax(observation))
    shares = np.array([0.3, 0.7], dtype=np.float32)
    _, reward, *_ = env.step(shares)
    assert reward == pytest.approx(0.5 * math.log(float(shares[1 - dominant])), rel=1e-5)


def test_eq5_is_finite_where_the_weak_modality_gets_nothing():
    env = digits(epochs=20)
    observation, _ = env.reset(seed=0)
    action = np.zeros(2, dtype=np.float32)
    action[int(np.argmax(observation))] = 1.0
    _, reward, *_ = env.step(action)
    assert reward == pytest.approx(0.5 * math.log(1e-8))


@pytest.mark.parametrize("reward", ["gap", "gap-change", "validation-gain", "learning-progress"])
def test_other_rewards_follow_from_info(reward):
    env = digits(reward=reward)
    _, before = env.reset(seed=0)
    for _ in range(3):
        _, value, _, _, info = env.step(UNIFORM)
        expected = {
            "gap": -info["gap"],
            "gap-change": before["gap"] - info["gap"],
            "validation-gain": info["val_fused/method"] - before["val_fused/method"],
            "learning-progress": sum(before[k] - info[k] for k in ("val_loss/pixels", "val_loss/columns")) / 2,
        }[reward]
        assert value == pytest.approx(expected, abs=1e-12)
        before = info


def test_the_last_epoch_terminates_and_the_test_split_is_scored_after_it():
    env = digits()
    env.reset(seed=0)
    with pytest.raises(DusError, match="before the end"):
        env.evaluate()
    _, _, infos = finish(env)
    assert [info["epoch"] for info in infos] == [1, 2, 3]
    assert set(env.evaluate().fused) == {"method", "concat", "sum", "entropy"}
    with pytest.raises(DusError, match="after the end"):
        env.step(UNIFORM)


def test_an_interval_is_a_number_of_iterations():
    env = digits(interval=4)
    env.reset(seed=0)
    assert env.horizon == 5
    _, _, infos = finish(env)
    assert [info["iterations"] for info in infos] == [4, 8, 12, 16, 18]
    assert infos[-1]["epoch"] == 3


def test_total_batch_sets_the_batch_and_the_iterations():
    env = digits(total_batch=40)
    env.reset(seed=0)
    *_, info = env.step(UNIFORM)
    assert (info["size/pixels"], info["iterations"]) == (20, 400 // 20)


def test_equal_seeds_are_equal_to_the_bit_and_other_seeds_are_not():
    def episode(seed):
        env = digits()
        first = env.reset(seed=seed)
        return first[0].tolist(), first[1], finish(env)[2], env.evaluate()

    assert episode(5) == episode(5)
    assert episode(5) != episode(6)


def test_resets_without_a_seed_form_a_reproducible_sequence():
    env = digits()
    env.reset(seed=3)
    second = env.reset()[1]
    env.reset(seed=3)
    assert env.reset()[1] == second
    assert env.reset()[1] != second


def test_the_global_generators_are_left_alone():
    np.random.seed(0)  # noqa: NPY002 - the global generator is what this test watches
    torch.manual_seed(0)
    legacy, framework = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    env = digits()
    env.reset(seed=0)
    finish(env)
    env.evaluate()
    assert np.random.get_state()[1].tolist() == legacy  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), framework)


def test_a_run_that_diverges_terminates_and_says_so():
    env = digits(lr_scale=(1e12, 1e12), epochs=20)
    observation, _ = env.reset(seed=0)
    ended = False
    while not ended:
        observation, reward, ended, truncated, info = env.step(UNIFORM)
        assert env.observation_space.contains(observation)
        assert math.isfinite(reward)
        assert all(math.isfinite(value) for value in info.values())
    assert info["diverged"]
    assert not truncated
    assert info["epoch"] < 20
    assert env.evaluate().fused["concat"].accuracy < 0.3


@pytest.mark.parametrize("method", ["baseline", "mla"])
@pytest.mark.parametrize("trainer", ["real", "fake"])
@pytest.mark.parametrize("interval", [None, 4])
def test_a_snapshot_on_disk_continues_to_the_same_bits(tmp_path, method, trainer, interval):
    settings = {"method": method, "trainer": trainer, "interval": interval, "epochs": 6}
    actions = np.random.default_rng(0).dirichlet([2.0, 2.0], size=64).astype(np.float32)

    def go_on(env, start):
        seen, ended, i = [], False, start
        while not ended:
            observation, reward, ended, _, info = env.step(actions[i])
            seen.append((observation.tolist(), reward, info))
            i += 1
        return seen, env.evaluate()

    env = digits(**settings)
    env.reset(seed=7)
    for i in range(3):
        env.step(actions[i])
    save_state(tmp_path / "snapshot", "checkpoint", env.snapshot())
    expected = go_on(env, 3)
    fresh = digits(**settings)
    observation, info = fresh.restore(load_state(tmp_path / "snapshot", "checkpoint"))
    assert info["iterations"] > 0
    assert observation.shape == (2,)
    assert go_on(fresh, 3) == expected
    # The generator behind later resets continues too.
    assert env.reset()[1] == fresh.reset()[1]


@pytest.mark.parametrize(
    "other", [{"method": "mla"}, {"loss_norm": "fixed"}, {"trainer": "fake"}, {"epochs": 4}, {"min_fraction": 0.5}]
)
def test_a_snapshot_of_other_settings_is_refused_by_name(other):
    env = digits()
    env.reset(seed=0)
    state = env.snapshot()
    with pytest.raises(CheckpointError, match=next(iter(other))):
        digits(**other).restore(state)
    with pytest.raises(CheckpointError, match="task"):
        DUSEnv("DigitsControl", epochs=3).restore(state)


@pytest.mark.parametrize(
    ("action", "named"),
    [
        ([float("nan"), 1.0], "finite"),
        ([float("inf"), 1.0], "finite"),
        ([-0.1, 1.0], "not negative"),
        ([1.0], "shape"),
        ([[0.5, 0.5]], "shape"),
        ([0.2, 0.3, 0.5], "shape"),
    ],
)
def test_malformed_actions_are_refused_and_change_nothing(action, named):
    env = digits()
    env.reset(seed=0)
    with pytest.raises(ConfigError, match=named) as caught:
        env.step(np.array(action, dtype=np.float32))
    assert "action" in str(caught.value)
    assert isinstance(caught.value, ValueError)
    *_, info = env.step(UNIFORM)
    assert info["epoch"] == 1


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"total_batch": 3}, "total_batch=3.*at least 4"),
        ({"total_batch": 30, "min_samples": 16}, "total_batch=30"),
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": -2}, "epochs=-2"),
        ({"epochs": 1.5}, r"epochs=1\.5"),
        ({"interval": 0}, "interval=0"),
        ({"min_fraction": 1.5}, r"min_fraction=1\.5"),
        ({"reward": "papr"}, "reward='papr'.*paper"),
        ({"loss_norm": "sum"}, "loss_norm='sum'"),
        ({"cumulative": "all"}, "cumulative='all'"),
        ({"trainer": "fak"}, "trainer='fak'"),
        ({"method": "basline"}, "basline.*baseline"),
        ({"method_options": {"fused_wieght": 1.0}}, "fused_wieght.*fused_weight"),
        ({"epoch": 3}, "epoch.*epochs"),
        ({"render_mode": "human"}, "render_mode='human'"),
    ],
)
def test_bad_settings_are_refused_at_construction(settings, named):
    with pytest.raises(ConfigError, match=named):
        DUSEnv("Digits", **settings)


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(ConfigError, match=r"Digts.*Digits"):
        DUSEnv("Digts")


def test_step_before_reset_is_refused():
    with pytest.raises(ResetNeeded):
        digits().step(UNIFORM)
    env = gym.make("dus_gym:DUS-Digits-v0", epochs=1)
    with pytest.raises(ResetNeeded):
        env.step(UNIFORM)


def test_close_may_be_called_twice_and_before_reset():
    env = digits()
    env.close()
    env.reset(seed=0)
    env.close()
    env.close()
    with pytest.raises(ResetNeeded):
        env.step(UNIFORM)


@pytest.mark.parametrize("interval", [None, 1])
def test_the_picture_and_the_table_show_the_run(interval):
    env = digits(render_mode="rgb_array", interval=interval, epochs=100, trainer="fake")
    env.reset(seed=0)
    empty = env.render()
    finish(env, np.array([0.25, 0.75], dtype=np.float32))
    drawn = env.render()
    assert drawn.shape == empty.shape
    half = len(drawn) // 2
    blue, orange = (np.all(drawn[half:] == colour, axis=2).sum() for colour in ((0, 114, 178), (230, 159, 0)))
    # The lower half shows the split: a quarter blue, three quarters orange.
    assert blue / (blue + orange) == pytest.approx(0.25, abs=0.02)
    text = digits(render_mode="ansi")
    text.reset(seed=0)
    text.step(np.array([0.25, 0.75], dtype=np.float32))
    lines = text.render().splitlines()
    assert "pixels" in lines[1]
    assert "/ 32" in lines[2]
    assert "/ 96" in lines[2]


def test_agents_that_choose_the_same_sizes_see_the_same_samples():
    # The rounding of these shares gives the same sizes, so the two runs must be the same run.
    one, other = digits(), digits()
    one.reset(seed=0)
    other.reset(seed=0)
    finish(one, np.array([0.25, 0.75], dtype=np.float32))
    finish(other, np.array([0.2501, 0.7499], dtype=np.float32))
    assert one.evaluate() == other.evaluate()


@pytest.mark.parametrize("method", ["domfn", "reconboost", "di_mml", "pmr"])
def test_a_snapshot_of_a_later_phase_is_put_back_in_a_fresh_environment(method):
    # Which parameters are trained and have momentum is not that of a run that has just begun.
    first, second = (DUSEnv("Digits3", method=method, epochs=8) for _ in range(2))
    thirds = np.full(3, 1 / 3, dtype=np.float32)
    first.reset(seed=0)
    for _ in range(6):
        info = first.step(thirds)[4]
    assert second.restore(first.snapshot())[1] == info
    assert [first.step(thirds)[4] for _ in range(2)] == [second.step(thirds)[4] for _ in range(2)]
    assert second.evaluate() == first.evaluate()


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("mps", r"Apple's GPUs are never used; use 'cpu'"),
        ("mps:0", "never used"),
        ("tpu", "here; use 'cpu'"),
    ],
)
def test_a_device_that_is_not_computed_on_is_refused_and_says_what_is(device, said):
    with pytest.raises(ConfigError, match=rf"device='{device}' is not .*{said}"):
        digits(device=device).reset(seed=0)
