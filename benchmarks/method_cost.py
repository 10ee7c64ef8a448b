"""What training with each method costs, as a ratio to the baseline in the same process.

    python -m dus_gym.benchmarks.method_cost              # MLPs on digits, about two minutes on one core
    python -m dus_gym.benchmarks.method_cost --resnet     # two ResNet-18 on 32x32 images, about a quarter of an hour

Every method trains one whole run, all its phases, an epoch each in turn, so that whatever else the machine does falls
on all of them. ``step`` counts the iterations inside the epochs; ``run`` also what happens between them: validation,
probes, prototypes, valuations.
"""

from __future__ import annotations

import argparse
import time

import torch

from dus_gym.benchmarks.overhead import register_resnet_task
from dus_gym.config import RunConfig
from dus_gym.data.tasks import get_task
from dus_gym.methods import METHODS, make_method
from dus_gym.options import parse_pairs
from dus_gym.seeding import RunSeeds
from dus_gym.trainer import Trainer

REFERENCE = "baseline"
VARIANTS = ("agm:fusion_hidden=64", "mla:projection=none")


def start(task: str, word: str, epochs: int, iterations: int) -> Trainer:
    """A run of one method."""
    name, *pairs = word.split(":")
    seeds, chosen = RunSeeds(0), get_task(task).configured()
    method = make_method(name, parse_pairs(pairs, word))
    config = RunConfig.of({"epochs": epochs, "iterations": iterations})
    return Trainer(chosen.recipe(), chosen.data(seeds, None), method, config, seeds)


def measure(task: str, words: list[str], epochs: int, iterations: int) -> dict[str, tuple[float, float]]:
    """Process seconds by method: of all iterations inside epochs, and of the whole run."""
    m = len(get_task(task).modalities)
    runs = {word: start(task, word, epochs, iterations) for word in words}
    seconds = dict.fromkeys(words, (0.0, 0.0))
    for _ in range(epochs):
        for word, run in runs.items():
            sizes = [run.base_batch] * m
            begun = time.process_time()
            run.train(sizes, 1)
            inside = time.process_time()
            run.train(sizes, iterations - 2)
            outside = time.process_time()
            run.train(sizes, 1)
            step, total = seconds[word]
            seconds[word] = (step + outside - inside, total + time.process_time() - begun)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--iterations", type=int, help="an epoch; 30, or 6 with --resnet")
    parser.add_argument("--resnet", action="store_true", help="two ResNet-18 instead of two MLPs")
    parser.add_argument("--methods", default=",".join((*METHODS, *VARIANTS)))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = register_resnet_task(16, 32) if arguments.resnet else "Digits"
    iterations = arguments.iterations or (6 if arguments.resnet else 30)
    words = list(dict.fromkeys([REFERENCE, *arguments.methods.split(",")]))
    found = measure(task, words, arguments.epochs, iterations)
    print(f"{task}, {arguments.epochs} epochs of {iterations} iterations, ratio to {REFERENCE}\n")
    print("| method | step | run |\n|---|---|---|")
    reference = found[REFERENCE]
    for word in sorted(words, key=lambda w: list(METHODS).index(w.split(":")[0])):
        print(f"| `{word}` | {found[word][0] / reference[0]:.2f} | {found[word][1] / reference[1]:.2f} |")


if __name__ == "__main__":
    main()
