"""TorchRL drives the environment; skipped without it (``pip install "dus-gym[toolkits]"``)."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch

pytest.importorskip("torchrl")

from tensordict.nn import TensorDictModule
from torchrl.envs import GymEnv, GymWrapper, check_env_specs
from torchrl.modules import ProbabilisticActor

import dus_gym  # noqa: F401 - registers the ids

ID = "dus_gym:DUS-Fake-v0"
EPOCHS = 8


def wrapped(**settings):
    return GymWrapper(gym.make(ID, epochs=EPOCHS, **settings))


def by_name(**settings):
    return GymEnv(ID, epochs=EPOCHS, **settings)


class Concentrations(torch.nn.Module):
    """Scores ``(..., m)`` to the concentrations of a Dirichlet, each above 1."""

    def __init__(self, num_modalities):
        super().__init__()
        self.net = torch.nn.Linear(num_modalities, num_modalities)

    def forward(self, observation):
        return 1.0 + 10.0 / math.log(2.0) * torch.nn.functional.softplus(self.net(observation))


def dirichlet_actor(env):
    m = env.action_spec.shape[-1]
    module = TensorDictModule(Concentrations(m), in_keys=["observation"], out_keys=["concentration"])
    return ProbabilisticActor(
        module,
        in_keys=["concentration"],
        spec=env.action_spec,
        distribution_class=torch.distributions.Dirichlet,
        return_log_prob=True,
    )


@pytest.fixture(params=["GymWrapper", "GymEnv"])
def make(request):
    return wrapped if request.param == "GymWrapper" else by_name


@pytest.mark.parametrize("task", ["Digits", "Digits3"])
def test_the_specs_hold(make, task):
    env = make(task=task)
    m = 3 if task == "Digits3" else 2
    assert env.action_spec.shape == env.observation_spec["observation"].shape == (m,)
    check_env_specs(env)


def test_a_rollout_under_a_dirichlet_actor_is_one_whole_run(make):
    torch.manual_seed(0)
    env = make()
    env.set_seed(0)
    actor = dirichlet_actor(env)
    run = env.rollout(1000, actor)
    assert run.shape == (EPOCHS,)
    torch.testing.assert_close(run["action"].sum(-1), torch.ones(EPOCHS))
    assert run["next", "terminated"].squeeze(-1).tolist() == [False] * (EPOCHS - 1) + [True]
    # Eq. 5 of the scores seen and the shares chosen.
    dominated = run["observation"] != run["observation"].max(-1, keepdim=True).values
    expected = (run["action"].log() * dominated).sum(-1, keepdim=True) / 2
    torch.testing.assert_close(run["next", "reward"], expected)


def test_its_gradient_reaches_the_actor(make):
    torch.manual_seed(0)
    env = make()
    actor = dirichlet_actor(env)
    run = env.rollout(EPOCHS, actor)
    log_prob = actor.get_dist(run).log_prob(run["action"])
    (-log_prob * run["next", "reward"].squeeze(-1)).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in actor.parameters())


def test_the_environment_underneath_is_ours(make):
    env = make()
    env.set_seed(0)
    env.rollout(EPOCHS)
    assert np.isfinite(env.unwrapped.evaluate().fused["sum"].accuracy)
