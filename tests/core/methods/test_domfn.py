"""DOMFN against the numbers of the notes' section 4, and what it promises."""

import pytest
import torch
import torch.nn.functional as F
from method_setup import Setup
from torch import nn

from dus_gym.methods import make_method
from dus_gym.methods.base import Phase
from dus_gym.methods.domfn import PRETRAINING, divergences, sample_losses

SIZES = [(6, 6), (6, 6, 6)]


def tensor(rows):
    return torch.tensor(rows, dtype=torch.double)


# -- the notes' numbers ------------------------------------------------------------------------------


def test_divergences_by_hand():
    torch.testing.assert_close(divergences(tensor([[[0.7, 0.2, 0.1]], [[0.3, 0.4, 0.3]]])), tensor([[0.04], [0.04]]))
    far = tensor([[[0.95, 0.03, 0.02]], [[0.05, 0.9, 0.05]]])
    torch.testing.assert_close(divergences(far), tensor([[0.2025], [0.2025]]))


def test_losses_by_hand():
    q = tensor([[[0.7, 0.2, 0.1]], [[0.3, 0.4, 0.3]]])
    losses, fused = -q[:, :, 0].log(), -tensor([0.6]).log()
    torch.testing.assert_close(losses, tensor([[0.3567], [1.2040]]), atol=5e-5, rtol=0.0)
    assert fused.item() == pytest.approx(0.5108, abs=5e-5)
    for fuse, expected in ((True, 2.8198571), (False, 1.5606478)):
        found = sample_losses(losses, fused, divergences(q), torch.tensor([fuse]), 0.5)
        assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("q", "tau", "fused"),
    [
        ([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3]], 0.5, True),
        ([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3]], 0.2, True),
        ([[0.95, 0.03, 0.02], [0.05, 0.9, 0.05]], 0.5, True),
        ([[0.95, 0.03, 0.02], [0.05, 0.9, 0.05]], 0.2, False),
    ],
)
def test_the_gate_by_hand(q, tau, fused):
    method, unimodal = make_method("domfn", {"tau": tau}), tensor(q).log().unsqueeze(1)
    concat = tensor([[0.0, 0.0, 9.0]])
    # Through a closed gate: the first, whose .95 is the surest.
    assert torch.equal(method.predict(unimodal, {"concat": concat}), concat if fused else unimodal[0])


# -- prediction --------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [2, 3])
def test_each_sample_has_its_own_gate_and_its_own_surest_modality(m):
    generator = torch.Generator().manual_seed(0)
    unimodal = 3.0 * torch.randn(m, 60, 5, generator=generator)
    concat = torch.randn(60, 5, generator=generator)
    method, found = make_method("domfn"), []
    chosen = set()
    for i in range(60):
        q = [logits[i].softmax(0) for logits in unimodal]
        mean = sum(q) / m
        if all(((p - mean) ** 2).max() / 0.2 < 0.8 for p in q):
            found.append(concat[i])
            chosen.add("fused")
        else:
            surest = max(range(m), key=lambda j: q[j].max())
            found.append(unimodal[surest, i])
            chosen.add(surest)
    assert chosen == {"fused", *range(m)}
    assert torch.equal(method.predict(unimodal, {"concat": concat}), torch.stack(found))


def test_of_equally_sure_modalities_the_first_decides():
    unimodal = torch.tensor([[[9.0, 0.0]], [[0.0, 9.0]]])
    assert torch.equal(make_method("domfn").predict(unimodal, {"concat": torch.zeros(1, 2)}), unimodal[0])


# -- the loss ----------------------------------------------------------------------------------------


def start(sizes=(6, 6), phase="fusion", spread=30.0, **options):
    """The method in a phase, with heads so far apart that some gates are closed."""
    setup = Setup("domfn", sizes=sizes, **options)
    setup.ctx.phase = Phase(phase, 1.0)
    with torch.no_grad():
        for head in setup.model.unimodal_heads:
            head.weight.mul_(spread)
    return setup


