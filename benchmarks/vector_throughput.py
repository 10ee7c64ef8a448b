"""Environment steps per second of ``DUS-Fake-v0``: copies stepped together beside one environment.

    python -m dus_gym.benchmarks.vector_throughput   # ten seconds; with --sync, five minutes

One environment through ``gym.make``, copies through ``gym.make_vec``, in turns, in one process, under the same random
actions. Episodes are whole and their resets are in the time; a reset is not counted as a step. Seconds are the
process's own, because the machine may be shared. Medians over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import gymnasium as gym
import numpy as np

import dus_gym  # noqa: F401 - registers the ids

EPOCHS = 100
EPISODES = {"single": 5, "sync": 1, "native": 5}


def random_actions(num_envs: int, num_modalities: int) -> Any:
    """Actions of one episode, ``(epochs, num_envs, m)``."""
    return np.random.default_rng(0).random((EPOCHS, num_envs, num_modalities), dtype=np.float32)


def single(task: str) -> float:
    """Steps per second of one environment."""
    env = gym.make("dus_gym:DUS-Fake-v0", task=task, epochs=EPOCHS)
    actions = random_actions(1, env.action_space.shape[0])[:, 0]  # type: ignore[index]
    env.reset(seed=0)
    started = time.process_time()
    for _ in range(EPISODES["single"]):
        env.reset()
        for action in actions:
            env.step(action)
    return EPISODES["single"] * EPOCHS / (time.process_time() - started)


def together(mode: str, task: str, num_envs: int) -> float:
    """Steps per second over all copies, each automatic reset included."""
    vectorization = "sync" if mode == "sync" else "vector_entry_point"
    envs = gym.make_vec(
        "dus_gym:DUS-Fake-v0", num_envs=num_envs, vectorization_mode=vectorization, task=task, epochs=EPOCHS
    )
    actions = random_actions(num_envs, envs.single_action_space.shape[0])  # type: ignore[index]
    # One episode untimed, so that each timed one begins with the automatic reset.
    envs.reset(seed=0)
    for action in actions:
        envs.step(action)
    started = time.process_time()
    for _ in range(EPISODES[mode]):
        envs.step(actions[0])  # ignored: this call starts the new runs
        for action in actions:
            envs.step(action)
    return EPISODES[mode] * EPOCHS * num_envs / (time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 16, 64, 256, 1024])
    parser.add_argument("--task", default="Digits", help="Digits has two modalities, Digits3 three")
    parser.add_argument("--sync", action="store_true", help="Gymnasium's SyncVectorEnv too, at the largest number")
    arguments = parser.parse_args()
    cells = [("native", n) for n in arguments.copies] + ([("sync", max(arguments.copies))] if arguments.sync else [])
    rates: dict[tuple[str, int], list[float]] = {cell: [] for cell in cells}
    ratios: dict[tuple[str, int], list[float]] = {cell: [] for cell in cells}
    alone: list[float] = []
    for _ in range(arguments.rounds):
        for cell in cells:
            # The machine's speed drifts: each figure has a measurement of the single environment beside it.
            alone.append(single(arguments.task))
            rates[cell].append(together(cell[0], arguments.task, cell[1]))
            ratios[cell].append(rates[cell][-1] / alone[-1])
    print("| environment | copies | env-steps/s | over the single one |\n|---|---|---|---|")
    print(f"| single | 1 | {statistics.median(alone):,.0f} | 1 |")
    for mode, n in cells:
        rate, ratio = statistics.median(rates[mode, n]), statistics.median(ratios[mode, n])
        print(f"| {mode} | {n} | {rate:,.0f} | {ratio:.1f} |")


if __name__ == "__main__":
    main()
