"""Runs on a Ray cluster: the same tasks, the same bits, as many at once as the cluster has room for."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import TracebackType
from typing import Any, Self

import dus_gym
from dus_gym.errors import ConfigError
from dus_gym.experiments.executors.executor import IMPORTED, Work, WorkerLostError, attempt

log = logging.getLogger(__name__)
ANSWER_SECONDS = 20.0
"""How long a cluster has to answer. Ray itself tries for two minutes, then ends the process."""
LOCAL, AUTO, CLIENT = "local", "auto", "ray://"


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--ray needs Ray, which is not installed: pip install 'dus-gym[ray]'") from error
    return ray


def _check_answers(address: str) -> None:
    """Raises ConfigError if the address has no known form, or no cluster answers at ``HOST:PORT``."""
    if address == AUTO or address.startswith(CLIENT):
        # Ray itself answers at once here.
        return
    if not re.fullmatch(r"[^/\s]+:\d+", address):
        raise ConfigError(f"ray={address!r} is not allowed; give local, auto or HOST:PORT.")
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        healthy = subprocess.run(command, capture_output=True, timeout=ANSWER_SECONDS, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        healthy = False
    if not healthy:
        raise ConfigError(
            f"ray={address!r} does not answer; start a cluster (ray start --head) and give the address it prints, or "
            "use --ray local."
        )


def _perform(version: str, modules: Sequence[str], work: Work, task: Any, again: bool) -> Any:
    """Do what a worker does; it must be the same program, and imports what the command did."""
    if dus_gym.__version__ != version:
        return ConfigError(
            f"a machine of the cluster has dus-gym {dus_gym.__version__} and this one {version}; install the same."
        )
    for name in modules:
        import_module(name)
    return attempt(work, task, again)


class RayCluster:
    """Tasks on a Ray cluster.

    Args:
        address: ``local``: a cluster of this machine that ends with the block; else a cluster's address.
        threads: CPUs that a task takes.
        gpus: GPUs that a task takes; Ray shows it no others.
        retries: how often a task whose worker or machine was lost is taken up again.

    Raises:
        ConfigError: if Ray is not installed, the cluster does not answer, or no machine of it has room for one task.
    """

    def __init__(self, address: str, *, threads: int = 1, gpus: float = 0.0, retries: int = 2) -> None:
        self.address, self.threads, self.gpus, self.retries = address, threads, gpus, retries
        self._ray = _ray()

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
        try:
            if self.address == LOCAL:
                self._ray.init(include_dashboard=False, **quiet)
            else:
                _check_answers(self.address)
                self._ray.init(address=self.address, **quiet)
        except (ConnectionError, ValueError, SystemExit) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                f"ray={self.address!r} can't be used ({error}); give local, auto or HOST:PORT."
            ) from error
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(node.get("CPU", 0) >= self.threads and node.get("GPU", 0) >= self.gpus for node in nodes):
            self._ray.shutdown()
            raise ConfigError(
                f"ray={self.address!r}: no machine of the cluster has {self.threads} CPUs and {self.gpus:g} GPUs for a "
                "run; ask for fewer by --threads and --gpus."
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.shutdown()

    def do(self, work: Work, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """See :class:`dus_gym.experiments.executors.executor.Executor`."""
        ray = self._ray
        # Ray's own retries would not tell the task that it is one.
        remote = ray.remote(num_cpus=self.threads, num_gpus=self.gpus, max_retries=0)(_perform)

        def submit(index: int, lost: int) -> Any:
            return remote.remote(dus_gym.__version__, tuple(IMPORTED), work, tasks[index], lost > 0)

        under_way = {submit(index, 0): (index, 0) for index in range(len(tasks))}
        while under_way:
            for reference in ray.wait([*under_way], num_returns=1)[0]:
                index, lost = under_way.pop(reference)
                try:
                    outcome = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    # attempt() raises nothing, so the worker could not even load it.
                    raise ConfigError(
                        f"a machine of the cluster can't run dus-gym ({error.cause!r}); install dus-gym "
                        f"{dus_gym.__version__}, and the modules of --import, on all of them."
                    ) from error
                except ray.exceptions.RayError as error:
                    why = type(error).__name__
                    if lost < self.retries:
                        log.warning("%s: its worker was lost (%s); taken up again.", tasks[index], why)
                        under_way[submit(index, lost + 1)] = (index, lost + 1)
                        continue
                    outcome = WorkerLostError(
                        f"{tasks[index]}: its worker was lost {lost + 1} times ({why}); what it saved is still there."
                    )
                yield index, outcome
