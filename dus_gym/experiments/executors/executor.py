"""Executors of many runs: in this process, in processes beside it, or on a Ray cluster."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from dus_gym.errors import ConfigError, DusError, check_at_least

Work = Callable[[Any, bool], Any]
"""Does one task, and with True goes on where a lost worker left it. A function of a module, so that another process
finds it by name; tasks and results must be picklable."""
NO_GPU = 0.0
IMPORTED: list[str] = []
"""Modules that the user's own names come from (``--import``); worker processes import them too."""


@dataclass(frozen=True)
class ScaleOptions:
    """Executor of the runs, and what each may use."""

    workers: int = field(default=1, metadata={"common": "Processes that train at once."})
    """Runs at once on this machine, each in a process of its own with --threads threads; 1: one after another in
    this process."""
    ray: str | None = None
    """Make the runs on Ray: local (a cluster on this machine, for as long as the command takes), or a cluster's address
    (HOST:PORT, or auto for the one this machine is part of). The output folder must be one that all its machines
    share."""
    parallel_runs: str = "auto"
    """Runs of one agent that train as one computation: a number, 1 for one by one, or auto: up to 32 seeds where task
    and method can. A run's last bits depend on how many train together; its summary names them."""
    retries: int = 2
    """How often a run whose worker was lost is taken up again, from its last checkpoint."""
    gpus: float = NO_GPU
    """GPUs of each run on --ray or --workers; a fraction such as 0.25 lets runs share one."""

    def __post_init__(self) -> None:
        check_at_least("workers", self.workers, 1)
        if self.parallel_runs != "auto" and not (self.parallel_runs.isdecimal() and int(self.parallel_runs) >= 1):
            raise ConfigError(
                f"parallel_runs={self.parallel_runs!r} is not allowed; give auto, or a whole number from 1 on."
            )
        check_at_least("retries", self.retries, 0)
        if not (0.0 <= self.gpus <= 1.0 or (self.gpus > 1.0 and self.gpus % 1.0 == 0.0)):
            raise ConfigError(f"gpus={self.gpus} is not allowed; give a fraction up to 1, or a whole number.")
        if self.ray is not None and self.workers > 1:
            raise ConfigError(
                f"workers={self.workers} is not allowed with ray={self.ray!r}, where as many runs go on at once as the "
                "cluster has room for; leave one out."
            )
        if self.gpus and self.ray is None and self.workers == 1:
            raise ConfigError(f"gpus={self.gpus} is not allowed without --workers or --ray; use --device cuda.")


class WorkerLostError(DusError, RuntimeError):
    """A worker died more often than it may; what its run had saved is still there."""


class UnexpectedError(DusError, RuntimeError):
    """An error of a kind that is not raised on purpose, with where it happened."""


class Executor(Protocol):
    """Does tasks in some order."""

    def do(self, work: Work, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yields, as they end, a task's index and its result: what ``work`` returned, or the exception it raised."""
        ...


class Here:
    """One task after another, in this process."""

    def do(self, work: Work, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """See :class:`Executor`."""
        for index, task in enumerate(tasks):
            try:
                result = work(task, False)
            except (DusError, OSError) as error:
                result = _released(error)
            yield index, result


def _released(error: Exception) -> Exception:
    """Return an error that is kept while other tasks are done, without what its frames hold: a run and its model."""
    traceback.clear_frames(error.__traceback__)
    if isinstance(error, MemoryError):
        # A run refers to itself, and the next one needs its memory.
        gc.collect()
    return error


def attempt(work: Work, task: Any, again: bool) -> Any:
    """Return what ``work`` returns or raises, in a form that another process can read."""
    try:
        return work(task, again)
    except (DusError, OSError) as error:
        return _released(error)
    except Exception:
        # Not every exception survives being pickled; its text does.
        return UnexpectedError(f"{task}:\n{traceback.format_exc()}")


@contextmanager
def open_executor(scale: ScaleOptions, *, threads: int, device: str = "cpu") -> Iterator[Executor]:
    """The place that the options ask for; its workers end with the block.

    Args:
        scale: the options.
        threads: CPU threads of one task.
        device: where the tasks compute.

    Raises:
        ConfigError: if a cluster does not answer, has no room for one task, or Ray is not installed.
    """
    if scale.ray is not None:
        from dus_gym.experiments.executors.ray_cluster import RayCluster

        if device.startswith("cuda") and not scale.gpus:
            raise ConfigError(
                f"device={device!r} on Ray needs --gpus, how much of a GPU each run may use, such as 0.5."
            )
        with RayCluster(scale.ray, threads=threads, gpus=scale.gpus, retries=scale.retries) as cluster:
            yield cluster
    elif scale.workers > 1:
        from dus_gym.experiments.executors.processes import Processes

        with Processes(scale.workers, threads=threads, gpus=scale.gpus, retries=scale.retries) as processes:
            yield processes
    else:
        yield Here()
