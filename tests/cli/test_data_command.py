"""``dus data``: from a listed name to a run on its files."""

import json
import os
from pathlib import Path

import pytest
from command import dus

from dus_gym.data.media_source import MediaSource
from dus_gym.data.mock import MOCKS, make_mock
from dus_gym.data.registry import DATA_SETS


def data(*words, cwd, check=0):
    """The JSON line of one command."""
    done = dus("data", *words, "--json", "--quiet", cwd=cwd, check=check)
    return json.loads(done.stdout)


@pytest.fixture
def mock(tmp_path):
    return make_mock("cremad", tmp_path / "mock", 12)


def tree(root):
    return sorted((p.relative_to(root).as_posix(), p.stat().st_mtime_ns) for p in root.rglob("*"))


# -- list ------------------------------------------------------------------------------------------


def test_list_names_every_data_set_with_its_id_and_how_to_get_it(tmp_path):
    rows = {row["name"]: row for row in data("list", cwd=tmp_path)["data"]}
    assert list(rows) == [
        "cremad", "kinetics-sounds", "twitter2015", "sarcasm", "nvgesture",
        "food101", "ucf101", "vggsound", "cmu-mosei",
        "avdigits", "cremad-ratings", "mfeat", "sarcasm-tags",
    ]  # fmt: skip
    assert rows["cremad"]["modalities"] == ["audio", "video"]
    assert rows["cremad"]["published"] == {"train": 6698, "test": 744}
    assert rows["mfeat"]["how"] == "dus data fetch mfeat --root DIR"
    assert "Git LFS" in rows["cremad"]["how"]
    text = dus("data", "list", cwd=tmp_path, check=0).stdout
    for row in rows.values():
        assert row["env"] in text
        assert row["how"] in text
        assert row["size"] in text


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_word_leads_to_the_source_that_has_it(name):
    known = DATA_SETS[name]
    assert known.source.dataset == name
    assert isinstance(known.source, MediaSource) == known.has_mock == (not known.can_be_fetched)
    assert known.published["train"] > known.published["test"] / 2


# -- rehearsal -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MOCKS)
def test_a_mock_of_every_data_set_of_media_is_scanned_built_and_trained_on(tmp_path, name):
    made = data("mock", name, "--root", "m", "--clips", 12, cwd=tmp_path)
    assert made["clips"] == 12
    found = data("scan", name, "--root", "m", cwd=tmp_path)
    assert found["ok"]
    assert found["data_kind"] == "mock"
    assert sum(count for counts in found["counts"].values() for count in counts.values()) == 12
    task = DATA_SETS[name].task
    assert [part["name"] for part in found["parts"]] == list(task.modalities)
    assert all(part["cache_bytes"] > 0 for part in found["parts"])
    built = data("build", name, "--root", "m", cwd=tmp_path)["modalities"]
    assert [(part["rows"], part["bad"]) for part in built] == [(12, [])] * len(task.modalities)
    words = (DATA_SETS[name].env, "--data-root", "m", "--epochs", 2, "--total-batch", 18, "--quiet", "--json")
    summary = json.loads(dus("train", *words, cwd=tmp_path, check=0).stdout)
    assert summary["data_kind"] == "mock"
    assert set(summary["modalities"]) == set(task.modalities)


# -- scan ------------------------------------------------------------------------------------------


def test_scan_writes_nothing(tmp_path, mock):
    before = tree(tmp_path)
    dus("data", "scan", "cremad", "--root", mock, cwd=tmp_path, check=0)
    assert tree(tmp_path) == before


def test_scan_says_what_is_missing_and_exits_1(tmp_path, mock):
    first, second, *_ = sorted(mock.glob("AudioWAV/*.wav"))
    first.unlink()
    second.write_bytes(b"")
    found = data("scan", "cremad", "--root", mock, cwd=tmp_path, check=1)
    assert not found["ok"]
    audio, video = found["parts"]
    assert audio["bad"] == {"missing": 1, "empty": 1}
    assert video["bad"] == {}
    assert any(first.name in line for line in audio["first"])
    text = dus("data", "scan", "cremad", "--root", mock, cwd=tmp_path, check=1).stdout
    assert "1 missing, 1 empty" in text
    assert first.name in text
    assert "not everything is there" in text


