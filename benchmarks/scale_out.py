"""Whether two runs on two cores take no longer than one.

    python -m dus_gym.benchmarks.scale_out     # three minutes on two idle cores

Each round makes one run by itself in a worker, then two side by side in two workers, on ``--place processes`` or
``ray``. Workers are begun before the clock is started. A ratio of 1 is a core each; two runs that hindered each other
as much as they can would give 2. On a machine with other work the ratio says little: the load is printed beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path

from dus_gym.cli.experiment import RunRequest
from dus_gym.cli.matrix import Run, run_all
from dus_gym.cli.places import Place, ScaleOptions, open_place
from dus_gym.config import RunConfig


def seconds_of(place: Place, folder: Path, request: RunRequest, seeds: list[int]) -> float:
    """Wall seconds until runs of these seeds, begun at once, are all done."""
    runs = [Run(dataclasses.replace(request, seed=seed), folder / f"seed{seed}") for seed in seeds]
    started = time.perf_counter()
    run_all(runs, place)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="DUS-Digits-v0")
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--place", choices=("processes", "ray"), default="processes")
    arguments = parser.parse_args()
    request = RunRequest(arguments.env, agent="uniform", run=RunConfig(epochs=arguments.epochs))
    scale = ScaleOptions(workers=2) if arguments.place == "processes" else ScaleOptions(ray="local")
    ratios = []
    with tempfile.TemporaryDirectory(prefix="dus-scale-") as name, open_place(scale, threads=1) as place:
        short = dataclasses.replace(request, run=RunConfig(epochs=1))
        seconds_of(place, Path(name) / "warm", short, [0, 1, 2, 3])
        for round_ in range(arguments.rounds):
            one = seconds_of(place, Path(name) / f"{round_}-one", request, [0])
            two = seconds_of(place, Path(name) / f"{round_}-two", request, [0, 1])
            ratios.append(two / one)
            load = os.getloadavg()[0]
            print(
                f"one run {one:.2f} s, two side by side {two:.2f} s, ratio {two / one:.2f} (load {load:.1f})",
                flush=True,
            )
    print(f"median ratio over {arguments.rounds} rounds: {statistics.median(ratios):.2f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
