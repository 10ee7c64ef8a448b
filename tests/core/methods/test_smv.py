"""SMV: the notes' numbers (section 10), which copies there are, and what masking leaves of a row."""

import copy
from itertools import permutations, product
from math import tanh

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from method_setup import NAMES, Setup

from dus_gym.batch import Batch
from dus_gym.methods import make_method
from dus_gym.methods.smv import copies, subset_logits, value_shares


def right(m, *sets):
    """Right from these sets of modalities (counted from 1) alone, for one sample."""
    return torch.tensor([[{j + 1 for j in range(m) if k >> j & 1} in sets] for k in range(1, 2**m)])


# -- the notes' numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("both", "one", "two", "contributions", "numbers"),
    [
        (1, 1, 1, [1.0, 1.0], [0, 0]),
        (1, 1, 0, [1.5, 0.5], [0, 1]),
        (1, 0, 0, [1.0, 1.0], [0, 0]),
        (0, 1, 0, [0.5, -0.5], [1, 3]),
        (0, 0, 0, [0.0, 0.0], [2, 2]),
    ],
)
def test_contributions_and_copies_of_two_modalities(both, one, two, contributions, numbers):
    # Columns are the sets {1}, {2}, {1, 2}.
    values = value_shares(torch.tensor([[one], [two], [both]], dtype=torch.bool))
    assert (values / 2).flatten().tolist() == contributions
    assert copies(values, 2).flatten().tolist() == numbers


def test_contributions_of_three_modalities():
    values = value_shares(right(3, {1}, {1, 2, 3})) / 6
    assert values.flatten().tolist() == pytest.approx([4 / 3, 5 / 6, 5 / 6])
    values = value_shares(right(3, {1}, {1, 2}, {1, 3}, {1, 2, 3})) / 6
    assert values.flatten().tolist() == pytest.approx([2.0, 0.5, 0.5])


@pytest.mark.parametrize("m", [2, 3])
def test_contributions_sum_to_the_value_of_all_modalities(m):
    every = torch.tensor(list(product([False, True], repeat=2**m - 1))).T
    values = value_shares(every)
    assert torch.equal(values.sum(0), every[-1].long() * m * (2 if m == 2 else 6))


def by_permutations(found, m):
    """Shapley values of one sample by their definition."""
    orders = list(permutations(range(m)))
    shares = np.zeros(m)
    for order in orders:
        members, before = 0, 0.0
        for j in order:
            members |= 1 << j
            after = float(found[members - 1]) * members.bit_count()
            shares[j] += after - before
            before = after
    return shares / len(orders)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_contributions_are_means_over_all_orders(m):
    drawn = torch.rand(2**m - 1, 20, generator=torch.Generator().manual_seed(0)) < 0.5
    found = value_shares(drawn) / [0, 0, 2, 6, 24][m]
    for i in range(20):
        assert found[:, i].tolist() == pytest.approx(by_permutations(drawn[:, i], m))


@pytest.mark.parametrize(
    ("sixths", "number"),
    [(12, 0), (8, 0), (6, 0), (5, 0), (4, 1), (3, 1), (2, 1), (1, 2), (0, 2), (-1, 2), (-2, 3), (-3, 3), (-5, 4)],
)
def test_copies_follow_the_nearest_half(sixths, number):
    assert copies(torch.tensor([[sixths]]), 3).item() == number


def test_a_quarter_is_rounded_up():
    # Four modalities have twenty-fourths: 6/24 is as far from 0 as from .5.
    assert copies(torch.tensor([6, 18, -6]), 4).tolist() == [1, 0, 2]


@pytest.mark.parametrize("m", [2, 3])
def test_every_sets_logits_are_those_of_the_head_with_the_others_zero(m):
    setup = Setup("smv", sizes=(5,) * m)
    with torch.no_grad():
        h = [setup.model.encode(j, x) for j, x in enumerate(setup.inputs)]
        zeros = [torch.zeros_like(x[:1]) for x in h]
        found = subset_logits(setup.model.additive_parts(h), setup.model.additive_parts(zeros))
        for k in range(1, 2**m):
            shown = [x if k >> j & 1 else torch.zeros_like(x) for j, x in enumerate(h)]
            torch.testing.assert_close(found[k - 1], setup.model.fused(shown))


# -- the valuation -----------------------------------------------------------------------------------


