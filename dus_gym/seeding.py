"""Private random generators of one run, all derived from one integer.

A run never touches the global generators of NumPy or PyTorch. Each consumer asks for a generator by
name, so adding one consumer can't shift the numbers that another one sees.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from dus_gym.errors import ConfigError

if TYPE_CHECKING:
    import torch


class RunSeeds:
    """Named generators of one run.

    Args:
        seed: any non-negative integer; the same seed gives the same generators.

    Raises:
        ConfigError: for a seed that is no such integer.
    """

    def __init__(self, seed: int) -> None:
        if isinstance(seed, bool) or int(seed) != seed or seed < 0:
            raise ConfigError(f"seed={seed!r} is not allowed; it must be a whole number, 0 or above.")
        self.seed = int(seed)

    def sequence(self, name: str) -> np.random.SeedSequence:
        """The seed sequence of one named consumer."""
        return np.random.SeedSequence([self.seed, zlib.crc32(name.encode())])

    def generator(self, name: str) -> np.random.Generator:
        """A fresh NumPy generator for the consumer ``name``."""
        return np.random.default_rng(self.sequence(name))

    def integer(self, name: str) -> int:
        """A 63-bit integer for libraries that want a plain seed."""
        return int(self.sequence(name).generate_state(1, np.uint64)[0]) >> 1


@contextmanager
def isolated_torch_rng(state: dict[str, torch.Tensor]) -> Iterator[None]:
    """Runs a block on a private copy of PyTorch's default generators and puts the global ones back.

    Layers such as dropout can only draw from the default generator. Inside the block that generator
    continues from ``state``; afterwards ``state`` holds where it stopped, so it can be saved.

    Args:
        state: device name (``"cpu"``, ``"cuda:0"``) to generator state, a uint8 tensor. Changed in place.
    """
    import torch

    def read(device: str) -> torch.Tensor:
        return torch.get_rng_state() if device == "cpu" else torch.cuda.get_rng_state(device)

    def write(device: str, value: torch.Tensor) -> None:
        if device == "cpu":
            torch.set_rng_state(value)
        else:
            torch.cuda.set_rng_state(value, device)

    outer = {device: read(device) for device in state}
    try:
        for device, value in state.items():
            write(device, value)
        try:
            yield
        finally:
            for device in state:
                state[device] = read(device)
    finally:
        for device, value in outer.items():
            write(device, value)


def fresh_torch_state(seeds: RunSeeds, name: str, device: str) -> dict[str, torch.Tensor]:
    """The starting state for :func:`isolated_torch_rng` on the CPU and, if it is one, on a CUDA device."""
    import torch

    seed = seeds.integer(name)
    state = {"cpu": torch.Generator().manual_seed(seed).get_state()}
    if device.startswith("cuda"):
        state[device] = torch.Generator(device).manual_seed(seed).get_state()
    return state
