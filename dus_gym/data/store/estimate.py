"""What decoding would take, told from a few rows."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dus_gym.data.store.decoder import Decoder, Problem, Row, attempt

PROBES = 8


@dataclass(frozen=True)
class Estimate:
    """What decoding would take."""

    bytes: int
    """On disk."""
    seconds: float
    """In one process."""
    probes: int
    """Rows that were decoded for it."""
    problems: tuple[tuple[Row, Problem], ...]
    """Those of them that can't be decoded."""


def estimate(decoder: Decoder, rows: Sequence[Row], probes: int = PROBES) -> Estimate:
    """Size and time of a store, from decoding a few rows spread over all; writes nothing.

    Rows of the same files and payload count once. Where every probe is bad, only a fixed shape gives a size.
    """
    distinct = _distinct(rows)
    count = len(distinct)
    places = sorted({round(k * (count - 1) / max(probes - 1, 1)) for k in range(min(probes, count))})
    started = time.perf_counter()
    results = [(distinct[i], attempt(decoder, distinct[i])) for i in places]
    sizes = [found.nbytes for _, found in results if isinstance(found, np.ndarray)]
    problems = tuple((row, found) for row, found in results if not isinstance(found, np.ndarray))
    seconds = (time.perf_counter() - started) / max(len(places), 1)
    each = sum(sizes) / max(len(sizes), 1)
    if decoder.fixed_shape is not None:
        each = math.prod(decoder.fixed_shape) * np.dtype(decoder.dtype).itemsize
    return Estimate(math.ceil(each * count), seconds * count, len(places), problems)


def estimate_bytes(decoder: Decoder, rows: Sequence[Row], probes: int = PROBES) -> int:
    """The size part of :func:`estimate`; with a fixed shape nothing is decoded for it."""
    return estimate(decoder, rows, 0 if decoder.fixed_shape is not None else probes).bytes


def _distinct(rows: Sequence[Row]) -> list[Row]:
    return list({(row.paths, row.payload): row for row in rows}.values())
