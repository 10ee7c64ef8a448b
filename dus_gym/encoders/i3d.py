"""Inception-I3D (Carreira & Zisserman 2017) up to Mixed_5c; the paper's encoder of RGB, depth and optical flow.

Module names are those of the published PyTorch weight files (rgb_imagenet.pt, flow_imagenet.pt), which were
converted from TensorFlow; its 'SAME' padding depends on the input's size and is worked out here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, cat, nn

from dus_gym.encoders.checkpointing import CheckpointingEncoder
from dus_gym.encoders.weights import NONE, load_weights, read_state_dict, stem_of_channels
from dus_gym.errors import ConfigError, check_choice

Triple = tuple[int, int, int]

STEM = "Conv3d_1a_7x7"
_MIXED: dict[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
"""Channels of branch 0, of the 1×1×1 and the 3×3×3 of branches 1 and 2, and of branch 3."""


@dataclass(frozen=True)
class I3DOptions:
    """Options of ``i3d``."""

    weights: str = NONE
    """``none``, or a file with the published names (rgb_imagenet.pt, flow_imagenet.pt)."""
    pool: str = "all"
    """``all``: the mean over all time steps; ``first8``: over the first eight, the field's pool of kernel (8, 7, 7),
    which drops the last two of 80 frames' ten steps."""
    width: float = 1.0
    """Factor on all channel counts, for small networks; the published weights need 1."""

    def __post_init__(self) -> None:
        check_choice("pool", self.pool, ("all", "first8"))
        if not 0 < self.width <= 1:
            raise ConfigError(f"width={self.width!r} is not allowed; it must be above 0 and at most 1.")


