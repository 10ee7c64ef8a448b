"""The fake trainer beside the real runs it was fitted to, at every constant split of two modalities.

    python -m dus_gym.benchmarks.fake_regimes      # half a minute

Test accuracy of ``concat`` after the last epoch, in per cent: the real mean of ``traces.csv`` (four seeds) and the
fake's mean over ``--seeds`` runs through the environment.
"""

from __future__ import annotations

import argparse
import csv
import statistics

import gymnasium as gym
import numpy as np

import dus_gym  # noqa: F401 - registers the ids
from dus_gym.benchmarks.traces import DEFAULT_OUT


def fake_accuracy(task: str, loss_norm: str, split: list[float], seeds: int) -> float:
    """Mean test accuracy of ``concat`` under a constant split."""
    env = gym.make(f"dus_gym:DUS-{task}-v0", trainer="fake", loss_norm=loss_norm)
    action = np.array(split, dtype=np.float32)
    found = []
    for seed in range(seeds):
        env.reset(seed=seed)
        ended = False
        while not ended:
            _, _, ended, _, _ = env.step(action)
        found.append(env.get_wrapper_attr("evaluate")().fused["concat"].accuracy)
    return statistics.fmean(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50)
    arguments = parser.parse_args()
    with DEFAULT_OUT.open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["first"] == r["second"] and r["first"].count("/") == 1]
    ends = {(r["task"], r["loss_norm"], r["first"]): float(r["test_concat"]) for r in rows}
    splits = sorted({split for _, _, split in ends})
    print("| task | loss_norm | | " + " | ".join(splits) + " |\n" + "|---" * (3 + len(splits)) + "|")
    for task, loss_norm in dict.fromkeys((task, norm) for task, norm, _ in ends):
        real = [ends[task, loss_norm, split] for split in splits]
        fake = [fake_accuracy(task, loss_norm, [float(v) for v in s.split("/")], arguments.seeds) for s in splits]
        for label, values in (("real", real), ("fake", fake)):
            print(f"| {task} | {loss_norm} | {label} | " + " | ".join(f"{100 * v:.1f}" for v in values) + " |")


if __name__ == "__main__":
    main()
