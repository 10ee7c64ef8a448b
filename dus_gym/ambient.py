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
def isolated_torch_modes(*, tf32: bool = False, cudnn_benchmark: bool = False) -> Iterator[None]:
    """Run a block under PyTorch's own modes and defaults and put the caller's back; also a decorator.

    Inside, gradients are recorded outside inference mode, there is no autocast, no anomaly detection and no torch
    function mode (so no ``set_default_device``), new tensors are float32. Flags that ask for deterministic algorithms
    stay: they ask for the same bits, not for others. So do torch dispatch modes, which are instruments such as counters
    of operations.

    A process forked from one that imported this package gets one CPU thread, as PyTorch's own DataLoader gives its
    workers: the parent's threads do not exist in it, and waiting for them would never end.

    Args:
        tf32: whether a card's float32 products and convolutions may round their factors to tf32; if not, they are of
            full precision.
        cudnn_benchmark: whether cuDNN times its algorithms for every new shape.

    Raises:
        ConfigError: in a forked process whose parent used what does not survive a fork, and where float32 precision was
            set in a way that can't be read back.
    """
    import torch
    from torch.overrides import _pop_mode, _push_mode

    if _forked and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
    dtype, products = torch.get_default_dtype(), _product_precision()
    cudnn, wanted = torch.backends.cudnn, ("high" if tf32 else "highest", tf32)
    benchmark = cudnn.benchmark
    function_modes = []
    while torch._C._len_torch_function_stack() > 0:
        function_modes.append(_pop_mode())
    try:
        torch.set_default_dtype(torch.float32)
        _set_product_precision(products, wanted)
        cudnn.benchmark = cudnn_benchmark
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
        cudnn.benchmark = benchmark
        _set_product_precision(wanted, products)
        torch.set_default_dtype(dtype)
        for mode in reversed(function_modes):
            _push_mode(mode)


def _product_precision() -> tuple[str, bool]:
    """Return the precision of float32 products, and whether convolutions may use tf32."""
    import torch

    try:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError as error:
        raise ConfigError(
            "torch.backends…fp32_precision is set, on which results would depend; set it back to 'none', or use "
            "torch.set_float32_matmul_precision instead, which is put aside for the time of a run."
        ) from error


def _set_product_precision(current: tuple[str, bool], wanted: tuple[str, bool]) -> None:
    """Touch a setting only where it differs: writing it counts as using PyTorch's older interface."""
    import torch

    if current[0] != wanted[0]:
        torch.set_float32_matmul_precision(wanted[0])
    if current[1] != wanted[1]:
        torch.backends.cudnn.allow_tf32 = wanted[1]
