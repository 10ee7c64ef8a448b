"""Time of two runs on two cores against one.

    python -m dus_gym.benchmarks.scale_out     # two minutes on two idle cores

Each round makes one run by itself in a worker, then two side by side in two workers, on ``--executor processes`` or
``ray``. Workers are begun before the clock is started. A ratio of 1 is a core each; two runs that shared one core would
give 2. Wall time means this only where nothing else runs: the load is printed beside it. CPU time a run takes alone and
side by side means it on a busy machine too: threads that get in each other's way burn time while they wait.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path

from dus_gym.experiments.executors.executor import Executor, ScaleOptions, open_executor
from dus_gym.experiments.run_many import PlannedRun, Task, perform
from dus_gym.experiments.spec import RunSpec


def cpu_seconds(run: PlannedRun, again: bool) -> float:
    """Makes a run and returns the CPU time of all threads of its process."""
    started = time.process_time()
    perform(Task((run,)), again)
    return time.process_time() - started


def cost(executor: Executor, folder: Path, spec: RunSpec, seeds: list[int]) -> tuple[float, float]:
    """Wall seconds until runs of these seeds, begun at once, are all done; CPU seconds of the first."""
    runs = [PlannedRun(dataclasses.replace(spec, seed=seed), folder / f"seed{seed}") for seed in seeds]
    for run in runs:
        run.folder.mkdir(parents=True)
    started = time.perf_counter()
    cpu = dict(executor.do(cpu_seconds, runs))
    return time.perf_counter() - started, cpu[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="DUS-Digits-v0")
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--executor", choices=("processes", "ray"), default="processes")
    arguments = parser.parse_args()
    spec = RunSpec(arguments.env, agent="uniform", settings={"epochs": arguments.epochs})
    scale = ScaleOptions(workers=2) if arguments.executor == "processes" else ScaleOptions(ray="local")
    walls, cpus = [], []
    with tempfile.TemporaryDirectory(prefix="dus-scale-") as name, open_executor(scale, threads=1) as executor:
        short = dataclasses.replace(spec, settings={"epochs": 1})
        cost(executor, Path(name) / "warm", short, [0, 1, 2, 3])
        for round_ in range(arguments.rounds):
            one, one_cpu = cost(executor, Path(name) / f"{round_}-one", spec, [0])
            two, two_cpu = cost(executor, Path(name) / f"{round_}-two", spec, [0, 1])
            walls.append(two / one)
            cpus.append(two_cpu / one_cpu)
            print(
                f"one run {one:.2f} s (CPU {one_cpu:.2f}), two side by side {two:.2f} s (CPU {two_cpu:.2f} each), "
                f"load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
    print(
        f"median ratios over {arguments.rounds} rounds: wall {statistics.median(walls):.2f}, "
        f"CPU {statistics.median(cpus):.2f}, on {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
