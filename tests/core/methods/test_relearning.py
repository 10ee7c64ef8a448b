"""Diagnosing and re-learning against numbers worked by hand from its authors' program, and what it promises."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from method_setup import Setup

from dus_gym.data.dataset import TensorSplit
from dus_gym.errors import ConfigError
from dus_gym.methods import relearning
from dus_gym.methods.relearning import cluster_purity, purity


@pytest.mark.parametrize(
    ("clusters", "labels", "expected"),
    [
        # Two of three, two of two, one of one: 5 of 6.
        ([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 2], 5 / 6),
        # One cluster has the commonest label alone.
        ([0, 0, 0, 0, 0], [1, 1, 0, 2, 1], 3 / 5),
        # Names of clusters do not matter, and two clusters may have the same label.
        ([2, 2, 0, 0, 1, 1], [0, 0, 1, 1, 1, 0], 5 / 6),
    ],
)
def test_purity_by_hand(clusters, labels, expected):
    assert purity(np.array(clusters), np.array(labels)) == pytest.approx(expected)


def test_clusters_are_found_in_dimensions_of_equal_weight():
    # Unscaled, the second dimension's hundreds would be all that k-means sees; both parts of it are in every class.
    first = np.array([0.0, 0.0, 0.1, 0.1, 5.0, 5.0, 5.1, 5.1])
    second = np.array([0.0, 400.0] * 4)
    features, labels = np.stack([first, second], axis=1), np.array([0] * 4 + [1] * 4)
    assert cluster_purity(features[:, :1], labels, 2, 1, seed=0) == 1.0
    # Scaled, both dimensions are as long; with a third that is the first again, the classes are farther apart.
    assert cluster_purity(np.stack([first, second, first], axis=1), labels, 2, 5, seed=0) == 1.0
    assert cluster_purity(features[:, 1:], labels, 2, 1, seed=0) == 0.5


def at(monkeypatch, gaps, epoch=44, **options):
    """Return a method before an epoch, whose encoders have the start plus 1 and whose purities differ by the gaps."""
    setup = Setup("relearning", sizes=(4,) * len(gaps), c=3, **options)
    setup.method.on_fit_start(setup.ctx)
    start = [[p.detach().clone() for p in encoder.parameters()] for encoder in setup.model.encoders]
    with torch.no_grad():
        for encoder in setup.model.encoders:
            for p in encoder.parameters():
                p.add_(1.0)
    found = iter([*[0.9] * len(gaps), *[0.9 - gap for gap in gaps]])
    monkeypatch.setattr(relearning, "cluster_purity", lambda *_: next(found))
    setup.ctx.epoch = epoch
    setup.method.on_epoch_start(setup.ctx)
    moved = [
        [(p - before).mean().item() for p, before in zip(encoder.parameters(), of, strict=True)]
        for encoder, of in zip(setup.model.encoders, start, strict=True)
    ]
    return setup, moved


@pytest.mark.parametrize("gaps", [(0.2, 0.05), (0.2, 0.05, -0.1)])
def test_encoders_return_by_the_hyperbolic_tangent_of_the_gap(monkeypatch, gaps):
    setup, moved = at(monkeypatch, gaps)
    # tanh(3 · .2) = .5370496, tanh(3 · .05) = .1488850, tanh(3 · .1) = .2913126: what is left of the 1 is the rest.
    expected = [0.4629504, 0.8511150, 0.7086874][: len(gaps)]
    for left, of in zip(expected, moved, strict=True):
        assert of == [pytest.approx(left, abs=1e-6)] * len(of)
    assert setup.ctx.logged["returned/one"] == pytest.approx(0.5370496, abs=1e-6)
    assert setup.ctx.logged["train_purity/one"] == 0.9
    assert setup.ctx.logged["val_purity/two"] == pytest.approx(0.85)


@pytest.mark.parametrize(
    ("epoch", "options", "returns"),
    # .22 of 100 epochs: before epochs 22, 44 and 66 (from 0), and no others.
    [
        *((epoch, {}, epoch in (22, 44, 66)) for epoch in (0, 21, 22, 23, 44, 66, 88)),
        *((50, {"period": 0.25, "times": times}, times >= 2) for times in (1, 2)),
    ],
)
def test_returns_come_where_a_period_is_over(monkeypatch, epoch, options, returns):
    _, moved = at(monkeypatch, (0.2, 0.2), epoch, **options)
    assert (moved[0][0] < 0.9) == returns


def test_nothing_moves_at_a_strength_of_0_and_everything_is_at_the_start_at_a_great_one(monkeypatch):
    assert at(monkeypatch, (0.2, 0.2), strength=0.0)[1][0][0] == pytest.approx(1.0)
    assert at(monkeypatch, (0.2, 0.2), strength=1e3)[1][0][0] == pytest.approx(0.0, abs=1e-6)


def test_features_that_are_not_finite_take_nothing_back():
    setup = Setup("relearning", sizes=(4, 4), c=3)
    setup.method.on_fit_start(setup.ctx)
    with torch.no_grad():
        next(setup.model.encoders[0].parameters()).fill_(math.nan)
    setup.ctx.epoch = 22
    setup.method.on_epoch_start(setup.ctx)
    assert setup.ctx.logged["returned/one"] == 0.0
    # It was looked at, and so was the other one.
    assert math.isnan(setup.ctx.logged["train_purity/one"])
    assert setup.ctx.logged["train_purity/two"] > 0.0


@pytest.mark.parametrize("sizes", [(4, 4), (4, 4, 4)])
def test_the_loss_is_that_of_the_concat_head(sizes):
    setup = Setup("relearning", sizes=sizes)
    h = [setup.model.encode(j, x) for j, x in enumerate(setup.inputs)]
    expected = F.cross_entropy(setup.model.fused_head(torch.cat(h, dim=1)), setup.labels)
    assert setup.losses() == [pytest.approx(expected.item(), rel=1e-5)]


def test_a_run_takes_its_encoders_back_and_leaves_the_head_to_the_bit(toy_run, weights_of):
    run = toy_run(method="relearning", method_options={"period": 0.5, "strength": 100.0}, epochs=4)
    start = weights_of(run)
    run.train([8, 8], 2 * run.iterations_per_epoch)
    before = weights_of(run)
    # What begins the third epoch, without a step.
    run._start_epoch()
    after = weights_of(run)
    assert any(run.logged[f"returned/{name}"] > 0.9 for name in "ab")
    for j, name in enumerate("ab"):
        part = run.logged[f"returned/{name}"]
        for key in (key for key in start if key.startswith(f"encoders.{j}")):
            torch.testing.assert_close(after[key], (1 - part) * before[key] + part * start[key])
    assert all(torch.equal(after[key], before[key]) for key in start if not key.startswith("encoders"))


def test_more_classes_than_samples_to_cluster_are_refused():
    setup = Setup("relearning", sizes=(4, 4), c=5)
    setup.ctx.train_split = TensorSplit((), torch.arange(5))
    with pytest.raises(ConfigError, match=r"the validation samples into .* 4 of them for 5 classes; choose"):
        setup.method.on_fit_start(setup.ctx)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strength": -1.0}, r"strength=-1.0 .*at least 0"),
        ({"period": 0.0}, r"period=0.0 .*\(0, 1\]"),
        ({"times": 0}, r"times=0 .*at least 1"),
        ({"restarts": 0}, r"restarts=0 .*at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        Setup("relearning", **options)
