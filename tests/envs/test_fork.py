"""Forks: two runs that have come the same way and get the same actions end in the same bits."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dus_gym.errors import ConfigError
from dus_gym.methods.baseline import Baseline
from dus_gym.trainer import Trainer

IDS = ("DUS-Digits-v0", "DUS-Digits3-v0", "DUS-DigitsControl-v0", "DUS-DigitsRowsCols-v0", "DUS-DigitsHalves-v0")


def same(one, other):
    """Whether two nested states are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def play(env, actions):
    """Everything an environment says under some actions."""
    told = []
    for action in actions:
        observation, reward, ended, _, info = env.step(action)
        told.append((observation.tolist(), reward, ended, info))
        if ended:
            break
    return told


cases = st.fixed_dictionaries(
    {
        "env_id": st.sampled_from(IDS),
        "seed": st.integers(0, 2**31),
        "prefix": st.integers(0, 5),
        "rest": st.integers(1, 5),
        "settings": st.fixed_dictionaries(
            {
                "trainer": st.sampled_from(["real", "real", "fake"]),
                "method": st.sampled_from(["baseline", "mla"]),
                "interval": st.sampled_from([None, 2, 5]),
                "loss_norm": st.sampled_from(["mean", "fixed"]),
                "pairing": st.sampled_from(["prefix", "independent"]),
                "select": st.sampled_from(["last", "validation"]),
                "update": st.sampled_from(["joint", "alternating"]),
            }
        ),
    }
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases)
def test_a_fork_that_gets_the_same_actions_ends_in_the_same_bits(case):
    env = gym.make(f"dus_gym:{case['env_id']}", epochs=6, iterations=3, **case["settings"]).unwrapped
    env.reset(seed=case["seed"])
    env.action_space.seed(case["seed"])
    actions = [env.action_space.sample() for _ in range(case["prefix"] + case["rest"])]
    told = play(env, actions[: case["prefix"]])
    assume(not told or not told[-1][2])
    before = env.snapshot()
    fork, other = env.fork(), env.fork()
    # Another run beside it moves nothing that the first two share.
    play(other, [1.0 - a for a in actions[case["prefix"] :]])
    assert same(env.snapshot(), before)
    assert play(fork, actions[case["prefix"] :]) == play(env, actions[case["prefix"] :])
    assert same(fork.snapshot(), env.snapshot())
    if fork._ended:
        assert fork.evaluate() == env.evaluate()


def test_a_fork_shares_the_data_and_nothing_else():
    env = gym.make("dus_gym:DUS-Digits-v0", epochs=3).unwrapped
    env.reset(seed=0)
    env.step(env.action_space.sample())
    fork = env.fork()
    assert isinstance(env.run, Trainer)
    assert fork.run._train_split is env.run._train_split
    mine = {p.data_ptr() for p in env.run.model.parameters()}
    assert mine.isdisjoint(p.data_ptr() for p in fork.run.model.parameters())
    owned = [p for name in fork.run.optimizer.names for p in fork.run.optimizer.parameters(name)]
    assert {id(p) for p in owned} == {id(p) for p in fork.run.model.parameters()}
    assert fork.run._ctx.model is fork.run.model
    assert fork.run.method is not env.run.method


def test_a_fork_draws_its_own_actions():
    env = gym.make("dus_gym:DUS-Fake-v0").unwrapped
    env.reset(seed=0)
    env.action_space.seed(4)
    fork = env.fork()
    assert np.array_equal(fork.action_space.sample(), env.action_space.sample())


def test_forks_of_forks_work_and_outlive_their_parent():
    env = gym.make("dus_gym:DUS-Digits-v0", epochs=4, iterations=2).unwrapped
    env.reset(seed=1)
    half = np.full(2, 0.5, dtype=np.float32)
    env.step(half)
    grandchild = env.fork().fork()
    told = play(env, [half] * 3)
    env.close()
    assert play(grandchild, [half] * 3) == told


def test_a_fork_before_the_first_reset_is_refused():
    env = gym.make("dus_gym:DUS-Digits-v0").unwrapped
    with pytest.raises(gym.error.ResetNeeded):
        env.fork()


def test_a_method_that_keeps_a_graph_can_not_be_forked_and_says_so():
    class Hoards(Baseline):
        def terms(self, ctx):
            self.kept = ctx.features(0)
            yield from super().terms(ctx)

    env = gym.make("dus_gym:DUS-Digits-v0", epochs=3).unwrapped
    env.reset(seed=0)
    env.run.method.__class__ = Hoards
    env.step(np.full(2, 0.5, dtype=np.float32))
    with pytest.raises(ConfigError, match=r"method='baseline'.*can't be\s+forked; keep detached"):
        env.fork()


def test_validate_changes_nothing_and_is_what_an_evaluation_would_say():
    for trainer in ("real", "fake"):
        env = gym.make("dus_gym:DUS-Digits-v0", epochs=5, trainer=trainer).unwrapped
        env.reset(seed=0)
        env.step(np.full(2, 0.5, dtype=np.float32))
        before = env.snapshot()
        assert env.run.validate() == env.run.validation
        assert same(env.snapshot(), before)
