"""The store gives back what was decoded, decodes once, and believes only what is whole."""

import gc
import hashlib
import json
import os
import pickle
import shutil

import numpy as np
import pytest
from npy_media import NpyDecoder, tree_bytes, value_of, write_media

from dus_gym.data.store import Row, Store, builder, estimate, estimate_bytes, open_store
from dus_gym.data.store.key import key_of, recipe_of, survey
from dus_gym.errors import BadMediaError, ConfigError, MediaError, StoreError


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(builder, "SHARD_ROWS", 8)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data" / ".dus-cache"


@pytest.fixture
def rows(tmp_path):
    return write_media(tmp_path / "data" / "media", 30)


def original(row, dtype="uint8"):
    return np.load(row.paths[0], allow_pickle=False).astype(dtype)


# -- what goes in comes out ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "float16", "int32", "float32"])
@pytest.mark.parametrize("shape", [(4, 3), None])
def test_every_array_comes_back_to_the_bit(tmp_path, root, shape, dtype):
    rows = write_media(tmp_path / "data" / "media", 30, shape)
    store = open_store(root, "toy", NpyDecoder(dtype=dtype, fixed_shape=shape), rows)
    order = np.random.default_rng(0).permutation(30)
    found = store.gather([rows[i].sample for i in order])
    assert isinstance(found, list) == (shape is None)
    for array, i in zip(found, order, strict=True):
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, original(rows[i], dtype))
    numbers = store.rows_of([rows[i].sample for i in order])
    for one, other in zip(store.gather(numbers), found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_row_may_be_asked_for_twice_and_none_at_all(root, rows):
    store = open_store(root, "toy", NpyDecoder(), rows)
    found = store.gather(["s007", "s002", "s007"])
    np.testing.assert_array_equal(found, np.stack([original(rows[i]) for i in (7, 2, 7)]))
    assert store.gather([]).shape == (0, 4, 3)


def test_what_is_gathered_is_a_copy(root, rows):
    store = open_store(root, "toy", NpyDecoder(), rows)
    store.gather([3])[:] = 0
    np.testing.assert_array_equal(store.gather([3])[0], original(rows[3]))


def test_rows_without_files_are_decoded_from_their_payload(root):
    rows = [Row("a", (), "some words"), Row("b", (), "other words"), Row("c", (), "some words")]
    decoder = NpyDecoder(dtype="int32")
    store = open_store(root, "toy", decoder, rows)
    assert decoder.seen == ["a", "b"], "the same text is tokenised once"
    assert store.gather(["b"])[0, 0].tolist() == [ord(c) for c in "oth"]
    np.testing.assert_array_equal(*store.gather(["a", "c"]))


def test_a_folder_of_files_is_one_sample(tmp_path, root):
    folder = tmp_path / "data" / "frames" / "clip"
    write_media(folder, 3, (2, 3))
    decoder = NpyDecoder(fixed_shape=None)
    store = open_store(root, "toy", decoder, [Row("clip", (folder,))])
    assert store.gather(["clip"])[0].shape == (6, 3)
    np.save(folder / "clip003.npy", value_of(9, (2, 3)), allow_pickle=False)
    again = open_store(root, "toy", decoder, [Row("clip", (folder,))])
    assert again.gather(["clip"])[0].shape == (8, 3), "a new file in the folder is noticed"


def test_identical_media_lie_on_the_disk_once(root, rows):
    decoder = NpyDecoder()
    store = open_store(root, "toy", decoder, rows)
    # Every fifth file repeats the one before: 30 rows, 24 distinct, also across the shards of 8 rows.
    assert len(decoder.seen) == 24
    assert sum(p.stat().st_size for p in store.path.glob("shard-*.bin")) == 24 * 12
    np.testing.assert_array_equal(*store.gather(["s003", "s004"]))


def test_a_shard_cut_off_under_an_open_store_is_told_and_not_read_as_zeros(root, rows):
    store = open_store(root, "toy", NpyDecoder(), rows)
    with (store.path / "shard-00000.bin").open("r+b") as file:
        file.truncate(20)
    np.testing.assert_array_equal(store.gather([0])[0], original(rows[0]))
    with pytest.raises(StoreError, match="was cut off while it was read"):
        store.gather([1])


def open_files_under(folder):
    """Only the files of one store: what earlier tests left open may be closed at any moment."""
    links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return [link for link in links if os.path.realpath(link).startswith(f"{folder}{os.sep}")]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to count open files")
def test_files_are_closed_with_the_last_store_that_reads_them(root, rows):
    store = open_store(root, "toy", NpyDecoder(), rows)
    path = store.path
    assert open_files_under(path)
    other = store.substituting([rows[0].sample])
    del store
    np.testing.assert_array_equal(other.gather([3])[0], original(rows[3]))
    del other
    gc.collect()
    assert not open_files_under(path)


# -- decoded once ----------------------------------------------------------------------------------


def test_an_open_store_decodes_nothing_and_any_order_or_subset_uses_it(root, rows):
    first = open_store(root, "toy", NpyDecoder(), rows)
    for part in (rows, rows[::-1], rows[:7], [rows[20], rows[3]]):
        decoder = NpyDecoder()
        store = open_store(root, "toy", decoder, part)
        assert decoder.seen == []
        assert store.path == first.path
        np.testing.assert_array_equal(store.gather([part[1].sample])[0], original(part[1]))


def test_more_rows_decode_only_what_is_new(root, rows):
    open_store(root, "toy", NpyDecoder(), rows[:20])
    decoder = NpyDecoder()
    store = open_store(root, "toy", decoder, rows)
    assert decoder.seen == [r.sample for i, r in enumerate(rows) if i >= 20 and i % 5 != 4]
    np.testing.assert_array_equal(store.gather(range(30)), np.stack([original(r) for r in rows]))


def test_data_and_cache_can_move_together(tmp_path, root, rows):
    open_store(root, "toy", NpyDecoder(), rows)
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    decoder = NpyDecoder()
    moved = [Row(r.sample, (tmp_path / "elsewhere/media" / r.paths[0].name,)) for r in rows]
    open_store(tmp_path / "elsewhere" / ".dus-cache", "toy", decoder, moved)
    assert decoder.seen == []


def test_a_changed_file_is_decoded_again_and_no_other(root, rows):
    old = open_store(root, "toy", NpyDecoder(), rows)
    np.save(rows[5].paths[0], value_of(77, (4, 3)), allow_pickle=False)
    decoder = NpyDecoder()
    new = open_store(root, "toy", decoder, rows)
    assert decoder.seen == ["s005"]
    assert new.path != old.path
    np.testing.assert_array_equal(new.gather(["s005"])[0], value_of(77))
    np.testing.assert_array_equal(new.gather(["s006"])[0], original(rows[6]))


@pytest.mark.parametrize("change", ["size", "time"])
def test_size_and_time_are_each_enough_to_notice(root, rows, change):
    old = open_store(root, "toy", NpyDecoder(), rows)
    path = rows[5].paths[0]
    status = path.stat()
    if change == "size":
        np.save(path, value_of(5, (4, 3)).astype(np.int64), allow_pickle=False)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert open_store(root, "toy", NpyDecoder(), rows).path != old.path


def test_a_change_that_size_and_time_hide_is_found_by_verify(root, rows):
    open_store(root, "toy", NpyDecoder(), rows)
    path = rows[5].paths[0]
    status = path.stat()
    np.save(path, value_of(77), allow_pickle=False)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    decoder = NpyDecoder()
    unnoticed = open_store(root, "toy", decoder, rows)
    assert decoder.seen == []
    assert not np.array_equal(unnoticed.gather(["s005"])[0], value_of(77))
    store = open_store(root, "toy", decoder, rows, verify=True)
    assert decoder.seen == ["s005"]
    np.testing.assert_array_equal(store.gather(["s005"])[0], value_of(77))
    assert open_store(root, "toy", decoder, rows, verify=True).path == store.path
    assert decoder.seen == ["s005"]


@pytest.mark.parametrize(
    "change",
    [{"parameters": {"preset": "other"}}, {"dtype": "int32"}, {"fixed_shape": None}, {"libraries": ()}, {"name": "t2"}],
)
def test_whatever_changes_the_result_is_another_store(root, rows, change):
    one = open_store(root, "toy", NpyDecoder(), rows)
    other = NpyDecoder(**change)
    assert open_store(root, "toy", other, rows).path != one.path
    assert len(other.seen) == 24, "nothing is taken over from another recipe"


def test_the_key_is_of_names_sizes_times_parameters_and_versions(tmp_path, root, rows):
    # Worked by hand from the documented form, so that a key never changes by accident.
    row = rows[0]
    decoder = NpyDecoder(parameters={"b": 1, "a": [1.5, "x"]})
    recipe = recipe_of("toy", decoder)
    assert recipe == {
        "format": 1,
        "dataset": "toy",
        "decoder": "tiny",
        "parameters": {"a": [1.5, "x"], "b": 1},
        "libraries": {"numpy": np.__version__},
        "dtype": "uint8",
        "fixed_shape": [4, 3],
    }
    status = row.paths[0].stat()
    facts = f'["s000","",[["../media/clip000.npy",{status.st_size},{status.st_mtime_ns}]]]'
    sources = hashlib.sha256(hashlib.sha256(facts.encode()).digest()[:16]).hexdigest()
    text = json.dumps({"recipe": recipe, "sources": sources}, sort_keys=True, separators=(",", ":"))
    assert key_of(recipe, survey([row], root)) == hashlib.sha256(text.encode()).hexdigest()


# -- only what is whole is believed ----------------------------------------------------------------


def damage(path, how):
    shard = path / "shard-00001.bin"
    if how == "shard missing":
        shard.unlink()
    elif how == "shard truncated":
        os.truncate(shard, shard.stat().st_size - 1)
    elif how == "shard longer":
        with shard.open("ab") as file:
            file.write(b"\0")
    elif how == "no DONE":
        (path / "DONE").unlink()
    elif how == "another DONE":
        (path / "DONE").write_text("0" * 64)
    elif how == "manifest truncated":
        (path / "manifest.json").write_bytes((path / "manifest.json").read_bytes()[:-5])
    else:
        name = how.split()[0]
        data = bytearray((path / name).read_bytes())
        data[-1] ^= 1
        (path / name).write_bytes(data)


DAMAGES = [
    "shard missing",
    "shard truncated",
    "shard longer",
    "no DONE",
    "another DONE",
    "manifest truncated",
    "rows.npy damaged",
    "media.npy damaged",
    "errors.jsonl missing",
]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_store_that_was_copied_in_part_is_refused_and_mended(root, rows, how):
    whole = open_store(root, "toy", NpyDecoder(), rows)
    before = tree_bytes(whole.path)
    if how == "errors.jsonl missing":
        (whole.path / "errors.jsonl").unlink()
    else:
        damage(whole.path, how)
    with pytest.raises(StoreError, match=str(whole.path)):
        Store(whole.path)
    decoder = NpyDecoder()
    mended = open_store(root, "toy", decoder, rows)
    assert tree_bytes(mended.path) == before
    if how.startswith("shard"):
        assert decoder.seen == ["s008", "s010", "s011", "s012", "s013", "s015"], "only the damaged shard's rows"


def test_one_wrong_byte_in_a_shard_is_found_and_mended_by_verify(root, rows):
    store = open_store(root, "toy", NpyDecoder(), rows)
    before = tree_bytes(store.path)
    shard = store.path / "shard-00001.bin"
    data = bytearray(shard.read_bytes())
    data[17] ^= 4
    shard.write_bytes(data)
    with pytest.raises(StoreError, match=r"shard-00001\.bin"):
        Store(store.path).verify()
    decoder = NpyDecoder()
    mended = open_store(root, "toy", decoder, rows, verify=True)
    mended.verify()
    assert 0 < len(decoder.seen) < 8
    assert tree_bytes(mended.path) == before


def test_nothing_that_could_run_code_is_ever_loaded(root, rows, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    store = open_store(root, "toy", NpyDecoder(), rows)
    table = np.empty(1, dtype=object)
    table[0] = Evil()
    np.save(store.path / "rows.npy", table, allow_pickle=True)
    # The manifest and DONE agree with it, as an attacker's would.
    manifest = json.loads((store.path / "manifest.json").read_text())
    manifest["files"]["rows.npy"] = hashlib.sha256((store.path / "rows.npy").read_bytes()).hexdigest()
    (store.path / "manifest.json").write_text(json.dumps(manifest))
    digest = hashlib.sha256((store.path / "manifest.json").read_bytes()).hexdigest()
    (store.path / "DONE").write_text(digest)
    with pytest.raises(StoreError, match="damaged"):
        Store(store.path)
    assert not (tmp_path / "ran").exists()


# -- bad files -------------------------------------------------------------------------------------


@pytest.fixture
def bad_rows(rows):
    rows[3].paths[0].unlink()
    rows[6].paths[0].write_bytes(b"")
    data = rows[10].paths[0].read_bytes()
    rows[10].paths[0].write_bytes(data[:-3])
    np.save(rows[12].paths[0], value_of(0, (5, 3)), allow_pickle=False)
    return rows


KINDS = {"s003": "missing", "s006": "empty", "s010": "truncated", "s012": "wrong-shape"}


def test_missing_and_empty_files_are_told_before_anything_is_decoded(root, bad_rows):
    decoder = NpyDecoder()
    with pytest.raises(BadMediaError, match="1 missing, 1 empty") as raised:
        open_store(root, "toy", decoder, bad_rows)
    assert decoder.seen == []
    for name in ("clip003.npy", "clip006.npy", "s003", "tiny of toy", "on_error='skip'"):
        assert name in str(raised.value)
    assert not root.exists()


def test_every_bad_file_is_named_with_its_kind(root, bad_rows):
    keep = [r for r in bad_rows if r.sample not in ("s003", "s006")]
    for _ in range(2):
        with pytest.raises(BadMediaError, match=r"2 of the 28 rows .*1 truncated, 1 wrong-shape") as raised:
            open_store(root, "toy", NpyDecoder(), keep)
        assert "s010: ../media/clip010.npy: truncated" in str(raised.value)
        assert "not (4, 3)" in str(raised.value)
    listed = next(root.glob("toy/tiny-*/errors.jsonl")).read_text().splitlines()
    assert [json.loads(line)["sample"] for line in listed] == ["s010", "s012"]


def test_skip_delivers_the_rest_and_refuses_the_bad(root, bad_rows):
    store = open_store(root, "toy", NpyDecoder(), bad_rows, on_error="skip", max_bad=0.2)
    assert {bad.sample: bad.kind for bad in store.bad} == KINDS
    assert {(bad.modality, bad.path) for bad in store.bad if bad.sample == "s003"} == {("tiny", "../media/clip003.npy")}
    good = [i for i in range(30) if f"s{i:03d}" not in KINDS]
    assert np.flatnonzero(store.usable(range(30))).tolist() == good
    np.testing.assert_array_equal(store.gather(good)[-1], original(bad_rows[29]))
    with pytest.raises(StoreError, match=r"s010.*errors\.jsonl"):
        store.gather(["s001", "s010"])
    # The repeated content of the missing s003 is s004's own file, which is there.
    np.testing.assert_array_equal(store.gather(["s004"])[0], value_of(3))


@pytest.mark.parametrize("shape", [(4, 3), None])
def test_substitute_delivers_zeros(tmp_path, root, shape):
    rows = write_media(tmp_path / "data" / "media", 12, shape)
    rows[0].paths[0].unlink()
    store = open_store(root, "toy", NpyDecoder(fixed_shape=shape), rows, on_error="substitute", max_bad=0.2)
    assert [bad.sample for bad in store.bad] == ["s000"]
    blank, first = store.gather(["s000", "s001"])
    assert blank.shape == first.shape
    assert blank.max() == 0
    np.testing.assert_array_equal(first, original(rows[1]))
    assert store.usable([0]).all()
    # The policy is the reader's: the very same folder is refused or has a hole.
    with pytest.raises(BadMediaError):
        open_store(root, "toy", NpyDecoder(fixed_shape=shape), rows)
    skipping = open_store(root, "toy", NpyDecoder(fixed_shape=shape), rows, on_error="skip", max_bad=0.2)
    assert skipping.path == store.path
    assert not skipping.usable([0]).any()


@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_more_bad_files_than_max_bad_end_the_build_at_once(tmp_path, root, on_error):
    rows = write_media(tmp_path / "data" / "media", 30)
    for row in rows[:3]:
        row.paths[0].write_bytes(f"no array of {row.sample}".encode())
    decoder = NpyDecoder()
    with pytest.raises(BadMediaError, match=r"2 of the 2 rows looked at .*(?s:.)*max_bad=0\.05") as raised:
        open_store(root, "toy", decoder, rows, on_error=on_error, max_bad=0.05)
    assert len(decoder.seen) == 2, "it stopped at the second"
    assert "s001" in str(raised.value)
    assert open_store(root, "toy", decoder, rows, on_error=on_error, max_bad=0.1).bad


def test_bad_rows_outside_the_rows_asked_for_do_not_count(root, bad_rows):
    open_store(root, "toy", NpyDecoder(), bad_rows, on_error="skip", max_bad=0.2)
    decoder = NpyDecoder()
    assert open_store(root, "toy", decoder, bad_rows[20:]).bad == []
    assert decoder.seen == []


def test_a_mended_file_costs_one_decode(root, bad_rows):
    open_store(root, "toy", NpyDecoder(), bad_rows, on_error="skip", max_bad=0.2)
    for i in (3, 6, 10, 12):
        np.save(bad_rows[i].paths[0], value_of(100 + i), allow_pickle=False)
    decoder = NpyDecoder()
    store = open_store(root, "toy", decoder, bad_rows)
    assert decoder.seen == ["s003", "s006", "s010", "s012"]
    assert store.bad == []


def test_values_that_are_not_finite_are_bad_and_so_are_those_too_large_for_the_type(tmp_path, root):
    rows = write_media(tmp_path / "data" / "media", 4, dtype="float32")
    np.save(rows[1].paths[0], np.full((4, 3), np.nan, np.float32), allow_pickle=False)
    np.save(rows[2].paths[0], np.full((4, 3), 1e6, np.float32), allow_pickle=False)
    with np.errstate(over="ignore"):
        store = open_store(root, "toy", NpyDecoder(dtype="float16"), rows, on_error="skip", max_bad=1.0)
    assert [(bad.sample, bad.kind) for bad in store.bad] == [("s001", "not-finite"), ("s002", "not-finite")]


def test_a_fault_of_the_decoder_is_no_bad_file(root, rows):
    class Broken(NpyDecoder):
        def __call__(self, row):
            return super().__call__(row).astype(np.int64)

    with pytest.raises(TypeError, match="returned an array of int64; it declares an array of uint8") as raised:
        open_store(root, "toy", Broken(), rows, on_error="skip")
    assert "s000" in raised.value.__notes__[0]

    class Wrong(NpyDecoder):
        def __call__(self, row):
            return {}[row.sample]

    with pytest.raises(KeyError):
        open_store(root, "toy", Wrong(), rows, on_error="skip")
    assert not list(root.glob("toy/tiny-*/DONE"))


# -- workers, progress, estimates, arguments -------------------------------------------------------


@pytest.mark.parametrize(("workers", "pool"), [(1, "thread"), (3, "thread"), (2, "process")])
def test_workers_change_no_byte(tmp_path, root, bad_rows, workers, pool):
    plain = open_store(root, "toy", NpyDecoder(), bad_rows, on_error="skip", max_bad=0.2)
    other = tmp_path / "data" / ".dus-other"
    found = open_store(other, "toy", NpyDecoder(), bad_rows, on_error="skip", max_bad=0.2, workers=workers, pool=pool)
    assert tree_bytes(found.path) == tree_bytes(plain.path)


def test_progress_counts_every_row_once_and_goes_on_after_a_stop(root, rows):
    calls = []
    open_store(root, "toy", NpyDecoder(), rows, progress=lambda *call: calls.append(call))
    assert calls == [(i, 30) for i in range(31)]

    class Stopping(NpyDecoder):
        def __call__(self, row):
            if row.sample == "s020":
                raise KeyboardInterrupt
            return super().__call__(row)

    decoder = Stopping(name="again")
    with pytest.raises(KeyboardInterrupt):
        open_store(root, "toy", decoder, rows)
    calls.clear()
    decoder = NpyDecoder(name="again")
    open_store(root, "toy", decoder, rows, progress=lambda *call: calls.append(call))
    assert calls[0] == (16, 30), "two whole shards of 8"
    assert decoder.seen[0] == "s016"


def test_the_estimate_of_a_fixed_shape_is_exact_and_decodes_nothing(rows):
    decoder = NpyDecoder()
    assert estimate_bytes(decoder, rows) == 30 * 12
    assert decoder.seen == []
    assert estimate_bytes(decoder, [*rows, Row("again", rows[0].paths)]) == 30 * 12, "the same file counts once"


def test_the_estimate_of_ragged_rows_comes_from_a_few_of_them(tmp_path):
    rows = write_media(tmp_path / "media", 30, (7, 5))
    decoder = NpyDecoder(fixed_shape=None, delay=0.002)
    found = estimate(decoder, rows, probes=5)
    assert found.bytes == 30 * 35
    assert decoder.seen == ["s000", "s007", "s014", "s022", "s029"]
    assert found.seconds >= 30 * 0.002
    assert estimate_bytes(decoder, []) == 0


def test_too_little_disk_is_told_before_the_first_shard(root, rows, monkeypatch):
    usage = shutil.disk_usage(root.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=395))
    decoder = NpyDecoder()
    with pytest.raises(StoreError, match="are free"):
        open_store(root, "toy", decoder, rows)
    assert decoder.seen == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=396))  # 30 × 12 × 1.1
    open_store(root, "toy", decoder, rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_error": "ignore"}, "on_error='ignore'"),
        ({"max_bad": 1.5}, "max_bad=1.5"),
        ({"workers": -1}, "workers=-1"),
        ({"pool": "ray"}, "pool='ray'"),
        ({"dataset": "../up"}, "dataset='../up'"),
    ],
)
def test_bad_arguments_are_named_and_write_nothing(root, rows, arguments, message):
    chosen = {"dataset": "toy"} | arguments
    with pytest.raises(ConfigError, match=message):
        open_store(root, chosen.pop("dataset"), NpyDecoder(), rows, **chosen)
    assert not root.exists()


