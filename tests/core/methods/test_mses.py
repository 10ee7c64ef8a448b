"""MSES: the notes' numbers, what is put back and frozen when, and that frozen means to the bit."""

import math
from dataclasses import replace

import pytest
import torch
from method_setup import Setup
from torch import nn

from dus_gym.methods.mses import MSES, EarlyStop, MSESOptions
from dus_gym.state import load_state, save_state

# Validation losses of epochs 1 to 6 (the notes, 5.8), and on.
SERIES = [1.0, 0.8, 0.7, 0.75, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99]
FALLING = [2.0 - 0.05 * i for i in range(20)]
LATER = [1.0, 0.9, 0.8, 0.7, 0.6, 0.65, 0.66, 0.67, 0.68, 0.69]
"""Best in epoch 5, so stopped after epoch 8 with a patience of 2."""


class Scripted(MSES):
    """Told its validation losses: one series a modality, then the fused head's."""

    def __init__(self, *series, smoothing="none"):
        # A fifth of ten epochs.
        super().__init__(MSESOptions(patience=0.2, smoothing=smoothing))
        self.series = [[*values, *[9.0] * 20] for values in series]
        self.seen = []

    def on_epoch_end(self, ctx, validation):
        self.seen.append(ctx.epoch)
        *own, fused = [values[ctx.epoch - 1] for values in self.series]
        (found,) = validation or ctx.validate()
        losses = found.fused_losses | {"concat": fused}
        super().on_epoch_end(ctx, [replace(found, losses=own, fused_losses=losses)])


def weights_by_epoch(run, weights_of, epochs, sizes=(5, 11)):
    """The model after each epoch, from 1."""
    found = [None]
    for _ in range(epochs):
        run.train(list(sizes), run.iterations_per_epoch)
        found.append(weights_of(run))
    return found


def parts(weights, *names):
    chosen = {name: value for name, value in weights.items() if name.startswith(names)}
    assert chosen
    return chosen


A, B, FUSED = ("encoders.0", "unimodal_heads.0"), ("encoders.1", "unimodal_heads.1"), ("fused_head",)


# -- the notes' numbers ------------------------------------------------------------------------------


def test_patience_by_hand():
    stop = EarlyStop()
    verdicts = [stop.see(epoch, loss, 2, "none") for epoch, loss in enumerate(SERIES[:5], 1)]
    assert verdicts == ["best"] * 3 + ["no better"] * 2
    assert (stop.best, stop.best_epoch, stop.stopped_at) == (0.7, 3, 0)
    assert stop.see(6, SERIES[5], 2, "none") == "stop"
    assert (stop.best, stop.best_epoch, stop.stopped_at) == (0.7, 3, 6)


def test_smoothing_as_released_by_hand():
    stop, values = EarlyStop(), []
    for epoch, loss in enumerate(SERIES[:6], 1):
        one = EarlyStop(previous=stop.previous)
        one.see(epoch, loss, 2, "released")
        values.append(one.best)
        stop.see(epoch, loss, 2, "released")
    assert values == pytest.approx([1.0, 0.92, 0.76, 0.72, 0.77, 0.84])
    assert (stop.best_epoch, stop.stopped_at) == (4, 0)
    stop.see(7, SERIES[6], 2, "released")
    assert stop.stopped_at == 7


def test_a_tie_is_no_improvement():
    stop = EarlyStop()
    assert [stop.see(epoch, 0.5, 1, "none") for epoch in (1, 2, 3)] == ["best", "no better", "stop"]
    assert (stop.best_epoch, stop.stopped_at) == (1, 3)


@pytest.mark.parametrize(("sizes", "loss"), [((3, 5), 3), ((5, 2), 3), ((3, 5, 4), 4)])
def test_the_loss_is_the_plain_sum(sizes, loss):
    assert Setup("mses", sizes=sizes).zero_heads().losses() == pytest.approx([loss * math.log(6)], abs=1e-6)
    setup, plain = Setup("mses", sizes=sizes), Setup("baseline", sizes=sizes)
    for found, expected in zip(*(s.gradients("encoder/one", "head/two", "fused") for s in (setup, plain)), strict=True):
        assert torch.equal(found, expected)


def test_the_loss_norm_is_honoured():
    setup = Setup("mses", loss_norm="fixed").zero_heads()
    assert setup.losses() == pytest.approx([(3 / 4 + 5 / 4 + 1) * math.log(6)], abs=1e-6)