def valued(m=2, n=80, masking="features", epoch=50, **options):
    """The method before an expansion, and what is right from every set, with a loop."""
    setup = Setup("smv", sizes=(n,) * m, c=3, masking=masking, **options)
    setup.ctx.epoch = epoch
    return setup


def right_by_hand(setup, masking):
    m, found = len(setup.inputs), []
    with torch.no_grad():
        for k in range(1, 2**m):
            h = []
            for j, x in enumerate(setup.inputs):
                if k >> j & 1:
                    h.append(setup.model.encode(j, x))
                elif masking == "features":
                    h.append(torch.zeros_like(setup.model.encode(j, x)))
                else:
                    h.append(setup.model.encode(j, torch.zeros_like(x)))
            found.append(setup.model.fused(h).argmax(1) == setup.labels)
    return torch.stack(found)


@pytest.mark.parametrize("masking", ["features", "inputs"])
@pytest.mark.parametrize("m", [2, 3])
def test_a_sample_is_copied_in_each_modality_that_contributes_little(m, masking):
    setup = valued(m, masking=masking)
    ((indices, keep),) = setup.method.expand(setup.ctx)
    found = right_by_hand(setup, masking)
    assert not torch.equal(found, right_by_hand(setup, "features" if masking == "inputs" else "inputs"))
    expected = []
    for i in range(80):
        for j, phi in enumerate(by_permutations(found[:, i], m)):
            expected += [(i, j)] * max(0, 2 - int(np.floor(2 * phi + 0.5 + 1e-9)))
    assert expected
    assert keep.sum(axis=1).tolist() == [1] * len(indices)
    assert sorted(zip(indices.tolist(), keep.argmax(axis=1).tolist(), strict=True)) == sorted(expected)
    for j, name in enumerate(NAMES[:m]):
        assert setup.ctx.logged[f"copies/{name}"] == sum(1 for _, k in expected if k == j)
        mean = np.mean([by_permutations(found[:, i], m)[j] for i in range(80)])
        assert setup.ctx.logged[f"contribution/{name}"].item() == pytest.approx(mean)


def test_nothing_to_copy_replaces_the_copies_of_before(toy_run):
    run = toy_run(method="smv", epochs=4)
    run.train([8, 8], 5)
    run._samplers[0].expand(np.array([1]), np.array([[True, False]]))
    run.method._valuate = lambda ctx: torch.full((2, 40), 2)
    run.train([8, 8], 5)
    assert run._samplers[0].streams[0].num_samples == 40
    assert run.logged["copies/a"] == run.logged["copies/b"] == 0.0


@pytest.mark.parametrize(("growth", "copies_a_sample"), [("linear", 0.8), ("tanh", 0.6640368), ("power", 2 * 0.4**1.5)])
def test_growth_by_hand(growth, copies_a_sample):
    # 2/3 of a gap of 0.6 is 0.4; α = 2 stands outside the power: 0.5060, and not 0.8^1.5 = 0.7155.
    grown = make_method("smv", {"growth": growth, "alpha": 2.0}).options.grown(0.6)
    assert grown == pytest.approx(copies_a_sample, rel=1e-6)


@pytest.mark.parametrize(
    ("growth", "of"),
    [("linear", lambda g: 0.6 * g), ("tanh", lambda g: tanh(0.6 * g)), ("power", lambda g: 0.6 * g**1.5)],
)
@pytest.mark.parametrize("m", [2, 3])
def test_the_modality_level_copies_samples_of_the_one_behind(m, growth, of):
    setup = valued(m, level="modality", part=1.0, growth=growth, alpha=0.6, n=200)
    values = torch.ones(m, 200, dtype=torch.int64)
    values[0] = 4 if m == 2 else 12
    # Means of 2 and 1/2, or 2 and 1/6 and 1/6: the gap is 3/2 or 11/6.
    values[1:-1] += 1
    setup.method._valuate = lambda ctx: values
    ((indices, keep),) = setup.method.expand(setup.ctx)
    gap = 1.5 if m == 2 else 11 / 6
    assert len(indices) == int(of(2 / 3 * gap) * 200)
    assert keep.tolist() == [[False] * (m - 1) + [True]] * len(indices)
    assert 0 <= indices.min() < indices.max() < 200
    assert len(set(indices.tolist())) < len(indices)


