"""A training draw follows from seed, modality, sample and draw: not from order, size of batches or threads."""

import threading
import time

import numpy as np
import pytest
import torch
from npy_media import NpyDecoder, write_media

from dus_gym.data import prefetch
from dus_gym.data.prefetch import AHEAD, MOST_AHEAD, MOST_BYTES, Ahead, in_order
from dus_gym.data.store import open_store
from dus_gym.data.store.randomness import uniforms
from dus_gym.data.store.split import StoredModality, StoreSplit, without_bad
from dus_gym.errors import ConfigError

COUNT = 24


class Noise:
    """What is stored, and a number that the keys decide added to all of it in training."""

    def __call__(self, arrays, keys, train, device):
        found = torch.from_numpy(np.stack(list(arrays))).to(device).double()
        return found + torch.from_numpy(uniforms(keys, 1)).to(device)[..., None] if train else found


@pytest.fixture
def stores(tmp_path):
    rows = {name: write_media(tmp_path / name, COUNT) for name in ("one", "two")}
    rows["two"][7].paths[0].write_bytes(b"")
    return {
        name: open_store(tmp_path / "cache", "toy", NpyDecoder(name=name), found, on_error="skip", max_bad=0.1)
        for name, found in rows.items()
    }


def split_of(stores, **how):
    samples = stores["one"].samples
    kept = [samples[i] for i in without_bad(samples, list(stores.values()))]
    views = [StoredModality.of(name, store, kept, Noise()) for name, store in stores.items()]
    return StoreSplit(views, torch.arange(len(kept)) % 3, **{"augments": True, **how})


def noise(split, modality, rows, draws):
    rows = torch.as_tensor(rows)
    return (split.fetch(modality, rows, np.asarray(draws)) - split.fetch(modality, rows))[:, 0, 0]


def test_a_draw_does_not_depend_on_its_batch_or_on_the_order(stores):
    split = split_of(stores, seed=3)
    rows, draws = np.array([5, 0, 5, 11, 2]), np.array([0, 4, 1, 2, 2])
    together = split.fetch(1, torch.from_numpy(rows), draws)
    for i in reversed(range(len(rows))):
        alone = split.fetch(1, torch.from_numpy(rows[i : i + 1]), draws[i : i + 1])
        assert torch.equal(alone[0], together[i])


def test_seed_modality_sample_and_draw_each_change_it(stores):
    first = noise(split_of(stores, seed=3), 0, [5], [0])
    others = [
        noise(split_of(stores, seed=4), 0, [5], [0]),
        noise(split_of(stores, seed=3), 1, [5], [0]),
        noise(split_of(stores, seed=3), 0, [6], [0]),
        noise(split_of(stores, seed=3), 0, [5], [1]),
    ]
    assert len({value.item() for value in (first, *others)}) == 5


def test_modalities_that_share_are_changed_alike(stores):
    split = split_of(stores, shared=True)
    rows, draws = [0, 9, 9], [0, 1, 2]
    torch.testing.assert_close(noise(split, 0, rows, draws), noise(split, 1, rows, draws))


def test_evaluation_is_never_augmented_and_no_generator_is_touched(stores):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    train, test = split_of(stores), split_of(stores, augments=False)
    rows = torch.arange(10)
    assert torch.equal(train.fetch(0, rows), test.fetch(0, rows, np.arange(10)))
    assert not torch.equal(train.fetch(0, rows, np.arange(10)), train.fetch(0, rows))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_one_modality_is_read_without_the_other(stores, monkeypatch):
    split = split_of(stores)
    monkeypatch.setattr(split.modalities[0].store, "gather", lambda *_: pytest.fail("read modality 0"))
    assert split.fetch(1, torch.arange(4), np.zeros(4, np.int64)).shape == (4, 4, 3)


def test_a_sample_that_one_modality_lacks_is_in_none(stores):
    split = split_of(stores)
    assert len(split.labels) == COUNT - 1
    for view in split.modalities:
        assert "s007" not in {view.store.samples[row] for row in view.rows}
    views = [StoredModality.of(name, store, ["s006", "s007"], Noise()) for name, store in stores.items()]
    with pytest.raises(ConfigError, match=r"'two' has no usable media of \['s007'\]"):
        StoreSplit(views, torch.zeros(2, dtype=torch.int64))


def test_views_of_other_samples_are_refused(stores):
    views = [StoredModality.of(name, store, [f"s00{i}"], Noise()) for i, (name, store) in enumerate(stores.items())]
    with pytest.raises(ConfigError, match="'two' has other samples than 'one'"):
        StoreSplit(views, torch.zeros(1, dtype=torch.int64))


# -- read ahead ------------------------------------------------------------------------------------


def iterations(count=9, sizes=(5, 3)):
    """Rows and draw numbers of some iterations, by modality."""
    rng = np.random.default_rng(0)
    samples = [rng.integers(0, COUNT - 1, (count, size)) for size in sizes]
    draws = [rng.integers(0, 4, (count, size)) for size in sizes]
    return [torch.from_numpy(rows).unbind(0) for rows in samples], samples, draws


@pytest.mark.parametrize(("threads", "ahead"), [(1, 0), (1, 2), (2, 1), (5, 30)])
def test_reading_ahead_changes_nothing_whatever_the_threads(stores, threads, ahead):
    split = split_of(stores, seed=1)
    indices, samples, draws = iterations()
    found = list(in_order(split, indices, samples, draws, threads=threads, ahead=Ahead(ahead, ahead)))
    assert len(found) == 9
    for i, inputs in enumerate(found):
        for j, x in enumerate(inputs):
            assert torch.equal(x, split.fetch(j, indices[j][i], draws[j][i]))


