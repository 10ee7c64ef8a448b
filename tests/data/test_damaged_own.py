"""Own data that is damaged, hostile, or lies where the runs do."""

import io
import shutil
import unicodedata
import zipfile

import numpy as np
import pytest
from command import dus

from dus_gym.data.archive import open_files
from dus_gym.data.mock import make_mock
from dus_gym.data.own.arrays import read_arrays
from dus_gym.data.own.digest import digest_of
from dus_gym.data.own.folder import read_folder
from dus_gym.errors import ConfigError, FetchError


def media(root, names=("pulse", "step"), count=40, sample="s{}"):
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(count):
            np.save(root / name / f"{sample.format(i)}.npy", np.full(3, i % 2, np.float32))
    lines = [f"{sample.format(i)},{'ab'[i % 2]}" for i in range(count)]
    (root / "labels.csv").write_text("\n".join(["sample,label", *lines]), encoding="utf-8")
    return root


def test_runs_in_the_folder_of_the_data_are_no_modality(tmp_path):
    root = media(tmp_path / "data")
    before = digest_of(root)
    for _ in range(2):
        dus("train", "--data", ".", "--epochs", "1", "--quiet", cwd=root, check=0)
    dus("train", "--data", ".", "--epochs", "1", "--quiet", "--out", "mine", cwd=root, check=0)
    (root / "begun/x").mkdir(parents=True)
    assert list(read_folder(root).kinds) == ["pulse", "step"]
    assert digest_of(root) == before
    dus("train", "--data", ".", "--epochs", "1", "--quiet", "--out", "mine", "--resume", cwd=root, check=0)


def test_a_folder_that_is_empty_is_still_named(tmp_path):
    root = media(tmp_path)
    (root / "third").mkdir()
    with pytest.raises(ConfigError, match="third holds no file"):
        read_folder(root)


@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_is_found_in_either_spelling(tmp_path, listed, stored):
    root = media(tmp_path, sample=unicodedata.normalize(stored, "é{}"))
    text = (root / "labels.csv").read_text(encoding="utf-8")
    (root / "labels.csv").write_text(unicodedata.normalize(listed, text), encoding="utf-8")
    assert all(row.paths[0].is_file() for rows in read_folder(root).rows.values() for row in rows)


def header(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


LABELS = header(np.arange(12) % 2)


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("dus_gym.data.own.arrays.MOST_SMALL", 1 << 16)
    path = archive(tmp_path / "own.npz", labels=LABELS, x=header(np.zeros((12, 100_000))))
    with pytest.raises(ConfigError, match=r"unpacks to 9600352; at most 9\d{5} are unpacked"):
        read_arrays(path)


@pytest.mark.parametrize("shape", ["(12, 3), ", "(12, 5), ", "(99, 4), "])
def test_an_array_of_another_length_than_its_header_says_is_damaged(tmp_path, shape):
    damaged = header(np.ones((12, 4))).replace(b"(12, 4), ", shape.encode())
    with pytest.raises(ConfigError, match=r"'x'.*damaged .* bytes by its header"):
        read_arrays(archive(tmp_path / "own.npz", labels=LABELS, x=damaged))


def test_two_arrays_of_one_name_are_refused(tmp_path):
    path = archive(tmp_path / "own.npz", labels=LABELS, x=header(np.ones((12, 4))))
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("x.npy", header(np.zeros((12, 4))))
    with pytest.raises(ConfigError, match="more than once"):
        read_arrays(path)


def test_a_sparse_matrix_is_told_what_helps(tmp_path):
    np.savez(tmp_path / "own.npz", x=np.array({"a": 1}, dtype=object), labels=np.arange(12) % 2)
    with pytest.raises(ConfigError, match=r"x\.toarray\(\) of a sparse matrix"):
        read_arrays(tmp_path / "own.npz")


def read_all(path):
    with open_files(path) as files:
        for name in files.sizes:
            files.open(name).read()


@pytest.mark.parametrize("cut", [100, 1000, 3000])
@pytest.mark.parametrize("kind", ["gztar", "xztar", "bztar", "zip"])
def test_a_cut_archive_is_one_error(tmp_path, kind, cut):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_bytes(np.random.default_rng(0).bytes(5000))
    path = tmp_path / "cut"
    whole = shutil.make_archive(str(tmp_path / "whole"), kind, tmp_path / "in")
    with open(whole, "rb") as file:
        path.write_bytes(file.read()[:-cut])
    with pytest.raises(FetchError, match="cut"):
        read_all(path)


def test_a_disk_that_is_full_names_the_mock(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dus_gym.data.sets.mock.sarcasm.write", full)
    done = dus("data", "mock", "sarcasm", "--root", tmp_path / "mock", cwd=tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path / 'mock'} can't be written (No space left on device); make room, then try again." in done.stderr


def test_what_a_killed_mock_left_is_swept(tmp_path):
    for name in (".m.new-4194305", ".m.old-4194305", ".m.new-x", ".n.new-4194305"):
        (tmp_path / name).mkdir()
    make_mock("sarcasm", tmp_path / "m", 12)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".m.new-x", ".n.new-4194305", "m"]


def test_an_agents_options_are_checked_for_the_modalities_of_the_data(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "own.npz", a=rng.normal(size=(60, 2)), b=rng.normal(size=(60, 2)), c=rng.normal(size=(60, 2)),
             labels=np.arange(60) % 2)  # fmt: skip
    words = ("compare", "--data", "own.npz", "--agents", "fixed:shares=.4/.2/.4", "--seeds", "1", "--epochs", "1")
    dus(*words, "--out", "c", cwd=tmp_path, check=0)


def test_an_epoch_of_one_iteration_is_said(tmp_path, caplog):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "own.npz", a=rng.normal(size=(41, 2)), b=rng.normal(size=(41, 2)), labels=np.arange(41) % 2)
    dus("train", "--data", "own.npz", "--epochs", "1", "--quiet", cwd=tmp_path, check=0)
    assert "An epoch is one iteration" in caplog.text


@pytest.mark.parametrize(
    "text",
    ["a: &x [1]\nb: *x", "[" * 3000, "a: 2020-13-45", "- a", "\x00"],
    ids=["alias", "deep", "date", "list", "control"],
)
def test_a_file_of_settings_that_is_none_is_one_line(tmp_path, text):
    (tmp_path / "s.yaml").write_text(text)
    done = dus("train", "DUS-Fake-v0", "--config", "s.yaml", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "config=s.yaml" in done.stderr
