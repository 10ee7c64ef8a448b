"""PMR against the numbers of the notes' section 6, and what it promises."""

import pytest
import torch
import torch.nn.functional as F
from method_setup import NAMES, Setup

from dus_gym.data.dataset import TensorSplit
from dus_gym.methods import make_method
from dus_gym.methods.pmr import pmr_coefficients as coefficients
from dus_gym.methods.pmr import prototype_log_probabilities
from dus_gym.methods.prototypes import class_prototypes

SIZES = [(3, 5), (5, 3), (4, 4), (3, 5, 4)]


def tensor(rows):
    return torch.tensor(rows, dtype=torch.double)


# -- the notes' numbers ------------------------------------------------------------------------------


def test_distances_by_hand():
    q = prototype_log_probabilities(tensor([[3.0, 0.0]]), tensor([[0.0, 0.0], [3.0, 4.0]])).exp()
    torch.testing.assert_close(q, tensor([[0.7311, 0.2689]]), atol=5e-5, rtol=0.0)


def test_probabilities_against_a_loop_over_samples_and_classes():
    generator = torch.Generator().manual_seed(0)
    h, prototypes = (torch.randn(n, 9, generator=generator, dtype=torch.double) for n in (7, 31))
    found = prototype_log_probabilities(h, prototypes)
    for row, x in zip(found, h, strict=True):
        distances = torch.stack([(x - c).square().sum().sqrt() for c in prototypes])
        torch.testing.assert_close(row, (-distances).log_softmax(0), atol=1e-6, rtol=0.0)


def test_coefficients_by_hand():
    prototypes = tensor([[0.0, 0.0], [3.0, 4.0]])
    y = torch.tensor([0, 1])
    one = prototype_log_probabilities(prototypes, prototypes).gather(1, y[:, None])
    two = prototype_log_probabilities(tensor([[1.5, 2.0]] * 2), prototypes).gather(1, y[:, None])
    torch.testing.assert_close(one.exp(), tensor([[0.99331]] * 2), atol=5e-6, rtol=0.0)
    torch.testing.assert_close(two.exp(), tensor([[0.5]] * 2), atol=1e-9, rtol=0.0)
    assert -two.mean().item() == pytest.approx(0.6931472, abs=1e-7)
    scores = torch.stack([one.exp().mean(), two.exp().mean()])
    assert (scores[0] / scores[1]).item() == pytest.approx(1.98661, abs=5e-6)
    torch.testing.assert_close(coefficients(scores, "clip"), tensor([0.0, 0.98661]), atol=5e-6, rtol=0.0)
    assert coefficients(scores, "released").tolist() == [0.0, 1.0]
    assert coefficients(scores.flip(0), "released").tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("scores", "clip", "released"),
    [
        ([0.5, 0.5], [0.0, 0.0], [0.0, 0.0]),
        ([0.9, 0.3], [0.0, 1.0], [0.0, 1.0]),
        ([0.4, 0.6], [0.5, 0.0], [1.0, 0.0]),
        ([0.4, 0.6, 0.5], [0.5, 0.0, 0.2], [1.0, 0.0, 1.0]),
        ([0.6, 0.6, 0.1], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]),
        # Far from every prototype the probability underflows.
        ([0.5, 0.0], [0.0, 1.0], [0.0, 1.0]),
        ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]),
    ],
)
def test_a_modality_behind_gets_its_relative_lag_up_to_one(scores, clip, released):
    torch.testing.assert_close(coefficients(tensor(scores), "clip"), tensor(clip))
    torch.testing.assert_close(coefficients(tensor(scores), "released"), tensor(released))


# -- prototypes --------------------------------------------------------------------------------------


def test_prototypes_are_class_means():
    features = tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]])
    found = class_prototypes(features, torch.tensor([1, 1, 0]), 2, None, 0.5)
    torch.testing.assert_close(found, tensor([[5.0, 5.0], [2.0, 1.0]]))
    mixed = class_prototypes(features, torch.tensor([1, 1, 0]), 2, tensor([[1.0, 1.0], [6.0, 1.0]]), 0.25)
    torch.testing.assert_close(mixed, tensor([[4.0, 4.0], [3.0, 1.0]]))


