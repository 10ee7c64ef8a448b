"""OGR-GB: the notes' numbers, the weighted loss, and weights from copies that are really trained."""

import math

import pytest
import torch
import torch.nn.functional as F
from method_setup import NAMES, Setup

from dus_gym.methods import make_method
from dus_gym.methods.baseline import Baseline
from dus_gym.methods.ogr_gb import OGRGB, normalised, raw_weight
from dus_gym.records import Figures

# Training and validation loss before and after the probe, of two modalities and the fused head (the notes, 2.8).
START = [(1.7, 1.8), (1.8, 1.9), (1.6, 1.7)]
END = [(0.6, 1.2), (1.4, 1.6), (0.3, 1.0)]
BLEND = [0.0699, 0.8735, 0.0566]


def figures_of(losses):
    *modalities, fused = losses
    return Figures([], [], modalities, {}, {"method": 9.0, "concat": fused, "sum": 9.0, "entropy": 9.0})


def weights_of(method):
    """Weights of the only run."""
    (weights,) = method.state_dict()["weights"]
    return weights


class Probed(Setup):
    """A setup whose copies end with the losses they are told: one copy a head, in order."""

    def __init__(self, start=START, end=END, **options):
        super().__init__("ogr_gb", sizes=options.pop("sizes", (3, 5)), **options)
        self.fitted, self.asked = [], []

        def clone_and_fit(loss, epochs):
            self.fitted.append((loss, epochs))
            return len(self.fitted) - 1

        def figures(split, model):
            self.asked.append((split, model))
            side = ("train", "validation").index(split)
            rows = (
                start if model is None else [end[k] if k == model % len(end) else (9.0, 9.0) for k in range(len(end))]
            )
            return [figures_of([row[side] for row in rows])]

        self.ctx.clone_and_fit, self.ctx._figures = clone_and_fit, figures

    def epoch(self, epoch):
        self.ctx.epoch = epoch
        self.method.on_epoch_start(self.ctx)
        return self


# -- the notes' numbers ------------------------------------------------------------------------------


def test_weights_by_hand():
    raw = [raw_weight(start, end, 1e-8) for start, end in zip(START, END, strict=True)]
    assert raw == pytest.approx([2.4, 30.0, 1.9444], rel=5e-5)
    assert normalised(raw) == pytest.approx(BLEND, abs=5e-5)


def test_a_negative_gain_weighs_nothing():
    assert raw_weight((1.7, 1.8), (0.6, 1.9), 1e-8) == 0.0
    # However far the validation loss went: what ΔG's size alone would reward.
    assert raw_weight((1.7, 1.8), (1.6, 3.4e38), 1e-8) == 0.0
    assert raw_weight((1.7, 1.8), (0.6, 1.8), 1e-8) == 0.0


def test_overfitting_that_does_not_change_is_no_division_by_zero():
    assert raw_weight((1.0, 1.5), (0.5, 1.0), 1e-8) == pytest.approx(0.5e8)


@pytest.mark.parametrize("heads", [2, 3, 4])
def test_without_any_gain_weights_are_uniform(heads):
    assert normalised([0.0] * heads) == [1.0 / heads] * heads


@pytest.mark.parametrize(
    "published",
    [
        (0.014, 0.630, 0.356),
        (0.009, 0.485, 0.506),
        (0.070, 0.485, 0.445),
        (0.239, 0.384, 0.377),
        (0.175, 0.460, 0.364),
        (0.524, 0.247, 0.229),
    ],
)
def test_the_published_weights_are_normalised(published):
    assert normalised(published) == pytest.approx(published, abs=1e-3)
    assert normalised([7.0 * w for w in published]) == pytest.approx(published, abs=1e-3)
    assert sum(normalised(published)) == pytest.approx(1.0, abs=1e-12)


# -- the estimate and the loss -----------------------------------------------------------------------


def test_the_method_weighs_as_the_numbers_say():
    setup = Probed().epoch(0)
    assert weights_of(setup.method) == pytest.approx(BLEND, abs=5e-5)
    assert setup.ctx.logged == pytest.approx(
        {"weight/one": 0.0699, "weight/two": 0.8735, "weight_fused": 0.0566}, abs=5e-5
    )
    assert {split for split, _ in setup.asked} == {"train", "validation"}


def test_each_copy_learns_one_heads_loss():
    setup = Probed(sizes=(3, 5)).epoch(0)
    assert [epochs for _, epochs in setup.fitted] == [10, 10, 10]
    model, ctx = setup.model, setup.ctx
    for k, (loss, _) in enumerate(setup.fitted):
        setup.begin()
        model.zero_grad()
        loss(ctx).backward()
        moved = {
            owner
            for owner in setup.optimizer.names
            if any(p.grad is not None for p in setup.optimizer.parameters(owner))
        }
        own = [{f"encoder/{name}", f"head/{name}"} for name in NAMES[:2]]
        assert moved == [*own, {"encoder/one", "encoder/two", "fused"}][k]


