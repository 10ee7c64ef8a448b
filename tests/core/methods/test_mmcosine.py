"""MMCosine against numbers worked by hand from the paper's formula, and what it promises."""

import pytest
import torch
import torch.nn.functional as F
from method_setup import Setup

from dus_gym.errors import ConfigError
from dus_gym.methods.mmcosine import cosine_logits


def tensor(rows):
    return torch.tensor(rows, dtype=torch.double)


def test_logits_and_loss_by_hand():
    # |(3, 4)| = 5 and the class weights' lengths are divided out: cosines .6 and .8, then 1/√2 and 0.
    one = cosine_logits(tensor([[3.0, 4.0]]), tensor([[1.0, 0.0], [0.0, 2.0]]), 10.0)
    two = cosine_logits(tensor([[1.0, 0.0]]), tensor([[1.0, 1.0], [0.0, -1.0]]), 10.0)
    torch.testing.assert_close(one, tensor([[6.0, 8.0]]))
    torch.testing.assert_close(one + two, tensor([[13.071068, 8.0]]), atol=1e-6, rtol=0.0)
    # ln(1 + exp(8 - 13.071068))
    assert F.cross_entropy(one + two, torch.tensor([0])).item() == pytest.approx(0.0062561050, abs=1e-9)


def test_lengths_neither_change_logits_nor_get_a_gradient():
    generator = torch.Generator().manual_seed(0)
    h, weight = (torch.randn(n, 5, generator=generator, dtype=torch.double, requires_grad=True) for n in (4, 3))
    logits = cosine_logits(h, weight, 10.0)
    torch.testing.assert_close(cosine_logits(7.0 * h, 0.01 * weight, 10.0), logits)
    F.cross_entropy(logits, torch.tensor([0, 2, 1, 1])).backward()
    for values in (h, weight):
        assert values.grad.abs().max() > 1e-3
        torch.testing.assert_close((values * values.grad).sum(dim=1), torch.zeros(len(values)).double())


def test_zeros_have_a_cosine_of_zero():
    assert cosine_logits(torch.zeros(1, 2), torch.ones(3, 2), 10.0).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("sizes", [(4, 4), (4, 4, 4)])
def test_the_loss_is_of_the_summed_cosines_and_biases_have_no_part(sizes):
    setup = Setup("mmcosine", sizes=sizes, scale=3.0)
    total = []
    for i, y in enumerate(setup.labels):
        z = torch.zeros(6)
        for j, x in enumerate(setup.inputs):
            h = setup.model.encode(j, x[i : i + 1])[0]
            z += torch.stack([3.0 * (w @ h) / (w.norm() * h.norm()) for w in setup.model.unimodal_heads[j].weight])
        total.append(-z.log_softmax(0)[y])
    setup.begin()
    (loss,) = list(setup.method.substeps(setup.ctx))
    assert loss.item() == pytest.approx(torch.stack(total).mean().item(), rel=1e-5)
    loss.backward()
    assert all(head.bias.grad is None for head in setup.model.unimodal_heads)


def test_no_loss_is_below_the_bound_that_the_scale_sets():
    # All cosines of the true class 1, all others -1: ln(1 + (c - 1) exp(-2 m s)) for c = 3, m = 2, s = 1.
    best = 2.0 * tensor([[1.0, -1.0, -1.0]])
    assert F.cross_entropy(best, torch.tensor([0])).item() == pytest.approx(0.035976, abs=1e-6)


def test_a_scale_that_is_not_positive_is_refused():
    with pytest.raises(ConfigError, match=r"scale=0.0 .*positive"):
        Setup("mmcosine", scale=0.0)
