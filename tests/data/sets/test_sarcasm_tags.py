"""Tweets and picture words as ids: a vocabulary of the training tweets alone, human labels in test."""

import numpy as np
import pytest
import torch
from small_data import build, real, real_folder, write_tweets

from dus_gym.data.sets.sarcasm_tags import word_ids
from dus_gym.errors import ConfigError, DatasetNotFoundError


def test_ids_go_by_how_common_a_word_is_in_training_and_others_are_unknown():
    texts = [["b", "a", "b"], ["a", "b"], ["c", "b", "a", "z"], []]
    train = np.array([True, True, False, True])
    found = word_ids(texts, train, size=10, length=3)
    # b (3 times) is 2, a (2 times) is 3; c is in no training text.
    assert found.tolist() == [[2, 3, 2], [3, 2, 0], [1, 2, 3], [0, 0, 0]]
    assert word_ids(texts, train, size=3, length=3).tolist() == [[2, 1, 2], [1, 2, 0], [1, 2, 1], [0, 0, 0]]


def test_words_equally_common_have_the_same_ids_whatever_the_order_of_the_texts():
    texts = [["d"], ["c"], ["a"], ["b"]]
    everyone = np.ones(4, bool)
    assert word_ids(texts, everyone, 10, 1)[:, 0].tolist() == [5, 4, 2, 3]
    assert word_ids(texts[::-1], everyone, 10, 1)[:, 0].tolist() == [3, 2, 4, 5]


def test_the_published_splits_and_the_human_labels(tmp_path):
    write_tweets(tmp_path)
    data, task = build("SarcasmTags", tmp_path, vocabulary=9)
    assert [len(part.labels) for part in (data.train, data.validation, data.test)] == [30, 8, 9]
    assert data.test.labels.tolist() == [1 - i % 2 for i in range(9)]
    assert task.encoders == ("bag:vocab=9", "bag:vocab=1000")
    assert list(data.input_shapes) == [(75,), (5,)]
    assert data.train.inputs[0].max() < 9
    # "test2" and "valid2" stand in no training text.
    assert (data.test.inputs[0] == 1).any(dim=1).all()
    other, _ = build("SarcasmTags", tmp_path, seed=5, vocabulary=9)
    assert torch.equal(other.train.inputs[0], data.train.inputs[0])


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"train\.txt.*dus data fetch sarcasm-tags --root DIR"):
        build("SarcasmTags", tmp_path)
    write_tweets(tmp_path)
    lines = (tmp_path / "extract/extract_all").read_text().splitlines()
    (tmp_path / "extract/extract_all").write_text("\n".join(lines[1:]))
    with pytest.raises(DatasetNotFoundError, match="no picture words of 1 tweets, the first: train0"):
        build("SarcasmTags", tmp_path)
    with pytest.raises(ConfigError, match="vocabulary=2 is not allowed"):
        build("SarcasmTags", tmp_path, vocabulary=2)


@pytest.mark.slow
@real
def test_the_published_tweets():
    data, _ = build("SarcasmTags", real_folder("annotations/sarcasm"))
    assert [len(part.labels) for part in (data.train, data.validation, data.test)] == [19816, 2410, 2409]
    assert data.train.labels.sum() == 8642
    assert data.train.inputs[0].max() == 7999
    assert data.train.inputs[1].min() > 0
