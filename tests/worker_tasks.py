"""What workers in other processes are given to do in tests; a module, so that they find it by name."""

import os
import signal
import time
from pathlib import Path

from dus_gym.errors import ConfigError


def square(task, again):
    return task * task


def slow_square(task, again):
    time.sleep(0.3)
    return os.getpid(), task * task


def fail(task, again):
    if task == 1:
        raise ConfigError(f"task={task} is not allowed.")
    if task == 2:
        raise RuntimeError("a bug")
    return task


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__("something")
        self.lock = open(os.devnull)  # noqa: SIM115


def fail_unpicklably(task, again):
    raise Unpicklable(1, 2)


def die_once(task, again):
    """Task 0 kills its worker the first time."""
    if task == 0 and not again:
        os.kill(os.getpid(), signal.SIGKILL)
    return task, again


def die_always(task, again):
    if task == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def surroundings(task, again):
    """What a worker's libraries see."""
    import numpy as np  # noqa: F401 - loads its BLAS, whose threads are asked for
    from threadpoolctl import threadpool_info

    names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    return {name: os.environ.get(name) for name in names}, [pool["num_threads"] for pool in threadpool_info()]


def append(path, again):
    """Leaves a line behind each time it is called; the first time it then kills its worker."""
    with Path(path).open("a") as file:
        file.write(f"{again}\n")
    if not again:
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"
