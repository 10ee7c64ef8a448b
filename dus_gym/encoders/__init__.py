"""Encoders: one file each, all with the attribute ``out_features``, the width of what they return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

from torch import Tensor, nn

from dus_gym.encoders.mlp import MLP
from dus_gym.encoders.resnet import ResNet18
from dus_gym.errors import unknown_name


class Encoder(Protocol):
    """A network from one modality's samples ``(n, ...)`` to features ``(n, out_features)``."""

    out_features: int

    def __call__(self, inputs: Tensor, /) -> Tensor:
        """Features ``(n, out_features)``."""
        ...


_BY_NAME: dict[str, Callable[[tuple[int, ...]], nn.Module]] = {"mlp": MLP, "resnet18": ResNet18}


def build_encoder(name: str, input_shape: tuple[int, ...]) -> nn.Module:
    """A freshly initialised encoder.

    Args:
        name: a name of the table, ``"mlp"`` and so on.
        input_shape: the shape of one sample.

    Raises:
        ConfigError: for a name that is not in the table.
    """
    if name not in _BY_NAME:
        raise unknown_name("encoder", name, _BY_NAME)
    return _BY_NAME[name](input_shape)


def width(encoder: nn.Module) -> int:
    """The number of features an encoder returns."""
    return cast(Encoder, encoder).out_features
