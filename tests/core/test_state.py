"""Files of state: what goes in comes out to the bit, nothing runs, nothing is half written."""

import json
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save

import dus_gym.state
from dus_gym.errors import CheckpointError
from dus_gym.state import FORMAT, check_form, load_state, save_state, write_atomically

properties = settings(deadline=None, derandomize=True, max_examples=30)

TENSOR_TYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)
ARRAY_TYPES = ("float64", "float32", "float16", "int64", "int32", "uint8", "uint32", "uint64", "bool")


@pytest.fixture
def through(tmp_path):
    """A state written to a file and read back."""

    def write_and_read(state):
        save_state(tmp_path / "state", "checkpoint", state)
        return load_state(tmp_path / "state", "checkpoint")

    return write_and_read


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("states")


def same(a, b):
    """Equal to the bit and of the same types."""
    if isinstance(a, torch.Tensor):
        if not isinstance(b, torch.Tensor) or a.dtype != b.dtype or a.shape != b.shape:
            return False
        return torch.equal(a.contiguous().flatten().view(torch.uint8), b.contiguous().flatten().view(torch.uint8))
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


# -- there and back --------------------------------------------------------------------------------


def test_a_nested_state_comes_back_to_the_bit(through):
    generator = torch.Generator().manual_seed(0)
    state = {
        "tensors": {str(t): (10 * torch.rand(3, 2, generator=generator)).to(t) for t in TENSOR_TYPES},
        "arrays": {t: (10 * np.random.default_rng(0).random((2, 3))).astype(t) for t in ARRAY_TYPES},
        "special": torch.tensor([float("nan"), float("inf"), -0.0, 5e-324], dtype=torch.float64),
        "rows": [torch.arange(3), [np.arange(2.0), None, {"deep": torch.ones(1)}]],
        "none": None,
        "flags": [True, False],
        "numbers": [0, -1, 2**127, 0.1, 1e-300, -0.0, 1.7976931348623157e308],
        "texts": ["", "ŝ_t", 'quote " and \\ and \n', "a/b"],
        "empty": {"dict": {}, "list": [], "tensor": torch.empty(0, 4), "array": np.empty(0, dtype=np.int64)},
        "generator": np.random.default_rng(3).bit_generator.state,
        "torch_rng": torch.Generator().manual_seed(1).get_state(),
    }
    assert same(through(state), state)


def test_a_single_number_keeps_its_shape(through):
    assert same(through({"t": torch.tensor(2.5)}), {"t": torch.tensor(2.5)})
    assert same(through({"a": np.array(2.5)}), {"a": np.array(2.5)})


def test_views_and_shared_memory_come_back_as_values(through):
    base = torch.arange(12.0).reshape(3, 4)
    state = {"whole": base, "column": base[:, 1], "turned": base.T, "again": base}
    loaded = through(state)
    assert same(loaded, state)
    loaded["whole"][0, 1] = 99.0
    assert loaded["column"][0] == 1.0
    assert loaded["again"][0, 1] == 1.0
    array = np.arange(12).reshape(3, 4)
    assert same(through({"v": array[:, ::2]}), {"v": np.ascontiguousarray(array[:, ::2])})


def test_a_parameter_comes_back_as_a_plain_tensor(through):
    loaded = through({"p": torch.nn.Parameter(torch.ones(2))})
    assert type(loaded["p"]) is torch.Tensor
    assert not loaded["p"].requires_grad


def test_tuples_become_lists_and_numpy_numbers_pythons(through):
    loaded = through({"t": (1, 2), "f": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True)})
    assert same(loaded, {"t": [1, 2], "f": 0.5, "i": 3, "b": True})


@pytest.mark.filterwarnings("error")
def test_an_array_that_may_not_be_written_is_saved_without_a_warning(through):
    array = np.arange(3)
    array.flags.writeable = False
    torch.set_warn_always(True)  # PyTorch says it once a process
    try:
        assert through({"a": array})["a"].tolist() == [0, 1, 2]
    finally:
        torch.set_warn_always(False)


def test_what_was_loaded_may_be_written(through):
    loaded = through({"a": np.zeros(3), "t": torch.zeros(3)})
    loaded["a"][0] = loaded["t"][0] = 5.0
    assert loaded["a"].tolist() == loaded["t"].tolist() == [5.0, 0.0, 0.0]


def test_saving_changes_nothing_it_was_given(tmp_path):
    state = {"t": torch.ones(2, requires_grad=True), "list": [np.zeros(1)]}
    save_state(tmp_path / "state", "checkpoint", state)
    assert state["t"].requires_grad
    assert isinstance(state["list"][0], np.ndarray)


@pytest.mark.parametrize(
    "text", ["tensor:abc", "array:abc", "tensor:", "tensor:/real", "array:/real", "text:tensor:/a"]
)
def test_text_that_looks_like_a_reference_stays_text(through, text):
    state = {"name": text, "list": [text], "real": torch.ones(2)}
    assert same(through(state), state)


def test_a_key_that_looks_like_a_path_overwrites_no_other(through):
    state = {"a/b": torch.ones(1), "a": {"b": torch.zeros(1), "0": np.ones(2)}, "a/0": np.zeros(2)}
    assert same(through(state), state)


