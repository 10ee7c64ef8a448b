"""Builds that are killed, or run at the same time, or meet a full disk: nothing half-made is read, little is lost."""

import errno
import os
import subprocess
import sys

import npy_media
import numpy as np
import pytest
from npy_media import NpyDecoder, rows_in, tree_bytes, write_media

from dus_gym.data.store import Store, builder, files, open_store
from dus_gym.errors import BadMediaError, StoreError

COUNT = 40


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(builder, "SHARD_ROWS", 8)


@pytest.fixture
def media(tmp_path):
    write_media(tmp_path / "data" / "media", COUNT)
    return tmp_path / "data" / "media"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data" / ".dus-cache"


@pytest.fixture
def whole(tmp_path, media):
    """Every byte of the store that a build without any trouble makes."""
    return tree_bytes(open_store(tmp_path / "data" / ".dus-other", "toy", NpyDecoder(), rows_in(media)).path)


def another_process(media, root, until):
    """A build of the same store by another process, which was waited for until it printed a line."""
    command = [sys.executable, npy_media.__file__, str(media), str(root), "--delay", "0.05"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    for line in process.stdout:
        if line.strip() == until:
            return process
    raise AssertionError(f"the other process ended with {process.wait()} before it printed {until}")


def test_a_killed_build_is_never_read_and_goes_on_after_its_last_whole_shard(media, root, whole):
    process = another_process(media, root, f"20/{COUNT}")
    process.kill()
    process.wait()
    process.stdout.close()
    assert not list(root.rglob("DONE"))
    for folder in (root / "toy").iterdir():  # the lock file as well
        with pytest.raises(StoreError):
            Store(folder)
    decoder = NpyDecoder()
    store = open_store(root, "toy", decoder, rows_in(media))
    assert decoder.seen[0] == "s016", "two whole shards of 8"
    assert tree_bytes(store.path) == whole
    assert [path.name for path in (root / "toy").iterdir()] == [store.path.name]


def test_of_two_builders_one_decodes_and_the_other_waits(media, root, whole):
    process = another_process(media, root, f"3/{COUNT}")
    decoder = NpyDecoder()
    store = open_store(root, "toy", decoder, rows_in(media))
    assert decoder.seen == []
    said = process.communicate(timeout=60)[0].splitlines()
    assert process.returncode == 0
    # Every fifth file has the content of the one before it.
    assert said[-1] == f"decoded {COUNT * 4 // 5} path {store.path}"
    assert tree_bytes(store.path) == whole


def test_a_builder_that_lost_its_lock_makes_nothing_final_until_it_has_it_again(media, root, whole):
    class Robbed(NpyDecoder):
        def __call__(self, row):
            if row.sample == "s010" and "s010" not in self.seen:
                for lock in (root / "toy").glob(".*.lock"):
                    lock.unlink()
            return super().__call__(row)

    decoder = Robbed()
    store = open_store(root, "toy", decoder, rows_in(media))
    assert decoder.seen.count("s010") >= 2, "the shard in work when the lock was gone was decoded again"
    assert decoder.seen.count("s000") == 1, "the one before it was not"
    assert tree_bytes(store.path) == whole


def test_a_crash_at_any_write_leaves_no_store_that_can_be_read_and_costs_one_shard(media, root, whole, monkeypatch):
    written, write = [], files.append

    def counting(file, data):
        written.append(len(data))
        write(file, data)

    monkeypatch.setattr(files, "append", counting)
    open_store(root / "counted", "toy", NpyDecoder(), rows_in(media))
    assert len(written) > COUNT // 2
    count = len(written)
    for last in sorted({*range(0, count, 6), *range(count - 4, count)}):  # the last four finish the store
        place, left = root.with_name(f".crash{last}"), [last]

        def crash(file, data, left=left):
            if not left[0]:
                write(file, data[: len(data) // 2])
                raise KeyboardInterrupt
            left[0] -= 1
            write(file, data)

        with monkeypatch.context() as patch:
            patch.setattr(files, "append", crash)
            patch.setattr(files.NewFile, "discard", lambda self: self._file.close())  # a dead process tidies nothing
            with pytest.raises(KeyboardInterrupt):
                open_store(place, "toy", NpyDecoder(), rows_in(media))
        assert not list((place / "toy").glob("tiny-*"))
        kept = len(list(place.glob("toy/.partial-*/resume/[0-9]*.json")))
        assert kept >= last // 10, "a shard is eight arrays at most, and its record"
        decoder = NpyDecoder()
        store = open_store(place, "toy", decoder, rows_in(media))
        assert len(decoder.seen) <= COUNT - 8 * kept
        assert tree_bytes(store.path) == whole


def test_a_disk_that_fills_up_keeps_the_finished_shards(media, root, whole, monkeypatch):
    written, write = [0], files.append

    def full(file, data):
        written[0] += len(data)
        if written[0] > 1000 and "shard" in file.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, data)

    with monkeypatch.context() as patch:
        patch.setattr(files, "append", full)
        with pytest.raises(StoreError, match="Free some space, or give another cache= folder"):
            open_store(root, "toy", NpyDecoder(), rows_in(media))
    assert not list(root.rglob("DONE"))
    assert not list(root.rglob(f"*{files.UNFINISHED}"))
    decoder = NpyDecoder()
    store = open_store(root, "toy", decoder, rows_in(media))
    assert 0 < len(decoder.seen) < COUNT * 4 // 5
    assert tree_bytes(store.path) == whole


def test_a_build_given_up_for_bad_files_costs_nothing_once_they_are_mended(media, root, whole):
    last = rows_in(media)[-1].paths[0]
    good = last.read_bytes(), last.stat().st_mtime_ns
    last.write_bytes(b"no array")
    with pytest.raises(BadMediaError, match="1 truncated"):
        open_store(root, "toy", NpyDecoder(), rows_in(media), on_error="skip", max_bad=0.0)
    assert len(list((root / "toy").glob(".partial-*"))) == 1
    last.write_bytes(good[0])
    os.utime(last, ns=(good[1], good[1]))
    decoder = NpyDecoder()
    store = open_store(root, "toy", decoder, rows_in(media))
    assert min(decoder.seen) >= "s032", "four whole shards of 8 were taken over"
    assert tree_bytes(store.path) == whole
    assert [path.name for path in (root / "toy").iterdir()] == [store.path.name], "and then removed"


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="resident memory is read from /proc")
def test_reading_all_of_a_store_leaves_the_resident_memory_flat(tmp_path):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    class Large(NpyDecoder):
        def __call__(self, row):
            return np.full((512, 512), int(row.payload), np.uint8)

    rows = [npy_media.Row(f"s{i:03d}", (), str(i % 250)) for i in range(250)]
    store = open_store(tmp_path / "cache", "toy", Large(fixed_shape=(512, 512)), rows)
    store.gather(range(10))
    before = resident()
    for first in range(0, 250, 10):
        store.gather(range(first, first + 10))
    assert sum(record["bytes"] for record in store.manifest["shards"]) > 60 << 20
    assert resident() - before < 8 << 20