def test_scan_decodes_some_and_reports_what_it_cannot(tmp_path, mock):
    for path in mock.glob("AudioWAV/*.wav"):
        path.write_bytes(b"<html>404 Not Found</html>")
    found = data("scan", "cremad", "--root", mock, cwd=tmp_path, check=1)
    audio, video = found["parts"]
    assert audio["bad"] == {"undecodable": audio["probes"]}
    assert audio["probes"] == video["probes"] == 8
    assert video["bad"] == {}
    text = dus("data", "scan", "cremad", "--root", mock, cwd=tmp_path, check=1).stdout
    assert "8 undecodable (of all files; 8 samples were decoded, dus data build decodes all)" in text
    assert text.splitlines()[-1] == "not everything is there: 8 undecodable"


def test_scan_finds_every_pointer_of_git_lfs(tmp_path, mock):
    wavs = sorted(mock.glob("AudioWAV/*.wav"))
    for path in wavs[3:]:
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 72862\n")
    audio = data("scan", "cremad", "--root", mock, cwd=tmp_path, check=1)["parts"][0]
    assert audio["bad"] == {"undecodable": len(wavs) - 3}
    assert "Git LFS pointer" in audio["first"][0]
    text = dus("data", "scan", "cremad", "--root", mock, cwd=tmp_path, check=1).stdout
    assert text.splitlines()[-1].endswith("undecodable; some are Git LFS pointers: run `git lfs pull`")


def test_scan_names_the_first_twenty_and_counts_the_rest(tmp_path):
    root = make_mock("cremad", tmp_path / "m", 30)
    for path in sorted(root.glob("AudioWAV/*.wav"))[:25]:
        path.unlink()
    text = dus("data", "scan", "cremad", "--root", root, cwd=tmp_path, check=1).stdout
    assert text.count(".wav") == 20
    assert "and 5 more" in text


def test_scan_sets_samples_of_each_class_beside_the_published_ones(tmp_path, mock):
    found = data("scan", "cremad", "--root", mock, cwd=tmp_path)
    assert found["published"] == {"train": 6698, "test": 744}
    assert found["counts"] == {"train": {"happy": 4, "neutral": 4}, "test": {"happy": 2, "neutral": 2}}
    text = dus("data", "scan", "cremad", "--root", mock, cwd=tmp_path, check=0).stdout
    assert "6698" in text


def test_lists_that_are_missing_or_damaged_are_a_finding(tmp_path, mock):
    (mock / "train.csv").write_text("no clip,ANG\n")
    found = data("scan", "cremad", "--root", mock, cwd=tmp_path, check=1)
    assert "line 1" in found["problem"]
    (mock / "train.csv").unlink()
    assert "looked for train.csv" in data("scan", "cremad", "--root", mock, cwd=tmp_path, check=1)["problem"]


# -- build -----------------------------------------------------------------------------------------


def test_build_names_every_bad_file_and_exits_1(tmp_path, mock):
    clips = sorted(mock.glob("AudioWAV/*.wav"))
    for path in clips[:3]:
        path.write_bytes(b"RIFF no sound")
    frame = next(mock.glob("Image-01-FPS/*/00000.jpg"))
    frame.write_bytes(frame.read_bytes()[:200])
    done = dus("data", "build", "cremad", "--root", mock, cwd=tmp_path, check=1)
    for path in clips[:3]:
        assert path.name in done.stderr
    assert frame.parent.name in done.stderr
    assert "4 bad files" in done.stderr


def test_build_decodes_nothing_where_files_are_missing(tmp_path, mock):
    for path in sorted(mock.glob("AudioWAV/*.wav"))[:2]:
        path.unlink()
    done = dus("data", "build", "cremad", "--root", mock, cwd=tmp_path, check=1)
    assert "2 bad files" in done.stderr
    assert not (mock / ".dus-cache").exists()


