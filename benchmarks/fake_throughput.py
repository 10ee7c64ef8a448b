"""Steps per second of ``DUS-Fake-v0`` beside those of Gymnasium's ``CartPole-v1``.

    python -m dus_gym.benchmarks.fake_throughput   # half a minute

Both through ``gym.make`` with its default wrappers, in turns, in one process; medians over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time

import gymnasium as gym

import dus_gym  # noqa: F401 - registers the ids

STEPS = 20_000


def steps_per_second(env_id: str) -> float:
    """Steps per second, resets included."""
    env = gym.make(env_id)
    env.reset(seed=0)
    action = env.action_space.sample()
    started = time.perf_counter()
    for _ in range(STEPS):
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return STEPS / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    rounds = [
        (steps_per_second("CartPole-v1"), steps_per_second("dus_gym:DUS-Fake-v0")) for _ in range(arguments.rounds)
    ]
    reference, ours, ratio = (
        statistics.median(values) for values in zip(*((a, b, b / a) for a, b in rounds), strict=True)
    )
    print("| environment | steps/s |\n|---|---|")
    print(f"| CartPole-v1 | {reference:,.0f} |\n| DUS-Fake-v0 | {ours:,.0f} |\n| ratio | {ratio:.2f} |")


if __name__ == "__main__":
    main()