# -- stopping ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("update", ["joint", "alternating"])
@pytest.mark.parametrize("optimizer", [{"weight_decay": 0.1}, {"name": "adam", "weight_decay": 0.1}])
def test_a_stopped_modality_goes_back_and_stays_to_the_bit(toy_run, weights_of, same_bits, optimizer, update):
    settings = {"epochs": 10, "optimizer": {"lr": 0.01} | optimizer, "update": update}
    run = toy_run(method=Scripted(SERIES, FALLING, FALLING), **settings)
    after = weights_by_epoch(run, weights_of, 6)
    plain = weights_by_epoch(toy_run(method="baseline", **settings), weights_of, 6)
    # Until something stops it is the baseline, and only what stops goes back.
    assert same_bits(after[1:6], plain[1:6])
    assert same_bits(parts(after[6], *A), parts(after[3], *A))
    assert not same_bits(parts(plain[6], *A), parts(after[3], *A))
    assert same_bits(parts(after[6], *B, *FUSED), parts(plain[6], *B, *FUSED))
    run.train([5, 11], 5)
    later = weights_of(run)
    assert same_bits(parts(later, *A), parts(after[3], *A))
    for part in (*B, *FUSED):
        assert not same_bits(parts(later, part), parts(after[6], part)), part


def test_released_smoothing_stops_later_and_elsewhere(toy_run, weights_of, same_bits):
    run = toy_run(method=Scripted(SERIES, FALLING, FALLING, smoothing="released"), epochs=10)
    after = weights_by_epoch(run, weights_of, 10)
    assert not same_bits(parts(after[6], *A), parts(after[3], *A))
    for epoch in (7, 8, 10):
        assert same_bits(parts(after[epoch], *A), parts(after[4], *A))


def test_a_stopped_encoder_still_feeds_the_fused_head(toy_run, weights_of):
    run = toy_run(method=Scripted(SERIES, FALLING, FALLING), epochs=10)
    after = weights_by_epoch(run, weights_of, 7)
    width = run.model.widths[0]
    moved = after[7]["fused_head.weight"] - after[6]["fused_head.weight"]
    assert moved[:, :width].abs().max() > 0.0
    interval = run.train([8, 8], 5)
    # Its score is still reported, though its loss has no gradient.
    assert 0.0 < interval.scores[0] < 1.0


def test_three_modalities_stop_one_by_one(toy_run, weights_of, same_bits):
    run = toy_run(3, method=Scripted(SERIES, LATER, SERIES, FALLING), epochs=10)
    after = weights_by_epoch(run, weights_of, 10, (5, 11, 8))
    for epoch in range(6, 11):
        for j in (0, 2):
            names = (f"encoders.{j}", f"unimodal_heads.{j}")
            assert same_bits(parts(after[epoch], *names), parts(after[3], *names))
    assert not same_bits(parts(after[7], *B), parts(after[5], *B))
    for epoch in range(8, 11):
        assert same_bits(parts(after[epoch], *B), parts(after[5], *B))
    assert not same_bits(parts(after[9], *FUSED), parts(after[10], *FUSED))
    assert run.logged == {"stopped_at/a": 6.0, "stopped_at/b": 8.0, "stopped_at/c": 6.0, "stopped_at_fused": 0.0}


def test_the_fused_head_stops_the_same_way(toy_run, weights_of, same_bits):
    run = toy_run(method=Scripted(FALLING, FALLING, SERIES), epochs=10)
    after = weights_by_epoch(run, weights_of, 8)
    for epoch in (6, 7, 8):
        assert same_bits(parts(after[epoch], *FUSED), parts(after[3], *FUSED))
    for part in (*A, *B):
        assert not same_bits(parts(after[8], part), parts(after[7], part)), part
    assert run.logged["stopped_at_fused"] == 6.0


def test_the_fused_heads_record_starts_over_when_an_encoder_is_put_back(toy_run, weights_of, same_bits):
    # Both would stop after epoch 6; the fused head's losses were of an encoder that is gone.
    fused = [*SERIES[:6], 2.0, 1.9, 2.1, 2.2, 2.3]
    run = toy_run(method=Scripted(SERIES, FALLING, fused), epochs=12)
    run.method.options = replace(run.method.options, patience=2 / 12)
    after = weights_by_epoch(run, weights_of, 11)
    assert not same_bits(parts(after[6], *FUSED), parts(after[3], *FUSED))
    assert run.logged["stopped_at_fused"] == 11.0
    assert same_bits(parts(after[11], *FUSED), parts(after[8], *FUSED))
    assert same_bits(parts(after[11], *A), parts(after[3], *A))


