"""OGM against the numbers of the notes' section 3, and what it promises."""

import math

import pytest
import torch
import torch.nn.functional as F
from method_setup import NAMES, Setup

from dus_gym.encoders import build_encoder
from dus_gym.errors import ConfigError
from dus_gym.methods.ogm import OGMOptions, ratios
from dus_gym.methods.ogm import ogm_coefficients as coefficients
from dus_gym.model import MultimodalModel, initialised
from dus_gym.optim import GroupedOptimizer, OptimizerConfig

PLAIN = {"momentum": 0.0, "weight_decay": 0.0}


def tensor(rows):
    return torch.tensor(rows, dtype=torch.double)


# -- the notes' numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "k"), [(0.1, 0.80262), (0.3, 0.46295), (0.5, 0.23841), (0.8, 0.07833)])
def test_coefficients_by_hand(alpha, k):
    for kind in ("pairwise", "others", "weakest"):
        found = coefficients(tensor([0.8, 0.4]), alpha, kind)
        torch.testing.assert_close(found, tensor([k, 1.0]), atol=5e-6, rtol=0.0)
        torch.testing.assert_close(coefficients(tensor([0.4, 0.8]), alpha, kind), found.flip(0))


@pytest.mark.parametrize("kind", ["pairwise", "others", "weakest"])
def test_nobody_ahead_means_nobody_slower(kind):
    assert coefficients(tensor([0.3, 0.3]), 0.8, kind).tolist() == [1.0, 1.0]
    # Just ahead it is 1 - tanh α already: the jump is the paper's.
    assert coefficients(tensor([0.3001, 0.3]), 0.8, kind)[0].item() == pytest.approx(1 - math.tanh(0.8), abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "rho"), [("pairwise", [2.5, 1.0, 0.5]), ("others", [1.2, 0.375, 0.2222]), ("weakest", [3.0, 1.5, 1.0])]
)
def test_ratios_of_three_by_hand(kind, rho):
    torch.testing.assert_close(ratios(tensor([0.6, 0.3, 0.2]), kind), tensor(rho), atol=5e-5, rtol=0.0)


@pytest.mark.parametrize("kind", ["pairwise", "others", "weakest"])
def test_a_probability_that_underflows_gives_no_nan(kind):
    assert coefficients(torch.tensor([0.5, 0.0]), 0.8, kind).tolist() == [0.0, 1.0]
    assert coefficients(torch.tensor([0.0, 0.0]), 0.8, kind).tolist() == [1.0, 1.0]


# -- the loss and the gradients ----------------------------------------------------------------------


def scores_by_hand(setup):
    """Mean true-class probability of W_j h_j + b/m, sample by sample."""
    m, head = len(setup.inputs), setup.model.fused_head
    found = []
    for j, x in enumerate(setup.inputs):
        block = head.weight[:, 8 * j : 8 * (j + 1)]
        rows = [block @ h + head.bias / m for h in setup.model.encode(j, x)]
        true = [row.softmax(0)[y] for row, y in zip(rows, setup.labels, strict=True)]
        found.append(torch.stack(true).mean().item())
    return found


def k_by_hand(scores, alpha):
    found = []
    for j, s in enumerate(scores):
        rho = sum(s / other for i, other in enumerate(scores) if i != j) / (len(scores) - 1)
        found.append(1 - math.tanh(alpha * rho) if rho > 1 else 1.0)
    return found


def backward(setup):
    """Gradients by parameter name after the hook, and the loss."""
    setup.begin()
    setup.model.zero_grad()
    (loss,) = list(setup.method.substeps(setup.ctx))
    loss.backward()
    setup.method.after_backward(setup.ctx)
    return {name: p.grad.clone() for name, p in setup.model.named_parameters()}, loss.item()