def plain_gradient(setup, loss, owner):
    parameters = setup.optimizer.parameters(owner)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, retain_graph=True)])


@pytest.mark.parametrize(("sizes", "loss_norm"), [((3, 5), "mean"), ((5, 2), "mean"), ((3, 5), "fixed")])
def test_the_loss_is_the_weighted_sum(sizes, loss_norm):
    setup = Probed(sizes=sizes, loss_norm=loss_norm).epoch(0)
    w, p = weights_of(setup.method), min(sizes)
    features = [setup.model.encode(j, x) for j, x in enumerate(setup.inputs)]
    own = [
        F.cross_entropy(setup.model.unimodal(j, h), setup.labels[: len(h)], reduction="sum")
        / (4 if loss_norm == "fixed" else len(h))
        for j, h in enumerate(features)
    ]
    fused = F.cross_entropy(setup.model.fused([h[:p] for h in features]), setup.labels[:p])
    total = w[0] * own[0] + w[1] * own[1] + w[2] * fused
    owners = ("head/one", "head/two", "fused")
    expected = [
        weight * plain_gradient(setup, part, owner)
        for weight, part, owner in zip(w, (*own, fused), owners, strict=True)
    ]
    for found, wanted in zip(setup.gradients(*owners), expected, strict=True):
        torch.testing.assert_close(found, wanted.detach(), rtol=1e-5, atol=1e-8)
    setup.begin()
    assert setup.losses() == pytest.approx([total.item()], rel=1e-5)


def test_a_head_without_weight_moves_nothing():
    lost = [(0.6, 1.2), (1.4, 2.0), (0.3, 2.0)]
    setup = Probed(end=lost).epoch(0)
    assert weights_of(setup.method) == [1.0, 0.0, 0.0]
    one, *others = setup.gradients("head/one", "encoder/two", "head/two", "fused")
    assert one.abs().max() > 0.0
    assert all(not other.any() for other in others)
    # The recorder has every modality's score all the same.
    setup.begin()
    setup.losses()
    assert setup.recorder.finish()[0].samples == [3, 5]


def test_all_zero_heads_cost_the_same_whatever_the_weights():
    setup = Probed().epoch(0).zero_heads()
    assert setup.losses() == pytest.approx([math.log(6)], abs=1e-6)


def test_alternating_steps_each_head_apart():
    setup = Probed(update="alternating").epoch(0).zero_heads()
    losses = setup.losses()
    assert len(losses) == 3
    assert losses[0] == pytest.approx(0.0699 * math.log(6), abs=5e-5)


def test_alternating_takes_no_step_on_a_head_of_weight_zero():
    setup = Probed(update="alternating").epoch(0).zero_heads()
    setup.method.load_state_dict({"weights": [[0.0, 0.75, 0.25]]})
    assert setup.losses() == pytest.approx([0.75 * math.log(6), 0.25 * math.log(6)])


# -- when the weights are estimated ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {0: 10, 10: 10, 20: 10, 70: 10, 90: 10, 15: 0, 99: 0}),
        ({"super_epoch": 0.3}, {0: 30, 30: 30, 60: 30, 90: 10, 10: 0}),
        ({"super_epoch": 0.001}, {0: 1, 1: 1, 99: 1}),
        ({"super_epoch": 1.0}, {0: 100, 10: 0, 50: 0}),
        ({"mode": "offline"}, {0: 10, 10: 0, 50: 0, 90: 0}),
        ({"mode": "offline", "super_epoch": 0.5}, {0: 50, 50: 0}),
    ],
)
def test_super_epochs(options, expected):
    for epoch, length in expected.items():
        setup = Probed(**options).epoch(epoch)
        assert [epochs for _, epochs in setup.fitted] == [length] * (3 if length else 0)


class Alone(Baseline):
    """One head's loss; the others' scores only."""

    def __init__(self, k):
        super().__init__()
        self.k = k

    def terms(self, ctx):
        m = ctx.num_modalities
        logits = [ctx.model.unimodal(j, ctx.features(j)) for j in range(m)]
        for j in range(m):
            ctx.record(j, logits[j])
        if self.k < m:
            yield F.cross_entropy(logits[self.k], ctx.batch.labels[self.k])
        else:
            yield F.cross_entropy(ctx.model.fused([ctx.features(j) for j in range(m)]), ctx.batch.labels[0])


