"""R runs as one computation beside the loop of one run: run-iterations per second, and memory.

    python -m dus_gym.benchmarks.run_axis                    # Digits, baseline: two minutes
    python -m dus_gym.benchmarks.run_axis --methods all --runs 64
    python -m dus_gym.benchmarks.run_axis --task AVDigits --data-root DIR --epochs 2
    python -m dus_gym.benchmarks.run_axis --device cuda --runs 64 512 4096 --rounds 1
    python -m dus_gym.benchmarks.run_axis --memory

Both through Gymnasium, ``gym.make`` and ``gym.make_vec``, under the uniform split, in turns, in one process; a run's
own validations are in the time, its reset is not. Medians over rounds, and of the ratios within a round.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import dus_gym  # noqa: F401 - registers the ids
from dus_gym.costs import MIB, peak_memory, reset_peaks
from dus_gym.methods import METHODS

MEMORY_CASES = (
    ("Digits", 64, "baseline"),
    ("Digits", 256, "baseline"),
    ("Digits", 256, "agm"),
    ("Digits3", 256, "pmr"),
    ("DigitsControl", 128, "di_mml"),
)


def iterations_per_second(num_runs: int | None, settings: dict[str, Any]) -> float:
    """Run-iterations per second of one episode; of one run through ``gym.make`` if ``num_runs`` is None."""
    env_id, made = settings["id"], settings["settings"]
    many = num_runs is not None
    env: Any = gym.make_vec(env_id, num_envs=num_runs, **made) if num_runs is not None else gym.make(env_id, **made)
    env.reset(seed=0)
    action = np.ones(env.action_space.shape, dtype=np.float32)
    if settings["cuda"]:
        torch.cuda.synchronize()
    started = time.perf_counter()
    ended = False
    while not ended:
        *_, terminated, _, info = env.step(action)
        ended = bool(np.all(terminated))
    if settings["cuda"]:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    done = int(info["iterations"].sum()) if many else int(info["iterations"])
    env.close()
    return done / seconds


def rates(runs: list[int], rounds: int, settings: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Rows of what trains, run-iterations per second and their ratio to the single loop."""
    alone: list[float] = []
    of: dict[int, list[float]] = {n: [] for n in runs}
    ratios: dict[int, list[float]] = {n: [] for n in runs}
    for _ in range(rounds):
        for n in runs:
            # The machine's speed drifts: each figure has measurements of the single loop on both sides.
            before = iterations_per_second(None, settings)
            of[n].append(iterations_per_second(n, settings))
            after = iterations_per_second(None, settings)
            alone += [before, after]
            ratios[n].append(of[n][-1] / ((before + after) / 2))
    rows = [("one run, gym.make", statistics.median(alone), 1.0)]
    return rows + [(f"R = {n}", statistics.median(of[n]), statistics.median(ratios[n])) for n in runs]


def measure_memory(task: str, num_runs: int, method: str) -> None:
    """Print how much a run took among many, predicted and measured, KiB; in a process of its own."""
    from dus_gym.config import RunConfig
    from dus_gym.data.registry import get_task
    from dus_gym.methods import make_method
    from dus_gym.seeding import RunSeeds
    from dus_gym.trainer import Recipe, TrainingRuns

    chosen, seeds = get_task(task), [RunSeeds(0)]
    config = RunConfig.of({"epochs": 3})
    data = [chosen.data(seeds[0], None)]
    predicted = TrainingRuns(Recipe.of(chosen), data, make_method(method), config, seeds).bytes_of_a_run()
    # Libraries are loaded and pools are there before anything is counted.
    one = {"id": f"dus_gym:DUS-{task}-v0", "settings": {"epochs": 3, "method": method}, "cuda": False}
    iterations_per_second(None, one)
    reset_peaks("cpu")
    before = peak_memory()
    iterations_per_second(num_runs, one)
    after = peak_memory()
    assert before is not None
    assert after is not None
    measured = (after - before) * MIB / num_runs
    cells = (f"{task}, {method}", num_runs, *(f"{x / 1024:,.0f}" for x in (predicted, measured)))
    print("|", " | ".join(map(str, cells)), f"| {predicted / measured:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="Digits")
    parser.add_argument("--methods", nargs="+", default=["baseline"], help="names, or all")
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data-root")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--memory-case", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_case:
        task, runs, method = arguments.memory_case
        measure_memory(task, int(runs), method)
        return
    if arguments.memory:
        heads = ("task, method", "R", "predicted, KiB a run", "measured, KiB a run", "ratio")
        print("|", " | ".join(heads), "|\n|---|---|---|---|---|", flush=True)
        for case in MEMORY_CASES:
            words = [sys.executable, "-m", "dus_gym.benchmarks.run_axis", "--memory-case", *map(str, case)]
            subprocess.run(words, check=True)
        return
    where = torch.cuda.get_device_name(arguments.device) if arguments.device.startswith("cuda") else "CPU"
    print(f"{where}, {arguments.threads} thread{'s' if arguments.threads > 1 else ''}, {arguments.task}\n")
    print("| method | what trains | run-iterations/s | over the single loop |\n|---|---|---|---|", flush=True)
    for method in METHODS if arguments.methods == ["all"] else arguments.methods:
        settings = {
            "id": f"dus_gym:DUS-{arguments.task}-v0",
            "settings": {
                "method": method,
                "epochs": arguments.epochs,
                "device": arguments.device,
                "data_root": arguments.data_root,
            },
            "cuda": arguments.device.startswith("cuda"),
        }
        for what, rate, ratio in rates(arguments.runs, arguments.rounds, settings):
            print(f"| {method} | {what} | {rate:,.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
