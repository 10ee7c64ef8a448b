"""Weights from a file: tensors by name, checked entry by entry; no code runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dus_gym.errors import ConfigError, PretrainedNotFoundError, first_line

NONE = "none"
"""The word for random weights."""
_SHOWN = 5


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Tensors by name from a ``torch.save`` file or a ``.safetensors`` file.

    Raises:
        PretrainedNotFoundError: if there is no such file.
        ConfigError: for a file that is damaged, holds something else, or could run code when loaded.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise ConfigError(f"weights={str(path)!r} is a folder; give the file of weights in it.")
    if not file.exists():
        raise PretrainedNotFoundError(
            f"weights={str(path)!r}: there is no file {file.absolute()}. Give the path of a downloaded file, "
            f"or weights={NONE} to start from random ones."
        )
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # Damaged files raise anything, from EOFError to UnicodeDecodeError.
        raise ConfigError(
            f"weights={str(path)!r} can't be loaded ({first_line(error)}). Only tensors by name are read, as "
            "torch.save(model.state_dict(), file) writes them; a damaged file, or one that could run code, is refused."
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        keys = f" with the entries {some(found)}" if isinstance(found, Mapping) else ""
        raise ConfigError(
            f"weights={str(path)!r} holds a {type(found).__name__}{keys} instead of tensors by name; save the "
            "model's state_dict() alone."
        )
    return dict(found)


def load_weights(network: nn.Module, state: Mapping[str, Tensor], weights: str) -> None:
    """Copies ``state`` into ``network``; every entry must fit, none may be left over or missing.

    Counters of batches that BatchNorm saw may be missing: PyTorch before 0.4.1 did not save them.

    Args:
        network: changed in place, and only if everything fits.
        state: tensors by the network's own names.
        weights: what the user asked for, for the message.

    Raises:
        ConfigError: naming the entries that don't fit.
    """
    own = network.state_dict()
    problems = []
    if missing := [name for name in own if name not in state and not name.endswith("num_batches_tracked")]:
        problems.append(f"{len(missing)} entries are missing ({some(missing)})")
    if extra := [name for name in state if name not in own]:
        problems.append(f"{len(extra)} entries are not of this network ({some(extra)})")
    if wrong := [
        f"{name} is {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]:
        problems.append(f"{len(wrong)} have another shape ({some(wrong)})")
    if problems:
        raise ConfigError(f"weights={weights!r} are of another network: {'; '.join(problems)}.")
    network.load_state_dict({**own, **state})


def stem_of_channels(kernel: Tensor, channels: int) -> Tensor:
    """The first kernel of a network of RGB images for another number of channels: the mean over RGB, for each.

    The BatchNorm behind it makes up for the other scale as it trains.

    Args:
        kernel: ``(out, in, ...)``; returned as it is unless ``in`` is 3 and ``channels`` another number.
        channels: wanted input channels.

    Returns:
        ``(out, channels, ...)``.
    """
    if kernel.shape[1] != 3 or channels == 3:
        return kernel
    return kernel.mean(dim=1, keepdim=True).expand(-1, channels, *kernel.shape[2:]).clone()


def some(names: Mapping[Any, Any] | list[str]) -> str:
    """The first few of many names, for a message."""
    shown = [str(name) for name in names][:_SHOWN]
    return ", ".join(shown) + (", …" if len(names) > _SHOWN else "")
