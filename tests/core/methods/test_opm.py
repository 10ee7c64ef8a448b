"""OPM against numbers worked by hand from its formulas, and what it promises."""

import pytest
import torch
import torch.nn.functional as F
from method_setup import NAMES, Setup

from dus_gym.discrepancy import true_class_probability
from dus_gym.errors import ConfigError
from dus_gym.methods.opm import drop_probabilities


def tensor(rows):
    return torch.tensor(rows, dtype=torch.double)


# -- by hand -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "base", "strength", "q"),
    [
        # .5 (1 + .5 tanh 1) and .5 (1 + .5 tanh .5)
        ([0.8, 0.4], 0.5, 0.5, [0.6903985, 0.0]),
        ([0.4, 0.6], 0.5, 0.5, [0.0, 0.6155293]),
        ([0.3, 0.3], 0.5, 0.5, [0.0, 0.0]),
        ([0.8, 0.4], 0.4, 0.0, [0.4, 0.0]),
        ([0.8, 0.4], 0.9, 1.0, [1.0, 0.0]),
    ],
)
def test_probabilities_by_hand(scores, base, strength, q):
    for kind in ("pairwise", "others", "weakest"):
        found = drop_probabilities(tensor(scores), base, strength, kind)
        torch.testing.assert_close(found, tensor(q), atol=1e-7, rtol=0.0)


def test_probabilities_of_three_by_hand():
    # ρ = 2.5, 1, .5 pairwise, 1.2, .375, .2222 over the others, 3, 1.5, 1 over the weakest.
    for kind, q in (
        ("pairwise", [0.5 * (1 + 0.5 * 0.9051483), 0.0, 0.0]),
        ("others", [0.5 * (1 + 0.5 * 0.1973753), 0.0, 0.0]),
        ("weakest", [0.5 * (1 + 0.5 * 0.9640276), 0.5 * (1 + 0.5 * 0.4621172), 0.0]),
    ):
        torch.testing.assert_close(
            drop_probabilities(tensor([0.6, 0.3, 0.2]), 0.5, 0.5, kind), tensor(q), atol=1e-7, rtol=0.0
        )


# -- what is dropped ---------------------------------------------------------------------------------


def dropped(setup, q, features):
    setup.ctx.epoch = 10
    return setup.method._dropped(setup.ctx, features, q)


@pytest.mark.parametrize("widths", [(8, 8), (8, 24)])
def test_features_are_zero_or_divided_by_the_share_that_stays(widths):
    n = 4000
    setup = Setup("opm", sizes=(n, n), width=widths, execution=1.0)
    found = dropped(setup, torch.tensor([0.5, 0.0]), [torch.ones(n, d) for d in widths])
    # θ = d_1 .5 / (d_1 + d_2): 1/4 and 1/8.
    scale = {8: 4 / 3, 24: 8 / 7}[widths[1]]
    assert torch.equal(found[1], torch.full((n, widths[1]), scale))
    kept = found[0][:, 0] > 0
    # Whole samples lose the modality.
    assert torch.equal(found[0], torch.where(kept, scale, 0.0).unsqueeze(1).expand(n, 8))
    assert kept.float().mean().item() == pytest.approx(0.5, abs=0.04)


def test_a_batch_drops_as_a_whole_or_not_at_all():
    setup = Setup("opm", sizes=(6, 6), execution=0.7)
    ones = [torch.ones(6, 8)] * 2
    touched = [not torch.equal(dropped(setup, torch.tensor([0.5, 0.0]), ones)[1], ones[1]) for _ in range(500)]
    assert sum(touched) / 500 == pytest.approx(0.7, abs=0.07)


# -- the loss ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(5, 5), (5, 5, 5)])
def test_the_loss_is_of_what_is_left_and_scores_are_of_what_there_was(sizes):
    # drop 1: whoever is ahead is dropped for sure.
    setup, m = Setup("opm", sizes=sizes, drop=1.0, execution=1.0, start_epoch=0), len(sizes)
    h = [setup.model.encode(j, x) for j, x in enumerate(setup.inputs)]
    head = setup.model.fused_head
    parts = [x @ head.weight[:, 8 * j : 8 * (j + 1)].T + head.bias / m for j, x in enumerate(h)]
    scores = [true_class_probability(part, setup.labels).mean().item() for part in parts]
    rho = [sum(s / o for k, o in enumerate(scores) if k != j) / (m - 1) for j, s in enumerate(scores)]
    gone = [r > 1 for r in rho]
    assert any(gone)
    rest = [torch.zeros_like(x) if lost else x / (1.0 - sum(gone) / m) for x, lost in zip(h, gone, strict=True)]
    expected = F.cross_entropy(head(torch.cat(rest, dim=1)), setup.labels)
    assert setup.losses() == [pytest.approx(expected.item(), rel=1e-5)]
    assert [setup.ctx.logged[f"q/{name}"].item() for name in NAMES[:m]] == [float(lost) for lost in gone]
    assert setup.recorder.finish()[0].rows == [pytest.approx(scores, rel=1e-5)]


@pytest.mark.parametrize(("epoch", "drops"), [(5, False), (6, True), (9, True), (10, False)])
def test_it_drops_between_its_first_and_last_epoch(epoch, drops):
    setup, plain = (Setup(name, sizes=(5, 5), **options) for name, options in (("opm", OPTIONS), ("joint", {})))
    setup.ctx.epoch = epoch
    assert (setup.losses() != plain.losses()) == drops
    assert (sum(float(setup.ctx.logged[f"q/{name}"]) for name in NAMES[:2]) > 0) == drops


OPTIONS = {"drop": 1.0, "execution": 1.0, "end_epoch": 9}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"drop": 1.5}, r"drop=1.5 .*\[0, 1\]"),
        ({"strength": -0.1}, r"strength=-0.1 .*at least 0"),
        ({"execution": -0.1}, r"execution=-0.1 .*\[0, 1\]"),
        ({"ratio": "sum"}, r"ratio='sum' .*pairwise, others, weakest"),
        ({"start_epoch": 9, "end_epoch": 8}, r"end_epoch=8 .*at least 9"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        Setup("opm", **options)