@pytest.mark.parametrize("m", [2, 3])
def test_the_weights_are_those_of_runs_really_trained_on_one_head(toy_run, m):
    settings = {"epochs": 8, "optimizer": {"lr": 0.05}}

    def losses(run, k):
        found = []
        with torch.no_grad():
            for split in (run._train_split, run._validation_split):
                features = [run.model.encode(j, x) for j, x in enumerate(split.inputs)]
                logits = run.model.fused(features) if k == m else run.model.unimodal(k, features[k])
                found.append(F.cross_entropy(logits, split.labels).item())
        return tuple(found)

    raw = []
    for k in range(m + 1):
        alone = toy_run(m, method=Alone(k), **settings)
        start = losses(alone, k)
        alone.train([8] * m, 10)
        raw.append(raw_weight(start, losses(alone, k), 1e-8))
    run = toy_run(m, method="ogr_gb", method_options={"super_epoch": 0.25}, **settings)
    # The agent's sizes have no part in a probe.
    run.train([3] * (m - 1) + [5 * m], 1)
    assert sum(w > 0.01 for w in normalised(raw)) > 1
    assert weights_of(run.method) == pytest.approx(normalised(raw), rel=1e-3, abs=1e-5)
    assert list(run.logged) == [*(f"weight/{name}" for name in "abc"[:m]), "weight_fused"]
    assert list(run.logged.values()) == weights_of(run.method)


def test_a_probe_leaves_the_run_as_it_was(toy_run, same_bits, monkeypatch):
    class Unprobed(OGRGB):
        def on_epoch_start(self, ctx):
            self._weights = [[0.25, 0.5, 0.25]]

    monkeypatch.setattr("dus_gym.methods.ogr_gb.normalised", lambda raw: [0.25, 0.5, 0.25])
    settings = {"epochs": 4, "optimizer": {"schedule": "step", "milestone": 0.5}}
    run, plain = toy_run(method=OGRGB(), **settings), toy_run(method=Unprobed(), **settings)
    for trainer in (run, plain):
        trainer.train([5, 11], 20)
    assert same_bits(run.snapshot()["weights"], plain.snapshot()["weights"])
    assert same_bits(run.snapshot()["optimizer"], plain.snapshot()["optimizer"])
    assert run.evaluate() == plain.evaluate()


def test_every_probe_trains_at_the_rate_of_the_epochs_to_come(toy_run, monkeypatch):
    rates = []
    original = OGRGB._estimate

    def watched(self, ctx, epochs):
        fit = ctx.clone_and_fit

        def clone_and_fit(loss, epochs):
            def spied(clone):
                rates[-1].add(clone.optimizer.torch.param_groups[0]["lr"])
                return loss(clone)

            rates.append(set())
            return fit(spied, epochs)

        monkeypatch.setattr(ctx, "clone_and_fit", clone_and_fit)
        found = original(self, ctx, epochs)
        monkeypatch.setattr(ctx, "clone_and_fit", fit)
        return found

    monkeypatch.setattr(OGRGB, "_estimate", watched)
    run = toy_run(method="ogr_gb", optimizer={"lr": 0.01, "schedule": "step", "milestone": 0.5})
    run.train([8, 8], 20)
    assert len(rates) == 12
    assert all(len(found) == 1 for found in rates)
    assert [next(iter(found)) for found in rates] == pytest.approx([0.01] * 6 + [0.001] * 6)


def test_copies_that_diverge_weigh_nothing(toy_run):
    class Explodes(OGRGB):
        def on_epoch_start(self, ctx):
            fit = ctx.clone_and_fit
            # Modality a's copy alone goes where no loss is finite.
            calls = iter(range(9))
            ctx.clone_and_fit = lambda loss, epochs: fit(
                (lambda c: loss(c) * float("inf")) if next(calls) == 0 else loss, epochs
            )
            super().on_epoch_start(ctx)
            ctx.clone_and_fit = fit

    run = toy_run(method=Explodes())
    interval = run.train([8, 8], 5)
    a, *others = weights_of(run.method)
    assert a == 0.0
    assert sum(others) == pytest.approx(1.0)
    assert not interval.diverged


# -- what it keeps, and whole runs -------------------------------------------------------------------


def test_the_state_does_not_move_with_the_method():
    setup = Probed().epoch(0)
    state = setup.method.state_dict()
    other = make_method("ogr_gb")
    other.load_state_dict(state)
    state["weights"][0][0] = 7.0
    assert setup.method.state_dict() == other.state_dict()
    assert weights_of(setup.method) == pytest.approx(BLEND, abs=5e-5)


def test_without_pairs_the_modalities_share_the_weight(toy_run):
    run = toy_run(3, method="ogr_gb", pairing="independent")
    before = run.validate().losses
    run.train([5, 11, 8], 20)
    weights = weights_of(run.method)
    assert len(weights) == 3
    assert sum(weights) == pytest.approx(1.0)
    assert run.logged["weight_fused"] == 0.0
    assert sum(run.validate().losses) < sum(before)
    assert run.evaluate().fused["concat"] is None