def test_when_everything_has_stopped_nothing_moves_and_the_run_goes_on(toy_run, weights_of, same_bits):
    run = toy_run(method=Scripted(SERIES, SERIES, [*SERIES[:6], *SERIES]), epochs=15, optimizer={"weight_decay": 0.1})
    run.method.options = replace(run.method.options, patience=2 / 15)
    after = weights_by_epoch(run, weights_of, 12)
    assert list(run.logged.values()) == [6.0, 6.0, 12.0]
    run._ctx.validate = lambda: pytest.fail("an evaluation nobody needs")
    interval = run.train([5, 11], 15)
    assert same_bits(weights_of(run), after[12])
    assert not interval.diverged
    assert 0.0 < interval.loss < 10.0
    assert not run.snapshot()["trainable"]


class Normed(nn.Module):
    """A small encoder with running statistics."""

    def __init__(self, width):
        super().__init__()
        self.out_features = 8
        self.layers = nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), nn.ReLU())

    def forward(self, inputs):
        return self.layers(inputs)


def test_running_statistics_go_back_and_stay_too(toy_run, weights_of, same_bits, monkeypatch):
    monkeypatch.setattr("dus_gym.trainer.build_encoder", lambda word, shape, **_: Normed(shape[0]))
    run = toy_run(method=Scripted(SERIES, FALLING, FALLING), epochs=10)
    after = weights_by_epoch(run, weights_of, 6)
    statistics = [name for name in after[3] if "running" in name or "num_batches" in name]
    assert len(statistics) == 6
    other = toy_run(method=Scripted(SERIES, FALLING, FALLING), epochs=10)
    other.restore(run.snapshot())
    for trainer in (run, other, run.fork()):
        trainer.train([5, 11], 5)
        later = weights_of(trainer)
        for name in statistics:
            kept = torch.equal(later[name], after[3][name])
            assert kept == name.startswith("encoders.0"), name
        assert same_bits(parts(later, *A), parts(after[3], *A))


def test_only_the_modalitys_own_momentum_is_lost(toy_run):
    run = toy_run(method=Scripted(SERIES, FALLING, FALLING), epochs=10)
    run.train([5, 11], 29)
    momentum = run.optimizer.state_dict()["state"]
    run.train([5, 11], 1)
    left = run.optimizer.state_dict()["state"]
    gone = {name.rpartition(".")[0] for name in momentum.keys() - left.keys()}
    assert gone == {"encoder/a", "head/a"}
    assert all(value["momentum_buffer"].any() for value in left.values())


# -- what decides ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("patience", "epochs", "allowed"), [(0.1, 100, 10), (0.3, 10, 3), (0.1, 4, 1), (1.0, 7, 7)])
def test_patience_is_a_fraction_of_the_run(toy_run, patience, epochs, allowed):
    setup = Setup("mses", patience=patience)
    setup.ctx.epochs = epochs
    found = toy_run().validate()
    for epoch in range(1, allowed + 3):
        setup.ctx.epoch = epoch
        # The first epoch stays the best one.
        setup.method.on_epoch_end(setup.ctx, [replace(found, losses=[float(epoch), 2.0 - epoch])])
        (stops,) = setup.method.state_dict()["stops"]
        assert bool(stops[0]["stopped_at"]) == (epoch == allowed + 2)
        assert stops[1]["stopped_at"] == 0


def test_every_epoch_counts_however_seldom_the_run_is_evaluated(toy_run, weights_of, same_bits):
    runs = [
        toy_run(method="mses", method_options={"patience": 0.1}, epochs=20, optimizer={"lr": 0.2}, eval_every=every)
        for every in (1, 7)
    ]
    for run in runs:
        run.train([5, 11], 100)
    assert max(runs[0].logged.values()) > 0.0
    assert runs[0].logged == runs[1].logged
    assert same_bits(weights_of(runs[0]), weights_of(runs[1]))


