"""Networks of single images on clips: frames are folded into the batch and their features averaged."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from dus_gym.errors import ConfigError


def check_image_shape(input_shape: tuple[int, ...]) -> None:
    """Refuses samples that are neither images nor clips.

    Raises:
        ConfigError: unless ``input_shape`` is (channels, height, width) or (channels, frames, height, width).
    """
    if len(input_shape) not in (3, 4) or min(input_shape) < 1:
        raise ConfigError(
            f"samples of shape {tuple(input_shape)} are not allowed; it takes (channels, height, width) or "
            "(channels, frames, height, width). For vectors use the encoder 'mlp'."
        )


def per_frame(network: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Features of images, or of clips as the mean over their frames.

    Where ``network`` ends in average pooling, this is the mean of its last feature maps over time, height and width.

    Args:
        network: from ``(n, C, H, W)`` to ``(n, d)``.
        inputs: ``(k, C, H, W)`` or ``(k, C, T, H, W)``.

    Returns:
        ``(k, d)``.
    """
    if inputs.ndim == 4:
        return network(inputs)
    count, frames = inputs.shape[0], inputs.shape[2]
    folded = network(inputs.transpose(1, 2).flatten(0, 1))
    return folded.view(count, frames, -1).mean(dim=1)
