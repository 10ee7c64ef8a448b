"""Losses and projections against numbers worked by hand (the notes' sections on the baseline and on MLA)."""

import math

import pytest
import torch
import torch.nn.functional as F
from method_setup import Setup

from dus_gym.discrepancy import true_class_probability
from dus_gym.encoders.mlp import MLP
from dus_gym.errors import ConfigError
from dus_gym.evaluation import entropy_weighted
from dus_gym.methods import METHODS, make_method, method_class
from dus_gym.methods.base import Method
from dus_gym.methods.mla import rls_update
from dus_gym.model import MultimodalModel

# -- the baseline ------------------------------------------------------------------------------------


def test_zero_heads_give_three_times_ln_6():
    assert Setup(sizes=(3, 5)).zero_heads().losses() == pytest.approx([3 * math.log(6)], abs=1e-6)
    assert 3 * math.log(6) == pytest.approx(5.3752784, abs=1e-7)
    assert Setup(sizes=(3, 5, 4)).zero_heads().losses() == pytest.approx([4 * math.log(6)], abs=1e-6)


def test_zero_heads_weighted_as_the_crema_d_code_does():
    weights = {"fused_weight": 0.1, "unimodal_weight": 0.9}
    assert Setup(**weights).zero_heads().losses() == pytest.approx([(0.1 + 2 * 0.9) * math.log(6)], abs=1e-6)


def test_the_loss_is_each_modalitys_own_mean_plus_the_mean_over_the_paired_rows():
    setup = Setup(sizes=(3, 5))
    h = [setup.model.encode(j, x) for j, x in enumerate(setup.inputs)]
    y = setup.labels
    expected = (
        F.cross_entropy(setup.model.unimodal(0, h[0]), y[:3])
        + F.cross_entropy(setup.model.unimodal(1, h[1]), y)
        + F.cross_entropy(setup.model.fused_head(torch.cat([h[0], h[1][:3]], dim=1)), y[:3])
    )
    assert setup.losses() == pytest.approx([expected.item()], rel=1e-6)


@pytest.mark.parametrize(("sizes", "rows"), [((3, 5), 3), ((5, 3), 3), ((4, 4), 4), ((6, 2, 4), 2)])
def test_the_fused_loss_sees_the_first_min_a_j_rows(sizes, rows):
    setup = Setup(sizes=sizes)
    setup.losses()
    (found,) = setup.recorder.finish()
    assert found.fused_samples == rows
    assert found.samples == list(sizes)


def test_rows_that_only_one_modality_has_reach_its_own_parameters_alone():
    setup = Setup(sizes=(3, 5))
    owners = ("encoder/one", "head/one", "fused", "encoder/two", "head/two")
    before = setup.gradients(*owners)
    setup.inputs[1] = setup.inputs[1].clone()
    setup.inputs[1][3:] += 1.0
    setup.labels = setup.labels.clone()
    setup.labels[3:] = (setup.labels[3:] + 1) % 6
    after = setup.gradients(*owners)
    for owner, one, other in zip(owners, before, after, strict=True):
        assert torch.equal(one, other) == (owner not in ("encoder/two", "head/two")), owner


def test_a_unimodal_loss_reaches_no_other_modality():
    setup = Setup(sizes=(4, 4), fused_weight=0.0)
    before = setup.gradients("encoder/one", "head/one", "encoder/two")
    setup.inputs[1] = setup.inputs[1] + 1.0
    after = setup.gradients("encoder/one", "head/one", "encoder/two")
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[2], after[2])
    # With the fused loss they do meet.
    setup = Setup(sizes=(4, 4))
    before = setup.gradients("encoder/one")[0]
    setup.inputs[1] = setup.inputs[1] + 1.0
    assert not torch.equal(before, setup.gradients("encoder/one")[0])


def test_a_unimodal_weight_of_zero_leaves_the_fused_loss():
    setup = Setup(unimodal_weight=0.0)
    assert torch.count_nonzero(setup.gradients("head/one")[0]) == 0
    assert torch.count_nonzero(setup.gradients("encoder/one")[0]) > 0


