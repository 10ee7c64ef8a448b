"""Twitter2015 and Sarcasm from folders in their real formats to a run's splits."""

import json
import os
from collections import defaultdict
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from tweets import BERT, write_sarcasm, write_settings, write_twitter

from dus_gym.data.registry import DATA_SETS, get_task
from dus_gym.data.scan import scan
from dus_gym.data.sets import twitter2015
from dus_gym.encoders import encoder_options
from dus_gym.errors import BadMediaError, ConfigError, DatasetNotFoundError, PretrainedNotFoundError
from dus_gym.seeding import RunSeeds

FOLDER = os.environ.get("DUS_TEST_DATA")
real = pytest.mark.skipif(FOLDER is None, reason="DUS_TEST_DATA is not set to the folder of real annotation files")
CLS, SEP = 2, 3


@pytest.fixture
def twitter(tmp_path):
    return write_twitter(tmp_path)


@pytest.fixture
def tweets(tmp_path):
    return write_sarcasm(tmp_path)


def data_of(name, root, **options):
    return get_task(name).configured(options, root).data(RunSeeds(0), root)


def texts_of(root, split, **options):
    """Ids of a split of Twitter2015 without their padding."""
    data = data_of("Twitter2015", root, **options)
    chosen = getattr(data, split)
    ids = chosen.fetch(0, torch.arange(len(chosen.labels)))
    return [row[row != 0].tolist() for row in ids], chosen.labels.tolist()


@pytest.mark.parametrize(("name", "write"), [("Twitter2015", write_twitter), ("Sarcasm", write_sarcasm)])
def test_a_folder_in_the_published_format_trains_an_epoch(tmp_path, name, write):
    write(tmp_path)
    env = gym.make(f"dus_gym:DUS-{name}-v0", data_root=str(tmp_path), epochs=1, total_batch=8)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    _, reward, terminated, _, info = env.step(env.action_space.sample())
    assert terminated
    assert np.isfinite(reward)
    assert not info.get("diverged", False)
    scores = env.unwrapped.evaluate().modalities
    assert list(scores) == ["text", "image"]
    assert all(0 <= score.accuracy <= 1 for score in scores.values())


# -- Twitter2015 -------------------------------------------------------------------------------------


def test_the_test_list_with_four_names_is_read_by_position(twitter):
    found, labels = texts_of(twitter, "test")
    assert labels == [2, 1, 0]
    assert found[0] == [CLS, 17, 18, 17, 6, SEP, 13, SEP]


def test_a_target_is_the_second_segment_or_in_its_place_or_nowhere(twitter):
    t = [17, 18, 17]
    pair, labels = texts_of(twitter, "train")
    assert pair[0] == [CLS, *t, 6, 7, *t, SEP, 4, 5, SEP]
    inline, _ = texts_of(twitter, "train", target="inline")
    assert inline[0] == [CLS, 4, 5, 6, 7, 4, 5, SEP]
    none, _ = texts_of(twitter, "train", preset="dus")
    assert none[0] == [CLS, *t, 6, 7, *t, SEP]
    # Rows 1 and 2 are one tweet with two targets: without them the same text has two right answers.
    assert labels[1:3] == [0, 2]
    assert pair[1] != pair[2]
    assert none[1] == none[2]


def test_quotes_are_characters(twitter):
    found, _ = texts_of(twitter, "train")
    assert found[3][1:6] == [12, 19, 13, 19, 14]


def test_pictures_shared_by_rows_are_stored_once(twitter):
    data = data_of("Twitter2015", twitter)
    store = data.train.modalities[1].store
    assert store.manifest["rows"] == 18
    assert store.manifest["media"] == 8
    same = data.train.fetch(1, torch.tensor([1, 2]))
    assert torch.equal(same[0], same[1])


def test_a_missing_picture_is_named_and_may_be_left_out(twitter):
    (twitter / "twitter2015_images/8.jpg").unlink()
    with pytest.raises(BadMediaError, match=r"2 of the 18 rows .* \(2 missing\)") as caught:
        data_of("Twitter2015", twitter)
    assert "twitter2015_images/8.jpg" in str(caught.value)
    data = data_of("Twitter2015", twitter, on_error="skip", max_bad=0.2)
    assert data.dropped == {"test": 2}
    assert len(data.test.labels) == 1


@pytest.mark.parametrize("folder", ["twitter15_images", "images", "Twitter15/twitter2015_images"])
def test_the_folder_of_pictures_has_several_names(tmp_path, folder):
    data = data_of("Twitter2015", write_twitter(tmp_path, folder))
    assert data.train.fetch(1, torch.tensor([0])).shape == (1, 3, 16, 16)


def test_another_folder_of_pictures_can_be_named(tmp_path):
    write_twitter(tmp_path, "elsewhere")
    with pytest.raises(BadMediaError, match=r"twitter2015_images/1\.jpg"):
        data_of("Twitter2015", tmp_path)
    assert len(data_of("Twitter2015", tmp_path, images="elsewhere").train.labels) == 12


