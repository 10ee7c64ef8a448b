"""ResNets from torchvision, without their classification layer."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class ResNet18(nn.Module):
    """ResNet-18 from scratch, 512 features; the paper's encoder of audio and video.

    Args:
        input_shape: ``(channels, height, width)`` of one sample; the stem takes that many channels.
    """

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        from torchvision.models import resnet18

        super().__init__()
        network: nn.Module = resnet18(weights=None)
        self.out_features = cast(nn.Linear, network.fc).in_features
        network.fc = nn.Identity()
        if input_shape[0] != 3:
            network.conv1 = nn.Conv2d(input_shape[0], 64, kernel_size=7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """Samples ``(n, channels, height, width)`` to features ``(n, 512)``."""
        features: Tensor = self.network(inputs)
        return features