def test_what_build_skips_a_run_leaves_out_and_says_so(tmp_path, mock):
    clip = (mock / "test.csv").read_text().partition(",")[0]
    (mock / f"AudioWAV/{clip}.wav").unlink()
    built = data("build", "cremad", "--root", mock, "--on-error", "skip", cwd=tmp_path)["modalities"]
    assert [len(part["bad"]) for part in built] == [1, 0]
    words = ("DUS-CREMAD-v0", "--data-root", mock, "--epochs", 1, "--agent", "uniform", "--json")
    dus("train", *words, cwd=tmp_path, check=1)
    skip = ("--task.on-error", "skip", "--task.max-bad", ".1")
    done = dus("train", *words, *skip, cwd=tmp_path, check=0)
    assert json.loads(done.stdout.splitlines()[-1])["dropped"] == {"test": 1}
    said = " ".join((done.stdout + done.stderr).split())
    assert "1 of test; the figures are of the others" in said
    assert f"AudioWAV/{clip}.wav:missing" in said.replace(" ", "")  # wherever lines were broken


def test_a_second_build_decodes_nothing(tmp_path, mock, monkeypatch):
    data("build", "cremad", "--root", mock, cwd=tmp_path)
    cache = tree(mock / ".dus-cache")
    data("build", "cremad", "--root", mock, cwd=tmp_path)
    assert tree(mock / ".dus-cache") == cache


# -- fetch -----------------------------------------------------------------------------------------


@pytest.mark.skipif("DUS_TEST_DATA" not in os.environ, reason="DUS_TEST_DATA names no folder with the real files")
def test_fetch_takes_files_that_are_there_and_scan_finds_them_right(tmp_path):
    source = Path(os.environ["DUS_TEST_DATA"]) / "mfeat"
    fetched = data("fetch", "mfeat", "--root", "d", "--from", source, cwd=tmp_path)
    assert (fetched["new"], fetched["present"]) == (1, 0)
    assert data("fetch", "mfeat", "--root", "d", "--from", source, cwd=tmp_path)["present"] == 1
    found = data("scan", "mfeat", "--root", "d", cwd=tmp_path)
    assert {split: sum(counts.values()) for split, counts in found["counts"].items()} == {
        "train": 900, "validation": 100, "test": 1000,
    }  # fmt: skip
    (tmp_path / "d/handwritten.mat").write_bytes(b"another file")
    found = data("scan", "mfeat", "--root", "d", cwd=tmp_path, check=1)
    assert "SHA-256 differs" in found["parts"][0]["first"][0]


def test_scan_of_what_was_not_fetched_names_its_files(tmp_path):
    found = data("scan", "mfeat", "--root", tmp_path, cwd=tmp_path, check=1)
    assert found["parts"][0]["bad"] == {"missing": 1}
    assert "handwritten.mat" in found["parts"][0]["first"][0]


# -- what can't be ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("lst",), "'list'"),
        (("scan", "cremd", "--root", "."), "'cremad'"),
        (("scan", "cremad", "--root", "nowhere"), "root=nowhere is no folder"),
        (("build", "mfeat", "--root", "."), "nothing to decode"),
        (("build", "cremad", "--root", ".", "--on-error", "ignore"), "on_error='ignore'"),
        (("fetch", "cremad", "--root", "d"), "can't be fetched"),
        (("mock", "mfeat", "--root", "d"), "'mfeat'"),
        (("mock", "cremad", "--root", "d", "--clips", 5), "clips=5"),
        (("mock", "cremad", "--root", "full"), "no mock"),
    ],
)
def test_impossible_wishes_exit_2_and_write_nothing(tmp_path, words, named):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("")
    before = tree(tmp_path)
    done = dus("data", *words, cwd=tmp_path, check=2)
    assert named in done.stderr
    assert tree(tmp_path) == before


def test_help_names_the_five_and_each_has_its_own(tmp_path):
    text = dus("data", "--help", cwd=tmp_path, check=0).stdout
    for command in ("list", "scan", "build", "fetch", "mock"):
        assert command in text
    assert "--task.on-error" in dus("data", "scan", "cremad", "--help", cwd=tmp_path, check=0).stdout
    assert "--clips" in dus("data", "mock", "--help", cwd=tmp_path, check=0).stdout
    assert dus("data", cwd=tmp_path).returncode == 2
