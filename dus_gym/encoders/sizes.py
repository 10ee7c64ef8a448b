"""Sizes of the text and picture transformers where they start from random weights."""

from __future__ import annotations

from collections.abc import Mapping

from dus_gym.encoders.weights import NONE
from dus_gym.errors import ConfigError, check_at_least


def random_sizes(weights: str, options: object, published: Mapping[str, int]) -> dict[str, int]:
    """Sizes of a network with random weights: the published ones, or what the options of the same names say.

    Args:
        weights: the option; pretrained weights bring their own sizes, so that none may be given beside them.
        options: has an attribute for each size, None where it was not given.
        published: defaults by name; those of ``hidden`` and ``heads`` among them.

    Raises:
        ConfigError: naming the option.
    """
    given = {name: getattr(options, name) for name in published if getattr(options, name) is not None}
    if given and weights != NONE:
        raise ConfigError(
            f"{', '.join(given)} can't be set beside weights={weights!r}, which bring their own; "
            f"give weights={NONE} for a network with random weights."
        )
    for name, value in given.items():
        check_at_least(name, value, 1)
    sizes = {**published, **given}
    if sizes["hidden"] % sizes["heads"]:
        raise ConfigError(
            f"hidden={sizes['hidden']} is not allowed; it must be a multiple of heads={sizes['heads']}. Set both."
        )
    return sizes
