"""Captured steps: the operations of an iteration recorded once for each pair of sizes, and launched as one.

An image encoder at small batches is hundreds of small kernels an iteration, which the host launches one by one. A CUDA
graph launches them together, but for one shape alone: addresses and Python's numbers are frozen in it. So there is one
for every pair of sizes that comes often enough to pay, all in one pool of memory; what changes between iterations lies
in tensors that are filled before each (samples, learning rates), and what an iteration leaves is copied out after it.
"""

from __future__ import annotations

import copy
import gc
import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self, TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from dus_gym.batch import Batch
from dus_gym.context import Context
from dus_gym.costs import is_memory_error
from dus_gym.errors import ConfigError, first_line
from dus_gym.recorder import Recorder
from dus_gym.records import GraphsUsed

_log = logging.getLogger(__name__)
Result = TypeVar("Result")
Train = Callable[[Batch, Recorder], None]
"""Trains one iteration on a batch, and records it."""

WARM_UP = 3
"""Iterations of a size before its capture, as PyTorch asks: libraries choose algorithms and make workspaces, Adam its
moments. They are iterations of the run like any other."""
FIRST = 20
"""Iterations to come for which a size is captured before anything was measured; a guess."""
MOST = 64
"""Captured steps at most; each keeps its samples and its logits."""
LEAST_FREE = 0.1
"""Part of the device's memory that must be free before a step is captured."""
STREAMS = 32
"""Streams that PyTorch has for a device; it gives the same ones out in turn."""


