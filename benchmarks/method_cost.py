"""Cost of training with each method, as a ratio to the baseline in the same process.

    python -m dus_gym.benchmarks.method_cost              # MLPs on digits, about two minutes on one core
    python -m dus_gym.benchmarks.method_cost --resnet     # two ResNet-18 on 32x32 images, about a quarter of an hour

Every method trains one whole run, all its phases, an epoch each in turn, so that whatever else the machine does falls
on all of them. ``step`` counts the iterations inside the epochs; ``run`` also what happens between them: validation,
probes, prototypes, valuations. A method with several phases has a line for each as well, against the reference in the
same epochs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dus_gym.benchmarks.overhead import register_resnet_task
from dus_gym.config import RunConfig
from dus_gym.data.registry import get_task
from dus_gym.methods import METHODS, make_method
from dus_gym.options import parse_pairs
from dus_gym.seeding import RunSeeds
from dus_gym.trainer import Recipe, Trainer

REFERENCE = "baseline"
VARIANTS = ("agm:fusion_hidden=64", "mla:projection=none")


def start(task: str, word: str, epochs: int, iterations: int) -> Trainer:
    """A run of one method."""
    name, *pairs = word.split(":")
    seeds, chosen = RunSeeds(0), get_task(task).configured()
    method = make_method(name, parse_pairs(pairs, word))
    config = RunConfig.of({"epochs": epochs, "iterations": iterations})
    return Trainer(Recipe.of(chosen), chosen.data(seeds, None), method, config, seeds)


@dataclass(frozen=True)
class Epoch:
    """Cost of one epoch of one method."""

    phase: str
    """Name of the method's phase that it belongs to."""
    step: float
    """Process seconds of the iterations inside it, all but the first and the last one."""
    whole: float
    """Process seconds with everything between iterations."""


def measure(task: str, words: list[str], epochs: int, iterations: int) -> dict[str, list[Epoch]]:
    """Every epoch of a run of each method."""
    m = len(get_task(task).modalities)
    runs = {word: start(task, word, epochs, iterations) for word in words}
    found: dict[str, list[Epoch]] = {word: [] for word in words}
    for _ in range(epochs):
        for word, run in runs.items():
            sizes = [run.base_batch] * m
            begun = time.process_time()
            run.train(sizes, 1)
            inside = time.process_time()
            run.train(sizes, iterations - 2)
            outside = time.process_time()
            phase = run.phase.name
            run.train(sizes, 1)
            found[word].append(Epoch(phase, outside - inside, time.process_time() - begun))
    return found


def ratios(epochs: Sequence[Epoch], reference: Sequence[Epoch]) -> dict[str, tuple[float, float]]:
    """Cost of a step and of a whole epoch over those of the reference in the same epochs, by phase.

    Only ``"all"`` for a method of one phase, else every phase's own as well.
    """
    phases = list(dict.fromkeys(epoch.phase for epoch in epochs))
    found = {}
    for phase in ["all", *(phases if len(phases) > 1 else [])]:
        pairs = [(e, r) for e, r in zip(epochs, reference, strict=True) if phase in ("all", e.phase)]
        step, whole = (
            sum(getattr(e, name) for e, _ in pairs) / sum(getattr(r, name) for _, r in pairs)
            for name in ("step", "whole")
        )
        found[phase] = (step, whole)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--iterations", type=int, help="an epoch; 30, or 6 with --resnet")
    parser.add_argument("--resnet", action="store_true", help="two ResNet-18 instead of two MLPs")
    parser.add_argument("--methods", default=",".join((*METHODS, *VARIANTS)))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = register_resnet_task(16, 32) if arguments.resnet else "Digits"
    iterations = (6 if arguments.resnet else 30) if arguments.iterations is None else arguments.iterations
    if iterations < 3:
        parser.error(f"--iterations {iterations}: the first and the last of an epoch are not counted; use 3 or more")
    words = list(dict.fromkeys([REFERENCE, *arguments.methods.split(",")]))
    found = measure(task, words, arguments.epochs, iterations)
    print(f"{task}, {arguments.epochs} epochs of {iterations} iterations, ratio to {REFERENCE}\n")
    print("| method | phase | step | run |\n|---|---|---|---|")
    for word in sorted(words, key=lambda w: list(METHODS).index(w.split(":")[0])):
        for phase, (step, whole) in ratios(found[word], found[REFERENCE]).items():
            print(f"| `{word}` | {phase} | {step:.2f} | {whole:.2f} |")


if __name__ == "__main__":
    main()
