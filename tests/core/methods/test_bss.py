"""BSS against numbers worked by hand from its authors' program, and what it promises."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from method_setup import Setup, logits_of

from dus_gym.errors import ConfigError
from dus_gym.methods.bss import balance, drawn_order, share_of_samples, similarity


def test_similarity_by_hand():
    # (.8 · .6 + .2 · .4) / (√.68 √.52) = .56 / .5946427
    p, q = logits_of([0.8, 0.2]), logits_of([0.6, 0.4])
    assert similarity([p, q]).item() == pytest.approx(0.9417420)
    # Of three, two pairs differ and one is alike: (2 · .9417420 + 1) / 3.
    assert similarity([p, q, p]).item() == pytest.approx(0.9611613)


def test_balance_by_hand():
    similarities, losses = torch.tensor([0.2, 0.6, 1.0, 0.4]), torch.tensor([2.0, 1.0, 0.0, 0.0])
    # To [0, 1]: (0, .5, 1, .25) less (1, .5, 0, 0).
    torch.testing.assert_close(balance(similarities, losses), torch.tensor([-1.0, 0.0, 1.0, 0.25]))
    # Runs are scaled each by itself, and equal values prefer nothing.
    both = balance(torch.stack([similarities, torch.ones(4)]), torch.stack([losses, torch.ones(4)]))
    torch.testing.assert_close(both, torch.tensor([[-1.0, 0.0, 1.0, 0.25], [0.0, 0.0, 0.0, 0.0]]))


@pytest.mark.parametrize(
    ("epoch", "expected"),
    # √(.99 / 40 + .01), √(.495 + .01), √(.99 + .01), and no more.
    [(0, 0.1864135), (19, 0.7106335), (39, 1.0), (90, 1.0)],
)
def test_the_share_of_samples_by_hand(epoch, expected):
    assert share_of_samples(epoch, 40, 0.1) == pytest.approx(expected, abs=1e-6)


def test_orders_are_drawn_without_replacement_in_proportion_to_the_weights():
    rng, counts = np.random.default_rng(0), {}
    for _ in range(6000):
        order = tuple(drawn_order(np.array([1.0, 2.0, 3.0]), rng).tolist())
        counts[order] = counts.get(order, 0) + 1
    # w_a / 6 · w_b / (6 - w_a): 3/6 · 2/3, 2/6 · 3/4, 3/6 · 1/3, 1/6 · 3/5, 2/6 · 1/4, 1/6 · 2/5.
    expected = {(2, 1, 0): 1 / 3, (1, 2, 0): 1 / 4, (2, 0, 1): 1 / 6, (0, 2, 1): 1 / 10, (1, 0, 2): 1 / 12}
    expected[0, 1, 2] = 1 / 15
    for order, share in expected.items():
        # Four standard deviations.
        assert counts[order] / 6000 == pytest.approx(share, abs=4 * (share * (1 - share) / 6000) ** 0.5)


@pytest.mark.parametrize("sizes", [(4, 4), (3, 5), (5, 3, 4)])
def test_the_loss_is_the_baselines(sizes):
    found = Setup("bss", sizes=sizes, fused_weight=0.1, unimodal_weight=0.9).losses()
    assert found == Setup("baseline", sizes=sizes, fused_weight=0.1, unimodal_weight=0.9).losses()


def ordered(setup, epoch=0):
    setup.ctx.epoch = epoch
    return setup.method.order(setup.ctx)[0]


def expected_balance(setup, fused, unimodal):
    """Return the balance of every sample, by PyTorch's own functions, one pair after another."""
    h = [setup.model.encode(j, x) for j, x in enumerate(setup.inputs)]
    z = [setup.model.unimodal(j, x) for j, x in enumerate(h)]
    loss = fused * F.cross_entropy(setup.model.fused(h), setup.labels, reduction="none")
    loss = loss + unimodal * sum(F.cross_entropy(of, setup.labels, reduction="none") for of in z)
    p = [of.softmax(dim=1) for of in z]
    pairs = [F.cosine_similarity(p[a], p[b]) for a in range(len(p)) for b in range(a)]
    alike = sum(pairs) / len(pairs)
    scaled = [(of - of.min()) / (of.max() - of.min()) for of in (alike, loss)]
    return (scaled[0] - scaled[1]).detach()


@pytest.mark.parametrize("m", [2, 3])
def test_the_heuristic_shows_the_most_balanced_samples_and_more_of_them_from_epoch_to_epoch(m):
    setup = Setup("bss", sizes=(20,) * m, scheduler="heuristic", fused_weight=0.5, growth=0.4)
    ranked = expected_balance(setup, 0.5, 1.0).argsort(descending=True).tolist()
    # √(.99 / 40 · (t + 1) + .01) of 20 samples, rounded down: 3, 14, 20.
    for epoch, count in ((0, 3), (19, 14), (39, 20), (60, 20)):
        assert sorted(ordered(setup, epoch).tolist()) == sorted(ranked[:count])
        assert setup.ctx.logged["samples"] == count
        # Measured once: what the heads predict later moves nothing.
        setup.zero_heads()


def test_the_learned_order_has_every_sample_once_and_balanced_ones_earlier():
    setup = Setup("bss", sizes=(20, 20))
    scores = expected_balance(setup, 1.0, 1.0).numpy()
    places = np.zeros(20)
    for _ in range(400):
        order = ordered(setup)
        assert sorted(order.tolist()) == list(range(20))
        places[order] += np.arange(20) / 400
    assert np.corrcoef(places, scores)[0, 1] < -0.8


@pytest.mark.parametrize("scheduler", ["learned", "heuristic"])
def test_an_epoch_draws_its_order(toy_run, scheduler, monkeypatch):
    run = toy_run(method="bss", method_options={"scheduler": scheduler, "growth": 1.0}, epochs=4)
    told, order = [], run.method.order

    def noted(ctx):
        told.append(order(ctx)[0])
        return [told[-1]]

    monkeypatch.setattr(run.method, "order", noted)
    before = np.zeros(40, dtype=np.int64)
    for _ in range(4):
        # Five iterations of at most 8 samples.
        run.train([8, 5], run.iterations_per_epoch)
        seen = run._samplers[0].draws[0] - before
        before = run._samplers[0].draws[0].copy()
        if scheduler == "learned":
            assert (seen == 1).all()
        else:
            assert set(np.flatnonzero(seen)) == set(told[-1].tolist())
            assert seen.max() - seen[told[-1]].min() <= 1
    # √((1 - .01) (t + 1) / 4 + .01) of 40 samples.
    assert [len(of) for of in told] == ([40] * 4 if scheduler == "learned" else [20, 28, 34, 40])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheduler": "cl"}, r"scheduler='cl' .*learned, heuristic"),
        ({"start": 0.0}, r"start=0.0 .*\(0, 1\]"),
        ({"growth": 1.5}, r"growth=1.5 .*\(0, 1\]"),
        ({"fused_weight": -1.0}, r"fused_weight=-1.0 .*at least 0"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        Setup("bss", **options)
