"""What a run costs is measured, and says nothing of what was before."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dus_gym.config import RunConfig
from dus_gym.costs import Stopwatch, peak_device_memory, peak_memory, reset_peaks
from dus_gym.experiments.run import RunRequest, execute
from dus_gym.experiments.storage.run_folder import NOT_REPRODUCIBLE


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
    block = np.ones(64 * 2**17)
    during = peak_memory()
    del block
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


def test_a_run_says_what_it_cost_and_the_rest_of_its_summary_is_the_same_to_the_bit():
    one, other = (execute(RunRequest("DUS-Fake-v0", agent="best-fixed", run=RunConfig(epochs=5))) for _ in range(2))
    assert one["seconds"] > one["agent_seconds"] > 0
    assert 50 < one["peak_memory_mib"] < 100_000
    assert all(one.pop(name) is not other.pop(name) or name == "peak_device_memory_mib" for name in NOT_REPRODUCIBLE)
    assert one == other


def test_an_agent_that_spends_runs_spends_most_of_the_time():
    uniform, best = (
        execute(RunRequest("DUS-Digits-v0", agent=agent, run=RunConfig(epochs=6)))
        for agent in ("uniform", "best-fixed")
    )
    assert uniform["agent_seconds"] < 0.1 * uniform["seconds"]
    assert best["agent_seconds"] > 0.4 * best["seconds"]
