"""The small real tasks as environments: they train from files, and say what to do without them."""

import warnings

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from small_data import write_ratings, write_recordings, write_tweets, write_views
from stable_baselines3.common.env_checker import check_env as sb3_check

import dus_gym  # noqa: F401 - registers the ids
from dus_gym.errors import DatasetNotFoundError

SMALL = {
    "DUS-AVDigits-v0": write_recordings,
    "DUS-AVDigitsOfficial-v0": write_recordings,
    "DUS-CREMADRatings-v0": write_ratings,
    "DUS-MFeat-v0": write_views,
    "DUS-SarcasmTags-v0": write_tweets,
}
# SB3 would like a symmetric box; the simplex is the contract.
ALLOWED = "We recommend you to use a symmetric and normalized Box action space"


@pytest.mark.parametrize("env_id", SMALL)
def test_both_checkers_pass_on_the_real_trainer(env_id, tmp_path):
    settings = {"data_root": str(SMALL[env_id](tmp_path)), "epochs": 12, "iterations": 2}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gymnasium_check(gym.make(f"dus_gym:{env_id}", **settings).unwrapped)
        sb3_check(gym.make(f"dus_gym:{env_id}", **settings).unwrapped)
    assert [str(w.message) for w in caught if ALLOWED not in str(w.message)] == []


@pytest.mark.parametrize("env_id", SMALL)
def test_a_run_ends_with_figures_of_the_test_split(env_id, tmp_path):
    env = gym.make(env_id, data_root=str(SMALL[env_id](tmp_path)), epochs=1, iterations=3)
    env.reset(seed=0)
    _, _, ended, _, _ = env.step(env.action_space.high)
    assert ended
    core = env.unwrapped
    assert (core.trainer, core.run.data_kind) == ("real", "real")
    found = core.evaluate()
    assert list(found.modalities) == list(core.modalities)
    assert 0.0 <= found.fused["sum"].accuracy <= 1.0


@pytest.mark.parametrize("env_id", SMALL)
def test_without_its_files_an_id_says_how_to_get_them_at_reset_and_not_before(env_id):
    env = gym.make(env_id, data_root="/nowhere/at/all")
    with pytest.raises(DatasetNotFoundError) as caught:
        env.reset(seed=0)
    for words in ("/nowhere/at/all is no folder", "dus data fetch", "--root DIR", 'trainer="fake"', env_id):
        assert words in str(caught.value)


@pytest.mark.parametrize("names", [("fou", "mor"), ("pix", "fou", "fac")])
def test_the_fake_trainer_follows_the_views_asked_for(names):
    env = gym.make("DUS-MFeat-v0", trainer="fake", task_options={"modalities": names}, epochs=2)
    assert env.action_space.shape == (len(names),)
    env.reset(seed=0)
    _, _, _, _, info = env.step(env.action_space.high)
    assert f"val_accuracy/{names[0]}" in info
