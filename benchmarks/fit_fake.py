"""Fits the fake trainer's learning curves to the traces of real runs and states the error of the fit.

    python -m dus_gym.benchmarks.fit_fake          # seconds

reads ``envs/traces.csv``, writes ``envs/fake_curves.json`` and prints the table of errors.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import dus_gym.envs
from dus_gym.data.registry import get_task
from dus_gym.envs.fake import CURVES, DROP, MILESTONE, PREDICTORS, features

Vector = npt.NDArray[np.float64]
HOME = Path(dus_gym.envs.__file__).parent
KNOTS = np.log(np.geomspace(0.004, 2.6, 14))
SMOOTHNESS = 0.02


def clock(epochs: int) -> Vector:
    """Return how much of the schedule has passed after each epoch, in (0, 1]."""
    rate = np.where(np.arange(epochs) < np.ceil(MILESTONE * epochs), 1.0, DROP)
    return np.asarray(np.cumsum(rate) / rate.sum())


def hats(log_u: Vector) -> Vector:
    """The basis of the piecewise linear curves, ``(n, knots)``."""
    x = np.clip(log_u, KNOTS[0], KNOTS[-1])
    i = np.clip(np.searchsorted(KNOTS, x, side="right") - 1, 0, len(KNOTS) - 2)
    w = (x - KNOTS[i]) / (KNOTS[i + 1] - KNOTS[i])
    basis = np.zeros((len(x), len(KNOTS)))
    rows = np.arange(len(x))
    basis[rows, i], basis[rows, i + 1] = 1.0 - w, w
    return basis


def fit_curve(log_u: Vector, values: Vector) -> Vector:
    """Values at the knots, by least squares with a little smoothing; constant where there is no data."""
    bend = np.diff(np.eye(len(KNOTS)), 2, axis=0) * SMOOTHNESS * np.sqrt(len(values))
    left = np.vstack([hats(log_u), bend])
    right = np.concatenate([values, np.zeros(len(bend))])
    return np.asarray(np.linalg.lstsq(left, right, rcond=None)[0])


class Traces:
    """The rows of one task and loss norm, as arrays."""

    def __init__(self, rows: list[dict[str, str]], epochs: int) -> None:
        self.rows = rows
        self.m = rows[0]["first"].count("/") + 1
        first, second = (np.array([[float(v) for v in r[key].split("/")] for r in rows]) for key in ("first", "second"))
        self.constant = (first == second).all(axis=1)
        epoch = np.array([int(r["epoch"]) for r in rows])
        passed = np.concatenate([[0.0], clock(epochs)])
        self.clock = passed[epoch]
        self.before = passed[np.minimum(epoch, epochs // 2)]
        self.fractions = first * self.m, second * self.m

    def column(self, name: str) -> Vector:
        """One column of numbers."""
        return np.array([float(r[name]) for r in self.rows])

    def exposure(self, j: int, gamma: float) -> Vector:
        """u_j of every row under an exponent."""
        first, second = (f[:, j] ** gamma for f in self.fractions)
        return np.asarray(self.before * first + (self.clock - self.before) * second)


def fit(traces: Traces) -> tuple[dict[str, Any], dict[str, float]]:
    """The curves of one regime and the errors of the fit (root mean square, in points)."""
    train, m = traces.constant, traces.m
    gammas: list[float] = []
    log_u: list[Vector] = []
    for j in range(m):
        errors: dict[float, float] = {}
        for gamma in np.linspace(-0.2, 1.2, 29):
            x = np.log(traces.exposure(j, gamma))
            errors[float(gamma)] = sum(
                float(np.mean((hats(x) @ fit_curve(x[train], y[train]) - y)[train] ** 2))
                for y in (traces.column(f"train_score_{j}"), traces.column(f"val_score_{j}"))
            )
        gammas.append(round(min(errors.items(), key=lambda item: item[1])[0], 3))
        log_u.append(np.log(traces.exposure(j, gammas[j])))
    curves: dict[str, list[list[float]]] = {}
    read: dict[str, Vector] = {}
    for name in CURVES:
        knots = [fit_curve(log_u[j][train], traces.column(f"{name}_{j}")[train]) for j in range(m)]
        curves[name] = [k.round(5).tolist() for k in knots]
        read[name] = np.stack([hats(log_u[j]) @ knots[j] for j in range(m)], axis=1)
    tilts = np.stack([np.log(traces.exposure(j, 1.0) / traces.clock) for j in range(m)], axis=1)
    late = traces.clock > 0.1
    columns: list[Vector] = []
    predicted: dict[str, Vector] = {}
    for split, accuracy in (("val", "val_accuracy"), ("test", "test_accuracy")):
        x = np.array(
            [
                features(read["train_score"][i].tolist(), read[accuracy][i].tolist(), c, tilts[i].tolist())
                for i, c in enumerate(traces.clock)
            ]
        )
        # The start of a run, where everything is near chance, should not bend the rest; its end counts most.
        weight = np.where(late, np.where(traces.clock > 0.999, 3.0, 1.0), 0.1)[train, None]
        for predictor in PREDICTORS:
            y = traces.column(f"{split}_{predictor}")
            # A trace of a ridge keeps coefficients of features that move together from cancelling.
            left = np.vstack([x[train] * weight, 1e-2 * np.eye(x.shape[1])])
            right = np.concatenate([y[train] * weight[:, 0], np.zeros(x.shape[1])])
            solved = np.linalg.lstsq(left, right, rcond=None)[0]
            columns.append(solved)
            predicted[f"{split}_{predictor}"] = x @ solved
    accuracies = np.concatenate([traces.column(f"test_{p}") for p in PREDICTORS])
    lines = {}
    for metric in ("map", "macro_f1"):
        y = np.concatenate([traces.column(f"test_{p}_{metric}") for p in PREDICTORS])
        good = accuracies > 0.4
        slope, offset = np.polyfit(accuracies[good], y[good], 1)
        lines[metric] = [round(float(offset), 5), round(float(slope), 5)]
    final = traces.clock > 0.999
    step = np.concatenate([traces.column(f"train_step_{j}_std") for j in range(m)])
    found = {
        "gamma": gammas,
        "log_knots": KNOTS.round(5).tolist(),
        "curves": curves,
        "fused": np.stack(columns, axis=1).round(6).tolist(),
        **lines,
        "run_noise": round(float(traces.column("test_concat_std")[final].mean()), 4),
        "validation_noise": round(float(traces.column("val_concat_std")[final].mean()), 4),
        # The difference of two epochs has twice the variance of one.
        "step_noise": round(float(np.median(step) / np.sqrt(2.0)), 4),
    }

    def rms(values: Vector, where: npt.NDArray[np.bool_]) -> float:
        return round(100.0 * float(np.sqrt(np.mean(values[where] ** 2))), 2)

    score_error = np.max(
        [np.abs(read["train_score"][:, j] - traces.column(f"train_score_{j}")) for j in range(m)], axis=0
    )
    errors_out = {
        "train score": rms(score_error, train & late),
        "concat": rms(predicted["test_concat"] - traces.column("test_concat"), train & late),
        "sum": rms(predicted["test_sum"] - traces.column("test_sum"), train & late),
        "concat, end": rms(predicted["test_concat"] - traces.column("test_concat"), train & final),
        "sum, end": rms(predicted["test_sum"] - traces.column("test_sum"), train & final),
        "held-out concat, end": rms(predicted["test_concat"] - traces.column("test_concat"), ~train & final),
        "held-out sum, end": rms(predicted["test_sum"] - traces.column("test_sum"), ~train & final),
    }
    return found | {"error_points": errors_out}, errors_out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, default=HOME / "traces.csv")
    parser.add_argument("--out", type=Path, default=HOME / "fake_curves.json")
    arguments = parser.parse_args()
    with arguments.traces.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table: dict[str, dict[str, Any]] = {}
    header: list[str] = []
    for task in dict.fromkeys(r["task"] for r in rows):
        for loss_norm in ("mean", "fixed"):
            chosen = [r for r in rows if r["task"] == task and r["loss_norm"] == loss_norm]
            found, errors = fit(Traces(chosen, get_task(task).epochs))
            table.setdefault(task, {})[loss_norm] = found
            if not header:
                header = ["task", "loss_norm", *errors]
                print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
            print("| " + " | ".join([task, loss_norm, *(f"{v:.2f}" for v in errors.values())]) + " |")
    arguments.out.write_text(json.dumps(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
