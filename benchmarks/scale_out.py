"""Time of two runs on two cores against one, or of several on one card.

    python -m dus_gym.benchmarks.scale_out     # two minutes on two idle cores
    python -m dus_gym.benchmarks.scale_out --device cuda --resnet 224 --runs 4 --epochs 10 --rounds 2

Each round makes one run by itself in a worker, then ``--runs`` side by side in as many workers, on ``--executor
processes`` or ``ray``. Workers are begun before the clock is started. A ratio of 1 is a core each; two runs that shared
one core would give 2. Wall time means this only where nothing else runs: the load is printed beside it. CPU time a run
takes alone and side by side means it on a busy machine too: threads that get in each other's way burn time while they
wait. ``--resnet SIDE`` trains two ResNet-18 on random pictures, which can't train as one computation.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

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


def pictures(root: Path, side: int, samples: int) -> RunSpec:
    """Two ResNet-18 on random square pictures, as own data in a file."""
    rng = np.random.default_rng(0)
    blocks = {name: rng.standard_normal((samples, 3, side, side), dtype=np.float32) for name in ("left", "right")}
    np.savez(root / "pictures.npz", **blocks, labels=np.arange(samples) % 4)  # type: ignore[arg-type]  # of its stub
    words = {"encoder": "left=resnet18,right=resnet18"}
    return RunSpec("DUS-Own-v0", agent="uniform", data_root=str(root / "pictures.npz"), task_options=words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="DUS-Digits-v0")
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=2, help="side by side")
    parser.add_argument("--executor", choices=("processes", "ray"), default="processes")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N; on Ray each run takes its part of a GPU")
    parser.add_argument("--graphs", default="off", choices=("off", "auto"), help="CUDA graphs")
    parser.add_argument("--resnet", type=int, metavar="SIDE", help="two ResNet-18 on pictures of so many pixels a side")
    parser.add_argument("--samples", type=int, default=512, help="of the pictures")
    arguments = parser.parse_args()
    if arguments.runs < 2:
        parser.error(f"--runs {arguments.runs} is not allowed; use 2 or more")
    settings: dict[str, Any] = {"device": arguments.device, "graphs": arguments.graphs}
    seeds = list(range(arguments.runs))
    gpus = 1.0 / arguments.runs if arguments.device.startswith("cuda") and arguments.executor == "ray" else 0.0
    on_ray = ScaleOptions(ray="local", gpus=gpus)
    scale = ScaleOptions(workers=arguments.runs) if arguments.executor == "processes" else on_ray
    walls, cpus = [], []
    with tempfile.TemporaryDirectory(prefix="dus-scale-") as name, open_executor(scale, threads=1) as executor:
        spec = RunSpec(arguments.env, agent="uniform")
        if arguments.resnet:
            spec = pictures(Path(name), arguments.resnet, arguments.samples)
        short = dataclasses.replace(spec, settings={"epochs": 1} | settings)
        spec = dataclasses.replace(spec, settings={"epochs": arguments.epochs} | settings)
        cost(executor, Path(name) / "warm", short, list(range(2 * arguments.runs)))
        for round_ in range(arguments.rounds):
            one, one_cpu = cost(executor, Path(name) / f"{round_}-one", spec, [0])
            several, several_cpu = cost(executor, Path(name) / f"{round_}-several", spec, seeds)
            walls.append(several / one)
            cpus.append(several_cpu / one_cpu)
            print(
                f"one run {one:.2f} s (CPU {one_cpu:.2f}), {arguments.runs} side by side {several:.2f} s (CPU "
                f"{several_cpu:.2f} each), load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
    print(
        f"median ratios over {arguments.rounds} rounds: wall {statistics.median(walls):.2f}, "
        f"CPU {statistics.median(cpus):.2f}, on {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
