"""ResNets from torchvision, without their classification layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from dus_gym.encoders.checkpointing import CheckpointingEncoder
from dus_gym.encoders.frames import check_image_shape, per_frame
from dus_gym.encoders.pretrained import torchvision_state
from dus_gym.encoders.weights import NONE, load_weights, read_state_dict, stem_of_channels
from dus_gym.errors import ConfigError, check_at_least

_WORDS = {"imagenet": "IMAGENET1K_V1", "imagenet-v2": "IMAGENET1K_V2"}


@dataclass(frozen=True)
class ResNet18Options:
    """Options of ``resnet18``."""

    weights: str = NONE
    """``none``, ``imagenet`` (torchvision's IMAGENET1K_V1), or a file with a torchvision state dict."""


@dataclass(frozen=True)
class ResNet50Options:
    """Options of ``resnet50``."""

    weights: str = NONE
    """``none``, ``imagenet`` or ``imagenet-v2`` (torchvision's IMAGENET1K_V1 and _V2), or a file with a torchvision
    state dict."""
    out: int = 1024
    """Features after a linear projection; 0: the 2048 of the network itself."""

    def __post_init__(self) -> None:
        check_at_least("out", self.out, 0)


class ResNet18(CheckpointingEncoder):
    """ResNet-18, 512 features; the paper's encoder of audio and video, from scratch there.

    Args:
        input_shape: ``(channels, height, width)`` of one sample, or ``(channels, frames, height, width)``: the last
            feature maps are then averaged over frames, height and width. The stem takes that many channels.
        options: see :class:`ResNet18Options`.
    """

    def __init__(self, input_shape: tuple[int, ...], options: ResNet18Options | None = None) -> None:
        from torchvision.models import ResNet18_Weights, resnet18

        super().__init__()
        check_image_shape(input_shape)
        weights = (options or ResNet18Options()).weights
        self.network, self.out_features = _headless(resnet18(weights=None), input_shape[0])
        _load(self.network, weights, ResNet18_Weights)

    def forward(self, inputs: Tensor) -> Tensor:
        """Samples ``(n, C, H, W)`` or ``(n, C, T, H, W)`` to features ``(n, 512)``."""
        return per_frame(partial(_pooled, self, self.network), inputs)


class ResNet50(CheckpointingEncoder):
    """ResNet-50 with a linear projection to 1024 features; the paper's encoder of pictures.

    Args:
        input_shape: as of :class:`ResNet18`.
        options: see :class:`ResNet50Options`.
    """

    def __init__(self, input_shape: tuple[int, ...], options: ResNet50Options | None = None) -> None:
        from torchvision.models import ResNet50_Weights, resnet50

        super().__init__()
        check_image_shape(input_shape)
        options = options or ResNet50Options()
        self.network, features = _headless(resnet50(weights=None), input_shape[0])
        self.projection = nn.Linear(features, options.out) if options.out else nn.Identity()
        self.out_features = options.out or features
        _load(self.network, options.weights, ResNet50_Weights)

    def forward(self, inputs: Tensor) -> Tensor:
        """Samples ``(n, C, H, W)`` or ``(n, C, T, H, W)`` to features ``(n, out)``."""
        features: Tensor = self.projection(per_frame(partial(_pooled, self, self.network), inputs))
        return features


def _headless(network: nn.Module, channels: int) -> tuple[nn.Module, int]:
    """The network without its last layer and with a stem for ``channels``, and its number of features."""
    features = cast(nn.Linear, network.fc).in_features
    network.fc = nn.Identity()
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    return network, features


def _pooled(encoder: CheckpointingEncoder, network: Any, images: Tensor) -> Tensor:
    """Images ``(n, C, H, W)`` to the network's features ``(n, d)``, by blocks where the encoder computes them twice."""
    if not encoder.recomputes:
        whole: Tensor = network(images)
        return whole
    # The stem's maps are the largest of all, so it is a block, too.
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    stages = (network.layer1, network.layer2, network.layer3, network.layer4)
    maps = encoder.through([stem, *(block for stage in stages for block in stage)], images)
    features: Tensor = network.fc(network.avgpool(maps).flatten(1))
    return features


def _load(network: nn.Module, weights: str, published: Any) -> None:
    """Pretrained weights into a network without its last layer."""
    if weights == NONE:
        return
    if weights in _WORDS:
        if _WORDS[weights] not in published.__members__:
            raise ConfigError(f"weights={weights!r} are not published for this network; take weights=imagenet.")
        state = torchvision_state(published[_WORDS[weights]])
    else:
        state = read_state_dict(weights)
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    if "conv1.weight" in state:
        channels = cast(nn.Conv2d, network.conv1).in_channels
        state["conv1.weight"] = stem_of_channels(state["conv1.weight"], channels)
    load_weights(network, state, weights)