def test_the_rewritten_header_of_bss_is_read_and_has_no_target(tmp_path):
    write_twitter(tmp_path)
    (tmp_path / "annotations").mkdir()
    for split in ("train", "dev", "test"):
        lines = (tmp_path / f"{split}.tsv").read_text().splitlines()
        rows = [line.split("\t")[1:4] for line in lines[1:]]
        body = "".join("\t".join(row) + "\n" for row in rows)
        (tmp_path / f"annotations/{split}.tsv").write_text("Label\tImageID\tString\n" + body)
        (tmp_path / f"{split}.tsv").unlink()
    found, labels = texts_of(tmp_path, "test")
    assert (found[0], labels) == ([CLS, 17, 18, 17, 6, SEP], [2, 1, 0])


@real
def test_with_the_target_in_its_place_277_training_tweets_contradict_themselves():
    source = get_task("Twitter2015").data_source()
    records = [r for r in source.records(None, Path(FOLDER) / "annotations/twitter2015") if r.split == "train"]
    found = {}
    for target, pairs in (("pair", True), ("pair", False), ("inline", True), ("none", True)):
        labels = defaultdict(set)
        for record in records:
            labels[record.media, source.text_of(record, target, pairs)].add(record.label)
        found[target, pairs] = len(labels), sum(len(several) > 1 for several in labels.values())
    assert found["inline", True] == (2101, 277)
    # Without its name the place of the target still tells it.
    assert found["none", True] == found["pair", True] == found["pair", False] == (3179, 0)
    assert all(twitter2015.TARGET in record.text for record in records)


# -- Sarcasm -----------------------------------------------------------------------------------------


def test_sarcasm_has_its_human_labels_and_not_its_giveaways(tweets):
    data = data_of("Sarcasm", tweets)
    assert data.train.labels.tolist() == [0, 1] * 6
    assert data.validation.labels.tolist() == [0, 1]
    assert data.test.labels.tolist() == [0, 1, 0]
    assert data.data_kind == "mock"


def test_another_version_says_so_in_its_summary(tweets):
    assert get_task("Sarcasm").configured({}, tweets).summary == get_task("Sarcasm").summary
    other = get_task("Sarcasm").configured({"version": "mmsd2"}, tweets)
    assert other.summary.endswith("(mmsd2, another data set)")
    with pytest.raises(DatasetNotFoundError, match="no whole set of lists of mmsd2"):
        other.data(RunSeeds(0), tweets)
    with pytest.raises(ConfigError, match="version='MMSD2' is not allowed"):
        get_task("Sarcasm").configured({"version": "MMSD2"}, tweets)


def test_lists_without_a_validation_split_have_one_carved(tweets):
    (tweets / "text/valid2.txt").unlink()
    data = data_of("Sarcasm", tweets)
    assert len(data.validation.labels) + len(data.train.labels) == 12
    assert set(data.validation.labels.tolist()) == {0, 1}


# -- encoders, vocabularies, presets -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["Twitter2015", "Sarcasm"])
def test_sets_of_encoders(name):
    task = get_task(name)
    assert task.configured().encoders == ("bert", "resnet50:weights=imagenet")
    assert task.configured({"encoder": "clip"}).encoders == ("clip-text", "clip-image")
    with pytest.raises(ConfigError, match="encoder='klip' is not allowed; choose one of paper, clip"):
        task.configured({"encoder": "klip"})


def test_clip_has_its_own_preprocessing_whatever_the_preset(twitter):
    settings = json.loads((twitter / "dus-data.json").read_text())
    tiny = "weights=none:hidden=16:layers=1:heads=2:out=16"
    settings["encoders"] = [f"clip-text:{tiny}:vocab=40", f"clip-image:{tiny}:patch=8"]
    (twitter / "dus-data.json").write_text(json.dumps(settings))
    task = get_task("Twitter2015").configured({"preset": "bss"}, twitter)
    text, image = task.data_source().streams(task, task.options, twitter, task.data_source().records(None, twitter))
    assert text.shape == (77,)
    assert text.decoder.special
    assert (image.transform.kernel, image.transform.fit, image.transform.augment) == ("bicubic", "centre", False)
    # It reads no pairs, so the target stands before the sentence.
    task = get_task("Twitter2015").configured({}, twitter)
    text, _ = task.data_source().streams(task, task.options, twitter, task.data_source().records(None, twitter))
    assert json.loads(text.rows[0].payload) == ["our team: $T$ won with $T$", ""]


def streams_of(name, root, **options):
    task = get_task(name).configured({"size": None, **options}, root)
    return task.data_source().streams(task, task.options, root, task.data_source().records(task.options, root))


