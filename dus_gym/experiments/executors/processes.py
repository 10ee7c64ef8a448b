"""Runs in processes beside this one, each with its own few threads; a lost process costs what it did since it saved."""

from __future__ import annotations

import logging
import os
import pickle
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self

import cloudpickle

from dus_gym.errors import ConfigError
from dus_gym.experiments.executors.executor import IMPORTED, Work, WorkerLostError, attempt

log = logging.getLogger(__name__)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Read by numerical libraries once, when they are loaded; later calls reach only some of their pools."""

IDLE_SECONDS = 10.0
"""How long a process without a task has to end by itself."""


def devices_of(worker: int, gpus: float) -> list[int]:
    """Numbers of the GPUs that a worker may see.

    Args:
        worker: its number, from 0.
        gpus: GPUs of one worker; below 1, as many workers share one as fit.
    """
    if gpus < 1.0:
        return [int(worker // int(1.0 / gpus + 1e-9))]
    return list(range(worker * int(gpus), (worker + 1) * int(gpus)))


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets variables of the environment for as long as the block takes."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: Connection, modules: Sequence[str]) -> None:
    """A worker's life: imports what the command did, and does what comes through the pipe until it closes."""
    # Ctrl-C reaches every process of the terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in modules:
        import_module(name)
    while True:
        try:
            work, task, again = pickle.loads(pipe.recv_bytes())
        except EOFError:
            return
        pipe.send(attempt(work, task, again))


def _packed(work: Work, task: Any, again: bool) -> bytes:
    """A task for another process; functions of scripts, notebooks and functions go with it.

    Raises:
        ConfigError: for what can't be sent.
    """
    try:
        packed: bytes = cloudpickle.dumps((work, task, again))
    except Exception as error:
        raise ConfigError(
            f"{task}: it can't be sent to another process ({error}); leave --workers and --ray out, or hand over an "
            "agent that can be pickled."
        ) from error
    return packed


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, variables: dict[str, str]) -> None:
        # Spawn: a forked copy of a process that has used PyTorch's threads or CUDA may hang.
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        # Not a daemon: those may have no processes of their own, which data loaders need.
        self.process = context.Process(target=_serve, args=(theirs, tuple(IMPORTED)), name="dus-worker")
        with environment(variables):
            self.process.start()
        theirs.close()
        self.task: tuple[int, int] | None = None
        """Index of the task it does, and how often that was lost before."""

    def end(self) -> None:
        """Ends the process, in the middle of a task too: its folder is as after any kill."""
        self.pipe.close()
        if self.task is None:
            self.process.join(IDLE_SECONDS)
        self.process.kill()
        self.process.join()


class Processes:
    """Up to ``workers`` tasks at once on this machine.

    Args:
        workers: processes; begun when there is something to do, ended when the block ends.
        threads: CPU threads of each.
        gpus: GPUs of each; 0: all may use all.
        retries: how often a task whose process died is taken up again.

    Raises:
        ConfigError: if the workers need more GPUs than there are.
    """

    def __init__(self, workers: int, *, threads: int = 1, gpus: float = 0.0, retries: int = 2) -> None:
        self.retries = retries
        threading = dict.fromkeys(THREAD_VARIABLES, str(threads))
        self._free = [threading] * workers
        if gpus:
            import torch

            seen = [devices_of(worker, gpus) for worker in range(workers)]
            there = torch.cuda.device_count()
            if seen[-1][-1] >= there:
                raise ConfigError(
                    f"workers={workers} with gpus={gpus} each need {seen[-1][-1] + 1} GPUs and there are {there}."
                )
            self._free = [threading | {"CUDA_VISIBLE_DEVICES": ",".join(map(str, devices))} for devices in seen]
        self._workers: dict[_Worker, dict[str, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in [*self._workers]:
            self._end(worker)

    def do(self, work: Work, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """See :class:`dus_gym.experiments.executors.executor.Executor`."""
        waiting = deque((index, 0) for index in range(len(tasks)))
        while waiting or any(worker.task for worker in self._workers):
            while waiting and (worker := self._idle()) is not None:
                index, lost = worker.task = waiting.popleft()
                # A pipe whose other end has died is ready to be read below.
                with suppress(BrokenPipeError, ConnectionResetError):
                    worker.pipe.send_bytes(_packed(work, tasks[index], lost > 0))
            busy: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers if worker.task}
            for pipe in wait([*busy]):
                worker = busy[pipe]
                assert worker.task is not None
                index, lost = worker.task
                try:
                    outcome = worker.pipe.recv()
                except (EOFError, ConnectionResetError):
                    self._end(worker)
                    code = worker.process.exitcode
                    if lost < self.retries:
                        log.warning("%s: its process was lost (exit code %s); taken up again.", tasks[index], code)
                        waiting.appendleft((index, lost + 1))
                        continue
                    outcome = WorkerLostError(
                        f"{tasks[index]}: its process was lost {lost + 1} times (exit code {code}; -9 is a kill, often "
                        "for want of memory); what it saved is still there."
                    )
                worker.task = None
                yield index, outcome

    def _idle(self) -> _Worker | None:
        """A worker without a task; a new one if there may be more; else None."""
        for worker in self._workers:
            if not worker.task:
                return worker
        if not self._free:
            return None
        variables = self._free.pop(0)
        worker = _Worker(variables)
        self._workers[worker] = variables
        return worker

    def _end(self, worker: _Worker) -> None:
        self._free.insert(0, self._workers.pop(worker))
        worker.end()