def same_padding(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """TensorFlow's 'SAME' padding in the order of ``torch.nn.functional.pad``: last axis first, before and after.

    The output has ceil(n / s) places; what the windows need beyond the input is split in two, the odd one after.

    Args:
        size: (time, height, width) of the input.
        kernel: of the window.
        stride: of the window.
    """
    pads: list[int] = []
    for n, k, s in reversed(list(zip(size, kernel, stride, strict=True))):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        pads += [total // 2, total - total // 2]
    return pads


class Unit(nn.Module):
    """Convolution without bias, BatchNorm, ReLU; 'SAME' padding."""

    def __init__(self, channels: int, out: int, kernel: Triple = (1, 1, 1), stride: Triple = (1, 1, 1)) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv3d = nn.Conv3d(channels, out, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out, eps=1e-3, momentum=0.01)

    def forward(self, inputs: Tensor) -> Tensor:
        """``(n, channels, t, h, w)`` to ``(n, out, ⌈t/s⌉, ⌈h/s⌉, ⌈w/s⌉)``."""
        pads = same_padding(inputs.shape[2:], self.kernel, self.stride)
        if any(pads):
            inputs = F.pad(inputs, pads)
        return F.relu(self.bn(self.conv3d(inputs)), inplace=True)


class MaxPool(nn.Module):
    """Maximum over windows with 'SAME' padding, which never wins."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, inputs: Tensor) -> Tensor:
        """``(n, c, t, h, w)`` to ``(n, c, ⌈t/s⌉, ⌈h/s⌉, ⌈w/s⌉)``."""
        pads = same_padding(inputs.shape[2:], self.kernel, self.stride)
        if any(pads):
            inputs = F.pad(inputs, pads, value=float("-inf"))
        return F.max_pool3d(inputs, self.kernel, self.stride)


class Mixed(nn.Module):
    """Four branches side by side: 1×1×1; 1×1×1 then 3×3×3, twice; maximum then 1×1×1."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        w0, w1a, w1b, w2a, w2b, w3b = widths
        self.b0 = Unit(channels, w0)
        self.b1a = Unit(channels, w1a)
        self.b1b = Unit(w1a, w1b, (3, 3, 3))
        self.b2a = Unit(channels, w2a)
        self.b2b = Unit(w2a, w2b, (3, 3, 3))
        self.b3a = MaxPool((3, 3, 3), (1, 1, 1))
        self.b3b = Unit(channels, w3b)

    def forward(self, inputs: Tensor) -> Tensor:
        """``(n, channels, t, h, w)`` to ``(n, sum of the branches, t, h, w)``."""
        branches = (
            self.b0(inputs),
            self.b1b(self.b1a(inputs)),
            self.b2b(self.b2a(inputs)),
            self.b3b(self.b3a(inputs)),
        )
        return cat(branches, dim=1)


class I3D(CheckpointingEncoder):
    """Inception-I3D without dropout and classifier: 1024 features, averaged over time, height and width.

    The stem of a depth channel, or of any count but 3, is the mean over the channels of RGB weights.

    Args:
        input_shape: ``(channels, time, height, width)``; RGB 3, optical flow 2, depth 1.
        options: see :class:`I3DOptions`.
    """

    def __init__(self, input_shape: tuple[int, ...], options: I3DOptions | None = None) -> None:
        super().__init__()
        options = options or I3DOptions()
        if len(input_shape) != 4 or min(input_shape) < 1:
            raise ConfigError(
                f"samples of shape {input_shape} are not allowed; it takes (channels, time, height, width)."
            )
        self.pool = options.pool
        self.network, self.out_features = _network(input_shape[0], options.width)
        if options.weights != NONE:
            state = {
                name: value
                for name, value in read_state_dict(options.weights).items()
                if not name.startswith("logits.")
            }
            if (stem := f"{STEM}.conv3d.weight") in state:
                state[stem] = stem_of_channels(state[stem], input_shape[0])
            load_weights(self.network, state, options.weights)

    def maps(self, inputs: Tensor) -> Tensor:
        """Clips ``(n, C, T, H, W)`` to feature maps ``(n, 1024, ⌈T/8⌉, ⌈H/32⌉, ⌈W/32⌉)``."""
        if self.recomputes:
            return self.through(self._blocks(), inputs)
        found: Tensor = self.network(inputs)
        return found

    def _blocks(self) -> list[nn.Module]:
        """Return the layers, a pool together with the one before it: its own maps are smaller than those it reads."""
        blocks: list[list[nn.Module]] = []
        for layer in self.network:
            if isinstance(layer, MaxPool):
                blocks[-1].append(layer)
            else:
                blocks.append([layer])
        return [nn.Sequential(*block) for block in blocks]

    def forward(self, inputs: Tensor) -> Tensor:
        """Clips ``(n, C, T, H, W)`` to features ``(n, 1024)``; T may differ from batch to batch."""
        maps = self.maps(inputs)
        if self.pool == "first8":
            maps = maps[:, :, :8]
        return maps.mean(dim=(2, 3, 4))


def _network(channels: int, width: float) -> tuple[nn.Sequential, int]:
    """The layers by their published names, and the channels of the last one."""

    def scaled(count: int) -> int:
        return max(1, round(count * width))

    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers[STEM] = Unit(channels, scaled(64), (7, 7, 7), (2, 2, 2))
    layers["MaxPool3d_2a_3x3"] = MaxPool((1, 3, 3), (1, 2, 2))
    layers["Conv3d_2b_1x1"] = Unit(scaled(64), scaled(64))
    layers["Conv3d_2c_3x3"] = Unit(scaled(64), scaled(192), (3, 3, 3))
    layers["MaxPool3d_3a_3x3"] = MaxPool((1, 3, 3), (1, 2, 2))
    before = {"Mixed_4b": ("MaxPool3d_4a_3x3", 3), "Mixed_5b": ("MaxPool3d_5a_2x2", 2)}
    previous = scaled(192)
    for name, counts in _MIXED.items():
        if name in before:
            pool, size = before[name]
            layers[pool] = MaxPool((size, size, size), (2, 2, 2))
        widths = [scaled(count) for count in counts]
        layers[name] = Mixed(previous, widths)
        previous = widths[0] + widths[2] + widths[4] + widths[5]
    return nn.Sequential(layers), previous