@pytest.mark.parametrize("sizes", [(4, 4), (4, 4, 4)])
def test_the_loss_is_that_of_the_fused_logits(sizes):
    setup = Setup("ogm", sizes=sizes)
    h = [setup.model.encode(j, x) for j, x in enumerate(setup.inputs)]
    expected = F.cross_entropy(setup.model.fused_head(torch.cat(h, dim=1)), setup.labels)
    assert setup.losses() == [pytest.approx(expected.item(), rel=1e-5)]


@pytest.mark.parametrize("sizes", [(4, 4), (4, 4, 4)])
def test_weights_of_encoders_get_k_times_the_gradient_and_nothing_else_does(sizes):
    setup, plain = Setup("ogm", sizes=sizes, alpha=0.4, ratio="pairwise"), Setup("joint", sizes=sizes)
    expected, _ = backward(plain)
    k = k_by_hand(scores_by_hand(setup), 0.4)
    assert min(k) < 0.7
    assert max(k) == 1.0
    found, _ = backward(setup)
    for name, gradient in found.items():
        modulated = name.startswith("encoders") and gradient.ndim >= 2
        factor = k[int(name[9])] if modulated else 1.0
        torch.testing.assert_close(gradient, factor * expected[name], rtol=1e-5, atol=1e-8)
    logged = [setup.ctx.logged[f"k/{name}"].item() for name in NAMES[: len(sizes)]]
    assert logged == pytest.approx(k, rel=1e-5)


def test_two_near_a_tie_ahead_of_the_third_are_slowed_pairwise_and_not_by_default():
    # .5 / .7 is no lead; (1 + 2.5) / 2 = 1.75 is one, twice: 1 - tanh(.4 · 1.75) = .3956.
    scores = tensor([0.5, 0.5, 0.2])
    assert coefficients(scores, 0.4, OGMOptions().ratio).tolist() == [1.0, 1.0, 1.0]
    assert coefficients(scores, 0.4, "pairwise").tolist() == pytest.approx([0.3956, 0.3956, 1.0], abs=1e-4)


def test_the_readings_of_three_modalities_are_options():
    scores = scores_by_hand(Setup("ogm", sizes=(4, 4, 4)))
    for kind in ("pairwise", "others", "weakest"):
        setup = Setup("ogm", sizes=(4, 4, 4), ratio=kind)
        backward(setup)
        logged = [setup.ctx.logged[f"k/{name}"].item() for name in NAMES]
        assert logged == pytest.approx(coefficients(tensor(scores), 0.8, kind).tolist(), rel=1e-4)


def convolutional(method, **options):
    """The same with images and convolutions."""
    setup = Setup(method, sizes=(4, 4), **options)
    generator = torch.Generator().manual_seed(1)
    setup.inputs = [torch.randn(4, 1, 8, 8, generator=generator) for _ in range(2)]
    setup.model = setup.ctx.model = initialised(
        lambda: MultimodalModel(
            [build_encoder("cnn:channels=2,3:hidden=8", (1, 8, 8)) for _ in range(2)], 6, setup.method.heads
        ),
        0,
    )
    config = OptimizerConfig(lr=0.1, momentum=0.0, weight_decay=0.0)
    setup.optimizer = setup.ctx.optimizer = GroupedOptimizer(setup.model.parameter_groups(NAMES[:2]), config)
    setup.method.on_fit_start(setup.ctx)
    return setup


@pytest.mark.parametrize(("conv_only", "dimensions"), [(True, {4}), (False, {2, 4})])
def test_conv_only_modulates_convolutions_alone(conv_only, dimensions):
    setup = convolutional("ogm", conv_only=conv_only)
    expected, _ = backward(convolutional("joint"))
    found, _ = backward(setup)
    ahead = setup.ctx.logged["k/one"] == 1.0
    changed = {name for name in found if not torch.equal(found[name], expected[name])}
    encoder = f"encoders.{int(ahead)}."
    assert changed == {name for name, g in expected.items() if name.startswith(encoder) and g.ndim in dimensions}


