"""MMPareto against numbers worked by hand from its formulas and an independent solver, and what it promises."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from method_setup import NAMES, Setup

from dus_gym.errors import ConfigError
from dus_gym.methods.mmpareto import integrated_gradients, pareto_weight


def tensor(rows):
    return torch.tensor(rows, dtype=torch.double)


def integrate(fused, own, gamma=1.5, magnitude="tensor"):
    fused, own = [tensor(g) for g in fused], [tensor(g) for g in own]
    found, weight = integrated_gradients(fused, [g + o for g, o in zip(fused, own, strict=True)], gamma, magnitude)
    return [values.tolist() for values in found], weight.item()


# -- by hand -----------------------------------------------------------------------------------------


def test_gradients_in_conflict_by_hand():
    # mm = 1, mu = -1, uu = 5: a = 6 / 8. 1.5 (1, 0) + .5 (-1, 2) = (1, 1), of length √2; the sum (0, 2) has 2.
    (found,), weight = integrate([[1.0, 0.0]], [[-1.0, 2.0]])
    assert weight == pytest.approx(0.75)
    assert found == pytest.approx([1.5 * math.sqrt(2.0)] * 2)
    (found,), _ = integrate([[1.0, 0.0]], [[-1.0, 2.0]], magnitude="none")
    assert found == pytest.approx([1.5, 1.5])


def test_gradients_that_agree_are_summed_and_multiplied_by_gamma():
    # The fused one is the shorter, so the shortest combination would be itself alone.
    (found,), weight = integrate([[1.0, 0.0]], [[3.0, 2.0]])
    assert weight == 0.5
    assert found == [6.0, 3.0]


def test_the_length_is_kept_by_parameter_or_by_encoder():
    fused, own = [[1.0], [1.0]], [[-2.0], [0.5]]
    # mm = 2, mu = -1.5, uu = 4.25: a = 5.75 / 9.25 = .621622. h = (-.270270, 1.621622), sum = (-1, 1.5).
    found, weight = integrate(fused, own, gamma=1.0, magnitude="none")
    assert weight == pytest.approx(0.6216216)
    assert [x for (x,) in found] == pytest.approx([-0.2702703, 1.6216216])
    found, _ = integrate(fused, own, gamma=1.0, magnitude="tensor")
    assert [x for (x,) in found] == pytest.approx([-1.0, 1.6216216])
    # √3.25 / √(.073046 + 2.629657) = 1.0965856
    found, _ = integrate(fused, own, gamma=1.0, magnitude="encoder")
    assert [x for (x,) in found] == pytest.approx([-0.2963745, 1.7782469], rel=1e-6)


def test_gradients_that_cancel_leave_nothing_to_lengthen():
    for dtype in (torch.float, torch.double):
        g = torch.tensor([0.1, 0.7, -0.3], dtype=dtype)
        own = -g / 3.0
        (found,), weight = integrated_gradients([g], [g + own], 1.5, "tensor")
        assert weight.item() == pytest.approx(0.25)
        assert found.abs().max() < 1e-6
    (found,), _ = integrate([[0.0, 0.0]], [[0.0, 0.0]])
    assert found == [0.0, 0.0]


# -- an independent solver, and the promise ----------------------------------------------------------

numbers = st.floats(-3.0, 3.0, allow_subnormal=False)
vectors = st.lists(numbers, min_size=4, max_size=4)


@given(vectors, vectors)
def test_the_weight_is_of_the_shortest_combination_where_gradients_conflict(fused, own):
    g, o = tensor(fused), tensor(own)
    weight = pareto_weight(g @ g, g @ o, o @ o).item()
    if g @ o > 0:
        assert weight == 0.5
        return
    assert 0.0 <= weight <= 1.0
    grid = torch.linspace(0.0, 1.0, 2001).double().unsqueeze(1)
    least = (grid * g + (1.0 - grid) * o).norm(dim=1).min().item()
    assert (weight * g + (1.0 - weight) * o).norm().item() <= least + 1e-9


@given(vectors, vectors)
@example([2.0**-49, 0.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 2.0])
@example([-1.0, 0.0, 0.0, 2.0], [2.0**-49, 0.0, 0.0, 0.0])
def test_the_step_of_the_whole_encoder_descends_on_both_losses(fused, own):
    (direction,), _ = integrate([fused], [own], magnitude="none")
    (found,), _ = integrate([fused], [own], magnitude="encoder")
    step, gradients = tensor(found), (tensor(fused), tensor(own))
    # The direction is a difference, known to a rounding of the longer gradient; what is rounding is not lengthened.
    error = torch.finfo(step.dtype).eps * max(g.norm().item() for g in gradients) / max(math.hypot(*direction), 1e-300)
    for gradient in gradients:
        allowed = (8.0 * error if error <= 1.0 / 64.0 else 0.0) * step.norm() * gradient.norm()
        assert step @ gradient >= -1e-6 - allowed


def test_runs_are_integrated_by_themselves():
    generator = torch.Generator().manual_seed(2)
    fused, total = ([torch.randn(3, *s, generator=generator).double() for s in ((4, 2), (4,))] for _ in range(2))
    for magnitude in ("tensor", "encoder", "none"):
        together, weights = integrated_gradients(fused, total, 1.5, magnitude, by_run=True)
        assert weights.shape == (3,)
        for r in range(3):
            alone, weight = integrated_gradients([g[r] for g in fused], [g[r] for g in total], 1.5, magnitude)
            torch.testing.assert_close(weights[r], weight)
            for one, other in zip(together, alone, strict=True):
                torch.testing.assert_close(one[r], other)


# -- in a run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("update", ["joint", "alternating"])
@pytest.mark.parametrize("sizes", [(4, 4), (3, 5), (5, 3, 4)])
def test_encoders_get_the_integrated_gradient_and_heads_the_plain_one(sizes, update):
    setup, m = Setup("mmpareto", sizes=sizes, update=update), len(sizes)
    h = [setup.model.encode(j, x) for j, x in enumerate(setup.inputs)]
    p = min(sizes)
    fused = F.cross_entropy(setup.model.fused([x[:p] for x in h]), setup.labels[:p])
    own = [F.cross_entropy(setup.model.unimodal(j, x), setup.labels[: len(x)]) for j, x in enumerate(h)]
    expected = {}
    for j in range(m):
        parameters = list(setup.model.encoders[j].parameters())
        parts = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (fused, own[j])]
        g, o = (torch.cat([x.flatten() for x in part]) for part in parts)
        a = 0.5 if g @ o > 0 else ((o - g) @ o / (g - o).square().sum()).item()
        for k, (x, y) in enumerate(zip(*parts, strict=True)):
            step = 2 * a * x + 2 * (1 - a) * y
            expected[j, k] = 1.5 * step * max(1.0, ((x + y).norm() / step.norm()).item())
    heads = list(setup.model.fused_head.parameters()) + list(setup.model.unimodal_heads.parameters())
    plain = torch.autograd.grad(fused + sum(own), heads)
    setup.begin()
    setup.model.zero_grad()
    losses = list(iterate(setup))
    assert losses == [pytest.approx((fused + sum(own)).item(), rel=1e-5)]
    for j in range(m):
        for k, parameter in enumerate(setup.model.encoders[j].parameters()):
            torch.testing.assert_close(parameter.grad, expected[j, k], rtol=1e-4, atol=1e-7)
    for parameter, gradient in zip(heads, plain, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)
    assert all(0.0 <= setup.ctx.logged[f"alpha/{name}"].item() <= 1.0 for name in NAMES[:m])


def iterate(setup):
    for loss in setup.method.substeps(setup.ctx):
        loss.backward()
        setup.method.after_backward(setup.ctx)
        yield loss.item()


def test_options_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"gamma=0.0 .*positive"):
        Setup("mmpareto", gamma=0.0)
    with pytest.raises(ConfigError, match=r"magnitude='layer' .*tensor, encoder, none"):
        Setup("mmpareto", magnitude="layer")
