"""Costs of a stretch of work besides samples and iterations: seconds and memory."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

MIB = 2.0**20
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MEMORY = Path("/proc/meminfo")
_RAN_OUT = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""In messages of PyTorch's plain RuntimeError: of the CPU on Linux and on Windows, of CUDA and of its libraries."""


class Stopwatch:
    """Adds up the seconds spent inside ``with`` blocks.

    Args:
        seconds: where it starts.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._started = 0.0

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds += time.perf_counter() - self._started


def reset_peaks(device: str) -> None:
    """Starts the high-water marks of this process's memory, and of the device's, anew.

    Where the kernel does not let a process do so (not Linux), the mark stays that of the whole process so far.
    """
    with suppress(OSError):
        # "5" resets the peak resident set size: proc(5).
        _CLEAR.write_text("5")
    if not device.startswith("cuda"):
        return
    import torch

    if torch.cuda.is_initialized():
        # Before that nothing lies on the device, and its marks can't be reset.
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory() -> float | None:
    """The most memory this process held since :func:`reset_peaks`, MiB: the resident set, PyTorch included.

    None where the system does not tell (Windows).
    """
    if _STATUS.is_file():
        # Not getrusage: its mark survives an exec, so a worker would report the size of the process that began it.
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024.0
    if sys.platform == "win32":
        return None
    import resource

    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def peak_device_memory(device: str) -> float | None:
    """The most memory PyTorch's tensors held on a CUDA device since :func:`reset_peaks`, MiB; None for the CPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.max_memory_allocated(device) / MIB


def is_memory_error(error: BaseException) -> bool:
    """Return whether an error of Python, NumPy, PyTorch or one of CUDA's libraries says that memory ran out."""
    import torch

    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _RAN_OUT)


def available_memory(device: str) -> int | None:
    """Return the bytes that can still be had on the device; None where the system does not tell."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    if _MEMORY.is_file():
        lines = dict(line.split(":", 1) for line in _MEMORY.read_text().splitlines())
        return 1024 * int(lines["MemAvailable"].split()[0])
    return None
