"""Small runs for the tests of the core: the digit tasks, and a toy whose samples carry their own index."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dus_gym.config import RunConfig
from dus_gym.data.dataset import TaskData, TensorSplit
from dus_gym.data.registry import get_task
from dus_gym.methods import make_method
from dus_gym.optim import OptimizerConfig
from dus_gym.seeding import RunSeeds
from dus_gym.trainer import Recipe, Trainer


def _method(method, options):
    return make_method(method, options) if isinstance(method, str) else method


@pytest.fixture(scope="session")
def digits_run():
    """A trainer of a digit task; keywords that are no setting: method, method_options, seed, optimizer, data."""

    def start(task="Digits", *, method="baseline", method_options=None, seed=0, optimizer=None, data=None, **settings):
        seeds = RunSeeds(seed)
        recipe = Recipe.of(get_task(task))
        if optimizer is not None:
            recipe = replace(recipe, optimizer=OptimizerConfig(**optimizer))
        found = get_task(task).data(seeds, None) if data is None else data(get_task(task).data(seeds, None))
        config = RunConfig.of({"epochs": 3} | settings)
        return Trainer(recipe, found, _method(method, method_options), config, seeds)

    return start


@pytest.fixture(scope="session")
def toy_run():
    """A trainer of 40 samples, B = 8, 5 iterations an epoch; feature 0 of every modality is the sample's index / 64."""

    def start(m=2, *, method="baseline", method_options=None, seed=0, validation=True, optimizer=None, **settings):
        rng = np.random.default_rng(5)

        def split(n):
            labels = rng.integers(0, 3, n)
            inputs = []
            for j in range(m):
                x = rng.standard_normal((n, 4 + j))
                x[:, 0] = np.arange(n) / 64
                x[:, 1] += 2.0 * labels
                inputs.append(torch.tensor(x, dtype=torch.float32))
            return TensorSplit(tuple(inputs), torch.tensor(labels))

        data = TaskData(split(40), split(16) if validation else None, split(24), [(4 + j,) for j in range(m)])
        recipe = Recipe(
            modalities=tuple("abcd"[:m]),
            num_classes=3,
            encoders=("mlp",) * m,
            optimizer=OptimizerConfig(**({"lr": 0.01, "schedule": "none"} | (optimizer or {}))),
            epochs=4,
            batch=8,
        )
        config = RunConfig.of(settings)
        return Trainer(recipe, data, _method(method, method_options), config, RunSeeds(seed))

    return start


@pytest.fixture(scope="session")
def weights_of():
    """A copy of every parameter and buffer of a trainer's model."""
    return lambda trainer: {name: value.clone() for name, value in trainer.model.state_dict().items()}


@pytest.fixture(scope="session")
def same_bits():
    """Whether two nested states are equal to the bit."""

    def same(one, other):
        if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
            one, other = torch.as_tensor(one), torch.as_tensor(other)
            return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one.cpu(), other.cpu())
        if isinstance(one, np.ndarray):
            return np.array_equal(one, other)
        if isinstance(one, dict):
            return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
        if isinstance(one, list | tuple):
            return len(one) == len(other) and all(map(same, one, other))
        return one == other

    return same
