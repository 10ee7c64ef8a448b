"""The small encoder of the embedded tasks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from dus_gym.errors import check_at_least


@dataclass(frozen=True)
class MLPOptions:
    """Options of ``mlp``."""

    hidden: int = 64
    """Units of both layers, and the number of features."""

    def __post_init__(self) -> None:
        check_at_least("hidden", self.hidden, 1)


class MLP(nn.Module):
    """d-64-64 with a ReLU after each layer and PyTorch's default initialisation.

    Args:
        input_shape: the shape of one sample; it is flattened.
        hidden: units of both layers.
    """

    def __init__(self, input_shape: tuple[int, ...], hidden: int = 64) -> None:
        super().__init__()
        self.out_features = hidden
        self.layers = nn.Sequential(
            nn.Linear(math.prod(input_shape), hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Samples ``(n, ...)`` to features ``(n, hidden)``."""
        features: Tensor = self.layers(inputs.flatten(1))
        return features