@pytest.mark.parametrize("key", ["", "/", "tensor:x", "__metadata__", "ä"])
def test_any_text_is_a_key(through, key):
    state = {key: {key: torch.ones(2), "x": 1}}
    assert same(through(state), state)


def test_a_state_of_any_length_can_be_read_back(folder, monkeypatch):
    """The first bytes of the file are the length of its header: no length may make it look like a pickle."""
    monkeypatch.setattr(dus_gym.state.os, "fsync", lambda fd: None)
    path = folder / "length"
    for length in range(0, 1600, 8):
        state = {"text": "x" * length, "tensor": torch.ones(3)}
        save_state(path, "checkpoint", state)
        assert same(load_state(path, "checkpoint"), state)


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=10),
    st.sampled_from(TENSOR_TYPES).map(lambda t: torch.arange(6).reshape(2, 3).to(t)),
    st.sampled_from(ARRAY_TYPES).map(lambda t: np.arange(3).astype(t)),
)
nested = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab/:0", max_size=4), inner, max_size=4),
    max_leaves=12,
)


@properties
@given(st.dictionaries(st.text("ab/:0", max_size=4), nested, max_size=4))
def test_any_state_comes_back(folder, state):
    save_state(folder / "any", "checkpoint", state)
    assert same(load_state(folder / "any", "checkpoint"), state)


@pytest.mark.parametrize(
    ("state", "error", "named"),
    [
        ({"outer": {3: 1}}, TypeError, r"keys must be strings; /outer has 3"),
        ({1: 1}, TypeError, r"keys must be strings; the top level has 1"),
        ({"x": {1, 2}}, TypeError, "set"),
        ({"x": float("nan")}, ValueError, "JSON"),
        ({"x": np.array(["text"])}, TypeError, "str_"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_is_written(tmp_path, state, error, named):
    with pytest.raises(error, match=named):
        save_state(tmp_path / "state", "checkpoint", state)
    assert list(tmp_path.iterdir()) == []


# -- files that are not what they should be --------------------------------------------------------


def write_with(path, header, **tensors):
    """A safetensors file with any header."""
    path.write_bytes(save(tensors or {"/t": torch.ones(1)}, metadata=header))
    return path


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere does not exist; give the path of a checkpoint"):
        load_state(tmp_path / "nowhere", "checkpoint")
    with pytest.raises(CheckpointError, match="does not exist"):
        load_state(tmp_path, "checkpoint")


def test_another_kind_is_refused(tmp_path):
    save_state(tmp_path / "state", "policy", {"x": 1})
    assert load_state(tmp_path / "state", "policy") == {"x": 1}
    with pytest.raises(CheckpointError, match=r"state holds 'policy', not a checkpoint"):
        load_state(tmp_path / "state", "checkpoint")


def test_a_file_of_other_software_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_state(write_with(tmp_path / "model.safetensors", None), "checkpoint")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_state(write_with(tmp_path / "model.safetensors", {"format": "pt"}), "checkpoint")


@pytest.mark.parametrize("header", [{}, {"format": "x"}, {"format": "1"}, {"format": "1", "state": "[" * 5}])
def test_a_damaged_header_is_refused(tmp_path, header):
    with pytest.raises(CheckpointError):
        load_state(write_with(tmp_path / "state", header | {"kind": "checkpoint"}), "checkpoint")


def test_a_reference_to_nothing_is_damage(tmp_path):
    save_state(tmp_path / "state", "checkpoint", {"t": torch.ones(2)})
    with safe_open(tmp_path / "state", framework="pt") as file:
        header = file.metadata()
    write_with(tmp_path / "state", header, another=torch.ones(2))
    with pytest.raises(CheckpointError, match="damaged"):
        load_state(tmp_path / "state", "checkpoint")


def test_a_newer_format_is_refused_and_says_what_to_do(tmp_path):
    header = {"format": str(FORMAT + 1), "kind": "checkpoint", "state": "{}"}
    with pytest.raises(CheckpointError, match=rf"format {FORMAT + 1}; .*up to {FORMAT}. Install a newer dus-gym"):
        load_state(write_with(tmp_path / "state", header), "checkpoint")


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "state"
    save_state(path, "checkpoint", {"t": torch.ones(50), "text": "x" * 40})
    data = path.read_bytes()
    for length in [*range(len(data) - 1, 0, -7), 1, 0]:
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"state .*can't be loaded|state .*refused"):
            load_state(path, "checkpoint")


def test_bytes_added_to_a_file_are_refused(tmp_path):
    save_state(tmp_path / "state", "checkpoint", {"t": torch.ones(2)})
    with (tmp_path / "state").open("ab") as file:
        file.write(b"more")
    with pytest.raises(CheckpointError, match="can't be loaded"):
        load_state(tmp_path / "state", "checkpoint")


@pytest.mark.parametrize("data", [b"hello", b"{}", b"\x00" * 100, b"\xff" * 100, struct.pack("<Q", 10**12) + b"{}"])
def test_a_file_of_anything_else_is_refused(tmp_path, data):
    (tmp_path / "state").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"state .*not a checkpoint"):
        load_state(tmp_path / "state", "checkpoint")


class Trap:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_and_its_code_does_not_run(tmp_path, protocol):
    sprung = tmp_path / "sprung"
    data = pickle.dumps({"state": Trap(sprung)}, protocol=protocol)
    pickle.loads(data)["state"].close()  # the trap works
    sprung.unlink()
    (tmp_path / "state").write_bytes(data)
    with pytest.raises(CheckpointError, match="pickle and is refused" if protocol >= 2 else "can't be loaded"):
        load_state(tmp_path / "state", "checkpoint")
    assert not sprung.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_save_file_is_refused_and_its_code_does_not_run(tmp_path, zipped):
    sprung = tmp_path / "sprung"
    content = {"w": torch.ones(2), "t": Trap(sprung)}
    torch.save(content, tmp_path / "state", _use_new_zipfile_serialization=zipped)
    sprung.unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="pickle and is refused"):
        load_state(tmp_path / "state", "checkpoint")
    assert not sprung.exists()


