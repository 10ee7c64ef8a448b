"""PyTorch's modes and defaults, which a caller may have changed and no run may depend on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from dus_gym.errors import ConfigError

_forked = False
FORK_HELP = (
    "this process was forked from one that has used PyTorch's accelerator or autograd threads, which do not survive a "
    "fork; start processes by 'spawn' (multiprocessing.get_context('spawn'); "
    "gymnasium.make_vec(..., vectorization_mode='async', vector_kwargs={'context': 'spawn'})), or use "
    "vectorization_mode='sync'."
)


def _after_fork() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def isolated_torch_modes() -> Iterator[None]:
    """Run a block under PyTorch's own modes and defaults and put the caller's back; also a decorator.

    Inside, gradients are recorded outside inference mode, there is no autocast, no anomaly detection, no cuDNN
    benchmark and no torch function mode (so no ``set_default_device``), new tensors are float32 and float32 products
    are of full precision. Flags that ask for deterministic algorithms stay: they ask for the same bits, not for others.
    So do torch dispatch modes, which are instruments such as counters of operations.

    A process forked from one that imported this package gets one CPU thread, as PyTorch's own DataLoader gives its
    workers: the parent's threads do not exist in it, and waiting for them would never end.

    Raises:
        ConfigError: in a forked process whose parent used what does not survive a fork, and where float32 precision was
            set in a way that can't be read back.
    """
    import torch
    from torch.overrides import _pop_mode, _push_mode

    if _forked and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
    dtype, precision, benchmark = torch.get_default_dtype(), _matmul_precision(), torch.backends.cudnn.benchmark
    function_modes = []
    while torch._C._len_torch_function_stack() > 0:
        function_modes.append(_pop_mode())
    try:
        torch.set_default_dtype(torch.float32)
        _set_matmul_precision(precision, "highest")
        torch.backends.cudnn.benchmark = False
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
            torch.autograd.set_detect_anomaly(False),
        ):
            yield
    except RuntimeError as error:
        if _forked and "fork" in str(error):
            raise ConfigError(f"{FORK_HELP} PyTorch says: {error}") from error
        raise
    finally:
        torch.backends.cudnn.benchmark = benchmark
        _set_matmul_precision("highest", precision)
        torch.set_default_dtype(dtype)
        for mode in reversed(function_modes):
            _push_mode(mode)


def _matmul_precision() -> str:
    import torch

    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError as error:
        raise ConfigError(
            "torch.backends…fp32_precision is set, on which results would depend; set it back to 'none', or use "
            "torch.set_float32_matmul_precision instead, which is put aside for the time of a run."
        ) from error


def _set_matmul_precision(current: str, wanted: str) -> None:
    """Touches the setting only where it differs: writing it counts as using PyTorch's older interface."""
    import torch

    if current != wanted:
        torch.set_float32_matmul_precision(wanted)
