"""Encoders: one file each, all with the attribute ``out_features``, the width of what they return.

An encoder is asked for by a word, ``NAME`` or ``NAME:option=value:option=value``. Each has a frozen dataclass of
options in its file; heavy packages are imported only when a network of theirs is built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from torch import Tensor, nn

from dus_gym.encoders.bag import Bag, BagOptions
from dus_gym.encoders.bert import Bert, BertOptions
from dus_gym.encoders.checkpointing import CheckpointingEncoder
from dus_gym.encoders.clip import ClipImage, ClipImageOptions, ClipText, ClipTextOptions
from dus_gym.encoders.cnn import CNN, CNNOptions
from dus_gym.encoders.i3d import I3D, I3DOptions
from dus_gym.encoders.mlp import MLP, MLPOptions
from dus_gym.encoders.resnet import ResNet18, ResNet18Options, ResNet50, ResNet50Options
from dus_gym.errors import ConfigError, DatasetNotFoundError, unknown_name
from dus_gym.options import build_options, parse_pairs


class Encoder(Protocol):
    """A network from one modality's samples ``(n, ...)`` to features ``(n, out_features)``."""

    out_features: int

    def __call__(self, inputs: Tensor, /) -> Tensor:
        """Features ``(n, out_features)``."""
        ...


@dataclass(frozen=True)
class Entry:
    """One row of the table of encoders."""

    options: type[Any]
    """Frozen dataclass of its options."""
    build: Callable[[tuple[int, ...], Any], nn.Module]
    """From the shape of one sample and the options."""
    cut_texts: bool = False
    """True if it takes texts whose padding is cut off, for its cost goes by their length. That of ``bag`` goes by their
    words, and its runs train as one computation, for which samples must be of one shape."""


ENCODERS: dict[str, Entry] = {
    "mlp": Entry(MLPOptions, lambda shape, options: MLP(shape, options.hidden)),
    "cnn": Entry(CNNOptions, CNN),
    "resnet18": Entry(ResNet18Options, ResNet18),
    "resnet50": Entry(ResNet50Options, ResNet50),
    "bag": Entry(BagOptions, Bag),
    "bert": Entry(BertOptions, Bert, cut_texts=True),
    "clip-text": Entry(ClipTextOptions, ClipText, cut_texts=True),
    "clip-image": Entry(ClipImageOptions, ClipImage),
    "i3d": Entry(I3DOptions, I3D),
}


def encoder_options(word: str) -> tuple[str, Any]:
    """An encoder's name and its checked options, without building it.

    Args:
        word: ``"mlp"``, ``"bert:weights=none:hidden=32"`` and so on. A colon begins an option only where a name
            and ``=`` follow it, so a value may hold colons of its own.

    Raises:
        ConfigError: for an unknown encoder, an unknown option of it or a value of another type.
    """
    name, colon, rest = word.partition(":")
    if name not in ENCODERS:
        raise unknown_name("encoder", name, ENCODERS)
    pairs = re.split(r":(?=[A-Za-z_-]+=)", rest) if colon else []
    given = parse_pairs(pairs, word)
    try:
        return name, build_options(ENCODERS[name].options, given, "option")
    except ConfigError as error:
        raise type(error)(f"encoder {word!r}: {error}") from error


def can_checkpoint(word: str) -> bool:
    """Return whether an encoder has blocks that can be computed again."""
    build = ENCODERS[encoder_options(word)[0]].build
    return isinstance(build, type) and issubclass(build, CheckpointingEncoder)


def cuts_texts(word: str) -> bool:
    """Return whether an encoder takes texts whose padding is cut off."""
    return ENCODERS[encoder_options(word)[0]].cut_texts


def check_checkpointing(words: Sequence[str]) -> None:
    """Refuse ``checkpointing=True`` where it would change nothing.

    Args:
        words: the encoders of a task.

    Raises:
        ConfigError: if none of them is made of blocks that can be computed again.
    """
    if not any(map(can_checkpoint, words)):
        able = filter(can_checkpoint, ENCODERS)
        raise ConfigError(
            f"checkpointing=True saves nothing here: none of the encoders {', '.join(words)} is made of blocks, as "
            f"{', '.join(able)} are; leave it out."
        )


def build_encoder(word: str, input_shape: tuple[int, ...], *, checkpointing: bool = False) -> nn.Module:
    """An encoder, freshly initialised from PyTorch's default generator or with the weights its options name.

    Args:
        word: a name of the table with options, see :func:`encoder_options`.
        input_shape: the shape of one sample.
        checkpointing: whether it keeps the inputs of its blocks alone and computes these again for the gradient; one
            without blocks keeps everything all the same.

    Raises:
        ConfigError: for a word that can't be, a shape the encoder does not take, or weights that don't fit it.
        DatasetNotFoundError: for weights that are not there; says what was looked for and how to get them.
    """
    name, options = encoder_options(word)
    try:
        # Pretrained networks arrive in evaluation mode, fresh ones in training mode.
        encoder = ENCODERS[name].build(tuple(input_shape), options).train()
    except (ConfigError, DatasetNotFoundError) as error:
        raise type(error)(f"encoder {word!r}: {error}") from error
    if checkpointing and isinstance(encoder, CheckpointingEncoder):
        encoder.enable_checkpointing()
    return encoder


def width(encoder: nn.Module) -> int:
    """The number of features an encoder returns."""
    return cast(Encoder, encoder).out_features