def by_hand(setup, tau=0.2, eta=0.5):
    """The loss, sample by sample, as the paper's batches of one have it; and the gates."""
    model, losses, gates = setup.model, [], []
    for i, y in enumerate(setup.labels):
        h = [model.encode(j, x[i : i + 1]) for j, x in enumerate(setup.inputs)]
        logits = [model.unimodal(j, feature) for j, feature in enumerate(h)]
        q = [z.softmax(1) for z in logits]
        mean = sum(q) / len(q)
        d = [(p - mean).square().max() for p in q]
        ce = [F.cross_entropy(z, y[None]) for z in logits]
        loss = sum(ce)
        gates.append(all(value.item() / tau < 0.8 for value in d))
        if gates[-1]:
            amended = [0.5 * c**2 - eta * value for c, value in zip(ce, d, strict=True)]
            loss = loss + sum(amended) + F.cross_entropy(model.fused(h), y[None])
        losses.append(loss)
    return torch.stack(losses), gates


@pytest.mark.parametrize("update", ["joint", "alternating"])
@pytest.mark.parametrize("hidden", [0, 64])
@pytest.mark.parametrize("sizes", SIZES)
def test_loss_and_gradient_are_those_of_the_samples_one_by_one(sizes, hidden, update):
    setup = start(sizes, fusion_hidden=hidden, update=update)
    losses, gates = by_hand(setup)
    assert 0 < sum(gates) < 6
    owners = ["encoder/one", "head/two", "fused"]
    found = setup.gradients(*owners)
    assert setup.ctx.logged["fused_fraction"].item() == pytest.approx(sum(gates) / 6)
    setup.model.zero_grad()
    losses.mean().backward()
    groups = setup.model.parameter_groups(setup.ctx.modalities)
    for owner, gradient in zip(owners, found, strict=True):
        expected = torch.cat([p.grad.flatten() for p in groups[owner]])
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
    setup.begin()
    assert setup.losses() == [pytest.approx(losses.mean().item(), rel=1e-5)]


def test_fixed_divides_by_the_ordinary_batch():
    setup = start(loss_norm="fixed", base=4)
    expected = by_hand(setup)[0].sum().item() / 4
    assert setup.losses() == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.parametrize(("gamma", "trains"), [(0.0, False), (1e9, True)])
def test_the_fused_head_learns_from_open_gates_alone(gamma, trains):
    gradient = start(gamma=gamma).gradients("fused")[0]
    assert (torch.count_nonzero(gradient) > 0) == trains


def test_pretraining_is_the_sum_of_unimodal_losses():
    setup = start((6, 6, 6), phase=PRETRAINING)
    logits = [setup.model.unimodal(j, setup.model.encode(j, x)) for j, x in enumerate(setup.inputs)]
    expected = sum(F.cross_entropy(z, setup.labels) for z in logits)
    assert setup.losses() == [pytest.approx(expected.item(), rel=1e-5)]
    (found,) = setup.recorder.finish()
    assert (found.samples, found.fused_samples) == ([6, 6, 6], 0)


def test_the_recorded_scores_are_the_unimodal_heads():
    setup = start()
    logits = [setup.model.unimodal(j, setup.model.encode(j, x)) for j, x in enumerate(setup.inputs)]
    expected = [z.softmax(1).gather(1, setup.labels[:, None]).mean().item() for z in logits]
    setup.losses()
    (found,) = setup.recorder.finish()
    assert found.rows == [pytest.approx(expected, rel=1e-5)]
    assert found.fused_samples == 6


# -- phases ------------------------------------------------------------------------------------------


def test_the_fused_head_rests_during_pretraining(toy_run, weights_of, same_bits):
    run = toy_run(method="domfn", epochs=20, method_options={"pretraining": 0.1})
    before = weights_of(run)
    for _ in range(2):
        assert run.train([8, 8], 5).fused_accuracy is None
    after = weights_of(run)
    for name in before:
        assert torch.equal(before[name], after[name]) == name.startswith("fused")
    assert run.train([8, 8], 1).fused_accuracy is not None
    assert not same_bits(weights_of(run)["fused_head.0.weight"], before["fused_head.0.weight"])


def test_without_pretraining_there_is_one_phase():
    assert [phase.name for phase in make_method("domfn", {"pretraining": 0.0}).phases(10, ("a", "b"))] == ["fusion"]
    fractions = [phase.fraction for phase in make_method("domfn").phases(100, ("a", "b"))]
    assert fractions == pytest.approx([0.13, 0.87])


def test_the_fused_head_has_the_hidden_layer_it_is_asked_for(toy_run):
    head = toy_run(method="domfn").model.fused_head
    assert isinstance(head, nn.Sequential)
    assert head[0].out_features == 64
    assert isinstance(toy_run(method="domfn", method_options={"fusion_hidden": 0}).model.fused_head, nn.Linear)
