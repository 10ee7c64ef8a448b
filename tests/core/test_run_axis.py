"""R runs as one computation against each run alone: losses, figures and parameters, under every method."""

import numpy as np
import pytest
import torch

from dus_gym.config import RunConfig
from dus_gym.data.dataset import TaskData, TensorSplit
from dus_gym.methods import METHODS, make_method, method_class
from dus_gym.optim import OptimizerConfig
from dus_gym.seeding import RunSeeds
from dus_gym.trainer import Recipe, Trainer, TrainingRuns

EPOCHS = 8


def task_data(seed, m, n=26):
    """Small splits in float64 that depend on the seed."""
    rng = np.random.default_rng(seed)

    def split(n):
        labels = rng.integers(0, 3, n)
        inputs = []
        for j in range(m):
            x = rng.standard_normal((n, 4 + j))
            x[:, 1] += 2.0 * labels
            inputs.append(torch.tensor(x))
        return TensorSplit(tuple(inputs), torch.tensor(labels))

    return TaskData(split(n), split(12), split(15), [(4 + j,) for j in range(m)])


def in_float64(runs):
    """The runs, with parameters, momentum and the method's own tensors in float64, before their first step."""
    runs.model.double()
    runs.optimizer.torch.state.clear()
    runs.optimizer._start_momentum()
    if runs.method.name == "agm":
        # It has made a sample of zeros.
        runs.method.on_fit_start(runs._ctx)
    return runs


def make(kind, seeds, m, method, method_options=None, optimizer=None, **settings):
    recipe = Recipe(
        modalities=tuple("abcd"[:m]),
        num_classes=3,
        encoders=("mlp:hidden=5",) + ("mlp:hidden=6",) * (m - 1),
        optimizer=OptimizerConfig(**({"lr": 0.05, "schedule": "step"} | (optimizer or {}))),
        epochs=EPOCHS,
        batch=6,
    )
    config, chosen = RunConfig.of(settings), make_method(method, method_options)
    if kind is Trainer:
        (seed,) = seeds
        return in_float64(Trainer(recipe, task_data(seed, m), chosen, config, RunSeeds(seed)))
    data = [task_data(seed, m) for seed in seeds]
    return in_float64(TrainingRuns(recipe, data, chosen, config, [RunSeeds(seed) for seed in seeds]))


def sizes_of(seed, step, m, equal):
    """Batch sizes of one run in one step, 2 to 9 a modality."""
    drawn = np.random.default_rng([seed, step]).integers(2, 10, m).tolist()
    return [drawn[0]] * m if equal else drawn


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


def check_like_alone(method, m, seeds, **settings):
    """Train runs together and each alone, and compare all there is."""
    equal = not method_class(method).supports_unpaired
    together = make(TrainingRuns, seeds, m, method, **settings)
    alone = [make(Trainer, [seed], m, method, **settings) for seed in seeds]
    for probe, run in zip(together.probe_all(), alone, strict=True):
        close(probe.train.losses, run.probe().train.losses)
    for step in range(EPOCHS):
        sizes = [sizes_of(seed, step, m, equal) for seed in seeds]
        intervals = together.train_all(sizes, together.iterations_per_epoch)
        for r, run in enumerate(alone):
            expected, found = run.train(sizes[r], run.iterations_per_epoch), intervals[r]
            assert found.sizes == expected.sizes
            close(found.loss, expected.loss)
            close(found.scores, expected.scores)
            close(found.accuracies, expected.accuracies)
            close([row for row, _ in found.iteration_scores], [row for row, _ in expected.iteration_scores])
            assert (found.fused_accuracy is None) == (expected.fused_accuracy is None)
            assert together.progresses[r].samples == run.progress.samples
            assert together.progresses[r].coverage == run.progress.coverage
            assert together.progresses[r].rate_falls == run.progress.rate_falls
            close(together.progresses[r].gaps, run.progress.gaps)
            close(together.validations[r].losses, run.validation.losses)
            close(list(together.logged_all[r].values()), list(run.logged.values()))
            for name, values in run.model.state_dict().items():
                close(together.model.state_dict()[name][r], values)
    for found, run in zip(together.evaluate_all(), alone, strict=True):
        expected = run.evaluate()
        for name, scores in expected.fused.items():
            assert (found.fused[name] is None) == (scores is None)
            if scores is not None:
                assert found.fused[name].accuracy == scores.accuracy


CASES = [(method, {}) for method in METHODS] + [
    ("baseline", {"loss_norm": "fixed"}),
    ("baseline", {"update": "alternating"}),
    ("baseline", {"pairing": "independent"}),
    ("baseline", {"optimizer": {"lr": 0.01, "name": "adam", "schedule": "plateau", "patience": 1}}),
    ("unimodal", {"optimizer": {"schedule": "plateau", "patience": 1}}),
    ("baseline", {"select": "validation"}),
    ("ogm", {"method_options": {"scale_via": "lr"}}),
    ("ogm", {"method_options": {"ratio": "weakest"}}),
    ("ogm_ge", {"optimizer": {"lr": 0.01, "name": "adam"}}),
    ("agm", {"method_options": {"fusion_hidden": 4}}),
    ("agm", {"method_options": {"clip": 0.05}}),
    ("agm", {"method_options": {"scale_via": "lr"}, "loss_norm": "fixed"}),
    ("mla", {"method_options": {"normalize": True, "order": "update_then_project"}}),
    ("pmr", {"method_options": {"prototype_fraction": 0.5, "momentum": 0.5}}),
    ("pmr", {"update": "alternating", "method_options": {"entropy_weight": 0.1, "entropy_epochs": 3}}),
    ("di_mml", {"select": "validation"}),
    ("mses", {"method_options": {"patience": 0.1}}),
    ("mses", {"method_options": {"patience": 0.1, "smoothing": "released"}, "optimizer": {"lr": 0.2}}),
    ("mslr", {"method_options": {"window": 1}}),
    ("smv", {"method_options": {"masking": "inputs"}}),
    ("smv", {"method_options": {"level": "modality"}}),
    ("reconboost", {"method_options": {"residual": "full", "pretraining": 0.2}}),
    ("ogr_gb", {"update": "alternating"}),
    ("domfn", {"method_options": {"fusion_hidden": 0, "pretraining": 0.0}}),
]


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize(
    ("method", "settings"), CASES, ids=lambda value: value if isinstance(value, str) else str(value)
)
def test_each_of_seven_runs_is_as_it_is_alone(method, settings, m):
    check_like_alone(method, m, [3, 1, 4, 15, 9, 2, 6], **settings)