def test_rows_and_decoders_that_cannot_be_are_refused(root, rows):
    with pytest.raises(ConfigError, match="'s001' is listed more than once"):
        open_store(root, "toy", NpyDecoder(), [*rows, rows[1]])
    with pytest.raises(ConfigError, match="not empty"):
        open_store(root, "toy", NpyDecoder(), [Row("", rows[0].paths)])
    with pytest.raises(ConfigError, match="no rows"):
        open_store(root, "toy", NpyDecoder(), [])
    with pytest.raises(ConfigError, match="JSON"):
        open_store(root, "toy", NpyDecoder(parameters={"f": print}), rows)
    with pytest.raises(ConfigError, match="pip install no-such-thing"):
        open_store(root, "toy", NpyDecoder(libraries=("no-such-thing",)), rows)
    store = open_store(root, "toy", NpyDecoder(), rows)
    with pytest.raises(ConfigError, match="'nobody' is not in the store"):
        store.gather(["s001", "nobody"])


def test_a_media_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(MediaError("empty", "a.wav has no samples")))
    assert (error.kind, error.message) == ("empty", "a.wav has no samples")
    with pytest.raises(ConfigError, match="kind='odd'"):
        MediaError("odd", "x")


def test_a_store_in_another_process_or_copy_reads_the_same(root, rows):
    import copy

    store = open_store(root, "toy", NpyDecoder(), rows)
    assert copy.deepcopy(store) is store
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.gather(range(30)), store.gather(range(30)))


@pytest.mark.parametrize("shape", [(4, 3), None])
def test_parts_of_rows_are_read_alone(tmp_path, root, shape):
    rows = write_media(tmp_path / "data" / "media", 12, shape)
    rows[3].paths[0].unlink()
    store = open_store(root, "toy", NpyDecoder(fixed_shape=shape), rows, on_error="substitute", max_bad=0.2)
    order = np.array([7, 2, 7, 3, 11])
    parts = np.stack([np.zeros(5, np.int64), [len(store.gather([i])[0]) - 1 for i in order], np.zeros(5, np.int64)], 1)
    found = store.gather(order, parts=parts)
    assert isinstance(found, list) == (shape is None)
    assert len(found) == 5
    for array, i, part in zip(found, order, parts, strict=True):
        np.testing.assert_array_equal(array, store.gather([i])[0][part])
