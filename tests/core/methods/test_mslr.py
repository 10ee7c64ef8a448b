"""MSLR against the numbers of the notes' section 8, and what it promises."""

import copy

import pytest
import torch
import torch.nn.functional as F
from method_setup import Setup

from dus_gym.errors import ConfigError
from dus_gym.methods import make_method
from dus_gym.methods.mslr import MSLR, accuracy_ratio, smoothed
from dus_gym.records import Figures

SERIES = [0.5, 0.5, 0.5, 0.5, 0.6, 0.66, 0.7, 0.69]


class Scripted(MSLR):
    """Sees accuracies from a script, one list a modality, whatever the run does."""

    def __init__(self, *series, **options):
        super().__init__(make_method("mslr", options).options)
        self.series = series

    def on_epoch_end(self, ctx, validation):
        accuracies = [values[ctx.epoch - 1] for values in self.series]
        super().on_epoch_end(ctx, [Figures([], accuracies, [], {})])


def rates_of(run):
    """Learning rate of every owner, as the torch optimiser has it."""
    by_parameter = {id(p): group["lr"] for group in run.optimizer.torch.param_groups for p in group["params"]}
    return {owner: by_parameter[id(run.optimizer.parameters(owner)[0])] for owner in run.optimizer.names}


# -- the notes' numbers ------------------------------------------------------------------------------


def test_the_ratio_by_hand():
    assert accuracy_ratio([0.5, 0.5, 0.5, 0.5, 0.6], 0.66, 5) == pytest.approx(1.2692308, abs=5e-8)
    # Only the last five count.
    assert accuracy_ratio([0.1, 0.5, 0.5, 0.5, 0.5, 0.6], 0.66, 5) == pytest.approx(1.2692308, abs=5e-8)
    assert accuracy_ratio([0.5, 0.5, 0.5, 0.5], 0.66, 5) == 1.0
    assert accuracy_ratio([0.0] * 5, 0.66, 5) == 1.0


def test_rate_and_history_after_the_sixth_epoch_by_hand(toy_run):
    method = Scripted(SERIES, [0.4] * 8, rates=(0.9, 1.1))
    run = toy_run(method=method, epochs=8)
    for epoch in range(1, 7):
        run.train([8, 8], 5)
        if epoch < 6:
            assert run.logged == {"rate/a": 0.9, "rate/b": 1.1}
    assert run.logged["rate/a"] == pytest.approx(0.9 * 1.2692308, abs=5e-8)
    assert run.logged["rate/b"] == pytest.approx(1.1)
    (history,) = method.state_dict()["history"]
    assert history[0] == [0.5, 0.5, 0.5, 0.6, 0.66]
    # It counts from the next epoch on.
    assert rates_of(run)["encoder/a"] == pytest.approx(0.01 * 0.9)
    run.train([8, 8], 1)
    expected = {"encoder/a": 0.0114230769, "head/a": 0.0114230769, "encoder/b": 0.011, "head/b": 0.011}
    assert rates_of(run) == pytest.approx(expected, abs=5e-11)


def test_ratios_multiply_the_rate_of_the_start_and_do_not_add_up(toy_run):
    run = toy_run(method=Scripted(SERIES, [0.4] * 8, rates=(0.9, 1.1)), epochs=8)
    run.train([8, 8], 35)
    assert run.logged["rate/a"] == pytest.approx(0.9 * 0.7 / 0.552)


def test_smoothing_by_hand():
    rates = [1.0, 4.0]
    assert smoothed(rates, 0.0, "geometric") == pytest.approx([1.0, 4.0])
    assert smoothed(rates, 0.5, "geometric") == pytest.approx([2.0**0.5, 8.0**0.5])
    assert smoothed(rates, 1.0, "geometric") == pytest.approx([2.0, 2.0])
    assert smoothed(rates, 0.5, "linear") == pytest.approx([1.75, 3.25])
    assert smoothed([1.0, 2.0, 6.0], 1.0, "linear") == pytest.approx([3.0, 3.0, 3.0])


# -- rates in the optimiser --------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [{}, {"name": "adam"}])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"strategy": "keep", "rates": (0.9, 1.4, 0.7)}, (0.9, 1.4, 0.7)),
        ({"strategy": "smooth", "rates": (1.0, 8.0, 1.0), "smoothing": 1.0}, (2.0, 2.0, 2.0)),
        ({"strategy": "smooth", "rates": (1.0, 2.0, 6.0), "smoothing": 0.5, "mean": "linear"}, (2.0, 2.5, 4.5)),
        ({"rates": (0.9, 1.4, 0.7)}, (0.9, 1.4, 0.7)),
        ({}, (1.0, 1.0, 1.0)),
    ],
)
def test_encoder_and_head_learn_at_their_modalitys_rate(toy_run, options, expected, optimizer):
    run = toy_run(3, method="mslr", method_options=options, optimizer=optimizer, lr_scale=(1.0, 0.5, 1.0))
    run.train([8, 8, 8], 1)
    # What the run itself scales stays a factor.
    scales = (1.0, 0.5, 1.0)
    for j, name in enumerate("abc"):
        for part in ("encoder", "head"):
            assert rates_of(run)[f"{part}/{name}"] == pytest.approx(0.01 * expected[j] * scales[j])
        assert run.logged[f"rate/{name}"] == pytest.approx(expected[j])