@pytest.mark.parametrize(("weights", "steps"), [({"unimodal_weight": 0.0}, 1), ({"fused_weight": 0.0}, 2)])
def test_alternating_takes_no_step_on_a_loss_of_weight_zero(weights, steps):
    assert len(Setup(update="alternating", **weights).losses()) == steps
    # Scores are recorded all the same.
    assert Setup(update="joint", **weights).losses()[0] > 0.0


def test_nothing_paired_means_no_fused_loss():
    setup = Setup(sizes=(3, 5), paired=False).zero_heads()
    assert setup.losses() == pytest.approx([2 * math.log(6)], abs=1e-6)
    assert setup.recorder.finish()[0].fused_samples == 0


def test_alternating_yields_a_loss_a_modality_then_the_fused_one_after_the_steps():
    setup = Setup(sizes=(3, 5), update="alternating")
    other = Setup(sizes=(3, 5))
    y = setup.labels
    losses = setup.losses()
    assert len(losses) == 3
    # The same by hand: three plain gradient steps, each on the parameters that the one before left.
    parameters = list(other.model.parameters())

    def logits(k):
        h = [other.model.encode(j, x) for j, x in enumerate(other.inputs)]
        return other.model.unimodal(k, h[k]) if k < 2 else other.model.fused([h[0], h[1][:3]])

    for k, n in enumerate((3, 5, 3)):
        loss = F.cross_entropy(logits(k), y[:n])
        assert losses[k] == pytest.approx(loss.item(), rel=1e-5)
        with torch.no_grad():
            for p, g in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
                if g is not None:
                    p -= 0.1 * g
    for mine, theirs in zip(setup.model.parameters(), parameters, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_mean_divides_by_a_j_and_fixed_by_b():
    for sizes in ((3, 5), (4, 2)):
        mean, fixed = Setup(sizes=sizes), Setup(sizes=sizes, loss_norm="fixed", base=4)
        for j, n in enumerate(sizes):
            logits = mean.model.unimodal(j, mean.ctx.features(j))
            nll = F.cross_entropy(logits, mean.labels[:n], reduction="none")
            assert mean.ctx.modality_loss(j, logits).item() == pytest.approx(nll.sum().item() / n, rel=1e-6)
            assert fixed.ctx.modality_loss(j, logits).item() == pytest.approx(nll.sum().item() / 4, rel=1e-6)
        logits = mean.model.fused([mean.ctx.features(j)[: min(sizes)] for j in range(2)])
        expected = F.cross_entropy(logits, mean.labels[: min(sizes)]).item()
        assert mean.ctx.fused_loss(logits).item() == pytest.approx(expected, rel=1e-6)
        assert fixed.ctx.fused_loss(logits).item() == pytest.approx(expected, rel=1e-6)


def test_zero_heads_under_fixed_weigh_by_the_batch_size():
    setup = Setup(sizes=(3, 5), loss_norm="fixed", base=4).zero_heads()
    assert setup.losses() == pytest.approx([(3 / 4 + 5 / 4 + 1) * math.log(6)], abs=1e-6)


@pytest.mark.parametrize("method", ["baseline", "mla"])
@pytest.mark.parametrize("loss_norm", ["mean", "fixed"])
def test_the_recorded_score_is_the_mean_probability_of_the_true_class(method, loss_norm):
    setup = Setup(method, sizes=(3, 5), loss_norm=loss_norm)
    # The first modality's logits come before any step; alternating methods step before the others.
    logits = setup.method.unimodal_logits(setup.model, [setup.model.encode(j, x) for j, x in enumerate(setup.inputs)])
    expected = true_class_probability(logits[0], setup.labels[:3])
    setup.losses()
    (found,) = setup.recorder.finish()
    assert found.rows[0][0] == pytest.approx(expected.mean().item(), rel=1e-5)
    assert found.score_sums[0] == pytest.approx(expected.sum().item(), rel=1e-5)


# -- MLA ---------------------------------------------------------------------------------------------


def test_rls_by_hand():
    eye = torch.eye(2, dtype=torch.double)
    found = rls_update(eye, torch.tensor([1.0, 0.0], dtype=torch.double), 0.1)
    torch.testing.assert_close(found, torch.tensor([[1 / 11, 0.0], [0.0, 1.0]], dtype=torch.double))
    found = rls_update(eye, torch.tensor([1.0, 2.0], dtype=torch.double), 0.1)
    expected = torch.tensor([[0.8039, -0.3922], [-0.3922, 0.2157]], dtype=torch.double)
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=0.0)


