"""Results made by hand, and comparisons of them whose answer is known."""

from dus_gym.experiments.comparison import compare_results, conclude
from dus_gym.experiments.results import ModalityResult, Result
from dus_gym.records import Scores

SEEDS = [0, 1, 2, 3, 4]
NOISE = [0.000, 0.004, -0.003, 0.002, -0.003]
OTHER_NOISE = [0.002, -0.001, 0.000, -0.003, 0.002]


def modality(score, val_score, val_accuracy, accuracy=0.6):
    return ModalityResult(accuracy, accuracy, accuracy, 64, score, 1.0, val_accuracy, val_score)


OVERFITS = {"pixels": modality(1.0, 0.7, 0.72), "columns": modality(0.6, 0.55, 0.63)}
BETTER = {"left": modality(0.91, 0.86, 0.89), "right": modality(0.78, 0.56, 0.61)}


def result(accuracy, *, modalities=OVERFITS, fused=None, **fields):
    row = None if accuracy is None else Scores(accuracy, accuracy, accuracy)
    values = {
        "format": 1, "env": "DUS-Hand-v0", "agent": "pi", "agent_options": {}, "method": "baseline",
        "method_options": {}, "task_options": {}, "seed": 0, "trainer": "real", "data_kind": "real", "dropped": {},
        "gap": 0.3, "score_rise": 0.001, "rate_falls": (), "diverged": False, "settings": {"action_mode": "shares"},
        "select": "last",
        "epochs": 20, "total_batch": 128, "base_batch": 64, "iterations": 100, "samples": 12800, "version": "0",
        "training_runs": 0.0, "seconds": 2.0, "agent_seconds": 0.5, "peak_memory_mib": 100.0,
        "peak_device_memory_mib": None,
    }  # fmt: skip
    predictions = fused or {"method": row, "concat": row, "sum": row, "entropy": None}
    return Result(fused=predictions, modalities=modalities, **values | fields)


def step(number, **fields):
    """A line of steps.jsonl: two modalities, 2 epochs."""
    figures = {f"{kind}/{name}": 2 for kind in ("size", "samples") for name in OVERFITS}
    figures |= {f"train_score/{name}": 0.5 for name in OVERFITS}
    return {
        "step": number, "observation": [0.5, 0.25], "reward": -0.5, "epoch": 1, "epochs": 2, "iterations": 2 * number,
        "loss": 1.5, "gap": 0.2, "diverged": False, **figures, **fields,
    }  # fmt: skip


def part_of(gains, *, seeds=SEEDS, equal_samples=None, left_out=None, noise=NOISE, every=None, **of_agents):
    """One task's comparison in which each agent gains so many points over uniform, give or take its noise.

    ``every`` are fields of all results, the others those of the agent of that name.
    """
    names = ["uniform", *gains]
    results = {}
    for name in names:
        for i, seed in enumerate(seeds):
            accuracy = 0.7 + OTHER_NOISE[i] + (gains[name] / 100 + noise[i] if name in gains else 0.0)
            own = of_agents.get(name.partition(":")[0].replace("-", "_"), {})
            results[name, seed] = result(accuracy, **(every or {}) | own)
    return compare_results(names, seeds, results, equal_samples, left_out)


def comparison_of(gains, **how):
    return conclude([part_of(gains, **how)])
