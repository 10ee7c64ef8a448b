"""Steps per second of the hand-written REINFORCE beside those of stable-baselines3's A2C, on ``DUS-Fake-v0``.

    python -m dus_gym.benchmarks.agent_throughput   # half a minute

Both learn: REINFORCE updates after every step, A2C once a run (``n_steps`` = horizon). In turns, in one process, on
one thread; medians over rounds. The environment's share is in every figure but the last column.
"""

from __future__ import annotations

import argparse
import statistics
import time

import gymnasium as gym
import torch

from dus_gym.agents import make_agent
from dus_gym.agents.loop import run_episode, run_episodes
from dus_gym.agents.sb3 import make_sb3

ENV = "dus_gym:DUS-Fake-v0"
EPOCHS = 100


def reinforce(runs: int) -> float:
    """Steps per second, resets included."""
    env = gym.make(ENV, epochs=EPOCHS)
    agent = make_agent("reinforce", 2)
    run_episode(env, agent, seed=0)
    started = time.perf_counter()
    run_episodes(env, agent, range(1, runs + 1))
    return runs * EPOCHS / (time.perf_counter() - started)


def a2c(runs: int, policy: str | None) -> float:
    """Steps per second, resets included; ``policy`` None is ours, on the simplex."""
    model = make_sb3("a2c", gym.make(ENV, epochs=EPOCHS), horizon=EPOCHS, policy=policy)
    model.learn(EPOCHS)
    started = time.perf_counter()
    model.learn(runs * EPOCHS, reset_num_timesteps=False)
    return runs * EPOCHS / (time.perf_counter() - started)


def no_agent(runs: int) -> float:
    """Steps per second of the environment under the uniform split."""
    env = gym.make(ENV, epochs=EPOCHS)
    agent = make_agent("uniform", 2)
    run_episode(env, agent, seed=0)
    started = time.perf_counter()
    run_episodes(env, agent, range(1, runs + 1))
    return runs * EPOCHS / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=20, help="training runs of 100 steps, of each agent a round")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = arguments.runs
    rounds = [
        (reinforce(runs), a2c(runs, None), a2c(runs, "MlpPolicy"), no_agent(runs)) for _ in range(arguments.rounds)
    ]
    columns = list(zip(*rounds, strict=True))
    names = ("reinforce", "SB3 A2C, DirichletPolicy", "SB3 A2C, MlpPolicy", "uniform (the environment alone)")
    print("| agent | steps/s | reinforce is faster by | µs a step beyond the environment's |\n|---|---|---|---|")
    for name, column in zip(names, columns, strict=True):
        speed = statistics.median(column)
        ratio = statistics.median(ours / other for ours, other in zip(columns[0], column, strict=True))
        own = statistics.median(1e6 / other - 1e6 / bare for other, bare in zip(column, columns[-1], strict=True))
        print(f"| {name} | {speed:,.0f} | {ratio:.2f} × | {own:.0f} |")


if __name__ == "__main__":
    main()
