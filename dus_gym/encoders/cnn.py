"""The small convolutional encoder of the audio-visual digits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from dus_gym.encoders.frames import check_image_shape, per_frame
from dus_gym.errors import ConfigError, check_at_least, check_choice


@dataclass(frozen=True)
class CNNOptions:
    """Options of ``cnn``."""

    channels: tuple[int, ...] = (8, 16)
    """Channels of each convolution, such as ``8,16``."""
    hidden: int = 64
    """Units of the fully connected layer, and the number of features."""
    pool: str = "none"
    """``none``: the last maps are flattened; ``mean``: averaged over height and width, for large images."""

    def __post_init__(self) -> None:
        if not self.channels:
            raise ConfigError("channels=() is not allowed; give at least one number, such as channels=8,16.")
        for width in self.channels:
            check_at_least("channels", width, 1)
        check_at_least("hidden", self.hidden, 1)
        check_choice("pool", self.pool, ("none", "mean"))


class CNN(nn.Module):
    """Convolutions 3×3 with stride 2 and padding 1, then one fully connected layer; a ReLU after each.

    PyTorch's default initialisation, no normalisation layers.

    Args:
        input_shape: ``(channels, height, width)``, or ``(channels, frames, height, width)`` of a clip, whose
            frames' features are averaged.
        options: see :class:`CNNOptions`.
    """

    def __init__(self, input_shape: tuple[int, ...], options: CNNOptions | None = None) -> None:
        super().__init__()
        options = options or CNNOptions()
        check_image_shape(input_shape)
        layers: list[nn.Module] = []
        previous, *_, height, width = input_shape
        for channels in options.channels:
            layers += [nn.Conv2d(previous, channels, kernel_size=3, stride=2, padding=1), nn.ReLU()]
            previous, height, width = channels, (height + 1) // 2, (width + 1) // 2
        if options.pool == "mean":
            layers.append(nn.AdaptiveAvgPool2d(1))
            height = width = 1
        layers += [nn.Flatten(), nn.Linear(previous * height * width, options.hidden), nn.ReLU()]
        self.out_features = options.hidden
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        """Samples ``(n, C, H, W)`` or ``(n, C, T, H, W)`` to features ``(n, hidden)``."""
        return per_frame(self.layers, inputs)