def test_the_modality_level_judges_by_a_part_drawn_anew():
    setup = valued(level="modality", part=0.25, n=40)
    values = torch.zeros(2, 40, dtype=torch.int64)
    values[0, :10] = 4
    setup.method._valuate = lambda ctx: values
    rng = copy.deepcopy(setup.ctx.rngs[0])
    numbers = set()
    for _ in range(6):
        rows = rng.permutation(40)[:10]
        number = int(2 / 3 * 2 * (rows < 10).mean() * 40)
        rng.integers(40, size=number)
        ((indices, _),) = setup.method.expand(setup.ctx)
        assert len(indices) == number
        numbers.add(number)
    assert len(numbers) > 1


def test_copies_begin_after_the_warm_up_and_not_after_the_last_epoch(toy_run):
    run = toy_run(method="smv", method_options={"warm_up": 0.3}, epochs=10, iterations=2)
    entries = []
    for _ in range(10):
        run.train([8, 8], 2)
        entries.append(run._samplers[0].streams[0].num_samples)
    assert entries[:2] == [40, 40]
    assert min(entries[2:]) > 40
    assert entries[8] == entries[9]


def test_without_a_warm_up_the_first_epoch_has_no_copies_all_the_same(toy_run):
    run = toy_run(method="smv", method_options={"warm_up": 0.0}, epochs=3, iterations=2)
    run.train([8, 8], 1)
    assert run._ctx.batch.keep is None
    run.train([8, 8], 2)
    assert run._ctx.batch.keep is not None


# -- masked rows -------------------------------------------------------------------------------------


KEEP = torch.tensor([[True, True], [True, False], [False, True], [True, True], [False, True]])


def masked(masking, keep=KEEP):
    setup = Setup("smv", sizes=(5, 5), masking=masking)
    labels = tuple(setup.labels for _ in range(2))
    setup.begin = lambda: setup.ctx.begin(Batch(tuple(setup.inputs), labels, 5, keep), setup.recorder)
    setup.begin()
    return setup


def by_hand(setup, masking, keep=KEEP):
    rows = []
    for i, shown in enumerate(keep.tolist()):
        h = []
        for j, x in enumerate(setup.inputs):
            x = x[i : i + 1]
            h.append(setup.model.encode(j, x if shown[j] or masking == "features" else torch.zeros_like(x)))
            if not shown[j] and masking == "features":
                h[-1] = torch.zeros_like(h[-1])
        rows.append(setup.model.fused(h))
    return torch.cat(rows)


@pytest.mark.parametrize("masking", ["features", "inputs"])
def test_the_loss_does_not_see_what_is_masked(masking):
    setup = masked(masking)
    logits = by_hand(setup, masking)
    expected = F.cross_entropy(logits, setup.labels).item()
    before = setup.gradients("encoder/one", "encoder/two", "fused")
    setup.inputs = [torch.where(k[:, None], x, 9.0) for x, k in zip(setup.inputs, KEEP.unbind(1), strict=True)]
    for one, other in zip(before, setup.gradients("encoder/one", "encoder/two", "fused"), strict=True):
        assert torch.equal(one, other)
    setup.begin()
    assert setup.losses() == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.parametrize("masking", ["features", "inputs"])
def test_an_unmasked_batch_is_joint_training(masking):
    smv, joint = masked(masking, torch.ones(5, 2, dtype=torch.bool)), Setup("joint", sizes=(5, 5))
    plain = Setup("smv", sizes=(5, 5), masking=masking)
    assert smv.losses() == joint.losses() == plain.losses()
    for one, other in zip(smv.model.parameters(), joint.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_score_is_of_all_rows_where_features_are_masked():
    setup = masked("features")
    parts = setup.model.additive_parts([setup.model.encode(j, x) for j, x in enumerate(setup.inputs)])
    expected = [z.softmax(1).gather(1, setup.labels[:, None]).mean().item() for z in parts]
    setup.losses()
    assert setup.recorder.finish()[0].rows == [pytest.approx(expected, rel=1e-5)]


def test_masking_works_on_inputs_of_any_shape_and_type():
    from dus_gym.methods.smv import _masked

    keep = torch.tensor([True, False])
    for rows in (torch.ones(2, 3), torch.ones(2, 1, 4, 4), torch.ones(2, 5, dtype=torch.int64)):
        found = _masked(rows, keep)
        assert found.dtype == rows.dtype
        assert torch.equal(found[0], rows[0])
        assert not found[1].any()
