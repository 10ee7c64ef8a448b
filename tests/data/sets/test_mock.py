"""Mocks: the published layouts with made-up media, small, repeatable, and something to learn in each modality."""

import hashlib
import json
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier

from dus_gym.data.mock import MOCKS, make_mock
from dus_gym.data.registry import DATA_SETS
from dus_gym.data.sets import nvgesture
from dus_gym.data.sets.mock import cremad as cremad_mock
from dus_gym.data.sets.mock import kinetics_sounds as kinetics_mock
from dus_gym.data.sets.mock import nvgesture as nvgesture_mock
from dus_gym.data.sets.mock import ucf101 as ucf_mock
from dus_gym.data.sets.mock import vggsound as vggsound_mock
from dus_gym.data.sets.mock.material import MOST_CLIPS, TELLING, plan, sentence, vocabulary
from dus_gym.errors import ConfigError, RunFolderError
from dus_gym.seeding import RunSeeds


def content(root):
    files = {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mocks")
    return {name: make_mock(name, folder / name, 12) for name in MOCKS}


@pytest.mark.parametrize("name", MOCKS)
def test_the_published_parser_reads_it_and_every_class_is_there_twice(roots, name):
    known = DATA_SETS[name]
    records = known.source.records(known.task.configured(None, roots[name]).options, roots[name])
    assert len(records) == 12
    counted = Counter((record.split, record.label) for record in records)
    assert min(counted.values()) >= 2
    splits = {record.split for record in records}
    labels = {record.label for record in records}
    assert set(counted) == {(split, label) for split in splits for label in labels}
    assert len(labels) >= 2


@pytest.mark.parametrize("name", MOCKS)
def test_it_is_small_and_says_what_it_is(roots, name):
    assert sum(p.stat().st_size for p in roots[name].rglob("*") if p.is_file()) < 3_000_000
    assert json.loads((roots[name] / "dus-data.json").read_text())["data_kind"] == "mock"


@pytest.mark.parametrize("name", MOCKS)
def test_the_seed_decides_every_byte(roots, name, tmp_path):
    assert content(make_mock(name, tmp_path / "again", 12)) == content(roots[name])
    assert content(make_mock(name, tmp_path / "other", 12, seed=1)) != content(roots[name])


@pytest.mark.parametrize(
    ("clips", "classes", "splits"), [(12, 31, 3), (12, 6, 2), (60, 31, 2), (500, 31, 3), (13, 2, 3)]
)
def test_a_plan_has_exactly_its_clips_and_two_of_each_class_in_every_split(clips, classes, splits):
    names = ("train", "test", "validation")[:splits]
    chosen = plan(clips, classes, names)
    assert len(chosen) == clips
    counted = Counter((clip.split, clip.label) for clip in chosen)
    assert len(counted) == len(names) * min(classes, clips // 6)
    assert min(counted.values()) >= 2


def test_the_largest_mocks_repeat_no_name():
    for module, classes, name in (
        (cremad_mock, 6, "clip_name"),
        (kinetics_mock, 31, "clip_stem"),
        (nvgesture_mock, 25, "clip_folder"),
        (ucf_mock, 101, "clip_name"),
        (vggsound_mock, 309, "clip_id"),
    ):
        names = {getattr(module, name)(clip) for clip in plan(MOST_CLIPS, classes, ("train", "test"))}
        assert len(names) == MOST_CLIPS


def test_nobody_of_nvgesture_is_in_both_splits(roots):
    records = nvgesture.read_lists(roots["nvgesture"])
    groups = {split: {r.group for r in records if r.split == split} for split in ("train", "test")}
    assert len(groups["train"]) >= 2
    assert groups["train"].isdisjoint(groups["test"])


def test_the_vocabulary_has_every_word():
    rng = np.random.default_rng(0)
    words = {word for label in range(3) for _ in range(200) for word in sentence(TELLING[label], rng)}
    assert words <= set(vocabulary())
    assert len(set(vocabulary())) == len(vocabulary())


def test_a_mock_is_replaced_and_anything_else_is_left_alone(tmp_path):
    root = make_mock("sarcasm", tmp_path / "m", 30)
    make_mock("twitter2015", root, 12)
    assert not (root / "text").exists()
    assert (root / "train.tsv").is_file()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    for path in (mine, mine / "thesis.txt"):
        with pytest.raises(RunFolderError, match="give a"):
            make_mock("cremad", path, 12)
    assert (mine / "thesis.txt").read_text() == "mine"


def test_a_mock_that_fails_leaves_nothing(tmp_path, monkeypatch):
    root = make_mock("sarcasm", tmp_path / "m", 12)
    before = content(root)
    monkeypatch.setattr("dus_gym.data.sets.mock.sarcasm.write_lines", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        make_mock("sarcasm", root, 12)
    assert content(root) == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize(
    ("name", "clips", "seed", "message"),
    [("cremd", 12, 0, "cremad"), ("cremad", 11, 0, "clips=11"), ("cremad", 12, -1, "seed=-1")],
)
def test_what_cannot_be_is_named_and_writes_nothing(tmp_path, name, clips, seed, message):
    with pytest.raises(ConfigError, match=message):
        make_mock(name, tmp_path / "m", clips, seed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", MOCKS)
def test_each_modality_tells_the_class_apart(name, tmp_path):
    root = make_mock(name, tmp_path / "m", 36)
    task = DATA_SETS[name].task.configured(None, root)
    data = task.data(RunSeeds(0), root)

    def samples(split, j):
        x = split.fetch(j, torch.arange(len(split.labels)))
        if x.dtype == torch.int64:  # token ids: their counts
            return torch.nn.functional.one_hot(x, 512).sum(1).numpy()
        return x.flatten(1).numpy()

    chance = 1 / len(set(data.train.labels.tolist()))
    for j, modality in enumerate(task.modalities):
        model = RidgeClassifier().fit(samples(data.train, j), data.train.labels)
        reached = model.score(samples(data.test, j), data.test.labels)
        assert reached >= min(0.9, 2.5 * chance), f"{modality}: {reached}"
