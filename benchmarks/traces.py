"""Traces of real runs under constant splits: what the fake trainer's learning curves are fitted to.

    python -m dus_gym.benchmarks.traces            # about 10 minutes on one core

writes ``envs/traces.csv``, one row a (task, loss_norm, split, epoch), averaged over the tuning seeds.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

import dus_gym.envs
from dus_gym.allocation import sizes_from_shares
from dus_gym.config import RunConfig
from dus_gym.data.registry import get_task
from dus_gym.methods import make_method
from dus_gym.seeding import RunSeeds
from dus_gym.trainer import Recipe, Trainer

SEEDS = range(100, 104)
POINTS = 14
DEFAULT_OUT = Path(dus_gym.envs.__file__).with_name("traces.csv")


Split = tuple[float, ...]


def held_out(m: int) -> tuple[Split, Split]:
    """A split for the first half of the epochs and another for the second: checks the fit, is not fitted."""
    return ((0.8, 0.2), (0.2, 0.8)) if m == 2 else ((0.6, 0.2, 0.2), (0.2, 0.2, 0.6))


def splits(m: int) -> list[Split]:
    """Constant splits: a line through uniform for two modalities, one line a modality for more."""
    if m == 2:
        return [(p, 1.0 - p) for p in (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9)]
    lines = [(1.0 / m,) * m]
    for j in range(m):
        shares = (0.06, 0.15, 0.5, 0.7)
        lines += [tuple(p if i == j else (1.0 - p) / (m - 1) for i in range(m)) for p in shares]
    return lines


def label(split: Split) -> str:
    """Return how the table writes a split."""
    return "/".join(f"{share:.3f}" for share in split)


def checkpoints(epochs: int) -> list[int]:
    """Epochs at which a run is looked at: dense at the start, and the last."""
    return sorted({max(1, round(e)) for e in np.geomspace(1, epochs, POINTS)} | {round(0.7 * epochs), epochs})


def trace(task_name: str, loss_norm: str, first: Split, second: Split, seed: int) -> list[dict[str, float]]:
    """One run's figures at the checkpoints; the split changes half-way."""
    task, seeds = get_task(task_name), RunSeeds(seed)
    config = RunConfig(loss_norm=loss_norm)
    run = Trainer(Recipe.of(task), task.data(seeds, None), make_method("baseline"), config, seeds)
    total = len(first) * task.batch
    rows: list[dict[str, float]] = []
    before = [0.0] * len(first)
    for epoch in range(1, run.epochs + 1):
        sizes = sizes_from_shares(first if epoch <= run.epochs // 2 else second, total)
        interval = run.train(sizes, run.iterations_per_epoch)
        previous, before = before, interval.scores
        if epoch not in checkpoints(run.epochs):
            continue
        test, validation = run.evaluate(), run.validation
        if validation is None:
            raise RuntimeError(f"task {task_name} has no validation split; traces need one.")
        row: dict[str, float] = {"epoch": epoch}
        for j, name in enumerate(run.modalities):
            row[f"train_score_{j}"] = interval.scores[j]
            row[f"train_step_{j}"] = interval.scores[j] - previous[j]
            row[f"train_accuracy_{j}"] = interval.accuracies[j]
            row[f"val_score_{j}"] = validation.scores[j]
            row[f"val_accuracy_{j}"] = validation.accuracies[j]
            row[f"val_loss_{j}"] = validation.losses[j]
            row[f"test_accuracy_{j}"] = test.modalities[name].accuracy
            row[f"test_map_{j}"] = test.modalities[name].map
            row[f"test_macro_f1_{j}"] = test.modalities[name].macro_f1
        for predictor in ("concat", "sum", "entropy"):
            quick, full = validation.fused[predictor], test.fused[predictor]
            if quick is None or full is None:
                raise RuntimeError(f"the baseline has no {predictor} figure; traces need all three.")
            row[f"val_{predictor}"] = quick
            row[f"test_{predictor}"] = full.accuracy
            row[f"test_{predictor}_map"] = full.map
            row[f"test_{predictor}_macro_f1"] = full.macro_f1
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="Digits,DigitsControl,Digits3")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table: list[dict[str, object]] = []
    for task_name in arguments.tasks.split(","):
        for loss_norm in ("mean", "fixed"):
            m = len(get_task(task_name).modalities)
            for first, second in [(split, split) for split in splits(m)] + [held_out(m)]:
                collected: dict[int, list[dict[str, float]]] = defaultdict(list)
                for seed in SEEDS:
                    for row in trace(task_name, loss_norm, first, second, seed):
                        collected[int(row["epoch"])].append(row)
                for epoch, rows in collected.items():
                    means = {key: round(float(np.mean([r[key] for r in rows])), 4) for key in rows[0]}
                    spreads = {
                        f"{key}_std": round(float(np.std([r[key] for r in rows], ddof=1)), 4)
                        for key in rows[0]
                        if key.startswith("train_s") or key in ("val_concat", "test_concat")
                    }
                    named = {"task": task_name, "loss_norm": loss_norm, "first": label(first), "second": label(second)}
                    table.append(named | means | {"epoch": epoch} | spreads)
                print(task_name, loss_norm, label(first), label(second), flush=True)
    columns = list(dict.fromkeys(key for row in table for key in row))
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    main()