def test_rls_from_the_identity_is_the_inverse_of_what_was_seen():
    generator = torch.Generator().manual_seed(0)
    d = 6
    p, seen = torch.eye(d, dtype=torch.double), torch.eye(d, dtype=torch.double)
    for i in range(20):
        h = torch.randn(d, generator=generator, dtype=torch.double)
        alpha = 0.1 ** (1.0 + i / 20)
        before, p = p, rls_update(p, h, alpha)
        seen += torch.outer(h, h) / alpha
        # A used direction shrinks by α / (α + hᵀPh).
        shrink = alpha / (alpha + h @ before @ h)
        torch.testing.assert_close(p @ h, shrink * (before @ h), atol=1e-13, rtol=0.0)
    torch.testing.assert_close(p, torch.linalg.inv(seen), atol=1e-12, rtol=0.0)
    torch.testing.assert_close(p, p.T, atol=1e-14, rtol=0.0)
    assert torch.linalg.eigvalsh(p).min() > 0


def raw_gradient(setup, j):
    """The shared head's weight and bias gradient of modality j's loss as the parameters stand, and its mean feature."""
    h = setup.model.project(j, setup.model.encode(j, setup.inputs[j]))
    loss = F.cross_entropy(setup.model.shared_head(h), setup.labels[: len(h)])
    head = setup.model.shared_head
    weight, bias = torch.autograd.grad(loss, [head.weight, head.bias])
    return weight, bias, h.mean(dim=0).detach()


def mla_steps(setup, iteration=0):
    """One iteration of the method, with what the shared head's gradient should be before and after its hook."""
    setup.ctx.iteration = iteration
    setup.begin()
    steps = []
    for j, loss in enumerate(setup.method.substeps(setup.ctx)):
        raw = raw_gradient(setup, j)
        setup.optimizer.torch.zero_grad()
        loss.backward()
        setup.method.after_backward(setup.ctx)
        head = setup.model.shared_head
        steps.append((raw, head.weight.grad.clone(), head.bias.grad.clone()))
        setup.optimizer.torch.step()
        setup.ctx.forget_features()
    return steps


