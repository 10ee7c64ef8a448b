"""Batches read ahead by threads while the model trains on the one before."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from dus_gym.data.dataset import Indices, Split, StackedSplit

AHEAD = 2
"""Iterations that are read before they are needed, to begin with."""
MOST_AHEAD = 16
"""The same at most."""
MOST_BYTES = 1 << 30
"""Bytes read ahead at most, but for the first :data:`AHEAD` iterations, and for what is under way when samples grow."""
WAITING = 0.05
"""Part of the time that training may wait for samples before more is read ahead."""


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


class Ahead:
    """The number of iterations read ahead, found by measurement: doubled while training waits and doubling helps.

    Reading further ahead also reads more at once, as far as there are threads. Results do not depend on it. It comes
    down at once where samples grow so that fewer of them have room.

    Args:
        depth: iterations to begin with.
        most: iterations at most.
    """

    def __init__(self, depth: int = AHEAD, most: int = MOST_AHEAD) -> None:
        self.depth, self.most = depth, most
        self._before: tuple[int, float] | None = None
        """Depth and waiting of before the last doubling, which is not judged yet."""
        self._begin()

    def _begin(self) -> None:
        self._seen, self._waited, self._whole = 0, 0.0, 0.0

    def fit(self, size: int) -> bool:
        """Read no further ahead than :data:`MOST_BYTES` has room for; return whether that is less than before.

        Args:
            size: bytes of an iteration's samples, which change with the batch sizes.
        """
        if self.depth <= (room := _room(size)):
            return False
        self.depth, self._before = room, None
        self._begin()
        return True

    def saw(self, waited: float, whole: float, size: int) -> None:
        """Take in an iteration.

        Args:
            waited: seconds that training waited for its samples.
            whole: seconds since the samples of the one before were there.
            size: bytes of its samples.
        """
        if self.fit(size):
            return
        self._seen += 1
        # Those that were under way at the last change say nothing of it.
        if self._seen > self.depth:
            self._waited += waited
            self._whole += whole
        if self._seen < 2 * self.depth + 4:
            return
        waits = self._waited / self._whole if self._whole > 0.0 else 0.0
        self._begin()
        before, self._before = self._before, None
        if waits < WAITING:
            return
        if before is not None and waits > 0.9 * before[1]:
            # Something else is the limit.
            self.depth = self.most = before[0]
            return
        deeper = min(2 * self.depth, self.most, _room(size))
        if deeper > self.depth:
            self.depth, self._before = deeper, (self.depth, waits)


def _room(size: int) -> int:
    """Return how many iterations of that many bytes may be read ahead."""
    return max(AHEAD, MOST_BYTES // max(1, size))


def _threads(modalities: int, most: int, device: torch.device) -> int:
    """Return how many threads read, one for each sample batch that may be under way as far as there are processors.

    On the CPU no more than there are modalities: there ``prepare`` transforms as well, by operations that have threads
    of their own, beside training and other runs' processes.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = modalities if device.type == "cpu" else modalities * (1 + most)
    return max(1, min(wanted, usable - 1))


def _bytes_of(prepared: Any) -> int:
    """Return the bytes of what a split prepared, of several runs in a list; 0 where it does not tell."""
    if isinstance(prepared, list):
        return sum(map(_bytes_of, prepared))
    size: int = getattr(prepared, "nbytes", 0)
    return size


def in_order(
    split: Split,
    indices: Sequence[Sequence[Tensor]],
    samples: Sequence[Indices],
    draws: Sequence[Indices] | None,
    *,
    ahead: Ahead | None = None,
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
        ahead: how many iterations are read before they are needed, which goes on from call to call.
        threads: at most this many; by default as many as there are other processors that this process may use, and on
            the CPU no more than modalities.
    """
    m, count = len(indices), len(indices[0])
    if not isinstance(split, PreparedSplit):
        for i in range(count):
            if draws is None:
                yield tuple(split.fetch(j, rows[i]) for j, rows in enumerate(indices))
            else:
                yield tuple(split.fetch(j, rows[i], draws[j][i]) for j, rows in enumerate(indices))
        return
    ahead = Ahead() if ahead is None else ahead
    if threads is None:
        threads = _threads(m, ahead.most, indices[0][0].device) if count else 1
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
            started, before = 0, 0.0
            for i in range(count):
                while started < min(i + 1 + ahead.depth, count):
                    start(started)
                    started += 1
                asked = time.perf_counter()
                ready = [future.result() for future in waiting.popleft()]
                came = time.perf_counter()
                size = sum(map(_bytes_of, ready))
                if i:
                    ahead.saw(came - asked, came - before, size)
                else:
                    # The first of a stretch is waited for anyway.
                    ahead.fit(size)
                before = came
                yield tuple(split.finish(j, prepared) for j, prepared in enumerate(ready))
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