def test_an_empty_class_keeps_its_prototype_and_nothing_is_nan():
    features = tensor([[1.0, 0.0], [3.0, 2.0]])
    old = tensor([[7.0, 8.0], [0.0, 0.0], [9.0, 9.0]])
    found = class_prototypes(features, torch.tensor([1, 1]), 3, old, 0.5)
    torch.testing.assert_close(found, tensor([[7.0, 8.0], [1.0, 0.5], [9.0, 9.0]]))
    first = class_prototypes(features, torch.tensor([1, 1]), 3, None, 0.0)
    torch.testing.assert_close(first, tensor([[2.0, 1.0]] * 3))


def means(run, j):
    """Class means of the toy's training features as the model stands, with a loop."""
    split = run._train_split
    with torch.no_grad():
        h = run.model.encode(j, split.inputs[j])
    return torch.stack([h[split.labels == k].mean(dim=0) for k in range(3)])


@pytest.mark.parametrize("m", [2, 3])
def test_each_epoch_uses_the_class_means_it_begins_with(toy_run, m):
    run = toy_run(m, method="pmr")
    for _ in range(3):
        expected = [means(run, j) for j in range(m)]
        run.train([8] * m, 1)
        torch.testing.assert_close(run.method.state_dict()["prototypes"], expected)
        run.train([8] * m, 4)
        # The same ones for the whole epoch.
        torch.testing.assert_close(run.method.state_dict()["prototypes"], expected)
        assert not torch.allclose(means(run, 0), expected[0], atol=1e-3)


def test_momentum_keeps_part_of_the_old_prototypes_but_none_of_untrained_encoders(toy_run):
    run = toy_run(method="pmr", method_options={"momentum": 0.75})
    expected = []
    for epoch in range(4):
        new = means(run, 1)
        # Epoch 1 drops the prototypes of epoch 0.
        expected.append(new if epoch < 2 else 0.25 * new + 0.75 * expected[-1])
        run.train([8, 8], 5)
        torch.testing.assert_close(run.method.state_dict()["prototypes"][1], expected[-1])


def test_a_fraction_of_the_samples_is_drawn_anew_each_epoch():
    setup = Setup("pmr", sizes=(6, 6), prototype_fraction=0.5)
    shown = [torch.eye(12), torch.eye(12)]
    setup.ctx.train_features = lambda: shown
    # All of one class, so that a prototype is the mean of the one-hot rows drawn.
    setup.ctx.train_split = TensorSplit((), torch.zeros(12, dtype=torch.int64))
    drawn = []
    for _ in range(3):
        setup.method.on_epoch_start(setup.ctx)
        one, two = setup.method.state_dict()["prototypes"]
        torch.testing.assert_close(one, two)
        drawn.append((one[0] > 0).nonzero().flatten().tolist())
        assert len(drawn[-1]) == 6
        torch.testing.assert_close(one[0].sum(), torch.tensor(1.0))
    assert drawn[0] != drawn[1] != drawn[2]


# -- the loss ----------------------------------------------------------------------------------------


def start(sizes, c=6, **options):
    """The method with prototypes drawn at random, the later the modality the further off."""
    setup = Setup("pmr", sizes=sizes, c=c, **options)
    generator = torch.Generator().manual_seed(3)
    drawn = [torch.randn(c, 8, generator=generator) * (0.3 + j) for j in range(len(sizes))]
    setup.method.load_state_dict({"prototypes": drawn})
    return setup


def by_hand(setup, entropy_weight=0.0):
    """The loss and β from the formulas, sample by sample."""
    model, y = setup.model, setup.labels
    h = [model.encode(j, x) for j, x in enumerate(setup.inputs)]
    p = min(map(len, h))
    fused = F.cross_entropy(model.fused_head(torch.cat([x[:p] for x in h], dim=1)), y[:p])
    losses, entropies, scores = [], [], []
    for x, prototypes in zip(h, setup.method.state_dict()["prototypes"], strict=True):
        q = [torch.softmax(-torch.stack([(row - c).norm() for c in prototypes]), 0) for row in x]
        true = torch.stack([row[k] for row, k in zip(q, y, strict=False)])
        divisor = 4 if setup.ctx.loss_norm == "fixed" else len(x)
        losses.append(-true.log().sum() / divisor)
        entropies.append(-sum((row * row.log()).sum() for row in q) / divisor)
        scores.append(true.mean().item())
    best = max(scores)
    beta = [min(1.0, best / s - 1.0) for s in scores]
    total = fused + 2.0 * sum(b * loss for b, loss in zip(beta, losses, strict=True))
    return total - entropy_weight * max(beta) * entropies[scores.index(best)], beta, fused


