"""ReconBoost: the notes' numbers (section 9), who trains in which phase, and what it promises."""

import pytest
import torch
import torch.nn.functional as F
from method_setup import NAMES, Setup

from dus_gym.context import Phase
from dus_gym.errors import ConfigError
from dus_gym.methods import make_method
from dus_gym.methods.reconboost import PRETRAINING, Boosting, residual_losses


def logits(n=7, c=6, seed=0):
    return torch.randn(n, c, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


LABELS = torch.tensor([0, 5, 2, 2, 1, 4, 3])


# -- the notes' numbers ------------------------------------------------------------------------------


def test_the_loss_is_the_cross_entropy_weighted_by_what_the_others_do_not_know():
    z, others = logits(), logits(seed=1)
    found = residual_losses(z, others, LABELS, 5.0, 1.0, "true_class")
    p, known = z.softmax(1), others.softmax(1)
    one_hot = F.one_hot(LABELS, 6)
    # -w1/c Σ y log p + w2/c Σ y p̄ log p, as the released code writes it.
    written = (-5.0 * (one_hot * p.log()).sum(1) + (one_hot * known * p.log()).sum(1)) / 6
    torch.testing.assert_close(found, written, atol=1e-14, rtol=0.0)


def test_the_weight_by_hand():
    others = torch.log(torch.tensor([[0.7, 0.1, 0.05, 0.05, 0.05, 0.05]], dtype=torch.double))
    z, y = logits(1), torch.tensor([0])
    found = residual_losses(z, others, y, 5.0, 1.0, "true_class") / F.cross_entropy(z, y)
    assert found.item() == pytest.approx(0.7166667, abs=1e-7)


def test_the_gradient_by_hand():
    z, others = logits().requires_grad_(), logits(seed=1).requires_grad_()
    residual_losses(z, others, LABELS, 5.0, 1.0, "true_class").sum().backward()
    known = others.softmax(1).gather(1, LABELS[:, None]).detach()
    expected = (5.0 - known) / 6 * (z.softmax(1) - F.one_hot(LABELS, 6)).detach()
    torch.testing.assert_close(z.grad, expected, atol=1e-14, rtol=0.0)
    # What the others predict is taken as it is.
    assert others.grad is None


def test_the_full_residual_subtracts_every_class():
    z, others = logits().requires_grad_(), logits(seed=1)
    found = residual_losses(z, others, LABELS, 5.0, 2.0, "full")
    target = 5.0 * F.one_hot(LABELS, 6) - 2.0 * others.softmax(1)
    torch.testing.assert_close(found, -(target * z.log_softmax(1)).sum(1) / 6)
    found.sum().backward()
    # The gradient is that of a cross entropy against the target, whose entries sum to w1 - w2.
    torch.testing.assert_close(z.grad, (3.0 * z.detach().softmax(1) - target) / 6)


def test_the_full_residual_has_a_lower_bound():
    others = torch.tensor([[0.25, 0.75]], dtype=torch.double).log()
    z = torch.tensor([[0.0, -1000.0]], dtype=torch.double, requires_grad=True)
    loss = residual_losses(z, others, torch.tensor([0]), 5.0, 2.0, "full")
    # The label costs nothing; -2/2 · 0.75 · log(1e8) is left of the 750 that two logits' distance would earn.
    assert loss.item() == pytest.approx(-0.75 * 18.420681)
    loss.sum().backward()
    assert z.grad.tolist() == [[0.0, 0.0]]


def test_the_largest_residual_weight_trains(digits_run):
    options = {"residual": "full", "residual_weight": 5.0}
    run = digits_run(method="reconboost", method_options=options, epochs=60, seed=2)
    assert not run.train([run.base_batch] * 2, 60 * run.iterations_per_epoch).diverged
    # 0.34 without the bound.
    assert run.evaluate().fused["method"].accuracy > 0.6


# -- phases ------------------------------------------------------------------------------------------


def stages(found):
    return [(phase.learner, phase.previous) if isinstance(phase, Boosting) else phase.name for phase in found]


@pytest.mark.parametrize("m", [2, 3])
def test_stages_take_turns_and_have_four_plus_four_epochs_of_a_hundred(m):
    found = make_method("reconboost").phases(100, NAMES[:m])
    assert len(found) == 24
    assert stages(found)[::2] == [(s % m, (s - 1) % m if s else None) for s in range(12)]
    assert stages(found)[1::2] == ["rectify"] * 12
    assert {round(phase.fraction * 100, 9) for phase in found} == {round(100 / 24, 9)}
    assert sum(phase.fraction for phase in found) == pytest.approx(1.0)
    assert all(phase.fresh for phase in found)


@pytest.mark.parametrize(
    ("options", "epochs", "fractions"),
    [
        ({"stage": 0.5}, 100, [0.25] * 4),
        ({"stage": 0.5, "rectification": 0.2}, 100, [0.4, 0.1] * 2),
        ({"stage": 1.0, "pretraining": 0.2}, 100, [0.2, 0.4, 0.4]),
        ({"stage": 0.4, "pretraining": 0.2}, 100, [0.2, 0.2, 0.2, 0.2, 0.2]),
        # No more stages than have two epochs.
        ({}, 5, [0.25] * 4),
        ({}, 2, [0.5] * 2),
        ({}, 1, [0.5] * 2),
        ({"pretraining": 0.5}, 6, [0.5, 0.25, 0.25]),
    ],
)
def test_lengths_are_fractions_of_the_run(options, epochs, fractions):
    found = make_method("reconboost", options).phases(epochs, NAMES[:2])
    assert [phase.fraction for phase in found] == pytest.approx(fractions)


def moved(before, after):
    """The parts of the model that changed in any bit."""
    names = {"encoders.0", "encoders.1", "encoders.2", "projections", "ensemble_head", "ensemble_scale"}
    of = {name: next(part for part in names if name.startswith(part)) for name in before}
    return {of[name] for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("m", [2, 3])
def test_a_stage_trains_one_encoder_and_the_head_then_everything(toy_run, weights_of, m):
    run = toy_run(m, method="reconboost", epochs=6, iterations=3)
    everything = {*(f"encoders.{j}" for j in range(m)), "ensemble_head", "ensemble_scale"}
    for stage in range(3):
        for expected in ({f"encoders.{stage % m}", "ensemble_head"}, everything):
            before = weights_of(run)
            assert not run.train([8] * m, 3).diverged
            assert moved(before, weights_of(run)) == expected


def test_every_phase_starts_its_optimiser_anew(toy_run, weights_of):
    lr = 0.01
    run = toy_run(method="reconboost", epochs=4, iterations=3, optimizer={"lr": lr, "weight_decay": 0.0})
    for _ in range(4):
        before = weights_of(run)["ensemble_head.0.weight"]
        run.train([8, 8], 1)
        # Without momentum of before, the first step is along the gradient alone.
        gradient = run.model.ensemble_head[0].weight.grad
        torch.testing.assert_close(weights_of(run)["ensemble_head.0.weight"], before - lr * gradient)
        run.train([8, 8], 2)


def test_pretraining_trains_every_learner_on_its_own_loss(toy_run, weights_of):
    run = toy_run(3, method="reconboost", method_options={"pretraining": 0.5}, epochs=6, iterations=3)
    before = weights_of(run)
    run.train([8, 8, 8], 9)
    assert run._ctx.phase.name == PRETRAINING
    assert moved(before, weights_of(run)) == {"encoders.0", "encoders.1", "encoders.2", "ensemble_head"}
    after = weights_of(run)
    run.train([8, 8, 8], 3)
    assert moved(after, weights_of(run)) == {"encoders.0", "ensemble_head"}


def test_pretraining_is_the_learners_own_cross_entropy():
    setup = start(Phase(PRETRAINING, 0.5), m=3)
    expected = sum(F.cross_entropy(z, setup.labels) for z in learners(setup))
    assert setup.losses() == [pytest.approx(expected.item(), rel=1e-6)]


# -- the losses --------------------------------------------------------------------------------------


def start(phase, m=2, n=5, scale=0.7, **options):
    setup = Setup("reconboost", sizes=(n,) * m, **options)
    with torch.no_grad():
        setup.model.ensemble_scale.fill_(scale)
    setup.ctx.phase = phase
    return setup


def learners(setup):
    return [setup.model.learner(j, setup.model.encode(j, x)) for j, x in enumerate(setup.inputs)]


@pytest.mark.parametrize(("m", "j"), [(2, 0), (2, 1), (3, 1)])
@pytest.mark.parametrize("loss_norm", ["mean", "fixed"])
def test_a_learners_loss_by_hand(m, j, loss_norm):
    setup = start(Boosting("", 1.0, learner=j, previous=(j - 1) % m), m, loss_norm=loss_norm)
    z = learners(setup)
    known = (0.7 * sum(z[k] for k in range(m) if k != j)).softmax(1)
    expected = 0.0
    for i, y in enumerate(setup.labels):
        expected = expected - (5.0 - known[i, y]) / 6 * z[j][i].log_softmax(0)[y]
        expected = expected + 0.5 * (z[j][i].softmax(0) - z[(j - 1) % m][i].softmax(0)).square().mean()
    # B is 4, there are 5 samples.
    expected = expected / (4 if loss_norm == "fixed" else 5)
    assert setup.losses() == [pytest.approx(expected.item(), rel=1e-5)]


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("previous", [None, 1])
def test_no_other_encoder_gets_a_gradient_from_a_learners_loss(m, previous):
    setup = start(Boosting("", 1.0, learner=0, previous=previous), m)
    # Nothing is frozen here: the loss alone must leave the others out.
    for loss in setup.method.substeps(setup.ctx):
        loss.backward()
    for k, encoder in enumerate(setup.model.encoders):
        given = [p.grad for p in encoder.parameters()]
        assert all(g is None for g in given) if k else all(g.abs().sum() > 0 for g in given)
    assert setup.model.ensemble_scale.grad is None
    assert all(p.grad.abs().sum() > 0 for p in setup.model.ensemble_head.parameters())


def boost_gradient(**options):
    setup = start(Boosting("", 1.0, learner=0, previous=1), **options)
    return setup.gradients("encoder/one")[0], setup


def test_consolidation_draws_the_learner_unless_as_released():
    alone, _ = boost_gradient(consolidation_weight=0.0)
    paper, setup = boost_gradient()
    assert not torch.allclose(paper, alone, rtol=1e-3)
    z = learners(setup)
    setup.model.zero_grad()
    (0.5 * (z[0].softmax(1) - z[1].softmax(1).detach()).square().mean()).backward()
    drawn = torch.cat([p.grad.flatten() for p in setup.model.encoders[0].parameters()])
    torch.testing.assert_close(paper - alone, drawn, atol=1e-6, rtol=1e-3)
    released, _ = boost_gradient(consolidation="released")
    torch.testing.assert_close(released, alone)


def test_the_first_stage_has_nothing_to_stay_close_to():
    one, other = (start(Boosting("", 1.0), consolidation_weight=w) for w in (0.0, 9.0))
    assert one.losses() == other.losses()


@pytest.mark.parametrize("m", [2, 3])
def test_rectification_is_the_ensembles_cross_entropy(m):
    setup = start(Phase("rectify", 1.0), m)
    expected = F.cross_entropy(0.7 * sum(learners(setup)), setup.labels).item()
    owners = [*(f"encoder/{name}" for name in NAMES[:m]), "ensemble", "scale"]
    assert all(g.abs().sum() > 0 for g in setup.gradients(*owners))
    setup.begin()
    assert setup.losses() == [pytest.approx(expected, rel=1e-6)]
    assert setup.ctx.logged["scale"].item() == pytest.approx(0.7)


@pytest.mark.parametrize("phase", [Boosting("", 1.0, learner=1, previous=0), Phase("rectify", 1.0)])
def test_every_modalitys_share_of_the_ensemble_is_recorded(phase):
    setup = start(phase)
    shares = [0.7 * z for z in learners(setup)]
    expected = [s.softmax(1).gather(1, setup.labels[:, None]).mean().item() for s in shares]
    hits = (sum(shares).argmax(1) == setup.labels).sum().item()
    setup.losses()
    (found,) = setup.recorder.finish()
    assert found.rows == [pytest.approx(expected, rel=1e-5)]
    assert (found.fused_hits, found.fused_samples) == (hits, 5)


def test_mixed_precision_rounds_a_share_as_the_ensemble_does():
    setup = start(Boosting("", 1.0, learner=1, previous=0))
    recorded = {}
    setup.ctx.record = lambda j, logits: recorded.update({j: logits})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = [setup.model.ensemble(j, setup.ctx.features(j)) for j in range(2)]
        next(setup.method.terms(setup.ctx))
    for j in range(2):
        assert recorded[j].dtype == torch.bfloat16
        assert torch.equal(recorded[j], expected[j])


def test_the_prediction_is_the_sum_of_the_scaled_learners(toy_run):
    run = toy_run(3, method="reconboost", epochs=4)
    run.train([8, 8, 8], 20)
    split = run._test_split
    found = run._evaluator.predict(split)
    with torch.no_grad():
        features = [run.model.encode(j, x) for j, x in enumerate(split.inputs)]
        expected = run.model.ensemble_scale * sum(run.model.learner(j, h) for j, h in enumerate(features))
    torch.testing.assert_close(found.fused["method"], expected)
    assert found.fused["concat"] is None


# -- what it keeps and refuses -----------------------------------------------------------------------


def test_too_few_epochs_for_a_stage_are_refused(toy_run):
    with pytest.raises(ConfigError, match=r"epochs=1 .*2 phases"):
        toy_run(method="reconboost", epochs=1)
    with pytest.raises(ConfigError, match=r"epochs=2 .*3 phases"):
        toy_run(method="reconboost", method_options={"pretraining": 0.1}, epochs=2)
