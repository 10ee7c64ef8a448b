"""Index streams: nothing is left out, nothing depends on how it is asked for, everything is counted."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dus_gym.batch import Batch, BatchSampler, IndexStream, to_device
from dus_gym.seeding import RunSeeds
from dus_gym.state import load_state, save_state

properties = settings(deadline=None, derandomize=True, max_examples=60)


def sampler_of(n=20, m=2, pairing="prefix", seed=0):
    seeds = RunSeeds(seed)
    return BatchSampler(n, m, pairing, [seeds.generator(f"order/{j}") for j in range(m)])


def joined(blocks):
    """Several draws of one modality as one array."""
    return np.concatenate([block.ravel() for block in blocks])


# -- one stream ------------------------------------------------------------------------------------


@properties
@given(st.integers(1, 30), st.lists(st.integers(0, 50), min_size=1, max_size=12))
def test_a_stream_is_one_permutation_after_another_whatever_is_asked_at_once(n, counts):
    stream = IndexStream(n, np.random.default_rng(3))
    drawn = np.concatenate([stream.take(count) for count in counts])
    assert len(drawn) == sum(counts)
    rng = np.random.default_rng(3)
    expected = np.concatenate([rng.permutation(n) for _ in range(sum(counts) // n + 1)])
    np.testing.assert_array_equal(drawn, expected[: len(drawn)])


def test_every_sample_comes_once_before_any_comes_twice_and_the_seam_drops_none():
    stream = IndexStream(10, np.random.default_rng(0))
    drawn = np.concatenate([stream.take(4) for _ in range(15)])  # 4 does not divide 10
    for start in range(0, 60, 10):
        assert sorted(drawn[start : start + 10]) == list(range(10))
    assert drawn[:10].tolist() != drawn[10:20].tolist(), "each permutation is a new one"


def test_a_take_may_span_several_permutations():
    drawn = IndexStream(3, np.random.default_rng(0)).take(11)
    assert np.bincount(drawn, minlength=3).min() == 3
    assert len(drawn) == 11


def test_a_stream_continues_from_its_state_to_the_bit():
    stream = IndexStream(7, np.random.default_rng(1))
    stream.take(10)
    state = stream.state_dict()
    ahead = stream.take(40)
    other = IndexStream(7, np.random.default_rng(99))
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.take(40), ahead)
    third = IndexStream(7, np.random.default_rng(99))
    third.load_state_dict(state)  # the state was not used up
    np.testing.assert_array_equal(third.take(40), ahead)


# -- the sampler -----------------------------------------------------------------------------------


@properties
@given(
    st.sampled_from(["prefix", "independent"]),
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
)
def test_iterations_drawn_at_once_are_those_drawn_one_by_one(pairing, sizes, chunks):
    m = len(sizes)
    one_by_one, at_once = sampler_of(13, m, pairing), sampler_of(13, m, pairing)
    single = [one_by_one.draw(sizes, 1) for _ in range(sum(chunks))]
    chunked = [at_once.draw(sizes, k) for k in chunks]
    for j in range(m):
        found = np.concatenate([block[j] for block in chunked])
        assert found.shape == (sum(chunks), sizes[j])
        np.testing.assert_array_equal(found, np.concatenate([block[j] for block in single]))


def test_with_prefix_pairing_every_modality_takes_the_start_of_the_same_rows():
    small, large, middle = sampler_of(50, 3).draw([4, 9, 6], 5)
    np.testing.assert_array_equal(small, large[:, :4])
    np.testing.assert_array_equal(middle, large[:, :6])
    # The widest modality sees every sample once before any twice.
    assert len(set(large.ravel())) == 45


def test_with_prefix_pairing_an_iteration_uses_up_the_largest_size():
    sampler = sampler_of(10, 2)
    whole = IndexStream(10, RunSeeds(0).generator("order/0")).take(14)
    first = sampler.draw([3, 8], 1)
    second = sampler.draw([6, 2], 1)
    np.testing.assert_array_equal(first[1][0], whole[:8])
    np.testing.assert_array_equal(second[0][0], whole[8:])
    np.testing.assert_array_equal(second[1][0], whole[8:10])


def test_with_independent_pairing_every_modality_has_a_stream_of_its_own():
    sampler = sampler_of(10, 2, "independent")
    drawn = [sampler.draw([5, 2], 1) for _ in range(10)]
    first, second = joined([d[0] for d in drawn]), joined([d[1] for d in drawn])
    for stream in (first, second):
        for start in range(0, len(stream), 10):
            assert sorted(stream[start : start + 10]) == list(range(10))
    assert first[:20].tolist() != second.tolist()
    # A modality's order does not depend on the other's sizes.
    alone = sampler_of(10, 2, "independent")
    np.testing.assert_array_equal(joined([alone.draw([9, 2], 1)[1] for _ in range(10)]), second)


@pytest.mark.parametrize("pairing", ["prefix", "independent"])
def test_the_seed_alone_decides_the_order(pairing):
    def run(seed):
        sampler = sampler_of(30, 2, pairing, seed)
        return [sampler.samples_of(sampler.draw(sizes, 3)) for sizes in ([4, 8], [6, 6], [11, 1])]

    one, same, other = run(0), run(0), run(1)
    for a, b in zip(one, same, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
    assert one[0][1].tolist() != other[0][1].tolist()


def test_draws_and_coverage_are_counted_exactly():
    sampler = sampler_of(20, 2)
    assert sampler.coverage() == [0.0, 0.0]
    counted = [np.zeros(20, dtype=int), np.zeros(20, dtype=int)]
    for sizes, iterations in [([2, 5], 1), ([3, 5], 2), ([8, 1], 3)]:
        for j, samples in enumerate(sampler.samples_of(sampler.draw(sizes, iterations))):
            np.add.at(counted[j], samples.ravel(), 1)
            np.testing.assert_array_equal(sampler.draws[j], counted[j])
    assert sampler.coverage() == [(c > 0).mean() for c in counted]
    assert sampler.draws.sum(axis=1).tolist() == [2 + 6 + 24, 5 + 10 + 3]


def test_an_index_is_counted_as_often_as_one_call_draws_it():
    sampler = sampler_of(3, 1)
    sampler.samples_of(sampler.draw([9], 1))
    assert sampler.draws.tolist() == [[3, 3, 3]]
    assert sampler.coverage() == [1.0]


def test_drawing_without_asking_for_the_samples_counts_nothing():
    sampler = sampler_of()
    sampler.draw([3, 3], 4)
    assert sampler.draws.sum() == 0


# -- copies ----------------------------------------------------------------------------------------


def test_copies_are_drawn_masked_and_counted_on_their_originals():
    sampler = sampler_of(6, 2)
    sampler.expand(np.array([4, 4, 1]), np.array([[True, False], [False, True], [True, False]]))
    positions = sampler.draw([9, 9], 1)
    assert sorted(positions[0][0]) == list(range(9)), "one permutation now holds the copies too"
    samples = sampler.samples_of(positions)
    assert sorted(samples[0][0]) == [0, 1, 1, 2, 3, 4, 4, 4, 5]
    np.testing.assert_array_equal(samples[0], samples[1])
    assert sampler.draws.tolist() == [[1, 2, 1, 1, 2, 1], [1, 1, 1, 1, 2, 1]], "not for the modality a copy masks"
    keep = sampler.keep_of(positions[0])
    assert keep.shape == (1, 9, 2)
    by_position = dict(zip(positions[0][0].tolist(), keep[0].tolist(), strict=True))
    assert [by_position[i] for i in range(6)] == [[True, True]] * 6
    assert [by_position[i] for i in range(6, 9)] == [[True, False], [False, True], [True, False]]


def test_without_copies_nothing_is_masked():
    sampler = sampler_of()
    positions = sampler.draw([4, 4], 1)
    assert sampler.keep_of(positions[0]) is None
    np.testing.assert_array_equal(sampler.samples_of(positions)[0], positions[0])


def test_new_copies_replace_those_of_before():
    sampler = sampler_of(5, 2)
    sampler.expand(np.array([0, 0, 0]), np.zeros((3, 2), dtype=bool))
    sampler.draw([3, 3], 1)
    sampler.expand(np.array([2]), np.array([[False, True]]))
    positions = sampler.draw([6, 6], 2)[0]
    for row in positions:
        assert sorted(sampler.samples_of([row, row])[0]) == [0, 1, 2, 2, 3, 4]
    assert (~sampler.keep_of(positions)).sum() == 2  # one masked modality in each of two permutations


def test_no_copies_is_the_plain_training_set_again():
    sampler = sampler_of(5, 2)
    sampler.expand(np.array([1, 2]), np.zeros((2, 2), dtype=bool))
    sampler.expand(np.empty(0, dtype=np.int64), np.empty((0, 2), dtype=bool))
    positions = sampler.draw([5, 5], 1)
    assert sorted(sampler.samples_of(positions)[0][0]) == list(range(5))
    assert sampler.keep_of(positions[0]).all()


def test_every_stream_of_an_independent_sampler_is_expanded():
    sampler = sampler_of(4, 2, "independent")
    sampler.expand(np.array([3, 3]), np.ones((2, 2), dtype=bool))
    for samples in sampler.samples_of(sampler.draw([6, 6], 1)):
        assert sorted(samples[0]) == [0, 1, 2, 3, 3, 3]


# -- state -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("expanded", [False, True])
@pytest.mark.parametrize("pairing", ["prefix", "independent"])
def test_a_sampler_continues_to_the_bit_through_a_file(tmp_path, pairing, expanded):
    sampler = sampler_of(11, 2, pairing)
    sampler.samples_of(sampler.draw([3, 7], 4))
    if expanded:
        sampler.expand(np.array([2, 9, 9]), np.array([[True, False], [False, True], [True, True]]))
        sampler.samples_of(sampler.draw([5, 2], 3))
    save_state(tmp_path / "state", "checkpoint", sampler.state_dict())
    resumed = sampler_of(11, 2, pairing, seed=5)
    resumed.load_state_dict(load_state(tmp_path / "state", "checkpoint"))
    for sizes, iterations in [([4, 4], 1), ([2, 9], 5), ([6, 1], 2)]:
        ours, theirs = sampler.draw(sizes, iterations), resumed.draw(sizes, iterations)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(sampler.samples_of(ours), resumed.samples_of(theirs), strict=True):
            np.testing.assert_array_equal(a, b)
        keep, other = sampler.keep_of(ours[0]), resumed.keep_of(theirs[0])
        assert (keep is None) == (other is None) == (not expanded)
        if keep is not None:
            np.testing.assert_array_equal(keep, other)
    np.testing.assert_array_equal(sampler.draws, resumed.draws)
    assert sampler.coverage() == resumed.coverage()


def test_a_state_from_before_the_copies_takes_them_away():
    sampler = sampler_of(6, 2)
    sampler.draw([2, 4], 1)
    before = sampler.state_dict()
    ahead = sampler.draw([6, 3], 3)
    sampler.expand(np.array([0, 1]), np.zeros((2, 2), dtype=bool))
    sampler.samples_of(sampler.draw([8, 8], 2))
    sampler.load_state_dict(before)
    again = sampler.draw([6, 3], 3)
    np.testing.assert_array_equal(again[0], ahead[0])
    assert sampler.keep_of(again[0]) is None
    assert sampler.draws.sum() == 0


def test_a_state_is_a_copy():
    sampler = sampler_of(6, 2)
    sampler.expand(np.array([0]), np.ones((1, 2), dtype=bool))
    state = sampler.state_dict()
    sampler.samples_of(sampler.draw([5, 5], 4))
    sampler.expand(np.array([3, 3]), np.zeros((2, 2), dtype=bool))
    assert state["draws"].sum() == 0
    assert state["expanded"]["entries"].tolist() == [0, 1, 2, 3, 4, 5, 0]
    resumed = sampler_of(6, 2, seed=1)
    resumed.load_state_dict(state)
    resumed.samples_of(resumed.draw([5, 5], 4))
    assert state["draws"].sum() == 0, "a state can be loaded twice"


# -- the batch itself ------------------------------------------------------------------------------


def test_a_batch_tells_its_sizes_and_its_paired_labels():
    labels = torch.tensor([3, 1, 2, 0])
    batch = Batch((torch.zeros(2, 5), torch.zeros(4, 3)), (labels[:2], labels), paired=2)
    assert batch.sizes == (2, 4)
    assert batch.paired_labels.tolist() == [3, 1]
    assert batch.keep is None
    assert Batch(batch.inputs, batch.labels, paired=0).paired_labels.tolist() == []


def test_indices_go_to_the_device_as_int64_even_from_a_view():
    view = np.arange(12).reshape(3, 4)[:, :2]
    tensor = to_device(view, torch.device("cpu"))
    assert tensor.dtype == torch.int64
    assert tensor.tolist() == view.tolist()


# -- an order ----------------------------------------------------------------------------------------


def test_an_order_is_followed_and_then_permutations_of_the_same_samples():
    sampler = sampler_of(20)
    sampler.draw([7, 4], 2)
    sampler.follow(np.array([3, 9, 4, 9]))
    first = sampler.samples_of(sampler.draw([2, 2], 2))
    assert first[0].tolist() == [[3, 9], [4, 9]]
    later = sampler.samples_of(sampler.draw([4, 3], 5))[0]
    assert all(sorted(rows) == [3, 4, 9, 9] for rows in later.tolist())
    # Once in the order and once in each of five permutations; 9 is in it twice.
    assert sampler.draws[0, [3, 4]].tolist() == [6, 6]
    assert sampler.draws[0, 9] == 12


def test_an_order_goes_on_from_the_samplers_state(tmp_path):
    sampler, other = sampler_of(20), sampler_of(20, seed=3)
    sampler.follow(np.arange(5, 17))
    sampler.draw([3, 5], 1)
    save_state(tmp_path / "state", "sampler", sampler.state_dict())
    other.load_state_dict(load_state(tmp_path / "state", "sampler"))
    for sizes in ([3, 5], [11, 2]):
        for one, two in zip(sampler.draw(sizes, 3), other.draw(sizes, 3), strict=True):
            np.testing.assert_array_equal(sampler.samples_of([one, one])[0], other.samples_of([two, two])[0])