class Graphs(Protocol):
    """A device that can record operations and run them again."""

    def stream(self) -> AbstractContextManager[None]:
        """Return a context in which iterations run, whether captured or not; ordered after and before all outside."""
        ...

    def capture(self, work: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        """Record what ``work`` does, without doing it; return what it returns, and what does it.

        What comes of the work lies where the next one may write: it is to be copied before anything else is replayed.
        """
        ...

    def mark(self) -> Any:
        """Return the present as the device will come to it, for :meth:`milliseconds`."""
        ...

    def milliseconds(self, start: Any, end: Any) -> float:
        """Return the time between two marks; waits for the device where it has not come to them."""
        ...

    def free(self) -> float:
        """Return the part of the device's memory that nobody holds."""
        ...

    def wait(self) -> None:
        """Wait until all that was launched is done: captured work may not go while it runs."""
        ...

    def release(self) -> None:
        """Let go of the memory of all captured work, of which nothing will be run again.

        Part of it can't go: what one piece leaves with the libraries, the others use.
        """
        ...


class CudaGraphs:
    """CUDA graphs of one card, on one stream and in one pool of memory.

    Warm-up, capture and replay share a stream, so that workspaces of libraries, which go by stream, are made outside a
    capture. They are freed when any graph of the stream is destroyed, under all others, so that graphs are destroyed
    together or not at all. Replays one after another may share memory, whatever their order: each begins with filled
    inputs, and its results are copied out before the next.

    Args:
        device: a CUDA device.
    """

    _of_stream: ClassVar[WeakValueDictionary[int, CudaGraphs]] = WeakValueDictionary()
    """The one that captures on each stream, by the stream's address."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream: torch.cuda.Stream | None = None
        self._pool: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return one with a stream and a pool of its own."""
        return type(self)(self.device)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """See :class:`Graphs`."""
        if self._stream is None:
            self._stream = self._own_stream()
        outside = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(outside)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            outside.wait_stream(self._stream)

    def _own_stream(self) -> torch.cuda.Stream:
        """Return a stream on which nobody else captures: its workspaces go when anybody's graph on it goes.

        Raises:
            ConfigError: if there is none.
        """
        for collected in (False, True):
            if collected:
                # Runs that are over lie in cycles.
                gc.collect()
            for _ in range(STREAMS):
                stream = torch.cuda.Stream(self.device)
                if self._of_stream.setdefault(stream.cuda_stream, self) is self:
                    return stream
        raise ConfigError(
            f"graphs='auto' is for at most {STREAMS} runs at once in a process; use graphs='off', or end some of them."
        )

    def capture(self, work: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        """See :class:`Graphs`."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        failed: Exception | None = None
        # What is collected inside a capture would be freed inside it, another run's graphs among it.
        gc.collect()
        collects = gc.isenabled()
        gc.disable()
        try:
            # Threads that read samples ahead may pin memory meanwhile, which is theirs alone.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                try:
                    found = work()
                except Exception as error:
                    failed = error
                    raise
        except Exception:
            if failed is not None:
                # What the end of a broken capture says hides what broke it.
                raise failed from None
            raise
        finally:
            # An error that is kept here would keep this frame, and with it the graph and its memory.
            failed = None
            if collects:
                gc.enable()
        return found, graph.replay

    def mark(self) -> torch.cuda.Event:
        """See :class:`Graphs`."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def milliseconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """See :class:`Graphs`."""
        end.synchronize()
        took: float = start.elapsed_time(end)
        return took

    def free(self) -> float:
        """See :class:`Graphs`."""
        # What PyTorch keeps for later is free as well, and a capture gives it back anyway.
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info(self.device)
        return free / total

    def wait(self) -> None:
        """See :class:`Graphs`."""
        if self._stream is not None:
            self._stream.synchronize()

    def release(self) -> None:
        """See :class:`Graphs`."""
        self._pool = None
        torch.cuda.empty_cache()


def graphs_of(device: torch.device) -> Graphs | None:
    """Return the graphs of a device; None where it has none."""
    return CudaGraphs(device) if device.type == "cuda" else None


@dataclass
class _Mean:
    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    @property
    def value(self) -> float:
        return self.total / self.count


class Rule:
    """The decision whether a capture pays, from what iterations and captures took in this run so far, milliseconds."""

    def __init__(self) -> None:
        self._eager: dict[Hashable, _Mean] = {}
        self._replayed: dict[Hashable, _Mean] = {}
        self._captures = _Mean()

    def saw_eager(self, key: Hashable, milliseconds: float) -> None:
        """Take in an iteration of a size that was launched operation by operation."""
        self._eager.setdefault(key, _Mean()).add(milliseconds)

    def saw_replay(self, key: Hashable, milliseconds: float) -> None:
        """Take in an iteration of a size that was launched as one."""
        self._replayed.setdefault(key, _Mean()).add(milliseconds)

    def saw_capture(self, milliseconds: float) -> None:
        """Take in a capture."""
        self._captures.add(milliseconds)

    def slower(self, key: Hashable) -> bool:
        """Return whether launching a size's iterations as one has turned out to save nothing."""
        both = key in self._eager and key in self._replayed
        return both and self._replayed[key].value >= self._eager[key].value

    def pays(self, key: Hashable, expected: float) -> bool:
        """Return whether a capture pays for as many iterations of a size as are expected.

        Sizes sum to the same number, so that one which was not measured is taken to be like the mean of those that
        were. Before any was measured both ways, :data:`FIRST` iterations are enough.
        """
        ratios = [self._replayed[k].value / self._eager[k].value for k in self._replayed if k in self._eager]
        if not ratios or not self._captures.count:
            return expected >= FIRST
        means = [self._eager[key]] if key in self._eager else list(self._eager.values())
        eager = sum(mean.value for mean in means) / len(means)
        measured = self._replayed.get(key)
        replayed = eager * sum(ratios) / len(ratios) if measured is None else measured.value
        return (eager - replayed) * expected > self._captures.value


@dataclass
class _Step:
    """One captured iteration."""

    batch: Batch
    """What it reads."""
    recorder: Recorder
    """What it recorded."""
    logged: dict[str, float | Tensor]
    """What it reported of the method's own figures."""
    replay: Callable[[], None]
    launched: bool = False
    """Whether it has run; the first time takes longer."""


class CapturedSteps:
    """The captured iterations of one run, and the rule that decides which to capture.

    What an iteration's operations depend on is in two parts. The sizes of its samples, and which owners of parameters
    share a learning rate, tell captured steps apart. The rest is the situation: the phase, the tensors that the
    optimiser keeps, what the method says of itself. When it changes, all of them go.

    A run's bits do not depend on which of its iterations were captured.

    Args:
        graphs: of the run's device.
        method: name of the run's method, for messages.
    """

    def __init__(self, graphs: Graphs, method: str) -> None:
        self.graphs, self.method = graphs, method
        self.rule = Rule()
        self.used = GraphsUsed()
        self._steps: dict[Hashable, _Step] = {}
        self._situation: Any = None
        self._warm: Counter[Hashable] = Counter()
        """Iterations of a size since captured steps went last."""
        self._before: Counter[Hashable] = Counter()
        """Iterations of a size in all stretches that have ended."""
        self._marks: list[tuple[Callable[[Hashable, float], None], Hashable, Any, Any]] = []
        self._full = False
        """Whether there is no memory for more than is captured."""
        self._stopped = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return one without captured steps, which read and write the tensors of this run."""
        return type(self)(copy.deepcopy(self.graphs, memo), self.method)

    def drop(self) -> None:
        """Forget all captured steps: what they read or write has been replaced."""
        self._warm.clear()
        self._full = False
        if self._steps:
            self.graphs.wait()
            self._steps.clear()
            self.graphs.release()

    @contextmanager
    def stretch(self, train: Train, ctx: Context, situation: Any, count: int) -> Iterator[Train]:
        """Give what trains each of the ``count`` iterations of a stretch, captured where that pays.

        Args:
            train: the iteration, operation by operation.
            ctx: of the run.
            situation: see the class; None: these can't be captured.
            count: iterations of the stretch.
        """
        self._measure()
        if situation is None:
            self._because(f"method {self.method!r} works on the host in every iteration")
        if situation != self._situation:
            self.drop()
            self._situation = situation
        now: Counter[Hashable] = Counter()

        def one(batch: Batch, recorder: Recorder) -> None:
            self.used.iterations += 1
            if situation is None or self._stopped:
                train(batch, recorder)
                return
            key = _key(batch, ctx)
            if key not in self._steps and not self._full and self._warm[key] >= WARM_UP:
                # Texts differ in length from batch to batch: a size has its part of what is left.
                left = (count - now.total()) * (now[key] / now.total() if now else 1.0)
                if self.rule.pays(key, left + self._before[key]):
                    self._capture(key, train, batch, ctx)
            now[key] += 1
            start = self.graphs.mark()
            if (step := self._steps.get(key)) and not self.rule.slower(key):
                _replay(step, batch, recorder, ctx)
                self.used.replays += 1
                see, settled, step.launched = self.rule.saw_replay, step.launched, True
            else:
                train(batch, recorder)
                # The first of a size makes what the later ones have.
                see, settled = self.rule.saw_eager, self._warm[key] > 0
            self._warm[key] += 1
            if settled:
                self._marks.append((see, key, start, self.graphs.mark()))

        with self.graphs.stream():
            yield one
        self._before.update(now)

    def _capture(self, key: Hashable, train: Train, batch: Batch, ctx: Context) -> None:
        """Capture the iteration of a size, if there is memory for it; nothing is trained."""
        begin = time.perf_counter()
        # A capture waits for the device anyway.
        self.graphs.wait()
        if len(self._steps) >= MOST:
            # None can go alone. What comes often from now on is captured again.
            self.drop()
            self._before.clear()
            return
        if self.graphs.free() < LEAST_FREE:
            # What is captured stays: without it, others would be captured in its place, and it again in theirs.
            self._full = True
            self._because(f"less than {LEAST_FREE:.0%} of the device's memory is free; a larger size_step needs fewer")
            return
        static = _like(batch)
        _fill(static, batch)
        kept, outer = Recorder(len(batch.inputs)), ctx.logged
        ctx.logged = dict.fromkeys(outer, _UNSAID)
        failed: str | None = None
        try:
            _, replay = self.graphs.capture(lambda: train(static, kept))
        except Exception as error:
            what = first_line(error)
            failed = f"a capture failed ({what})"
            if is_memory_error(error):
                failed = f"memory ran out in a capture ({what}); a larger size_step needs fewer"
            # The tensors of the iteration would live as long as anybody looks at the error.
            traceback.clear_frames(error.__traceback__)
        finally:
            said, ctx.logged = ctx.logged, outer
        if failed is not None:
            self.drop()
            # What the broken capture had taken goes, too.
            self.graphs.release()
            self._stopped = True
            self._because(failed)
            return
        logged = {name: value for name, value in said.items() if value is not _UNSAID}
        self._steps[key] = _Step(static, kept, logged, replay)
        self.used.captured += 1
        took = time.perf_counter() - begin
        self.used.seconds += took
        self.rule.saw_capture(1000.0 * took)

    def _because(self, reason: str) -> None:
        """Say, once for each reason, why iterations are launched operation by operation."""
        said = self.used.why_not
        if reason not in (said or ""):
            self.used.why_not = reason if said is None else f"{said}; {reason}"
            _log.warning("CUDA graphs: %s, so iterations run operation by operation.", reason)

    def _measure(self) -> None:
        """Read what the iterations took; the device has long been through them."""
        for see, key, start, end in self._marks:
            see(key, self.graphs.milliseconds(start, end))
        self._marks = []


_UNSAID: Any = object()


def _tensors(batch: Batch) -> list[Tensor]:
    return [*batch.inputs, *batch.labels, *([] if batch.keep is None else [batch.keep])]


def _key(batch: Batch, ctx: Context) -> Hashable:
    """Return what tells captured steps apart; see :class:`CapturedSteps`."""
    forms = tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in _tensors(batch))
    return forms, batch.paired, batch.keep is None, ctx.optimizer.partition


def _like(batch: Batch) -> Batch:
    """Return a batch of the same form, not filled."""
    return replace(
        batch,
        inputs=tuple(map(torch.empty_like, batch.inputs)),
        labels=tuple(map(torch.empty_like, batch.labels)),
        keep=None if batch.keep is None else torch.empty_like(batch.keep),
    )


def _fill(static: Batch, batch: Batch) -> None:
    for into, tensor in zip(_tensors(static), _tensors(batch), strict=True):
        into.copy_(tensor, non_blocking=True)


def _replay(step: _Step, batch: Batch, recorder: Recorder, ctx: Context) -> None:
    """Train one iteration by a captured step, and copy out what it left."""
    ctx.begin(batch, recorder)
    _fill(step.batch, batch)
    step.replay()
    recorder.take(step.recorder)
    for name, value in step.logged.items():
        ctx.logged[name] = value.clone() if isinstance(value, Tensor) else value