@pytest.mark.parametrize("loss_norm", ["mean", "fixed"])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_loss_is_the_fused_one_and_the_weighted_prototype_losses(sizes, loss_norm):
    setup = start(sizes, loss_norm=loss_norm)
    expected, beta, fused = by_hand(setup)
    assert beta.count(0.0) == 1
    assert expected.item() > fused.item() + 0.01
    assert setup.losses() == [pytest.approx(expected.item(), rel=1e-5)]
    logged = [setup.ctx.logged[f"beta/{name}"].item() for name in NAMES[: len(sizes)]]
    assert logged == pytest.approx(beta, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("sizes", SIZES)
def test_the_gradient_is_that_of_the_loss_with_constant_coefficients(sizes):
    setup = start(sizes)
    owners = [f"encoder/{name}" for name in NAMES[: len(sizes)]] + ["fused"]
    found = setup.gradients(*owners)
    setup.model.zero_grad()
    by_hand(setup)[0].backward()
    groups = setup.model.parameter_groups(setup.ctx.modalities)
    for owner, gradient in zip(owners, found, strict=True):
        expected = torch.cat([p.grad.flatten() for p in groups[owner]])
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("coefficient", ["clip", "released"])
def test_prototypes_move_the_weak_encoder_alone(coefficient):
    mine, plain = start((4, 4), coefficient=coefficient), start((4, 4), alpha=0.0)
    weak = by_hand(mine)[1].index(max(by_hand(mine)[1]))
    owners = [f"encoder/{NAMES[1 - weak]}", "fused", f"encoder/{NAMES[weak]}"]
    with_them, without = mine.gradients(*owners), plain.gradients(*owners)
    assert torch.equal(with_them[0], without[0])
    assert torch.equal(with_them[1], without[1])
    assert not torch.allclose(with_them[2], without[2], rtol=1e-2)


def test_released_gives_all_of_the_loss_to_the_weaker():
    setup = start((3, 5), coefficient="released", alpha=1.0)
    h = setup.model.encode(1, setup.inputs[1])
    pce = F.cross_entropy(-torch.cdist(h, setup.method.state_dict()["prototypes"][1]), setup.labels)
    _, beta, fused = by_hand(setup)
    assert 0.0 < beta[1] < 1.0
    assert setup.losses() == [pytest.approx((fused + pce).item(), rel=1e-5)]


def test_rows_that_only_one_modality_has_reach_its_encoder_alone():
    setup = start((3, 5))
    owners = ("encoder/one", "fused", "encoder/two")
    before = setup.gradients(*owners)
    setup.inputs[1] = setup.inputs[1].clone()
    setup.inputs[1][3:] += 1.0
    after = setup.gradients(*owners)
    assert [torch.equal(one, other) for one, other in zip(before, after, strict=True)] == [True, True, False]


def test_the_recorded_score_is_of_the_additive_parts_over_the_own_samples():
    setup = start((3, 5))
    parts = setup.model.additive_parts([setup.model.encode(j, x) for j, x in enumerate(setup.inputs)])
    expected = [z.softmax(1).gather(1, setup.labels[: len(z), None]).mean().item() for z in parts]
    setup.losses()
    (found,) = setup.recorder.finish()
    assert found.rows == [pytest.approx(expected, rel=1e-5)]
    assert (found.samples, found.fused_samples) == ([3, 5], 3)


def test_the_entropy_of_the_best_modality_is_added_in_the_first_epochs():
    for epoch, weight in ((0, 0.7), (1, 0.7), (2, 0.0)):
        setup = start((3, 5), entropy_weight=0.7, entropy_epochs=2)
        setup.ctx.epoch = epoch
        expected, _, _ = by_hand(setup, weight)
        gradient = setup.gradients("encoder/one")[0]
        setup.model.zero_grad()
        expected.backward()
        groups = setup.model.parameter_groups(setup.ctx.modalities)
        torch.testing.assert_close(gradient, torch.cat([p.grad.flatten() for p in groups["encoder/one"]]))
        setup.begin()
        assert setup.losses() == [pytest.approx(expected.item(), rel=1e-5)]
    assert make_method("pmr").options.entropy_weight == 0.0


def test_alternating_steps_after_each_part_and_weighs_by_what_the_fused_step_left():
    setup = start((3, 5, 4), update="alternating")
    twin = start((3, 5, 4))
    losses = setup.losses()
    # By hand: the fused step, then each modality's own with the β of that moment.
    _, _, fused = by_hand(twin)
    fused.backward()
    twin.optimizer.step()
    _, beta, _ = by_hand(twin)
    behind = [(j, b) for j, b in enumerate(beta) if b]
    # No step on the zero loss of the best modality.
    assert len(losses) == 3
    assert len(behind) == 2
    for loss, (j, b) in zip(losses[1:], behind, strict=True):
        h = twin.model.encode(j, twin.inputs[j])
        pce = F.cross_entropy(-torch.cdist(h, twin.method.state_dict()["prototypes"][j]), twin.labels[: len(h)])
        assert loss == pytest.approx(2.0 * b * pce.item(), rel=1e-4, abs=1e-6)
        twin.optimizer.torch.zero_grad()
        (2.0 * b * pce).backward()
        twin.optimizer.step()
    for mine, theirs in zip(setup.model.parameters(), twin.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_alternating_does_not_move_the_best_modality_by_momentum(toy_run, weights_of):
    """The best modality moves in the fused step alone: its step on a loss of 0 would carry momentum and decay."""
    settings = {"method": "pmr", "update": "alternating", "optimizer": {"weight_decay": 0.1}}
    run, fused = toy_run(**settings), toy_run(**settings, method_options={"alpha": 0.0})
    run.train([8, 8], 2)
    fused.restore(run.snapshot())
    for each in (run, fused):
        each.train([8, 8], 1)
    beta = [run.logged["beta/a"], run.logged["beta/b"]]
    assert min(beta) == 0.0 < max(beta)
    mine, other = weights_of(run), weights_of(fused)
    moved = [
        not torch.equal(mine[name], other[name]) for name in mine if name.startswith(f"encoders.{beta.index(0.0)}")
    ]
    assert not any(moved)
    assert any(not torch.equal(mine[name], other[name]) for name in mine)


# -- the window --------------------------------------------------------------------------------------


def test_prototype_losses_are_in_the_window_alone(toy_run, weights_of, same_bits):
    inside = {"start_epoch": 1, "end_epoch": 2}
    run, plain = toy_run(method="pmr", method_options=inside), toy_run(method="pmr", method_options={"alpha": 0.0})
    run.train([8, 8], 5)
    plain.train([8, 8], 5)
    assert same_bits(weights_of(run), weights_of(plain))
    assert run.logged == {"beta/a": 0.0, "beta/b": 0.0}
    seen = []
    for _ in range(2):
        run.train([8, 8], 5)
        assert max(run.logged.values()) > 0.0
        seen.append(run.method.state_dict()["prototypes"])
    assert not same_bits(*seen)
    # After the window the fused loss is alone again, and prototypes rest.
    plain.restore(run.snapshot())
    run.train([8, 8], 5)
    plain.train([8, 8], 5)
    assert same_bits(weights_of(run), weights_of(plain))
    assert run.logged == {"beta/a": 0.0, "beta/b": 0.0}
    assert same_bits(run.method.state_dict()["prototypes"], seen[1])


def test_the_window_reaches_to_its_last_epoch(toy_run, weights_of, same_bits):
    one, other = (toy_run(method="pmr", method_options={"end_epoch": e}) for e in (1, 2))
    for run in (one, other):
        run.train([8, 8], 10)
    assert same_bits(weights_of(one), weights_of(other))
    for run in (one, other):
        run.train([8, 8], 1)
    assert not same_bits(weights_of(one), weights_of(other))


# -- state -------------------------------------------------------------------------------------------


def test_the_state_is_a_copy_both_ways():
    setup = start((3, 5))
    state = setup.method.state_dict()
    state["prototypes"][0].zero_()
    assert setup.method.state_dict()["prototypes"][0].abs().sum() > 0
    setup.method.load_state_dict(state)
    state["prototypes"][0].fill_(1.0)
    assert setup.method.state_dict()["prototypes"][0].abs().sum() == 0
    assert make_method("pmr").state_dict() == {"prototypes": []}
