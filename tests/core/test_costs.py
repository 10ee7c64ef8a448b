"""Time and memory are measured, and say nothing of what was before."""

import mmap
from types import SimpleNamespace

import pytest
import torch

from dus_gym.costs import Stopwatch, peak_device_memory, peak_memory, reset_peaks


def test_a_stopwatch_adds_up_what_lies_inside_and_only_that(monkeypatch):
    readings = iter([10.0, 10.5, 100.0, 102.0])
    monkeypatch.setattr("dus_gym.costs.time", SimpleNamespace(perf_counter=lambda: next(readings)))
    watch = Stopwatch(1.0)
    for _ in range(2):
        with watch:
            pass
    assert watch.seconds == 1.0 + 0.5 + 2.0


def test_peak_memory_is_that_since_the_last_reset():
    reset_peaks("cpu")
    before = peak_memory()
    # Of the system: the allocator may have 64 MiB of its own lying about in a process that has run many tests.
    with mmap.mmap(-1, 64 * 2**20) as block:
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        during = peak_memory()
    assert during >= before + 60
    assert peak_memory() == pytest.approx(during, abs=4), "a peak stays"
    reset_peaks("cpu")
    assert peak_memory() < during - 50, "until it is reset"
    assert peak_device_memory("cpu") is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_peak_device_memory_is_that_of_tensors():
    reset_peaks("cuda")
    block = torch.ones(2**20, device="cuda")
    assert peak_device_memory("cuda") >= block.nbytes / 2**20
    del block
