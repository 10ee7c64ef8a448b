"""CUDA graphs on the CPU: what a capture records and forbids, and what a replay writes, without a card."""

import time
import weakref
from contextlib import ExitStack, contextmanager, nullcontext
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero")
"""Operations for which the host waits for the device."""
HOST = ("tolist", "numpy", "cpu", "item")
"""Methods of a tensor that do so."""
FROM_HOST = ("tensor", "from_numpy")
"""Functions whose tensor is of the host's memory."""


def refuse(*_, **__):
    raise RuntimeError("operation not permitted when stream is capturing")


def storage_of(tensor):
    return tensor.untyped_storage()


class _Recording(TorchDispatchMode):
    """Recorder of operations with the very tensors and numbers that they had."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.outside = {}
        """Memory that was there before, with a copy of what it held."""
        self.created = {}
        """Memory of the graph's pool: a flat view of each."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.__name__.partition(".")[0]
        by_mask = name in ("index", "index_put", "index_put_") and any(
            of is not None and of.dtype == torch.bool for of in args[1]
        )
        if name in FORBIDDEN or by_mask:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        for tensor in tensors((args, kwargs)):
            at = storage_of(tensor).data_ptr()
            if at not in self.created and at not in self.outside:
                self.outside[at] = (tensor, storage_of(tensor).clone())
        found = func(*args, **kwargs)
        for tensor in tensors(found):
            at = storage_of(tensor).data_ptr()
            if at not in self.outside and at not in self.created:
                self.created[at] = torch.empty(0, dtype=tensor.dtype).set_(storage_of(tensor))
        self.calls.append((func, args, kwargs, found))
        return found

    def undo(self):
        """A capture does nothing but record."""
        for tensor, before in self.outside.values():
            storage_of(tensor).copy_(before)
        self.outside = {}

    def spoil(self):
        """What lies in the pool is anybody's until it is written again."""
        for flat in self.created.values():
            if flat.is_floating_point():
                flat.fill_(float("nan"))
            elif flat.dtype != torch.bool:
                flat.fill_(torch.iinfo(flat.dtype).min)

    def run(self):
        for func, args, kwargs, outputs in self.calls:
            found = func(*args, **kwargs)
            for old, new in zip(tensors(outputs), tensors(found), strict=True):
                if storage_of(old).data_ptr() != storage_of(new).data_ptr():
                    assert old.shape == new.shape, f"{func} gave another shape"
                    old.copy_(new)


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


@contextmanager
def forbidding():
    with ExitStack() as stack:
        for name in HOST:
            stack.enter_context(mock.patch.object(torch.Tensor, name, refuse))
        for name in FROM_HOST:
            stack.enter_context(mock.patch.object(torch, name, refuse))
        yield


class EmulatedGraphs:
    """A stand-in for ``dus_gym.graphs.CudaGraphs`` whose graphs run on the CPU.

    A capture changes no tensor and no generator. Graphs share a pool: whatever one of them left there is spoilt as soon
    as any is replayed. They share the workspaces of libraries as well, which go as soon as any is destroyed: from then
    on, none of those captured before can be replayed.
    """

    def __init__(self, free=1.0, fail=None):
        self.recordings = []
        self.free_part, self.fail = free, fail
        self.released = 0
        self.destroyed = 0
        """Graphs that are gone."""

    def __deepcopy__(self, memo):
        return type(self)(self.free_part, self.fail)

    def stream(self):
        return nullcontext()

    def capture(self, work):
        recording, generator = _Recording(), torch.get_rng_state()
        try:
            if self.fail is not None:
                raise self.fail
            with recording, forbidding():
                found = work()
        finally:
            recording.undo()
            torch.set_rng_state(generator)
        self.recordings.append(recording)
        recording.spoil()

        before = self.destroyed

        def replay():
            assert self.destroyed == before, "a graph was destroyed whose workspaces this one uses"
            for other in self.recordings:
                other.spoil()
            with torch._C._AutoDispatchBelowAutograd():
                recording.run()

        weakref.finalize(replay, self._destroy)
        return found, replay

    def _destroy(self):
        self.destroyed += 1

    def mark(self):
        return time.perf_counter()

    def milliseconds(self, start, end):
        return 1000.0 * (end - start)

    def free(self):
        return self.free_part

    def wait(self):
        pass

    def release(self):
        self.released += 1
        self.recordings = []
