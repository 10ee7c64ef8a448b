"""Batches read ahead by threads while the model trains on the one before."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from dus_gym.data.dataset import Indices, Split, StackedSplit

AHEAD = 2
"""Iterations that are read before they are needed."""


@runtime_checkable
class PreparedSplit(Split, Protocol):
    """A split whose :meth:`fetch` has a slow part that another thread can do."""

    shared: bool
    """True: draws are numbered alike in all modalities, so that paired rows are augmented alike."""

    def prepare(self, modality: int, rows: Indices, draws: Indices | None = None) -> Any:
        """Do the slow part; safe in any thread, and in several."""
        ...

    def finish(self, modality: int, prepared: Any) -> Tensor:
        """Do the rest, in the thread that trains."""
        ...


class StackedPreparedSplit(StackedSplit):
    """The splits of R runs, all of which have a slow part that another thread can do."""

    splits: list[Any]

    def prepare(self, modality: int, rows: Indices, draws: Indices | None = None) -> list[Any]:
        """Do the slow part of each run's rows, ``(R, k)``."""
        return [
            split.prepare(modality, own, None if draws is None else draws[r])
            for r, (split, own) in enumerate(zip(self.splits, rows, strict=True))
        ]

    def finish(self, modality: int, prepared: list[Any]) -> Tensor:
        """Do the rest, in the thread that trains."""
        parts = [split.finish(modality, of) for split, of in zip(self.splits, prepared, strict=True)]
        return torch.stack(parts)


def in_order(
    split: Split,
    indices: Sequence[Sequence[Tensor]],
    samples: Sequence[Indices],
    draws: Sequence[Indices] | None,
    *,
    ahead: int = AHEAD,
    threads: int | None = None,
) -> Generator[tuple[Tensor, ...], None, None]:
    """Yield the inputs of one iteration after another.

    Results do not depend on the number of threads. What a thread raises is raised here, at the iteration that it
    belongs to. Close the generator to stop early: it returns when no thread works any more.

    Args:
        split: read ahead if it is a :class:`PreparedSplit`; fetched when needed otherwise.
        indices: for every modality, k tensors of rows on the split's device.
        samples: the same on the host, one array ``(k, a_j)`` a modality; read for a :class:`PreparedSplit` alone.
        draws: the draw number of each, of the same shapes; None: nothing is augmented.
        ahead: iterations read before they are needed.
        threads: at most this many; one per modality by default, and no more than there are other processors.
    """
    m, count = len(indices), len(indices[0])
    if not isinstance(split, PreparedSplit):
        for i in range(count):
            if draws is None:
                yield tuple(split.fetch(j, rows[i]) for j, rows in enumerate(indices))
            else:
                yield tuple(split.fetch(j, rows[i], draws[j][i]) for j, rows in enumerate(indices))
        return
    if threads is None:
        threads = max(1, min(m, (os.cpu_count() or 1) - 1))
    with ThreadPoolExecutor(threads, "prefetch") as executor:
        waiting: deque[list[Future[Any]]] = deque()

        def start(i: int) -> None:
            waiting.append(
                [
                    executor.submit(split.prepare, j, samples[j][i], None if draws is None else draws[j][i])
                    for j in range(m)
                ]
            )

        try:
            for i in range(min(1 + ahead, count)):
                start(i)
            for i in range(count):
                ready = [future.result() for future in waiting.popleft()]
                if i + 1 + ahead < count:
                    start(i + 1 + ahead)
                yield tuple(split.finish(j, prepared) for j, prepared in enumerate(ready))
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