def test_it_is_the_validation_loss_that_counts(toy_run, weights_of, same_bits):
    """The same by hand, from validation losses taken between epochs of the unscripted method."""
    run = toy_run(method="mses", method_options={"patience": 0.1}, epochs=20, optimizer={"lr": 0.2})
    losses, after = [[], [], []], [None]
    while not any(run.logged.values()):
        run.train([8, 8], 5)
        found = run.validation
        for series, loss in zip(losses, [*found.losses, found.fused_losses["concat"]], strict=True):
            series.append(loss)
        after.append(weights_of(run))
    epoch = run.progress.epoch
    best = [series.index(min(series)) + 1 for series in losses]
    stopped = [j for j in range(2) if epoch - best[j] > 2]
    assert stopped
    for j in stopped:
        names = (f"encoders.{j}", f"unimodal_heads.{j}")
        assert same_bits(parts(after[epoch], *names), parts(after[best[j]], *names))
        assert run.validate().losses[j] == pytest.approx(min(losses[j]), rel=1e-6)


# -- what it keeps, and whole runs -------------------------------------------------------------------


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("done", [0, 12, 29, 30, 31, 40, 43])
def test_a_run_continues_to_the_bit_from_disk_and_as_a_fork(toy_run, same_bits, tmp_path, m, done):
    series = [SERIES, LATER, FALLING][:m]

    def start():
        method = Scripted(*series, [*SERIES[:7], 0.4, 0.5, 0.6], smoothing="none")
        return toy_run(m, method=method, epochs=10, select="validation", optimizer={"weight_decay": 0.1})

    run, other = start(), start()
    sizes = [5, 11, 8][:m]
    if done:
        run.train(sizes, done)
    save_state(tmp_path / "run", "checkpoint", run.snapshot())
    fork = run.fork()
    straight = run.train(sizes, 50 - done)
    assert run.logged["stopped_at/a"] == 6.0
    assert run.logged["stopped_at/b"] == 8.0
    other.restore(load_state(tmp_path / "run", "checkpoint"))
    for trainer in (other, fork):
        assert trainer.train(sizes, 50 - done) == straight
        assert same_bits(trainer.snapshot(), run.snapshot())
        assert trainer.evaluate() == run.evaluate()
    # Evaluating an earlier epoch has loaded its state; the last one's is back.
    assert same_bits(other.snapshot(), run.snapshot())
    assert "encoder/a" not in run.snapshot()["trainable"]


@pytest.mark.parametrize("done", [20, 30])
def test_a_snapshot_does_not_move_with_the_run(toy_run, same_bits, done):
    run, other = (toy_run(method=Scripted(SERIES, LATER, FALLING), epochs=10) for _ in range(2))
    run.train([5, 11], done)
    other.train([5, 11], done)
    state = run.snapshot()
    run.train([5, 11], 50 - done)
    assert same_bits(state, other.snapshot())
    # Back to before the stop, on the run in which it has stopped.
    run.restore(state)
    run.train([5, 11], 3)
    other.train([5, 11], 3)
    assert same_bits(run.snapshot(), other.snapshot())


def test_without_pairs_the_modalities_stop_alone(toy_run, weights_of, same_bits):
    class Unpaired(Scripted):
        def on_epoch_end(self, ctx, validation):
            own = [values[ctx.epoch - 1] for values in self.series]
            MSES.on_epoch_end(self, ctx, [replace(found, losses=own) for found in validation])

    run = toy_run(method=Unpaired(SERIES, FALLING), pairing="independent", epochs=10)
    after = weights_by_epoch(run, weights_of, 8)
    assert same_bits(parts(after[8], *A), parts(after[3], *A))
    assert not same_bits(parts(after[8], *B), parts(after[7], *B))
    (stops,) = run.method.state_dict()["stops"]
    assert len(stops) == 2
    assert run.evaluate().fused["concat"] is None


@pytest.mark.parametrize(("task", "m"), [("Digits", 2), ("Digits3", 3)])
def test_it_learns_the_digits_and_stops_what_overfits(digits_run, task, m):
    run = digits_run(task, method="mses", epochs=40)
    before = run.validate()
    interval = run.train([run.base_batch] * m, 40 * run.iterations_per_epoch)
    assert not interval.diverged
    after = run.validate()
    assert after.fused_losses["concat"] < before.fused_losses["concat"]
    # The noisy pixels are the ones memorised.
    (stops,) = run.method.state_dict()["stops"]
    assert stops[0]["stopped_at"] > 0
    assert after.losses[0] == pytest.approx(stops[0]["best"], rel=1e-6)
    assert run.evaluate().fused["concat"].accuracy > 0.5
