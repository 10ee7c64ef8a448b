"""DataLoaders of the plug-in: whose turn it is, what is paired, and the same batches after a stop or with workers."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from dus_gym import DUS
from dus_gym.errors import CheckpointError, ConfigError

NAMES = ("audio", "video")


def numbered(n, names=NAMES):
    """Datasets in which every sample is its own number."""
    return {name: torch.arange(n) for name in names}


def moving(turns, names=NAMES, batch_size=8, **options):
    """DUS whose agent takes one of ``turns`` after another, equal sizes first."""
    given = iter(turns)
    return DUS(list(names), batch_size=batch_size, epochs=1 + len(turns), agent=lambda *_: next(given), **options)


def sure(batch):
    return {name: [0.5] for name in batch}


def rows(batch):
    return {name: part.tolist() for name, part in batch.items()}


def trained(dus, loaders, most=10**9):
    """Every batch up to ``most``, the loop observed as it should be."""
    found = []
    for _ in loaders.epochs():
        for batch in loaders:
            found.append(batch)
            dus.observe(sure(batch))
            if len(found) == most:
                return found
    return found


shares = st.lists(st.integers(1, 9), min_size=3, max_size=3).map(lambda parts: [p / sum(parts) for p in parts])


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 30),
    turns=st.lists(shares, min_size=1, max_size=4),
    iterations=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_each_stream_draws_every_sample_equally_often_and_paired_rows_are_paired(n, turns, iterations, seed):
    names = ("a", "b", "c")
    dus = moving(turns, names, seed=seed)
    loaders = dus.loaders(numbered(n, names), iterations=iterations)
    shared, own, whole = Counter(), {name: Counter() for name in names}, {name: Counter() for name in names}
    for i, batch in enumerate(trained(dus, loaders)):
        drawn, sizes = rows(batch), dus.history[i // iterations]["sizes"]
        assert {name: len(of) for name, of in drawn.items()} == sizes
        paired = min(sizes.values())
        assert drawn["a"][:paired] == drawn["b"][:paired] == drawn["c"][:paired]
        shared.update(drawn["a"][:paired])
        for name in names:
            own[name].update(drawn[name][paired:])
            whole[name].update(drawn[name])
    assert dus.iterations == iterations * (1 + len(turns))
    for counts, spread in ((shared, 1), *((of, 1) for of in own.values()), *((of, 2) for of in whole.values())):
        numbers = [counts[i] for i in range(n)]
        assert max(numbers) - min(numbers) <= spread


def test_equal_batches_are_one_permutation_a_pass():
    dus = moving([[0.5, 0.5]])
    passes = trained(dus, dus.loaders(numbered(32)))
    assert len(passes) == 8
    for start in (0, 4):
        seen = [i for batch in passes[start : start + 4] for i in rows(batch)["video"]]
        assert sorted(seen) == list(range(32))
    assert rows(passes[0]) != rows(passes[4])


def test_unpaired_datasets_may_differ_in_length():
    dus = moving([[0.25, 0.75]])
    loaders = dus.loaders({"audio": torch.arange(10), "video": torch.arange(24)}, paired=False)
    assert len(loaders) == 3
    batches = trained(dus, loaders)
    for name, n in (("audio", 10), ("video", 24)):
        seen = [i for batch in batches for i in rows(batch)[name]]
        assert [sorted(seen[i : i + n]) for i in range(0, len(seen) - n + 1, n)] == [list(range(n))] * (len(seen) // n)


class Noisy(Dataset):
    """Random augmentation from all three global generators."""

    def __len__(self):
        return 13

    def __getitem__(self, i):
        return torch.tensor([i, random.random(), np.random.rand(), torch.rand(()).item()], dtype=torch.float64)  # noqa: NPY002


TURNS = [[0.25, 0.75], [0.75, 0.25], [0.5, 0.5]]


def noisy(**options):
    dus = moving(TURNS, seed=7)
    return dus, dus.loaders({"audio": Noisy(), "video": Noisy()}, iterations=5, **options)


def same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in NAMES:
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)


@pytest.fixture(scope="module")
def expected():
    return trained(*noisy())


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 2},
        {"num_workers": {"video": 2}, "prefetch_factor": {"video": 4}},
        {"num_workers": 1, "persistent_workers": False},
    ],
)
def test_workers_give_the_same_batches_as_none(options, expected):
    same(trained(*noisy(**options)), expected)


@pytest.mark.parametrize(("stop", "workers"), [(1, 0), (4, 0), (5, 0), (7, 0), (19, 0), (20, 0), (7, 1), (10, 2)])
def test_a_stopped_pass_goes_on_to_the_bit(stop, workers, expected, tmp_path):
    dus, loaders = noisy(num_workers=workers)
    same(trained(dus, loaders, stop), expected[:stop])
    torch.save({"dus": dus.state_dict(), "loaders": loaders.state_dict()}, tmp_path / "loop.pt")
    state = torch.load(tmp_path / "loop.pt")
    again = moving(TURNS[dus.epoch - 1 :], seed=7)
    again.epochs = 1 + len(TURNS)
    resumed = again.loaders({"audio": Noisy(), "video": Noisy()}, iterations=5)
    again.load_state_dict(state["dus"])
    resumed.load_state_dict(state["loaders"])
    assert resumed.left == -stop % 5
    same(trained(again, resumed), expected[stop:])
    assert again.history[-1]["iterations"] == 20


def test_a_loop_stopped_between_a_decision_and_its_first_batch_goes_on_with_it():
    dus, loaders = noisy()
    assert trained(dus, loaders, 5)
    dus.next_sizes()
    assert loaders.left == 5
    again = moving(TURNS[1:], seed=7)
    again.epochs = dus.epochs
    resumed = again.loaders({"audio": Noisy(), "video": Noisy()}, iterations=5)
    again.load_state_dict(dus.state_dict())
    resumed.load_state_dict(loaders.state_dict())
    assert resumed.left == 5
    same(trained(again, resumed), trained(dus, loaders))
    assert again.iterations == 20


def test_the_global_generators_are_left_alone():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    trained(*noisy(num_workers={"audio": 1}))
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


@pytest.mark.parametrize("workers", [0, 1])
def test_leaving_a_pass_early_loses_no_sample(workers):
    dus = moving(TURNS)
    loaders = dus.loaders(numbered(24), iterations=10, num_workers=workers)
    seen, paired = {name: [] for name in NAMES}, []
    for sizes in loaders.epochs():
        least = min(sizes.values())
        for i, batch in enumerate(loaders):
            drawn = rows(batch)
            paired += drawn["audio"][:least]
            for name in NAMES:
                seen[name] += drawn[name][least:]
            dus.observe(sure(batch))
            if i == 2:
                break
    # 3 batches of 8, 4, 4 and 8 paired rows; the larger batch has 8 more in two of the passes.
    assert len(paired) == 72
    assert [sorted(paired[i : i + 24]) for i in (0, 24, 48)] == [list(range(24))] * 3
    assert sorted(seen["audio"]) == sorted(seen["video"]) == list(range(24))


def test_a_peek_counts_and_the_rest_of_the_pass_follows():
    dus = DUS(list(NAMES), batch_size=8, epochs=2, agent="uniform")
    loaders = dus.loaders(numbered(32))
    assert (len(loaders), loaders.left) == (4, 0)
    dus.next_sizes()
    first = next(iter(loaders))
    rest = list(loaders)
    assert sorted(i for batch in (first, *rest) for i in rows(batch)["audio"]) == list(range(32))
    assert repr(loaders) == "ModalityLoaders(audio: 32, video: 32 samples; 4 batches per pass, 0 left of this one)"


def test_labels_go_with_their_samples_whatever_the_dataset_gives():
    labels = [10 * i for i in range(12)]
    dus = moving([[0.25, 0.75]])
    datasets = {"audio": torch.arange(12), "video": TensorDataset(torch.arange(12))}
    for batch in trained(dus, dus.loaders(datasets, labels)):
        x, y = batch["audio"]
        assert torch.equal(10 * x, y)
        (x,), y = batch["video"]
        assert torch.equal(10 * x, y)


def test_settings_go_to_one_modality_or_to_all():
    dus = DUS(list(NAMES), batch_size=4, agent="uniform")
    loaders = dus.loaders(numbered(8), collate_fn={"audio": len})
    dus.next_sizes()
    batch = next(iter(loaders))
    assert batch["audio"] == 4
    assert batch["video"].shape == (4,)


def test_pinning_is_the_loaders_own_business():
    dus = DUS(list(NAMES), batch_size=4, agent="uniform")
    dus.next_sizes()
    loaders = dus.loaders(numbered(8), pin_memory=torch.cuda.is_available(), num_workers=1)
    assert all(part.is_pinned() == torch.cuda.is_available() for part in next(iter(loaders)).values())


def test_a_pass_is_an_interval_and_under_the_other_lever_batches_stay_equal():
    dus = DUS(list(NAMES), batch_size=4, epochs=3, agent="score", interval=5, lever="rates")
    loaders = dus.loaders(numbered(8))
    assert len(loaders) == 5
    for batch in trained(dus, loaders):
        assert {len(part) for part in batch.values()} == {4}
    assert [entry["iterations"] for entry in dus.history] == [5, 10, 15]


class Endless(IterableDataset):
    def __iter__(self):
        yield 1


@pytest.mark.parametrize(
    ("datasets", "options", "message"),
    [
        ({"audio": [1]}, {}, r"datasets=\['audio'\] is not allowed; give a dict with one for each of"),
        ([1, 2], {}, r"datasets='list' is not allowed"),
        (
            {"audio": Endless(), "video": [1]},
            {},
            r"datasets\['audio'\] is Endless, which has no rows to draw by number",
        ),
        ({"audio": [], "video": [1]}, {}, r"length of datasets\['audio'\]=0"),
        ({"audio": [1, 2], "video": [1]}, {}, r"\{'audio': 2, 'video': 1\} samples; row i .* say paired=False"),
        ({"audio": [1], "video": [1]}, {"labels": [1, 2]}, "labels has 2 entries"),
        ({"audio": [1], "video": [1]}, {"iterations": 0}, "iterations=0"),
        ({"audio": [1], "video": [1]}, {"batch_size": 3}, "batch_size= is not allowed; .* leave it out"),
        ({"audio": [1], "video": [1]}, {"in_order": False}, "in_order= is not allowed"),
        ({"audio": [1], "video": [1]}, {"num_worker": 3}, "'num_worker'. Did you mean 'num_workers'"),
        ({"audio": [1], "video": [1]}, {"num_workers": {"vido": 3}}, "modality in num_workers 'vido'.*'video'"),
    ],
)
def test_what_does_not_fit_is_refused(datasets, options, message):
    with pytest.raises(ConfigError, match=message):
        DUS(list(NAMES)).loaders(datasets, **options)


def test_passes_out_of_order_say_what_to_do():
    dus = DUS(list(NAMES), batch_size=8, epochs=2, agent="uniform")
    loaders = dus.loaders(numbered(32))
    with pytest.raises(ConfigError, match=r"no sizes yet; call dus.next_sizes\(\) before the first pass"):
        next(iter(loaders))
    dus.next_sizes()
    first = iter(loaders)
    batch = next(first)
    dus.observe(sure(batch))
    next(iter(loaders))
    with pytest.raises(ConfigError, match="another was begun"):
        next(first)
    assert len(list(loaders)) == 2
    with pytest.raises(ConfigError, match=r"epoch 1 are used up; call dus.next_sizes\(\) before each pass"):
        next(iter(loaders))


def test_a_state_of_something_else_is_refused():
    dus, loaders = noisy()
    trained(dus, loaders, 7)
    state = loaders.state_dict()
    fresh = DUS(list(NAMES), seed=7)
    for other, message in (
        (DUS(list(NAMES), seed=1).loaders(numbered(13)), r"seed=7, not 1"),
        (fresh.loaders(numbered(12)), r"lengths=.*13.* not .*12"),
        (fresh.loaders(numbered(13), paired=False), r"paired=True, not False"),
    ):
        with pytest.raises(CheckpointError, match=message):
            other.load_state_dict(state)
    again = fresh.loaders(numbered(13))
    for part in ("streams", "sizes", "done", "seed"):
        with pytest.raises(CheckpointError, match=r"damaged|something else"):
            again.load_state_dict(state | {part: None})
    assert again.left == 0
    again.load_state_dict(state)
    fresh.next_sizes()
    with pytest.raises(ConfigError, match="these loaders are in epoch 2 and DUS in 1; load the states of both"):
        next(iter(again))
