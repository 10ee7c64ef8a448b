"""Random numbers that are counted, not drawn: a hash of (seed, modality, sample, draw).

Nothing here has a state, so neither the order nor the size of batches, nor the number of threads, nor a resumed
run can change what a sample looks like. Everything works on whole arrays of uint64.

The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood, 2014, "Fast splittable pseudorandom
number generators").
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def mix(values: Keys) -> Keys:
    """Spread every bit of 64-bit words over all bits, by a bijection; same shape."""
    z = values
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return np.asarray(z ^ (z >> np.uint64(31)))


def word_of(text: str) -> np.uint64:
    """Return 64 bits of a text's SHA-256."""
    return np.uint64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))


def words_of(texts: Iterable[str]) -> Keys:
    """Return :func:`word_of` of each, shape ``(n,)``."""
    return np.fromiter((word_of(text) for text in texts), dtype=np.uint64)


def draw_keys(seed: int, stream: str, samples: Keys, draws: npt.NDArray[np.int64]) -> Keys:
    """Return one key for each draw of a sample.

    Args:
        seed: of the run, 0 or above.
        stream: the modality's name, or one name for several that are to be changed alike.
        samples: :func:`words_of` the samples' ids, shape ``(k,)``.
        draws: which draw of the sample it is, shape ``(k,)``.

    Returns:
        Shape ``(k,)``.
    """
    start = np.full(1, word_of(f"{seed}/{stream}"))
    return split_keys(mix(start + _GAMMA) ^ mix(samples + _GAMMA), draws.astype(np.uint64))


def split_keys(keys: Keys, number: int | npt.ArrayLike) -> Keys:
    """Return keys of parts, such as the frames of a clip; ``number`` broadcasts against the keys of the wholes."""
    # numpy wraps arrays around silently, as wanted, but warns about single numbers.
    counted = np.atleast_1d(np.asarray(number, dtype=np.uint64))
    return mix(mix(keys + _GAMMA) + (counted + np.uint64(1)) * _GAMMA)


def uniforms(keys: Keys, count: int) -> npt.NDArray[np.float64]:
    """Return numbers in [0, 1), uniform and independent: shape ``(*keys.shape, count)``.

    The first numbers of a key are the same whatever ``count`` is.
    """
    words = split_keys(keys[..., None], np.arange(count))
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