def test_mla_projects_with_what_the_steps_before_left():
    setup = Setup("mla", sizes=(3, 5))
    p = torch.eye(8)
    for iteration in (0, 5, 13):
        # α goes from 0.1 towards 0.01 within each epoch, here of ten iterations.
        alpha = 0.1 ** (1.0 + (iteration % 10) / 10)
        steps = mla_steps(setup, iteration)
        assert len(steps) == 2
        for (weight, bias, h), changed, changed_bias in steps:
            torch.testing.assert_close(changed, weight @ p, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(changed_bias, bias)
            p = rls_update(p, h, alpha)
    torch.testing.assert_close(setup.method.state_dict()["projection"], p, rtol=1e-4, atol=1e-5)


def test_mla_leaves_the_very_first_gradient_alone_and_no_later_one():
    first, second = mla_steps(Setup("mla"))
    torch.testing.assert_close(first[1], first[0][0])
    assert not torch.allclose(second[1], second[0][0], rtol=1e-2)


def test_mla_takes_the_second_modality_away_from_the_firsts_mean_feature():
    (first, *_), (second, changed, _) = mla_steps(Setup("mla"))
    mean_feature = first[2]
    along = (changed @ mean_feature).norm() / (second[0] @ mean_feature).norm()
    assert along.item() == pytest.approx((0.1 / (0.1 + mean_feature @ mean_feature)).item(), rel=1e-3)


def test_mla_in_the_order_of_the_released_code():
    setup = Setup("mla", order="update_then_project")
    steps = [*mla_steps(setup), *mla_steps(setup)]
    # The run's first sub-step is left alone, and its mean feature never enters the projection.
    (weight, _, _), changed, _ = steps[0]
    torch.testing.assert_close(changed, weight, rtol=0, atol=0)
    p = torch.eye(8)
    for (weight, _, h), changed, _ in steps[1:]:
        p = rls_update(p, h, 0.1)
        torch.testing.assert_close(changed, weight @ p, rtol=1e-4, atol=1e-6)


def test_mla_may_normalise_the_projection():
    setup = Setup("mla", normalize=True)
    p = torch.eye(8)
    for (weight, _, h), changed, _ in mla_steps(setup):
        torch.testing.assert_close(changed, weight @ p, rtol=1e-4, atol=1e-6)
        p = rls_update(p, h, 0.1)
        p = p / p.norm()
    kept = setup.method.state_dict()["projection"]
    torch.testing.assert_close(kept, p, rtol=1e-4, atol=1e-6)
    assert kept.norm().item() == pytest.approx(1.0, rel=1e-5)


def test_mla_without_projection_is_alternation_alone():
    setup = Setup("mla", projection="none")
    for iteration in range(2):
        for (weight, bias, _), changed, changed_bias in mla_steps(setup, iteration):
            torch.testing.assert_close(changed, weight)
            torch.testing.assert_close(changed_bias, bias)
    assert setup.method.state_dict() == {}


@pytest.mark.parametrize("projection", ["rls", "none"])
@pytest.mark.parametrize("update", ["joint", "alternating"])
def test_mla_alternates_whatever_the_update(projection, update):
    setup = Setup("mla", sizes=(3, 5, 4), projection=projection, update=update).zero_heads()
    losses = setup.losses()
    assert len(losses) == 3
    assert losses[0] == pytest.approx(math.log(6), abs=1e-6)
    # The shared head moved in between.
    assert losses[1] != pytest.approx(math.log(6), abs=1e-4)


def test_mla_steps_one_encoder_at_a_time():
    setup = Setup("mla", sizes=(3, 5))
    for j, loss in enumerate(setup.method.substeps(setup.ctx)):
        setup.optimizer.torch.zero_grad()
        loss.backward()
        moved = [any(p.grad is not None for p in encoder.parameters()) for encoder in setup.model.encoders]
        assert moved == [j == 0, j == 1]
        setup.method.after_backward(setup.ctx)
        setup.optimizer.torch.step()
        setup.ctx.forget_features()


def test_mla_keeps_its_projection():
    setup = Setup("mla")
    mla_steps(setup)
    kept = setup.method.state_dict()
    other = Setup("mla")
    other.method.load_state_dict(kept)
    assert torch.equal(other.method.state_dict()["projection"], kept["projection"])
    mla_steps(setup, 1)
    # What was handed out does not move with the method.
    assert torch.equal(other.method.state_dict()["projection"], kept["projection"])
    other.method.load_state_dict({})
    assert other.method.state_dict() == {}


def test_entropy_fusion_by_hand():
    logits = torch.tensor([[[2.0, 0.0, 0.0]], [[0.5, 0.0, 0.2]]], dtype=torch.double)
    probabilities = logits.softmax(-1)
    entropy = -(probabilities * probabilities.log()).sum(-1).squeeze(1)
    torch.testing.assert_close(entropy, torch.tensor([0.66557, 1.07716], dtype=torch.double), atol=5e-6, rtol=0.0)
    weights = torch.tensor([0.60147, 0.39853], dtype=torch.double)
    torch.testing.assert_close((-entropy).softmax(0), weights, atol=5e-6, rtol=0.0)
    expected = torch.tensor([[1.4022, 0.0, 0.0797]], dtype=torch.double)
    torch.testing.assert_close(entropy_weighted(logits), expected, atol=5e-5, rtol=0.0)


def test_entropy_fusion_of_a_sample_does_not_depend_on_the_others():
    logits = torch.randn(3, 9, 5, generator=torch.Generator().manual_seed(0))
    together = entropy_weighted(logits)
    alone = torch.cat([entropy_weighted(logits[:, i : i + 1]) for i in range(9)])
    torch.testing.assert_close(together, alone)


# -- what a method predicts and refuses --------------------------------------------------------------


def test_each_method_predicts_as_its_paper_does():
    predictions = {name: torch.randn(2, 3) for name in ("concat", "sum", "entropy")}
    assert make_method("baseline").predict(torch.zeros(2, 2, 3), predictions) is predictions["concat"]
    assert make_method("mla").predict(torch.zeros(2, 2, 3), predictions) is predictions["entropy"]


def test_unimodal_logits_come_from_the_heads_there_are():
    setup = Setup("baseline")
    h = [torch.randn(4, 8) for _ in range(2)]
    for found, head, x in zip(setup.method.unimodal_logits(setup.model, h), setup.model.unimodal_heads, h, strict=True):
        assert torch.equal(found, head(x))
    setup = Setup("mla")
    for found, x in zip(setup.method.unimodal_logits(setup.model, h), h, strict=True):
        assert torch.equal(found, setup.model.shared_head(x))

    class FusedOnly(Method):
        name, paper, heads = "fused-only", "", frozenset({"fused"})

    model = MultimodalModel([MLP((4,), hidden=8), MLP((5,), hidden=8)], 6, FusedOnly.heads)
    for found, part in zip(FusedOnly().unimodal_logits(model, h), model.additive_parts(h), strict=True):
        assert torch.equal(found, part)


@pytest.mark.parametrize(
    ("limits", "m", "named"),
    [
        ({}, 1, "'picky' works on at least 2 modalities; this task has 1"),
        ({"min_modalities": 3}, 2, "works on at least 3 modalities; this task has 2"),
        ({"max_modalities": 2}, 3, "works on 2 to 2 modalities; this task has 3"),
        ({"min_modalities": 3, "max_modalities": 4}, 5, "works on 3 to 4 modalities; this task has 5"),
    ],
)
def test_a_method_refuses_tasks_with_too_few_or_too_many_modalities(limits, m, named):
    picky = type("Picky", (Method,), {"name": "picky", **limits})()
    with pytest.raises(ConfigError, match=named):
        picky.check(m, has_validation=True)
    picky.check(limits.get("max_modalities") or limits.get("min_modalities", 2), has_validation=False)


def test_a_method_that_needs_validation_says_so():
    needy = type("Needy", (Method,), {"name": "needy", "needs_validation": True})()
    needy.check(2, has_validation=True)
    with pytest.raises(ConfigError, match=r"'needy' needs a validation split.*choose a task with one"):
        needy.check(2, has_validation=False)


@pytest.mark.parametrize(
    ("method", "options", "named"),
    [
        ("baselin", {}, "unknown method 'baselin'.*Did you mean 'baseline'.*mla"),
        ("baseline", {"fused_weight": -0.1}, r"fused_weight=-0\.1.*at least 0"),
        ("baseline", {"unimodal_weight": -1.0}, r"unimodal_weight=-1\.0.*at least 0"),
        ("baseline", {"fused_weight": float("nan")}, "fused_weight=nan"),
        ("baseline", {"projection": "rls"}, "'baseline'.*'projection'.*fused_weight"),
        ("mla", {"projection": "rsl"}, "projection='rsl'.*Did you mean 'rls'"),
        ("mla", {"order": "update"}, "order='update'.*project_then_update, update_then_project"),
        ("mla", {"projekt": 1}, "'mla'.*'projekt'.*Did you mean 'projection'"),
    ],
)
def test_bad_methods_and_options_are_refused_by_name(method, options, named):
    with pytest.raises(ConfigError, match=named):
        make_method(method, options)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_says_what_it_is(name):
    found = method_class(name)
    assert found.name == name
    assert issubclass(found, Method)
    assert found.paper
    assert found.heads
    assert isinstance(make_method(name).options, found.options_type)


@pytest.mark.parametrize("name", ["baseline", "mla"])
def test_both_train_under_dus(name):
    assert method_class(name).supports_unpaired