@pytest.mark.parametrize(
    ("name", "preset", "length", "clean", "special", "size", "augment"),
    [
        ("Twitter2015", "default", 64, "plain", True, 224, True),
        ("Twitter2015", "bss", 64, "bss_words", True, 384, False),
        ("Twitter2015", "amss", 128, "plain", False, 224, False),
        ("Sarcasm", "default", 64, "plain", True, 224, True),
        ("Sarcasm", "bss", 128, "bss_caption", True, 224, True),
        ("Sarcasm", "amss", 128, "plain", False, 224, False),
    ],
)
def test_presets(tmp_path, name, preset, length, clean, special, size, augment):
    root = write_twitter(tmp_path) if name == "Twitter2015" else write_sarcasm(tmp_path)
    settings = json.loads((root / "dus-data.json").read_text())
    del settings["options"]["size"]
    (root / "dus-data.json").write_text(json.dumps(settings))
    text, image = streams_of(name, root, preset=preset)
    assert (text.decoder.length, text.decoder.clean, text.decoder.special) == (length, clean, special)
    assert image.shape == (3, size, size)
    assert image.transform.augment == augment
    text, image = streams_of(name, root, preset=preset, length=20, clean="plain", size=32, short_side=0)
    assert (text.decoder.length, text.decoder.clean, image.shape) == (20, "plain", (3, 32, 32))
    assert image.decoder.short_side is None


def test_the_vocabulary_is_the_one_of_the_weights_or_the_folders(twitter):
    write_settings(twitter, ["our"], tokenizer=None)
    text, _ = streams_of("Twitter2015", twitter)
    assert text.decoder.vocabulary.name == str(twitter / "vocab.txt")
    (twitter / "vocab.txt").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HUB_CACHE", str(twitter))
        task = get_task("Twitter2015")
        folder = twitter / "saved"
        folder.mkdir()
        words = (f"bert:weights={folder}", "cnn:pool=mean")
        (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n")
        settings = {"encoders": [words[0] + ":sep=3", words[1]]}
        (twitter / "dus-data.json").write_text(json.dumps(settings))
        task = task.configured({}, twitter)
        records = task.data_source().records(None, twitter)
        text, _ = task.data_source().streams(task, task.options, twitter, records)
        assert text.decoder.vocabulary.name == str(folder)
        missing = get_task("Twitter2015").configured({"tokenizer": "dus-gym-tests/none"}, twitter)
        with pytest.raises(DatasetNotFoundError, match="hf download dus-gym-tests/none"):
            missing.data(RunSeeds(0), twitter)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (":vocab=40", ":vocab=9", "give vocab=20"),
        (":sep=3", "", "takes token 102 for the end of a text .* give sep=3"),
        (BERT, "mlp", "reads no text; give bert or clip-text"),
        (BERT, "clip-text", "weights for a BPE vocabulary .* leave tokenizer out"),
    ],
)
def test_an_encoder_that_would_misread_the_ids_is_refused(twitter, old, new, message):
    path = twitter / "dus-data.json"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=message):
        data_of("Twitter2015", twitter)


def test_training_pictures_are_augmented_and_evaluation_is_not(twitter):
    data = data_of("Twitter2015", twitter)
    rows = torch.arange(12)
    first, second = (data.train.fetch(1, rows, np.full(12, draw)) for draw in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(data.train.fetch(1, rows), data.train.fetch(1, rows))
    assert torch.equal(data.test.fetch(1, rows[:3], np.zeros(3, np.int64)), data.test.fetch(1, rows[:3]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "tombert"}, "preset='tombert' is not allowed; choose one of default, dus, bss, amss"),
        ({"clean": "lower"}, "clean='lower' is not allowed"),
        ({"length": 2}, "length=2 is not allowed"),
        ({"target": "both"}, "target='both' is not allowed; choose one of pair, inline, none"),
    ],
)
def test_options_that_can_not_be_are_named(twitter, options, message):
    with pytest.raises(ConfigError, match=message):
        data_of("Twitter2015", twitter, **options)


def test_a_missing_vocabulary_is_no_missing_data(twitter):
    missing = str(twitter / "nowhere.txt")
    with pytest.raises(PretrainedNotFoundError, match=r"there is no file .*nowhere") as caught:
        data_of("Twitter2015", twitter, tokenizer=missing)
    assert "dus data" not in str(caught.value)
    assert "TomBERT" not in str(caught.value)
    found = scan(DATA_SETS["twitter2015"], twitter, {"tokenizer": missing})
    assert not found.ok
    assert "nowhere" in found.problem
    assert "TomBERT" not in found.problem


def test_without_data_the_error_says_what_to_do():
    for name in ("Twitter2015", "Sarcasm"):
        with pytest.raises(DatasetNotFoundError, match=f"dus data scan {name.lower()}"):
            get_task(name).configured({}).data(RunSeeds(0), None)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "write"), [("Twitter2015", write_twitter), ("Sarcasm", write_sarcasm)])
def test_a_step_of_full_size(tmp_path, name, write):
    """Published sizes with random weights, two samples of each modality."""
    write(tmp_path)
    settings = {"encoders": ["bert:weights=none:sep=3", "resnet50"], "data_kind": "mock"}
    (tmp_path / "dus-data.json").write_text(json.dumps(settings))
    assert encoder_options(settings["encoders"][0])[1].sizes()["hidden"] == 768
    env = gym.make(f"dus_gym:DUS-{name}-v0", data_root=str(tmp_path), epochs=1, total_batch=4, iterations=1)
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[2]