# -- replaced whole or not at all ------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, call, error):
    path = tmp_path / "state"
    save_state(path, "checkpoint", {"x": 1})

    def fails(*args):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(dus_gym.state.os, call, fails)
        with pytest.raises(type(error)):
            save_state(path, "checkpoint", {"x": 2})
    assert load_state(path, "checkpoint") == {"x": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_the_new_file_is_complete_before_it_replaces_the_old(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen = []
    replace = os.replace

    def spy(source, target):
        seen.append((source.read_bytes(), path.read_bytes(), source.parent))
        replace(source, target)

    monkeypatch.setattr(dus_gym.state.os, "replace", spy)
    write_atomically(path, b"new")
    assert seen == [(b"new", b"old", tmp_path)], "beside the target: a rename across file systems is no rename"
    assert path.read_bytes() == b"new"


def test_folders_are_made_and_files_have_the_ordinary_mode(tmp_path):
    path = tmp_path / "a" / "b" / "state"
    save_state(path, "checkpoint", {})
    (tmp_path / "plain").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert list(path.parent.iterdir()) == [path]


def test_the_header_is_json_with_the_format_and_the_kind(tmp_path):
    save_state(tmp_path / "state", "policy", {"a": [1, torch.ones(2)]})
    with safe_open(tmp_path / "state", framework="pt") as file:
        header = file.metadata()
    assert (header["format"], header["kind"]) == (str(FORMAT), "policy")
    assert json.loads(header["state"])["a"][0] == 1


def test_a_flipped_bit_anywhere_is_refused(tmp_path):
    path = tmp_path / "state"
    save_state(path, "checkpoint", {"w": torch.arange(6.0), "rate": 0.125, "name": "ogm", "flags": np.array([True])})
    whole = path.read_bytes()
    assert load_state(path, "checkpoint")["rate"] == 0.125
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        if path.read_bytes()[8:].rstrip() == whole[8:].rstrip():
            continue
        with pytest.raises(CheckpointError):
            load_state(path, "checkpoint")


def test_other_values_of_the_same_shape_are_told_to_be_damage(tmp_path):
    path = tmp_path / "state"
    save_state(path, "checkpoint", {"w": torch.arange(6.0)})
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"state is damaged.*checksum.*another copy"):
        load_state(path, "checkpoint")


def test_a_file_without_a_checksum_is_refused(tmp_path):
    header = {"format": "1", "kind": "checkpoint", "state": json.dumps({"rate": 1})}
    (tmp_path / "state").write_bytes(save({}, metadata=header))
    with pytest.raises(CheckpointError, match="checksum"):
        load_state(tmp_path / "state", "checkpoint")


def test_what_killed_writers_left_is_swept_after_a_minute(tmp_path):
    left = {name: tmp_path / f".a.json.{name}" for name in ("4194305", "4194306", "x", str(os.getppid()))}
    for path in left.values():
        path.write_text("")
        os.utime(path, (0, 0))
    os.utime(left["4194306"])
    write_atomically(tmp_path / "a.json", b"{}")
    assert [name for name, path in left.items() if path.exists()] == ["4194306", "x", str(os.getppid())]


def test_a_header_with_a_line_separator_is_still_one_line(tmp_path):
    path = tmp_path / "model.safetensors"
    header = json.dumps({"a": {"dtype": "F\u2028", "shape": [1], "data_offsets": [0, 4]}}, ensure_ascii=False).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(CheckpointError, match="damaged or not a model") as caught:
        load_state(path, "model")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("found", [10**400, -(10**400), float("inf"), float("nan")])
def test_a_number_that_no_float_holds_is_refused_wherever_a_number_is_expected(found):
    for fresh in ({"clock": 0.0}, {"deep": [{"count": 0}]}):
        state = {"clock": found, "deep": [{"count": found}]}
        with pytest.raises(CheckpointError, match=r"the state/(clock|deep/0/count) is damaged .* is out of range"):
            check_form(fresh, state, "the state")
    check_form({"clock": 0.0, "word": 1}, {"clock": 1.7e308, "word": 2**128}, "the state")
