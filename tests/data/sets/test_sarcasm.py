"""The annotation files of Sarcasm: as published, and as other repositories rewrote them."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from dus_gym.data.sets import sarcasm, sarcasm_tags
from dus_gym.errors import AnnotationError, ConfigError, DatasetNotFoundError

FOLDER = os.environ.get("DUS_TEST_DATA")
real = pytest.mark.skipif(FOLDER is None, reason="DUS_TEST_DATA is not set to the folder of real annotation files")


@real
def test_sarcasm_as_published():
    root = Path(FOLDER) / "annotations" / "sarcasm"
    records = sarcasm.read_lists(root)
    assert Counter((r.split, r.label) for r in records) == {
        ("train", 1): 8642, ("train", 0): 11174,
        ("validation", 1): 959, ("validation", 0): 1451,
        ("test", 1): 959, ("test", 0): 1450,
    }  # fmt: skip
    assert len({r.sample for r in records}) == len(records)
    assert max(len(r.text.split()) for r in records) <= 70
    words = sarcasm_tags.read_words(root)
    assert len(words) == 36468
    assert all(len(words[r.sample]) == 5 for r in records)


@real
def test_the_two_labels_of_a_tweet_differ_in_231_lines():
    counts = {}
    for name in ("valid2", "test2"):
        path = Path(FOLDER) / "annotations" / "sarcasm" / "text" / f"{name}.txt"
        lines = path.read_text(encoding="utf-8").split("\n")
        counts[name] = sum(line.rstrip("]\r").split(", ")[-2:] in (["0", "1"], ["1", "0"]) for line in lines)
    assert counts == {"valid2": 87, "test2": 144}


def write_lists(root, train):
    (root / "text").mkdir()
    (root / "text/train.txt").write_bytes(train.encode())
    (root / "text/valid2.txt").write_bytes(b"['30', 'both \"quotes\"', 0, 1]\r\n")
    (root / "text/test2.txt").write_bytes(b"['40', \"it 's fine\", 1, 0]")


def test_lines_have_both_quotes_and_three_or_four_fields_and_the_human_label_counts(tmp_path):
    write_lists(tmp_path, "['10', \"don 't\", 1]\r\n['11', 'a \\'b\\' emoji_3', 0]\r\n")
    found = sarcasm.read_lists(tmp_path)
    assert [(r.sample, r.split, r.label, r.media, r.text) for r in found] == [
        ("10", "train", 1, "10.jpg", "don 't"),
        ("11", "train", 0, "11.jpg", "a 'b' emoji_3"),
        ("30", "validation", 1, "30.jpg", 'both "quotes"'),
        ("40", "test", 0, "40.jpg", "it 's fine"),
    ]


def test_a_giveaway_counts_only_between_spaces(tmp_path):
    kept = ["sarcasm!", "#irony", "lolsarcasm", "jokes.", "(humor)", "exgagtales", "https <url>x"]
    dropped = sorted(sarcasm.GIVEAWAYS)
    assert len(dropped) == 11
    texts = [*kept, *(f"so {word} now" for word in dropped)]
    write_lists(tmp_path, "".join(f"{[str(i), text, 1]!r}\n" for i, text in enumerate(texts)))
    assert [r.text for r in sarcasm.read_lists(tmp_path) if r.split == "train"] == kept


@pytest.mark.parametrize(
    "line",
    [
        "['1', 'text']",
        "['1', 'text', 2]",
        "['1', 'text', 1, 0, 1]",
        "('1', 'text', 1)",
        "['1', 'text', 1",
        "['1', __import__('os').getcwd(), 1]",
        "[" * 500,
        "['1', 'text', [1]]",
    ],
)
def test_a_line_that_can_not_be_read_is_named_and_never_run(tmp_path, line):
    (tmp_path / "train.txt").write_text(f"['0', 'fine', 1]\n{line}\n")
    with pytest.raises(AnnotationError, match=r"train\.txt, line 2: expected (\[id, text|a list)"):
        sarcasm.parse_list(tmp_path / "train.txt", "train")


def test_a_tweet_that_is_in_two_splits_is_named(tmp_path):
    write_lists(tmp_path, "['40', 'text', 1]\n")
    with pytest.raises(AnnotationError, match="lists '40' more than once"):
        sarcasm.read_lists(tmp_path)


def test_the_json_files_of_bss_are_read_as_they_are(tmp_path):
    (tmp_path / "annotations").mkdir()
    for split, picture in (("train", "some/where/7.jpg"), ("test", "8.jpg")):
        entries = [{"image": picture, "text": "such sarcasm", "label": 1}]
        (tmp_path / f"annotations/{split}_data.json").write_text(json.dumps(entries))
    assert [(r.sample, r.split, r.media, r.label) for r in sarcasm.read_lists(tmp_path)] == [
        ("7", "train", "7.jpg", 1),
        ("8", "test", "8.jpg", 1),
    ]


def test_the_tables_of_amss_are_read_by_their_names(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/train.tsv").write_text('ImageID\tLabel\tString\n7.jpg\t0\tsays "hi\n')
    (tmp_path / "annotations/test.tsv").write_text("Label\tImageID\tString\n1\t8.jpg\tbye\n")
    assert [(r.sample, r.label, r.text) for r in sarcasm.read_lists(tmp_path)] == [
        ("7", 0, 'says "hi'),
        ("8", 1, "bye"),
    ]


def test_the_second_version_is_another_data_set_and_never_found_by_accident(tmp_path):
    folder = tmp_path / "data/text_json_final"
    folder.mkdir(parents=True)
    for i, split in enumerate(("train", "valid", "test")):
        (folder / f"{split}.json").write_text(json.dumps([{"image_id": 9 + i, "text": "t", "label": i % 2}]))
    with pytest.raises(DatasetNotFoundError, match="no whole set of lists of mmsd under"):
        sarcasm.read_lists(tmp_path)
    with pytest.raises(DatasetNotFoundError, match=r"text_json_clean/train\.json"):
        sarcasm.read_lists(tmp_path, "mmsd-clean")
    assert [(r.sample, r.split, r.label) for r in sarcasm.read_lists(tmp_path, "mmsd2")] == [
        ("9", "train", 0),
        ("10", "validation", 1),
        ("11", "test", 0),
    ]
    with pytest.raises(ConfigError, match="version='mmsd3' is not allowed"):
        sarcasm.read_lists(tmp_path, "mmsd3")


@pytest.mark.parametrize(
    "text", ["{", "{}", '[{"text": "t"}]', '[{"image_id": 1, "text": "t", "label": 2}]', "[1]", '[{"image": 3}]']
)
def test_a_json_file_of_another_form_is_named(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(AnnotationError, match=r"x\.json is no list of objects with text"):
        sarcasm.parse_json(tmp_path / "x.json", "train")


@pytest.mark.parametrize("text", ["", "Label\tText\n", "Label\tImageID\tString\n2\ta.jpg\tt\n", "a\tb\n1\t2\n"])
def test_a_table_of_another_form_is_named(tmp_path, text):
    (tmp_path / "x.tsv").write_text(text)
    with pytest.raises(AnnotationError, match=r"x\.tsv"):
        sarcasm.parse_tsv(tmp_path / "x.tsv", "train")


def test_words_of_a_picture_are_an_id_and_five_words(tmp_path):
    (tmp_path / "extract").mkdir()
    path = tmp_path / "extract/extract_all"
    path.write_bytes(b"['1', 'a', 'b', 'c', 'd', \"e's\"]\r\n")
    assert sarcasm_tags.read_words(tmp_path) == {"1": ("a", "b", "c", "d", "e's")}
    path.write_text("['1', 'a', 'b', 'c', 'd']\n")
    with pytest.raises(AnnotationError, match="line 1: expected an id and 5 words"):
        sarcasm_tags.parse_words(path)
    path.unlink()
    with pytest.raises(DatasetNotFoundError, match="extract/extract_all"):
        sarcasm_tags.read_words(tmp_path)
