"""CML against numbers worked by hand from its formulas, and what it promises."""

import math
from itertools import pairwise, permutations

import pytest
import torch
from method_setup import Setup

from dus_gym.errors import ConfigError
from dus_gym.methods.cml import chain_logits, confidence_penalty


def logits_of(*rows):
    """Logits whose probabilities are the rows."""
    return torch.tensor(rows, dtype=torch.double).log()


# -- by hand -----------------------------------------------------------------------------------------

LARGER = logits_of([0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.3, 0.6, 0.1], [0.3, 0.6, 0.1], [0.7, 0.2, 0.1])
SMALLER = logits_of([0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1])
"""Right and right, right and wrong, wrong and right, both wrong, and a confidence that falls; the class is 0."""


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("all", [0.2, 0.2, 0.2, 0.2, 0.0]),
        ("cpm", [0.2, 0.2, 0.0, 0.2, 0.0]),
        ("miwae", [0.2, 0.2, 0.0, 0.2, 0.0]),
    ],
)
def test_penalties_by_hand(pairs, expected):
    found = confidence_penalty(LARGER, SMALLER, torch.zeros(5, dtype=torch.long), pairs)
    assert found.tolist() == pytest.approx(expected)


def test_gradients_of_the_penalty_by_hand():
    # d max p / d z_k = p_max (1[k is it] - p_k): -.6 (.4, -.3, -.1) to the larger set, .8 (.2, -.1, -.1) to the other.
    larger, smaller = logits_of([0.6, 0.3, 0.1]).requires_grad_(), logits_of([0.8, 0.1, 0.1]).requires_grad_()
    confidence_penalty(larger, smaller, torch.tensor([0]), "all").sum().backward()
    assert larger.grad[0].tolist() == pytest.approx([-0.24, 0.18, 0.06])
    assert smaller.grad[0].tolist() == pytest.approx([0.16, -0.08, -0.08])


def test_where_both_are_wrong_only_the_smaller_set_learns_under_miwae():
    for pairs, reached in (("all", True), ("cpm", True), ("miwae", False)):
        larger, smaller = logits_of([0.3, 0.6, 0.1]).requires_grad_(), logits_of([0.1, 0.8, 0.1]).requires_grad_()
        confidence_penalty(larger, smaller, torch.tensor([0]), pairs).sum().backward()
        assert bool(larger.grad.abs().max() > 0) == reached
        assert smaller.grad[0].tolist() == pytest.approx([-0.08, 0.16, -0.08])


def test_modalities_are_removed_in_the_order_of_their_ranks():
    present = [torch.full((2, 1), 10.0**j) for j in range(3)]
    absent = [torch.full((1, 1), 0.5)] * 3
    ranks = torch.tensor([[0, 1, 2], [2, 0, 1]])
    found = chain_logits(present, absent, ranks)
    assert [logits.flatten().tolist() for logits in found] == [[111.0, 111.0], [110.5, 101.5], [101.0, 2.0]]


# -- the loss ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", ["all", "cpm", "miwae"])
@pytest.mark.parametrize("sizes", [(3, 3), (3, 3, 3)])
def test_the_mean_over_many_draws_is_the_mean_over_all_orders(sizes, pairs):
    setup, m = Setup("cml", sizes=sizes, weight=2.0, pairs=pairs), len(sizes)
    h = [setup.model.encode(j, x).detach() for j, x in enumerate(setup.inputs)]
    expected = []
    for i, y in enumerate(setup.labels.tolist()):
        for order in permutations(range(m)):
            probabilities = []
            for k in range(m):
                row = torch.cat([torch.zeros(8) if j in order[:k] else h[j][i] for j in range(m)])
                probabilities.append(setup.model.fused_head(row).softmax(0).tolist())
            loss = sum(-math.log(p[y]) for p in probabilities) / m
            for p, q in pairwise(probabilities):
                right, right_after = p.index(max(p)) == y, q.index(max(q)) == y
                if pairs == "all" or right or not right_after:
                    loss += 2.0 * max(0.0, max(q) - max(p))
            expected.append(loss)
    with torch.no_grad():
        found = [next(setup.method.terms(setup.ctx)).item() for _ in range(3000)]
    deviation = torch.tensor(found).std().item() / math.sqrt(len(found))
    assert sum(found) / len(found) == pytest.approx(sum(expected) / len(expected), abs=5.0 * deviation + 1e-5)
    assert deviation > 0.0


def test_orders_are_drawn_by_sample():
    setup = Setup("cml", sizes=(64, 64, 64))
    ranks = setup.ctx.paired_uniform(3).argsort(dim=-1).argsort(dim=-1)
    assert {tuple(row) for row in ranks.tolist()} == set(permutations(range(3)))


def test_without_weight_it_is_the_mean_loss_of_the_sets():
    setup = Setup("cml", sizes=(3, 3), weight=0.0).zero_heads()
    assert setup.losses() == [pytest.approx(math.log(6.0), rel=1e-6)]


def test_options_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"weight=-1.0 .*at least 0"):
        Setup("cml", weight=-1.0)
    with pytest.raises(ConfigError, match=r"pairs='released' .*all, cpm, miwae"):
        Setup("cml", pairs="released")
