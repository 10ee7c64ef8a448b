"""AGM against the numbers of the notes' section 7, against its definition by zeroed inputs, and what it promises."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from method_setup import NAMES, Setup
from torch import nn

from dus_gym.methods.agm import ScaleGradient, additive_responses, response_scores, shapley_responses
from dus_gym.methods.agm import agm_coefficients as coefficients
from dus_gym.methods.shapley import shapley_weights

SIZES = [(4, 4), (3, 5), (6, 2), (4, 4, 4), (5, 3, 4), (2, 2, 5)]
PLAIN = {"momentum": 0.0, "weight_decay": 0.0}


def tensor(rows):
    return torch.tensor(rows, dtype=torch.double)


# -- the notes' numbers ------------------------------------------------------------------------------


def test_a_linear_head_on_the_inputs_themselves():
    generator = torch.Generator().manual_seed(0)
    a, v = (torch.randn(5, d, generator=generator, dtype=torch.double) for d in (3, 4))
    w_a, w_v, b = (torch.randn(*shape, generator=generator, dtype=torch.double) for shape in ((6, 3), (6, 4), (6,)))
    y = torch.tensor([0, 1, 2, 3, 4])
    for parameter in (w_a, w_v, b):
        parameter.requires_grad_()
    zeros = [torch.zeros(1, 6, dtype=torch.double) + b / 2] * 2
    psi = additive_responses([a @ w_a.T + b / 2, v @ w_v.T + b / 2], zeros)
    fused = a @ w_a.T + v @ w_v.T + b
    torch.testing.assert_close(psi[0], a @ w_a.T + b / 2)
    torch.testing.assert_close(psi.sum(0), fused)
    plain = torch.autograd.grad(F.cross_entropy(fused, y), [w_a, w_v, b])
    kappa = tensor([0.3, 1.7])
    scaled = ScaleGradient.apply(psi, kappa[:, None, None])
    assert torch.equal(scaled, psi)
    found = torch.autograd.grad(F.cross_entropy(scaled.sum(0), y), [w_a, w_v, b])
    # The bias is in both responses, half in each.
    for gradient, expected, factor in zip(found, plain, (0.3, 1.7, 1.0), strict=True):
        torch.testing.assert_close(gradient, factor * expected, atol=1e-15, rtol=0.0)


def test_coefficients_by_hand():
    found = coefficients(tensor([1.0, 1.5]), tensor([1.2, 1.3]), 1.0, 10.0)
    torch.testing.assert_close(found, tensor([0.58068, 1.34758]), atol=5e-6, rtol=0.0)


def test_coefficients_of_three_compare_with_the_mean_of_the_others():
    s, running = [0.4, 1.1, 0.9], [0.7, 0.8, 1.3]
    r, tau = ([math.exp((sum(x) - x[j]) / 2 - x[j]) for j in range(3)] for x in (s, running))
    expected = [math.exp(1.5 * min(t - x, 0.2)) for t, x in zip(tau, r, strict=True)]
    torch.testing.assert_close(coefficients(tensor(s), tensor(running), 1.5, 0.2), tensor(expected))
    assert max(expected) == pytest.approx(math.exp(0.3))
    assert coefficients(tensor(s), tensor(s), 1.5, 7.0).tolist() == [1.0, 1.0, 1.0]
    assert coefficients(tensor(s), tensor(running), 0.0, 7.0).tolist() == [1.0, 1.0, 1.0]


def test_scores_are_mean_cross_entropies_with_a_floor():
    generator = torch.Generator().manual_seed(0)
    psi = torch.randn(3, 5, 4, generator=generator, dtype=torch.double)
    y = torch.tensor([0, 3, 1, 1, 2])
    expected = torch.stack([F.cross_entropy(psi[j], y) for j in range(3)])
    torch.testing.assert_close(response_scores(psi, y), expected)
    psi[0, 0, 0] = -100.0
    losses = F.cross_entropy(psi[0], y, reduction="none")
    assert losses[0] > 90.0
    expected[0] = (losses[1:].sum() - math.log(1e-8)) / 5
    torch.testing.assert_close(response_scores(psi, y), expected)


# -- responses ---------------------------------------------------------------------------------------


def test_shapley_weights_are_the_papers_formulas():
    # Columns: {1}, {2}, {12}.
    torch.testing.assert_close(shapley_weights(2), tensor([[0.5, -0.5, 0.5], [-0.5, 0.5, 0.5]]))
    # ψ_1 = ⅓[F(123) - F(23) + F(1)] + ⅙[F(13) - F(3) + F(12) - F(2)]; columns {1}, {2}, {12}, {3}, {13}, {23}, {123}.
    first = tensor([1 / 3, -1 / 6, 1 / 6, -1 / 6, 1 / 6, -1 / 3, 1 / 3])
    torch.testing.assert_close(shapley_weights(3)[0], first)
    for m in (2, 3, 4):
        # Summed over modalities, F(all) alone is left.
        expected = torch.zeros(2**m - 1, dtype=torch.double)
        expected[-1] = 1.0
        torch.testing.assert_close(shapley_weights(m).sum(0), expected)


def start(sizes=(4, 4), **options):
    """The method as a run begins it."""
    setup = Setup("agm", sizes=sizes, **({"clip": 0.0} | options))
    setup.method.on_fit_start(setup.ctx)
    return setup


@pytest.mark.parametrize("sizes", SIZES)
def test_the_cheap_responses_are_those_of_all_passes(sizes):
    setup = start(sizes)
    model = setup.model.double()
    y = setup.labels
    found = []
    for cheap in (True, False):
        h = [model.encode(j, x.double()) for j, x in enumerate(setup.inputs)]
        zero = [model.encode(j, torch.zeros_like(x[:1]).double()) for j, x in enumerate(setup.inputs)]
        if cheap:
            psi = additive_responses(model.additive_parts(h), model.additive_parts(zero))
        else:
            psi = shapley_responses(model.fused, h, zero, shapley_weights(len(sizes)))
        p = min(sizes)
        scores = response_scores(psi.detach()[:, :p], y[:p])
        kappa = coefficients(scores, tensor([0.5, 2.0, 1.0])[: len(sizes)], 1.5, 7.0)
        assert (kappa - 1.0).abs().max() > 0.1
        loss = F.cross_entropy(ScaleGradient.apply(psi, kappa[:, None, None]).sum(0), y)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        found.append([psi.detach(), kappa, loss.detach(), *gradients])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-13, rtol=1e-12)


def by_definition(setup, running, alpha=1.5, cap=None):
    """Loss, κ and a function for gradients, from 2^m passes over zeroed inputs of every row."""
    model, y, m = setup.model, setup.labels, len(setup.inputs)
    sizes = [len(x) for x in setup.inputs]
    rows, p = max(sizes), min(sizes)
    full = [torch.cat([x, torch.zeros(rows - len(x), x.shape[1])]) for x in setup.inputs]

    def passed(*inside):
        h = [model.encode(j, x if j + 1 in inside else torch.zeros_like(x)) for j, x in enumerate(full)]
        return model.fused(h)

    if m == 2:
        both, one, two = passed(1, 2), passed(1), passed(2)
        psi = [(both - two + one) / 2, (both - one + two) / 2]
    else:
        psi = []
        for j in (1, 2, 3):
            k, n = (i for i in (1, 2, 3) if i != j)
            whole = passed(1, 2, 3) - passed(k, n) + passed(j)
            psi.append(whole / 3 + (passed(j, n) - passed(n) + passed(j, k) - passed(k)) / 6)
    s = [F.cross_entropy(response[:p], y[:p]).item() for response in psi]

    def lead(x):
        return [math.exp((sum(x) - x[j]) / (m - 1) - x[j]) for j in range(m)]

    cap = cap if cap is not None else {2: 10.0, 3: 7.0}[m]
    kappa = [math.exp(alpha * min(t - r, cap)) for t, r in zip(lead(running), lead(s), strict=True)]
    # The same gradient without an autograd function: a part that counts and a part that does not.
    scaled = [k * response + (1 - k) * response.detach() for k, response in zip(kappa, psi, strict=True)]
    losses = F.cross_entropy(sum(scaled), y, reduction="none")
    return losses, kappa, s, psi


@pytest.mark.parametrize("hidden", [0, 7])
@pytest.mark.parametrize("loss_norm", ["mean", "fixed"])
@pytest.mark.parametrize("sizes", SIZES)
def test_loss_coefficients_and_gradients_are_those_of_zeroed_inputs(sizes, loss_norm, hidden):
    setup = start(sizes, loss_norm=loss_norm, fusion_hidden=hidden)
    running = [1.5, 2.1, 1.7][: len(sizes)]
    setup.method.load_state_dict({"running": torch.tensor(running)})
    owners = [f"encoder/{name}" for name in NAMES[: len(sizes)]] + ["fused"]
    found = setup.gradients(*owners)
    logged = [setup.ctx.logged[f"kappa/{name}"].item() for name in NAMES[: len(sizes)]]
    setup.model.zero_grad()
    losses, kappa, _, _ = by_definition(setup, running)
    assert max(abs(k - 1.0) for k in kappa) > 0.1
    assert logged == pytest.approx(kappa, rel=1e-4)
    loss = losses.mean() if loss_norm == "mean" else losses.sum() / 4
    loss.backward()
    groups = setup.model.parameter_groups(setup.ctx.modalities)
    for owner, gradient in zip(owners, found, strict=True):
        expected = torch.cat([p.grad.flatten() for p in groups[owner]])
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
    setup.begin()
    assert setup.losses() == [pytest.approx(loss.item(), rel=1e-5)]


def test_scale_gradient_is_the_identity_with_another_gradient():
    values = torch.tensor([[1.0, -2.0], [0.5, 3.0]], requires_grad=True)
    scaled = ScaleGradient.apply(values, torch.tensor([[0.3], [1.7]]))
    assert torch.equal(scaled, values)
    (scaled * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    torch.testing.assert_close(values.grad, torch.tensor([[0.3, 0.6], [5.1, 6.8]]))


@pytest.mark.parametrize("sizes", SIZES)
def test_each_branch_gets_kappa_times_its_plain_gradient_in_every_row(sizes):
    setup = start(sizes)
    running = [1.5, 2.1, 1.7][: len(sizes)]
    setup.method.load_state_dict({"running": torch.tensor(running)})
    kappa = by_definition(setup, running)[1]
    found = []
    for alpha in (1.5, 0.0):
        other = start(sizes, alpha=alpha)
        other.method.load_state_dict({"running": torch.tensor(running)})
        for x in other.inputs:
            x.requires_grad_()
        other.begin()
        next(iter(other.method.substeps(other.ctx))).backward()
        found.append([x.grad for x in other.inputs])
    for scaled, plain, k in zip(*found, kappa, strict=True):
        assert (plain.abs().sum(dim=1) > 0).all()
        torch.testing.assert_close(scaled, k * plain, rtol=1e-4, atol=1e-8)


def test_rows_that_one_modality_lacks_do_not_enter_its_coefficient():
    one, other = start((3, 5)), start((3, 5))
    other.inputs[1] = other.inputs[1].clone()
    other.inputs[1][3:] += 1.0
    other.begin()
    one.losses(), other.losses()
    for name in ("kappa/one", "kappa/two"):
        assert torch.equal(one.ctx.logged[name], other.ctx.logged[name])
    assert torch.equal(one.method.state_dict()["running"], other.method.state_dict()["running"])


# -- over time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(4, 4), (3, 5, 4)])
def test_the_reference_is_the_mean_of_the_batches_before(sizes):
    setup = start(sizes)
    seen = []
    for t in range(4):
        # Nothing seen yet: means of 0, so that τ is 1.
        running = [sum(column) / t for column in zip(*seen, strict=True)] if t else [0.0] * len(sizes)
        _, kappa, s, _ = by_definition(setup, running)
        setup.ctx.iteration = t
        # Over epochs, too: the mean is of the whole training.
        setup.ctx.epoch = t // 2
        setup.begin()
        setup.losses()
        logged = [setup.ctx.logged[f"kappa/{name}"].item() for name in NAMES[: len(sizes)]]
        assert logged == pytest.approx(kappa, rel=1e-4)
        seen.append(s)
        expected = [sum(column) / (t + 1) for column in zip(*seen, strict=True)]
        assert setup.method.state_dict()["running"].tolist() == pytest.approx(expected, rel=1e-5)
    assert max(abs(k - 1.0) for k in kappa) > 1e-3


def test_outside_the_window_kappa_is_one_and_means_go_on(toy_run, weights_of, same_bits):
    run = toy_run(method="agm", method_options={"start_epoch": 1, "end_epoch": 2})
    plain = toy_run(method="agm", method_options={"alpha": 0.0})
    for epoch in range(4):
        modulated = epoch in (1, 2)
        run.train([8, 8], 5)
        plain.train([8, 8], 5)
        assert (run.logged == {"kappa/a": 1.0, "kappa/b": 1.0}) != modulated
        assert same_bits(weights_of(run), weights_of(plain)) != modulated
        if epoch == 0:
            assert same_bits(run.method.state_dict(), plain.method.state_dict())
        plain.restore(run.snapshot())


def test_without_an_end_the_whole_training_is_modulated(toy_run):
    run = toy_run(method="agm")
    for _ in range(4):
        run.train([8, 8], 5)
        assert run.logged["kappa/a"] != 1.0


# -- the clip ----------------------------------------------------------------------------------------


def clipped(limit, factor):
    """Gradients after the hook and before it, of a loss times ``factor``."""
    setup = start((4, 4), clip=limit)
    (factor * next(iter(setup.method.substeps(setup.ctx)))).backward()
    before = [p.grad.clone() for p in setup.model.parameters()]
    setup.method.after_backward(setup.ctx)
    head = setup.model.fused_head
    return (
        before,
        [p.grad for p in setup.model.parameters()],
        head.weight.grad.abs().max().item(),
    )


def norm(tensors):
    return torch.cat([t.flatten() for t in tensors]).norm().item()


def test_the_norm_is_clipped_only_if_an_entry_of_the_last_layer_exceeds_the_limit():
    before, _, largest = clipped(0.0, 1.0)
    # A limit that the norm exceeds, and no entry of the last layer.
    limit = 0.5 * (largest + norm(before))
    assert norm(before) > limit > largest
    _, after, _ = clipped(limit, 1.0)
    assert all(map(torch.equal, before, after))
    # One that an entry exceeds.
    limit = 0.9 * largest
    _, after, _ = clipped(limit, 1.0)
    assert norm(after) == pytest.approx(limit, rel=1e-4)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(other, one * (limit / norm(before)), rtol=1e-3, atol=1e-7)


def test_a_large_gradient_of_the_last_bias_alone_clips_nothing():
    setup = start((4, 4), clip=1.0)
    next(iter(setup.method.substeps(setup.ctx))).backward()
    head = setup.model.fused_head
    head.weight.grad.fill_(0.5)
    head.bias.grad.fill_(50.0)
    setup.method.after_backward(setup.ctx)
    assert head.bias.grad.tolist() == [50.0] * 6
    # One entry of the weight's above 1, and everything is scaled to the norm 1.
    head.weight.grad[0, 0] = 1.5
    setup.method.after_backward(setup.ctx)
    assert norm(p.grad for p in setup.model.parameters()) == pytest.approx(1.0, rel=1e-4)


def test_no_clip_leaves_large_gradients_alone():
    before, after, _ = clipped(0.0, 1e4)
    assert norm(before) > 1e3
    assert all(map(torch.equal, before, after))
    _, after, _ = clipped(1.0, 1e4)
    assert norm(after) == pytest.approx(1.0, rel=1e-4)


# -- by gradients or by learning rates ---------------------------------------------------------------


def test_by_learning_rate_kappa_scales_the_encoders_step_and_nothing_else(toy_run, weights_of):
    def moves(**options):
        run = toy_run(method="agm", method_options={"clip": 0.0} | options, optimizer=PLAIN)
        run.method.load_state_dict({"running": torch.tensor([0.9, 1.4])})
        before = weights_of(run)
        run.train([8, 8], 1)
        after = weights_of(run)
        return {name: after[name] - before[name] for name in before}, run

    plain, _ = moves(alpha=0.0)
    scaled, run = moves(scale_via="lr")
    kappa = [run.logged["kappa/a"], run.logged["kappa/b"]]
    assert max(abs(k - 1.0) for k in kappa) > 0.1
    for name, move in plain.items():
        factor = kappa[int(name[9])] if name.startswith("encoders") else 1.0
        torch.testing.assert_close(scaled[name], factor * move, rtol=1e-3, atol=1e-7)
    assert {group["lr"] for group in run.optimizer.torch.param_groups} == {0.01}


def test_a_learning_rate_is_multiplied_by_four_at_most_and_a_gradient_by_all_of_kappa():
    found = {}
    for via in ("grad", "lr"):
        setup = start((4, 4), scale_via=via, alpha=4.0)
        # Means of before with s_1 far above s_2: τ_1 = e^-2, τ_2 = e^2, and this batch's r near 1.
        setup.method.load_state_dict({"running": torch.tensor([3.0, 1.0])})
        setup.losses()
        found[via] = [setup.ctx.logged[f"kappa/{name}"].item() for name in NAMES[:2]]
    assert found["grad"][1] > 1e6
    assert found["lr"] == [pytest.approx(found["grad"][0]), 4.0]


@pytest.mark.parametrize(("optimizer", "same"), [("sgd", "grad"), ("adam", "lr")])
def test_auto_is_by_learning_rate_under_adam(toy_run, weights_of, same_bits, optimizer, same):
    found = {}
    for via in ("auto", "grad", "lr"):
        run = toy_run(method="agm", method_options={"scale_via": via}, optimizer={"name": optimizer, "lr": 0.001})
        run.train([8, 8], 3)
        found[via] = weights_of(run)
    for via in ("grad", "lr"):
        assert same_bits(found["auto"], found[via]) == (via == same)


# -- encoders with statistics ------------------------------------------------------------------------


class Normalised(nn.Module):
    """An encoder with batch statistics and dropout."""

    def __init__(self, features):
        super().__init__()
        self.out_features = 8
        self.layers = nn.Sequential(nn.Linear(features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, inputs):
        return self.layers(inputs)


@pytest.mark.parametrize("hidden", [0, 7])
def test_zeros_use_running_statistics_and_leave_no_trace_in_them(hidden):
    setup = start((4, 4), fusion_hidden=hidden)
    setup.model.encoders = nn.ModuleList(Normalised(4 + j) for j in range(2))
    expected = copy.deepcopy(setup.model)
    for j, x in enumerate(setup.inputs):
        expected.encode(j, x)
    setup.begin()
    next(iter(setup.method.substeps(setup.ctx))).backward()
    for encoder, other in zip(setup.model.encoders, expected.encoders, strict=True):
        for mine, theirs in zip(encoder.buffers(), other.buffers(), strict=True):
            assert torch.equal(mine, theirs)
        assert all(module.training for module in encoder.modules())
        assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_an_encoder_in_evaluation_mode_stays_in_it():
    setup = start((4, 4))
    setup.model.encoders[0].eval()
    setup.losses()
    assert not setup.model.encoders[0].training
    assert setup.model.encoders[1].training


# -- what it records and predicts --------------------------------------------------------------------


def test_the_recorded_scores_are_of_the_additive_parts_over_the_own_samples():
    setup = start((3, 5))
    parts = setup.model.additive_parts([setup.model.encode(j, x) for j, x in enumerate(setup.inputs)])
    expected = [z.softmax(1).gather(1, setup.labels[: len(z), None]).mean().item() for z in parts]
    setup.losses()
    (found,) = setup.recorder.finish()
    assert found.rows == [pytest.approx(expected, rel=1e-5)]
    assert (found.samples, found.fused_samples) == ([3, 5], 3)


@pytest.mark.parametrize("sizes", [(3, 5), (3, 5, 4)])
def test_with_a_hidden_layer_scores_and_logits_are_of_the_responses(sizes):
    setup = start(sizes, fusion_hidden=7)
    assert isinstance(setup.model.fused_head, nn.Sequential)
    assert setup.model.fused_head[0].out_features == 7
    psi = by_definition(setup, [0.0] * len(sizes))[3]
    expected = [
        z[:n].softmax(1).gather(1, setup.labels[:n, None]).mean().item() for z, n in zip(psi, sizes, strict=True)
    ]
    p = min(sizes)
    h = [setup.model.encode(j, x[:p]) for j, x in enumerate(setup.inputs)]
    logits = setup.method.unimodal_logits(setup.model, h)
    torch.testing.assert_close(sum(logits), setup.model.fused(h))
    for found, response in zip(logits, psi, strict=True):
        torch.testing.assert_close(found, response[:p])
    setup.losses()
    assert setup.recorder.finish()[0].rows == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.parametrize("hidden", [0, 16])
@pytest.mark.parametrize("m", [2, 3])
def test_what_it_predicts_is_the_fused_head(toy_run, m, hidden):
    run = toy_run(m, method="agm", method_options={"fusion_hidden": hidden})
    assert run.probe().train.scores
    run.train([8] * m, 20)
    found = run.evaluate()
    assert found.fused["method"] == found.fused["concat"]
    assert found.fused["sum"].accuracy == found.fused["concat"].accuracy > 0.4


# -- state -------------------------------------------------------------------------------------------


def test_the_state_is_a_copy_both_ways():
    setup = start((3, 5))
    assert setup.method.state_dict() == {}
    setup.losses()
    state = setup.method.state_dict()
    state["running"].zero_()
    assert setup.method.state_dict()["running"].abs().min() > 0
    setup.method.load_state_dict(state)
    state["running"].fill_(1.0)
    assert setup.method.state_dict()["running"].tolist() == [0.0, 0.0]
    setup.method.load_state_dict({})
    assert setup.method.state_dict() == {}


# -- runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "sizes", "options", "optimizer"),
    [
        ("Digits3", (20, 90, 70), {"fusion_hidden": 32}, None),
        ("Digits", (64, 64), {}, {"name": "adam", "lr": 0.001}),
    ],
)
def test_a_hidden_layer_and_adam_learn_the_digits_too(digits_run, task, sizes, options, optimizer):
    run = digits_run(task, method="agm", method_options=options, optimizer=optimizer, epochs=20)
    before = run.validate()
    interval = run.train([size * run.base_batch // 64 for size in sizes], 20 * run.iterations_per_epoch)
    assert not interval.diverged
    assert run.validate().fused_losses["method"] < 0.7 * before.fused_losses["method"]
    assert run.evaluate().fused["method"].accuracy > 0.5
