"""Cost of forking a run of two ResNet-18 beside copying its bytes.

    python -m dus_gym.benchmarks.fork_cost         # half a minute

Both in one process, in turns, process time; the bytes are those of weights, buffers and momentum.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import gymnasium as gym
import torch
from torch import Tensor

import dus_gym  # noqa: F401 - registers the ids
from dus_gym.benchmarks.overhead import register_resnet_task
from dus_gym.envs.dus_env import DUSEnv
from dus_gym.trainer import Trainer


def tensors_of(run: Trainer) -> list[Tensor]:
    """Weights, buffers and momentum."""
    momentum = [v for state in run.optimizer.torch.state.values() for v in state.values() if isinstance(v, Tensor)]
    return [*run.model.state_dict().values(), *momentum]


def seconds(work: Callable[[], object]) -> float:
    """Process seconds of one call; what it returns is dropped after the clock has stopped."""
    started = time.process_time()
    kept = work()
    spent = time.process_time() - started
    del kept
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    env = gym.make("dus_gym:DUS-Digits-v0", task=register_resnet_task(16, 64), epochs=2, iterations=1)
    core: DUSEnv = env.unwrapped  # type: ignore[assignment]
    env.reset(seed=0)
    env.step(core.allocation.uniform())
    run = core.run
    if not isinstance(run, Trainer):
        raise TypeError("this benchmark needs the real trainer.")
    tensors = tensors_of(run)
    rounds = [
        (seconds(lambda: [t.detach().clone() for t in tensors]), seconds(core.fork))
        for _ in range(arguments.rounds + 1)
    ][1:]
    copying, forking = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(fork / copy for copy, fork in rounds)
    size = sum(t.numel() * t.element_size() for t in tensors) / 2**20
    rows = [(f"copying {size:.0f} MiB", 1000.0 * copying), ("fork", 1000.0 * forking)]
    print("| what | ms |\n|---|---|")
    for label, value in rows:
        print(f"| {label} | {value:.1f} |")
    print(f"| ratio | {ratio:.2f} |")


if __name__ == "__main__":
    main()