class Slow:
    """A split whose samples take a while to read, as the clock of a test has it."""

    shared = augments = False
    labels = torch.zeros(COUNT)

    def to(self, device):
        return self

    def __init__(self, seconds, size=0):
        self.seconds, self.size = seconds, size
        self.working = self.most = 0

    def prepare(self, modality, rows, draws=None):
        self.working += 1
        self.most = max(self.most, self.working)
        time.sleep(self.seconds)
        self.working -= 1
        return np.repeat(rows, self.size) if self.size else rows

    def fetch(self, modality, indices, draws=None):
        return self.finish(modality, indices.numpy())

    def finish(self, modality, prepared):
        return torch.from_numpy(prepared)


def read(split, ahead, step=0.0, **how):
    """Read some iterations in stretches, each of which trains for a while; return the order in which they came."""
    indices, samples, _ = iterations(count=40, sizes=(1,))
    found = []
    for first in range(0, 40, 20):
        part = [rows[first : first + 20] for rows in indices], [rows[first : first + 20] for rows in samples]
        for (x,) in in_order(split, *part, None, ahead=ahead, **how):
            time.sleep(step)
            found.append(int(x[0]))
    assert found == samples[0][:, 0].tolist()
    return ahead.depth


def test_more_is_read_ahead_where_training_waits_and_that_helps():
    slow = Slow(0.02)
    assert read(slow, Ahead(), step=0.003, threads=8) > AHEAD
    assert slow.most > 1 + AHEAD


def test_no_more_is_read_ahead_where_training_never_waits():
    assert read(Slow(0.0005), Ahead(), step=0.004, threads=8) == AHEAD


def test_reading_ahead_stops_growing_where_it_does_not_help():
    ahead = Ahead()
    assert read(Slow(0.004), ahead, threads=1) == AHEAD
    assert ahead.most == AHEAD


def test_reading_ahead_stays_within_its_memory(monkeypatch):
    monkeypatch.setattr(prefetch, "MOST_BYTES", 3 * 8 * 1000)
    ahead = Ahead()
    assert read(Slow(0.02, size=1000), ahead, step=0.003, threads=8) == 3


def test_the_depth_follows_the_waiting_by_hand():
    ahead = Ahead(2, most=8)

    def window(waits):
        for _ in range(2 * ahead.depth + 4):
            ahead.saw(waits, 1.0, 1)
        return ahead.depth

    assert window(0.04) == 2
    assert window(0.8) == 4
    assert window(0.4) == 8
    assert window(0.2) == 8
    assert (window(0.9), ahead.most) == (8, 8)
    ahead = Ahead(2, most=8)
    assert window(0.5) == 4
    assert (window(0.48), ahead.most) == (2, 2)
    assert window(0.9) == 2
    ahead = Ahead(2)
    # The doubling helped; what comes later is not judged by what was before it.
    assert [window(waits) for waits in (0.5, 0.01, 0.48)] == [4, 4, 8]


def test_less_is_read_ahead_as_soon_as_samples_grow():
    ahead = Ahead()
    for _ in range(80):
        ahead.saw(1.0 / ahead.depth, 1.0, 1)
    assert ahead.depth == MOST_AHEAD
    ahead.saw(0.0, 1.0, MOST_BYTES // 5)
    assert ahead.depth == 5
    ahead.saw(0.0, 1.0, 1 << 29)
    assert ahead.depth == AHEAD
    assert not ahead.fit(1 << 40)
    for _ in range(80):
        ahead.saw(1.0 / ahead.depth, 1.0, MOST_BYTES // 5)
    assert ahead.depth == 5


def test_the_first_iteration_of_a_stretch_says_how_much_has_room(monkeypatch):
    monkeypatch.setattr(prefetch, "MOST_BYTES", 3 * 8 * 1000)
    indices, samples, _ = iterations(count=2, sizes=(1,))
    ahead = Ahead(8)
    batches = in_order(Slow(0.0, size=1000), indices, samples, None, ahead=ahead, threads=1)
    next(batches)
    batches.close()
    assert ahead.depth == 3


@pytest.mark.parametrize(
    ("device", "processors", "threads"),
    [("cpu", 64, 2), ("cpu", 2, 1), ("cpu", 1, 1), ("cuda", 64, 34), ("cuda", 16, 15), ("cuda", 1, 1)],
)
@pytest.mark.parametrize("affinity", [True, False])
def test_threads_are_few_on_the_cpu_and_no_more_than_the_process_may_use(
    monkeypatch, device, processors, threads, affinity
):
    if affinity:
        monkeypatch.setattr(prefetch.os, "sched_getaffinity", lambda _: set(range(processors)), raising=False)
        monkeypatch.setattr(prefetch.os, "cpu_count", lambda: 128)
    else:
        monkeypatch.delattr(prefetch.os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(prefetch.os, "cpu_count", lambda: processors)
    assert prefetch._threads(2, MOST_AHEAD, torch.device(device)) == threads


def test_on_the_cpu_as_many_are_read_at_once_as_there_are_modalities(monkeypatch):
    monkeypatch.setattr(prefetch.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    slow = Slow(0.002)
    indices, samples, _ = iterations(sizes=(1, 1))
    assert len(list(in_order(slow, indices, samples, None))) == 9
    assert slow.most <= 2


def test_an_error_of_a_thread_is_raised_at_its_iteration(stores, monkeypatch):
    split = split_of(stores)
    indices, samples, draws = iterations()
    samples[1][4, 0] = COUNT + 5
    batches = in_order(split, indices, samples, draws, threads=2)
    for _ in range(4):
        next(batches)
    with pytest.raises(IndexError):
        next(batches)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_stopping_early_leaves_no_thread(stores):
    indices, samples, draws = iterations()
    batches = in_order(split_of(stores), indices, samples, draws, threads=2)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