def test_the_schedule_multiplies_and_does_not_overwrite(toy_run):
    run = toy_run(
        method="mslr",
        method_options={"strategy": "keep", "rates": (0.9, 1.1)},
        epochs=10,
        optimizer={"schedule": "step", "milestone": 0.5},
    )
    run.train([8, 8], 26)
    assert rates_of(run)["encoder/a"] == pytest.approx(0.0009)
    assert rates_of(run)["head/b"] == pytest.approx(0.0011)


def test_a_rate_scales_the_first_step_under_sgd_and_adam(toy_run, weights_of):
    for name in ("sgd", "adam"):
        moves = []
        for rates in ((1.0, 1.0), (0.5, 3.0)):
            run = toy_run(
                method="mslr",
                method_options={"strategy": "keep", "rates": rates},
                optimizer={"name": name, "lr": 0.001, "weight_decay": 0.0},
            )
            before = weights_of(run)
            run.train([8, 8], 1)
            moves.append({key: value - before[key] for key, value in weights_of(run).items()})
        for key, move in moves[0].items():
            factor = 0.5 if key.split(".")[1] == "0" else 3.0
            torch.testing.assert_close(moves[1][key], factor * move, rtol=1e-2, atol=1e-6)


# -- what it minimises and predicts ------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(4, 4), (4, 4, 4)])
def test_the_loss_is_that_of_the_summed_logits(sizes):
    setup = Setup("mslr", sizes=sizes)
    logits = [setup.model.unimodal(j, setup.model.encode(j, x)) for j, x in enumerate(setup.inputs)]
    expected = F.cross_entropy(sum(logits), setup.labels)
    scores = [z.softmax(1).gather(1, setup.labels[:, None]).mean().item() for z in logits]
    assert setup.losses() == [pytest.approx(expected.item(), rel=1e-5)]
    (found,) = setup.recorder.finish()
    assert found.rows == [pytest.approx(scores, rel=1e-5)]
    assert found.fused_samples == 4
    assert setup.model.fused_head is None


def test_it_predicts_with_the_sum(toy_run):
    run = toy_run(method="mslr")
    run.train([8, 8], 20)
    found = run.evaluate()
    assert found.fused["method"] == found.fused["sum"]
    assert found.fused["concat"] is None


# -- what it looks at --------------------------------------------------------------------------------


def test_it_is_validation_accuracy_and_each_modalitys_own_that_counts(toy_run):
    run, seen = toy_run(method="mslr", epochs=8), []
    for _ in range(8):
        run.train([8, 8], 5)
        seen.append(run.validation.accuracies)
    (history,) = run.method.state_dict()["history"]
    for j, name in enumerate("ab"):
        series = [row[j] for row in seen]
        assert history[j] == series[-5:]
        assert run.logged[f"rate/{name}"] == pytest.approx(series[-1] / (sum(series[-6:-1]) / 5))
    assert run.logged["rate/a"] != run.logged["rate/b"]


def test_eval_every_changes_nothing(toy_run, weights_of, same_bits):
    runs = [toy_run(method="mslr", epochs=8, eval_every=every) for every in (1, 5)]
    for run in runs:
        run.train([8, 8], 40)
    assert runs[0].logged == runs[1].logged
    assert same_bits(weights_of(runs[0]), weights_of(runs[1]))


# -- state -------------------------------------------------------------------------------------------


def test_going_back_takes_the_rates_back(toy_run, same_bits):
    run, other = (toy_run(method=Scripted(SERIES, [0.4] * 8), epochs=8) for _ in range(2))
    run.train([8, 8], 28)
    other.train([8, 8], 28)
    state = copy.deepcopy(run.snapshot())
    run.train([8, 8], 12)
    run.restore(state)
    for each in (run, other):
        each.train([8, 8], 9)
    assert same_bits(run.snapshot(), other.snapshot())


# -- what it refuses ---------------------------------------------------------------------------------


def test_rates_are_one_a_modality(toy_run):
    with pytest.raises(ConfigError, match=r"rates=\(0.9, 1.1\) .*needs 3 entries"):
        toy_run(3, method="mslr", method_options={"rates": (0.9, 1.1)})


def test_only_dynamic_needs_validation(toy_run):
    with pytest.raises(ConfigError, match="'mslr' needs a validation split"):
        toy_run(method="mslr", validation=False)
    run = toy_run(method="mslr", method_options={"strategy": "keep", "rates": (0.9, 1.1)}, validation=False)
    run.train([8, 8], 20)
    assert run.logged == {"rate/a": 0.9, "rate/b": 1.1}