def test_conv_only_is_refused_where_it_cannot_be(toy_run):
    with pytest.raises(ConfigError, match=r"conv_only=True: no 2-D convolution .* a, b; use conv_only=False"):
        toy_run(method="ogm", method_options={"conv_only": True})
    for options, optimizer in (({"scale_via": "lr"}, {}), ({}, {"name": "adam"})):
        with pytest.raises(ConfigError, match=r"conv_only=True .*learning rates.*scale_via='grad'"):
            toy_run(method="ogm", method_options={"conv_only": True} | options, optimizer=optimizer)


def test_a_factor_by_learning_rate_scales_the_encoders_step_alone(toy_run, weights_of):
    def moves(method, **options):
        run = toy_run(method=method, method_options=options, optimizer=PLAIN)
        before = weights_of(run)
        run.train([8, 8], 1)
        after = weights_of(run)
        return {name: after[name] - before[name] for name in before}, run

    plain, _ = moves("joint")
    scaled, run = moves("ogm", scale_via="lr", alpha=0.4)
    k = [run.logged["k/a"], run.logged["k/b"]]
    assert min(k) < 0.7
    for name, move in plain.items():
        factor = k[int(name[9])] if name.startswith("encoders") else 1.0
        torch.testing.assert_close(scaled[name], factor * move, rtol=1e-3, atol=1e-7)
    # For that step alone.
    assert {group["lr"] for group in run.optimizer.torch.param_groups} == {0.01}


@pytest.mark.parametrize(("optimizer", "same"), [("sgd", "grad"), ("adam", "lr")])
def test_auto_is_by_learning_rate_under_adam(toy_run, weights_of, same_bits, optimizer, same):
    found = {}
    for via in ("auto", "grad", "lr"):
        run = toy_run(method="ogm", method_options={"scale_via": via}, optimizer={"name": optimizer, "lr": 0.001})
        run.train([8, 8], 3)
        found[via] = weights_of(run)
    for via in ("grad", "lr"):
        assert same_bits(found["auto"], found[via]) == (via == same)


def test_a_frozen_encoder_is_left_alone():
    setup = Setup("ogm", sizes=(4, 4))
    setup.ctx.set_trainable(["encoder/two", "fused"])
    setup.losses()
    assert all(p.grad is None for p in setup.model.encoders[0].parameters())


def test_the_recorded_score_is_of_the_additive_parts():
    setup = Setup("ogm", sizes=(4, 4, 4))
    expected = scores_by_hand(setup)
    setup.losses()
    (found,) = setup.recorder.finish()
    assert found.rows == [pytest.approx(expected, rel=1e-5)]
    assert (found.samples, found.fused_samples) == ([4, 4, 4], 4)


# -- over time, and whole runs -----------------------------------------------------------------------


@pytest.mark.parametrize("via", ["grad", "lr"])
def test_outside_the_window_it_is_joint_training(toy_run, weights_of, same_bits, via):
    run = toy_run(method="ogm", method_options={"start_epoch": 1, "end_epoch": 2, "scale_via": via})
    plain = toy_run(method="joint")
    for epoch in range(4):
        run.train([8, 8], 5)
        plain.train([8, 8], 5)
        modulated = epoch in (1, 2)
        assert same_bits(weights_of(run), weights_of(plain)) != modulated
        assert (run.logged == {"k/a": 1.0, "k/b": 1.0}) != modulated
        plain.restore(run.snapshot() | {"logged": {}})


@pytest.mark.parametrize("optimizer", [None, {"name": "adam", "lr": 0.002}])
def test_it_slows_the_modality_ahead_of_the_digits(digits_run, optimizer):
    run = digits_run(method="ogm", optimizer=optimizer, epochs=30)
    before = run.validate()
    interval = run.train([run.base_batch] * 2, 30 * run.iterations_per_epoch)
    assert interval.fused_accuracy is not None
    assert run.validate().fused_losses["method"] < 0.7 * before.fused_losses["method"]
    found = run.evaluate()
    assert found.fused["method"] == found.fused["concat"]
    assert found.fused["method"].accuracy > 0.5
    assert min(run.logged.values()) < 1.0
