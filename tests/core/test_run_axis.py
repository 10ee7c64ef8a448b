"""R runs as one computation against each run alone: losses, figures and parameters, under every method."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dus_gym.config import RunConfig
from dus_gym.data.dataset import StackedSplit, TaskData, TensorSplit
from dus_gym.errors import ConfigError
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
    ("mmpareto", {"method_options": {"magnitude": "encoder"}, "loss_norm": "fixed", "update": "alternating"}),
    ("opm", {"method_options": {"start_epoch": 2, "end_epoch": 5, "ratio": "others"}}),
    ("cml", {"method_options": {"pairs": "miwae"}}),
    ("lfm", {"method_options": {"divergence": "js"}}),
    ("umt", {"method_options": {"teacher": 0.3}, "update": "alternating", "loss_norm": "fixed"}),
    ("relearning", {"method_options": {"period": 0.3, "times": 2, "restarts": 2}}),
    ("bss", {"method_options": {"scheduler": "heuristic", "growth": 0.5}, "update": "alternating"}),
    ("aug", {"method_options": {"lag": 1.0, "period": 0.2}, "loss_norm": "fixed"}),
    ("aug", {"method_options": {"lag": 0.7, "residual_weight": 1.0}, "select": "validation"}),
    ("greedy", {"method_options": {"epsilon": 0.05, "window": 2, "start_epoch": 0}, "loss_norm": "fixed"}),
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
    check_like_alone(method, m, [3, 1, 4, 15, 9, 2, 6] if m == 2 else [3, 1, 4], **settings)


UNPAIRED = sorted(name for name in METHODS if method_class(name).supports_unpaired)


@st.composite
def unequal_sizes(draw):
    """Sizes of up to five runs of two or three modalities, with floors from 1 and up to a whole N_B for one."""
    m, runs = draw(st.sampled_from([2, 3])), draw(st.integers(2, 5))
    size = st.integers(draw(st.sampled_from([1, 2, 5])), draw(st.sampled_from([6, 12, 25])))
    return draw(st.lists(st.lists(size, min_size=m, max_size=m), min_size=runs, max_size=runs))


@settings(max_examples=60, deadline=None)
@given(
    sizes=unequal_sizes(),
    method=st.sampled_from(UNPAIRED),
    loss_norm=st.sampled_from(["mean", "fixed"]),
    update=st.sampled_from(["joint", "alternating"]),
)
def test_whatever_the_sizes_losses_and_steps_are_those_of_the_run_alone(sizes, method, loss_norm, update):
    """After two iterations parameters are equal, and so were the gradients of both."""
    m, seeds = len(sizes[0]), range(len(sizes))
    chosen = {"loss_norm": loss_norm, "update": update, "iterations": 2}
    together = make(TrainingRuns, list(seeds), m, method, **chosen)
    intervals = together.train_all(sizes, 2)
    state = together.model.state_dict()
    for r, interval in enumerate(intervals):
        run = make(Trainer, [r], m, method, **chosen)
        expected = run.train(sizes[r], 2)
        close(interval.loss, expected.loss)
        assert interval.sizes == expected.sizes == (sizes[r] if run.phase.sampling else [6] * m)
        for name, values in run.model.state_dict().items():
            close(state[name][r], values)


def test_one_run_alone_has_no_axis_and_seven_have_one():
    alone, together = make(Trainer, [0], 2, "baseline"), make(TrainingRuns, [0, 1, 2], 2, "baseline")
    assert (alone.runs, together.runs) == (None, 3)
    assert alone.model.fused_head.weight.shape == (3, 11)
    assert together.model.fused_head.weight.shape == (3, 3, 11)


def test_classifiers_are_not_added_in_single_runs_under_adam():
    adam = {"optimizer": {"lr": 0.01, "name": "adam"}}
    assert not make(Trainer, [0], 2, "aug", **adam).train([6, 6], 8).diverged
    with pytest.raises(ConfigError, match=r"optimizer='adam' counts.*'aug' adds classifiers.*parallel_runs=1"):
        make(TrainingRuns, [0, 1], 2, "aug", **adam)


def test_a_run_that_ended_stays_to_the_bit_and_the_others_go_on():
    together, undisturbed = (make(TrainingRuns, [0, 1, 2], 2, "baseline") for _ in range(2))
    sizes = [[6, 4], [3, 7], [5, 5]]
    for runs in (together, undisturbed):
        runs.train_all(sizes, 4)
    with torch.no_grad():
        together.model.fused_head.bias[1, 0] = torch.nan
    assert [interval.diverged for interval in together.train_all(sizes, 4)] == [False, True, False]
    undisturbed.train_all(sizes, 4)
    ended = {name: values[1].clone() for name, values in together.model.state_dict().items()}
    progress = together.progresses[1]
    iterations, samples = progress.iterations, list(progress.samples)
    intervals = together.train_all(sizes, 8)
    expected = undisturbed.train_all(sizes, 8)
    assert intervals[1] is None
    assert (progress.iterations, progress.samples) == (iterations, samples)
    for name, values in together.model.state_dict().items():
        torch.testing.assert_close(values[1], ended[name], rtol=0, atol=0, equal_nan=True)
        for r in (0, 2):
            close(values[r], undisturbed.model.state_dict()[name][r])
    for r in (0, 2):
        close(intervals[r].loss, expected[r].loss)


def test_splits_of_several_runs_are_one_table_or_fetched_one_by_one():
    splits = [task_data(seed, 2).train for seed in (0, 1)]

    class Elsewhere:
        """A split that is no tensor."""

        augments = False

        def __init__(self, split):
            self.labels, self.fetch = split.labels, split.fetch

    rows = torch.tensor([[3, 0, 3], [25, 1, 7]])
    table, apart = StackedSplit(splits), StackedSplit([Elsewhere(split) for split in splits])
    for j in (0, 1):
        expected = torch.stack([split.inputs[j][own] for split, own in zip(splits, rows, strict=True)])
        torch.testing.assert_close(table.fetch(j, rows), expected, rtol=0, atol=0)
        torch.testing.assert_close(apart.fetch(j, rows), expected, rtol=0, atol=0)


class Augmented:
    """A split read ahead by threads, whose every draw of a sample is another; drawn alike in all modalities or not."""

    augments = True

    def __init__(self, split, shared):
        self.split, self.shared, self.labels = split, shared, split.labels

    def to(self, device):
        return self

    def prepare(self, modality, rows, draws=None):
        shift = 0.0 if draws is None else torch.tensor(draws, dtype=torch.float64).unsqueeze(1) / 7
        return self.split.inputs[modality][torch.as_tensor(rows)] + shift

    def finish(self, modality, prepared):
        return prepared

    def fetch(self, modality, indices, draws=None):
        return self.prepare(modality, indices, draws)


@pytest.mark.parametrize("shared", [True, False])
def test_draws_are_numbered_and_read_ahead_as_in_a_run_alone(monkeypatch, shared):
    plain = task_data

    def augmented(seed, m):
        data = plain(seed, m)
        return TaskData(Augmented(data.train, shared), data.validation, data.test, data.input_shapes)

    monkeypatch.setitem(globals(), "task_data", augmented)
    check_like_alone("baseline", 2, [3, 1, 4])
