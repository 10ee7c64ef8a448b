"""Annotation files as they were published, and lines written in their forms."""

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dus_gym.data import splits
from dus_gym.data.record import Record, lines_of, rows_of
from dus_gym.data.sets import (
    cmu_mosei,
    cremad,
    food101,
    kinetics_sounds,
    nvgesture,
    twitter2015,
    ucf101,
    vggsound,
)
from dus_gym.errors import AnnotationError, ConfigError, DatasetNotFoundError

FOLDER = os.environ.get("DUS_TEST_DATA")
real = pytest.mark.skipif(FOLDER is None, reason="DUS_TEST_DATA is not set to the folder of real annotation files")


def published(name):
    return Path(FOLDER) / "annotations" / name


def counts(records):
    return dict(Counter(record.split for record in records))


# -- CREMA-D -----------------------------------------------------------------------------------------


@real
def test_cremad_as_published():
    records = cremad.read_lists(published("cremad"))
    assert counts(records) == {"train": 6698, "test": 744}
    by_class = Counter((record.split, cremad.EMOTIONS[record.label]) for record in records)
    assert {k[1]: v for k, v in by_class.items() if k[0] == "test"} == {
        **{"SAD": 140, "FEA": 133, "DIS": 129},
        **{"HAP": 123, "NEU": 114, "ANG": 105},
    }
    assert by_class["train", "ANG"] == 1166
    # The official split leaks speakers: every actor is on both sides.
    actors = {split: {r.group for r in records if r.split == split} for split in ("train", "test")}
    assert len(actors["train"]) == len(actors["test"]) == 91


@real
def test_an_actor_independent_split_shares_nobody():
    records = splits.split_groups(cremad.read_lists(published("cremad")), np.random.default_rng(0), (56, 18, 17))
    actors = {s: {r.group for r in records if r.split == s} for s in ("train", "validation", "test")}
    assert [len(actors[s]) for s in ("train", "validation", "test")] == [56, 18, 17]
    assert not actors["train"] & actors["test"]
    assert not actors["train"] & actors["validation"]
    assert not actors["validation"] & actors["test"]
    assert len(records) == 7442


def test_cremad_reads_crlf_a_byte_order_mark_and_the_list_of_mla(tmp_path):
    (tmp_path / "train.csv").write_bytes("\ufeff1099_IEO_ANG_HI,ANG\r\n1001_DFA_NEU_XX,NEU\r\n".encode())
    (tmp_path / "my_test_cre.txt").write_text("1002_DFA_HAP_XX.flv Happy\n")

    def found(labels):
        train = cremad.parse_list(tmp_path / "train.csv", "train", labels)
        return train + cremad.parse_list(tmp_path / "my_test_cre.txt", "test", labels)

    assert [(r.sample, r.split, r.label, r.group) for r in found("ogm")] == [
        ("1099_IEO_ANG_HI", "train", 5, "1099"),
        ("1001_DFA_NEU_XX", "train", 0, "1001"),
        ("1002_DFA_HAP_XX", "test", 1, "1002"),
    ]
    # MLA numbers the classes by their full names in alphabetical order: Anger 0 … Sad 5.
    assert [r.label for r in found("mla")] == [0, 4, 3]


def test_cremads_lists_of_two_repositories_are_never_mixed(tmp_path):
    (tmp_path / "train.csv").write_text("1001_DFA_NEU_XX,NEU\n")
    (tmp_path / "my_test_cre.txt").write_text("1002_DFA_HAP_XX.flv Happy\n")
    with pytest.raises(DatasetNotFoundError, match=r"of no use: train\.csv, my_test_cre\.txt; .*two repositories"):
        cremad.read_lists(tmp_path)
    (tmp_path / "my_train_cre.txt").write_text("1003_DFA_SAD_XX.flv Sad\n")
    assert [r.sample for r in cremad.read_lists(tmp_path)] == ["1003_DFA_SAD_XX", "1002_DFA_HAP_XX"]
    (tmp_path / "test.csv").write_text("1001_DFA_NEU_XX,NEU\n")
    with pytest.raises(AnnotationError, match="'1001_DFA_NEU_XX' more than once"):
        cremad.read_lists(tmp_path)


@pytest.mark.parametrize("line", ["1099_IEO_ANG_HI,HAP", "1099_IEO_ANG_HI", "clip,ANG", "1099_IEO_JOY_HI,JOY"])
def test_cremad_names_the_line_it_can_not_read(tmp_path, line):
    (tmp_path / "train.csv").write_text(f"1001_DFA_NEU_XX,NEU\n{line}\n")
    with pytest.raises(AnnotationError, match=r"train\.csv, line 2: expected ActorID"):
        cremad.parse_list(tmp_path / "train.csv", "train")


def test_a_sample_that_is_listed_twice_is_named(tmp_path):
    (tmp_path / "train.csv").write_text("1001_DFA_NEU_XX,NEU\n" * 2)
    with pytest.raises(AnnotationError, match=r"lists '1001_DFA_NEU_XX' more than once"):
        cremad.parse_list(tmp_path / "train.csv", "train")


# -- Kinetics-Sounds ---------------------------------------------------------------------------------


@real
def test_kinetics_sounds_as_published():
    records = kinetics_sounds.read_lists(published("kinetics_sounds"))
    assert counts(records) == {"train": 14799, "test": 2597, "validation": 1320}
    # BML's names and OGM-GE's numbers are the same classes in every one of their common clips.
    labels = {record.sample: record.label for record in records}
    named = kinetics_sounds.parse_json(published("kinetics_sounds") / "KS_train_val.json")
    assert len(named) == 18716
    assert all(labels[record.sample] == record.label for record in named)
    sizes = Counter(record.label for record in records if record.split == "train")
    assert (min(sizes.values()), max(sizes.values())) == (197, 690)
    videos = {split: {r.group for r in records if r.split == split} for split in ("train", "validation", "test")}
    assert not videos["train"] & videos["test"]


def test_kinetics_ids_hold_underscores_and_dashes_and_stay_whole(tmp_path):
    path = tmp_path / "my_train.txt"
    path.write_text("--4-0ih_nBU_000058_000068,10,4\r\n-a_b-c_d-e__1,10,30\r\n")
    found = kinetics_sounds.parse_list(path, "train")
    assert [(r.media, r.group, r.label) for r in found] == [
        ("--4-0ih_nBU_000058_000068", "--4-0ih_nBU", 4),
        ("-a_b-c_d-e__1", "-a_b-c_d-e_", 30),
    ]


def test_kinetics_classes_do_not_move_when_one_is_absent(tmp_path):
    """Where ids are counted off the files that are there, a missing class renumbers the others."""
    (tmp_path / "train.csv").write_text("label,youtube_id\ntickling,abcdefghijk_1\nplaying drums,bbcdefghijk_1\n")
    (tmp_path / "test.csv").write_text("label,youtube_id\nblowing_nose,cbcdefghijk_1\n")
    assert [r.label for r in kinetics_sounds.read_lists(tmp_path)] == [30, 11, 0]


def test_kinetics_reads_the_list_with_spaces(tmp_path):
    (tmp_path / "list.txt").write_text("abcdefghijk_000001_000011 10 12\n")
    assert kinetics_sounds.parse_list(tmp_path / "list.txt", "test")[0].label == 12


@pytest.mark.parametrize("line", ["abc,10,31", "abc,10,x", "abc", "abc,10,-1"])
def test_kinetics_names_the_line_it_can_not_read(tmp_path, line):
    (tmp_path / "list.txt").write_text(line + "\n")
    with pytest.raises(AnnotationError, match=r"list\.txt, line 1: expected a clip and, last, its class from 0 to 30"):
        kinetics_sounds.parse_list(tmp_path / "list.txt", "train")
    with pytest.raises(AnnotationError, match="'strumming guitar' is none of the 31 classes"):
        kinetics_sounds.class_id("strumming guitar")


# -- Twitter2015 -------------------------------------------------------------------------------------


@real
def test_twitter2015_as_published():
    records = twitter2015.read_lists(published("twitter2015"))
    assert counts(records) == {"train": 3179, "validation": 1122, "test": 1037}
    # Read by its header of four names, every column of the test file would be shifted.
    assert Counter(r.label for r in records if r.split == "test") == {0: 113, 1: 607, 2: 317}
    assert Counter(r.label for r in records if r.split == "train") == {0: 368, 1: 1883, 2: 928}
    assert all(r.media.endswith(".jpg") and r.text.count("$T$") >= 1 and r.target for r in records)
    train = [r for r in records if r.split == "train"]
    assert len({r.media for r in train}) == 2101
    labels = {}
    for record in train:
        labels.setdefault(record.media, set()).add(record.label)
    # Without its target a tweet has several right answers.
    assert sum(len(found) > 1 for found in labels.values()) == 277


def test_twitter_reads_a_rewritten_header_by_name(tmp_path):
    (tmp_path / "train.tsv").write_text('String\tImageID\tLabel\nsays "hi" $T$\t1.jpg\t2\n')
    found = twitter2015.parse_tsv(tmp_path / "train.tsv", "train")
    assert [(r.label, r.media, r.text, r.target) for r in found] == [(2, "1.jpg", 'says "hi" $T$', "")]


def test_twitter_reads_the_files_of_four_lines_a_row_where_there_is_no_table(tmp_path):
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.txt").write_text("$T$ won\nour team\n1\n1.jpg\nsad $T$ lost\nthem\n-1\n2.jpg\n")
    rows = [(r.sample, r.label, r.media, r.text, r.target) for r in twitter2015.read_lists(tmp_path)]
    assert rows[:2] == [
        ("train-0", 2, "1.jpg", "$T$ won", "our team"),
        ("train-1", 0, "2.jpg", "sad $T$ lost", "them"),
    ]
    (tmp_path / "train.tsv").write_text("a\tb\tc\td\te\n0\t1\t3.jpg\t$T$ met\tthey\n")
    assert [r.media for r in twitter2015.read_lists(tmp_path) if r.split == "train"] == ["3.jpg"]


@pytest.mark.parametrize("rows", ["x $T$\nus\n2\n1.jpg\n", "x $T$\nus\n1\n1.jpg\ny\nus\n", "x\nus\n\n1.jpg\n"])
def test_twitter_names_the_row_of_four_lines_it_can_not_read(tmp_path, rows):
    (tmp_path / "dev.txt").write_text(rows)
    with pytest.raises(AnnotationError, match=r"dev\.txt, line [15]: expected a sentence, and in three more lines"):
        twitter2015.parse_txt(tmp_path / "dev.txt", "validation")


@pytest.mark.parametrize("line", ["1\t3\ta.jpg\tx\ty", "1\t2\t\tx\ty", "1\t2\ta.jpg\tx", "1\t2\ta.jpg\tx\ty\tz"])
def test_twitter_names_the_line_it_can_not_read(tmp_path, line):
    (tmp_path / "dev.tsv").write_text(f"index\t#1 ImageID\t#2 String\t#2 String\n{line}\n")
    with pytest.raises(AnnotationError, match=r"dev\.tsv, line 2: expected index, label from 0 to 2"):
        twitter2015.parse_tsv(tmp_path / "dev.tsv", "validation")


def test_lines_are_broken_at_line_ends_alone(tmp_path):
    (tmp_path / "x").write_text("one\u2028still one\x0bstill\r\n\ntwo", newline="")
    assert list(lines_of(tmp_path / "x")) == [(1, "one\u2028still one\x0bstill"), (3, "two")]
    (tmp_path / "y").write_bytes(b"\xff\xfe")
    with pytest.raises(AnnotationError, match="not UTF-8"):
        list(lines_of(tmp_path / "y"))


# -- NVGesture ---------------------------------------------------------------------------------------


@real
def test_nvgesture_as_published():
    records = nvgesture.read_lists(published("nvgesture"))
    assert counts(records) == {"train": 1050, "test": 482}
    # The folder disagrees with the label in 23 rows; the label is right.
    off = Counter(r.split for r in records if int(r.media.split("class_")[1][:2]) != r.label + 1)
    assert off == {"train": 15, "test": 8}
    subjects = {s: {r.group for r in records if r.split == s} for s in ("train", "test")}
    assert (len(subjects["train"]), len(subjects["test"])) == (12, 6)
    assert not subjects["train"] & subjects["test"]
    for record in records:
        windows = {name: end - start for name, start, end in record.windows}
        assert windows == {"depth": 80, "color": 80, "duo_left": 93}
    held = splits.carve_groups(records, np.random.default_rng(0), 2)
    validation = {r.group for r in held if r.split == "validation"}
    assert len(validation) == 2
    assert not validation & {r.group for r in held if r.split != "validation"}


@pytest.mark.parametrize(
    "line",
    [
        "path:./Video_data/class_01/subject3_r0 color:sk_color:1:81 label:26",
        "path:./Video_data/class_01/subject3_r0 color:sk_color:1:81 label:0",
        "path:./Video_data/class_01/subject3_r0 color:sk_color:1 label:2",
        "path:./Video_data/class_01 color:sk_color:1:81 label:2",
        "label:2",
    ],
)
def test_nvgesture_names_the_line_it_can_not_read(tmp_path, line):
    (tmp_path / "a.lst").write_text(line)
    with pytest.raises(AnnotationError, match=r"a\.lst, line 1: expected path, sensors"):
        nvgesture.parse_list(tmp_path / "a.lst", "train")


# -- the four of BalanceBenchmark ---------------------------------------------------------------------


def lines(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def told(records):
    return [(r.split, r.label, r.media, r.text, r.group) for r in records]


@pytest.mark.skipif(
    FOLDER is None or not published("ucf101").is_dir(),
    reason="DUS_TEST_DATA has no annotations/ucf101 (ucfTrainTestlist of UCF's page)",
)
def test_ucf101_as_published():
    records = ucf101.read_lists(published("ucf101"))
    assert counts(records) == {"train": 9537, "test": 3783}
    assert {r.label for r in records if r.split == "test"} == set(range(101))
    groups = {split: {r.group for r in records if r.split == split} for split in ("train", "test")}
    assert sorted(groups["test"]) == [f"g{i:02d}" for i in range(1, 8)]
    assert sorted(groups["train"]) == [f"g{i:02d}" for i in range(8, 26)]
    numbered = [line.split() for _, line in lines_of(published("ucf101") / "classInd.txt")]
    assert [(int(number), name) for number, name in numbered] == list(enumerate(ucf101.CLASSES, start=1))


@pytest.mark.skipif(
    FOLDER is None or not published("vggsound").is_dir(),
    reason="DUS_TEST_DATA has no annotations/vggsound (stat.csv and test.csv of hche11/VGGSound, in data/)",
)
def test_vggsounds_classes_and_numbers_are_its_authors():
    sizes = {name: int(count) for _, (name, count, _) in rows_of(published("vggsound") / "stat.csv")}
    assert sorted(sizes) == list(vggsound.CLASSES)
    told = vggsound.VGGSound.published
    assert sum(sizes.values()) == told["train"] + told["test"]
    test = [row for _, row in rows_of(published("vggsound") / "test.csv")]
    assert len(test) == told["test"]
    assert {label for _, label in test} == set(vggsound.CLASSES)
    # Names of clips end in six digits, as the reader makes them.
    assert all(re.fullmatch(r".{11}_[0-9]{6}\.mp4", name) for name, _ in test)


def test_vggsound_reads_ids_with_dashes_and_labels_with_commas(tmp_path):
    lines(
        tmp_path / "data/vggsound.csv",
        '---g-f_I2yQ,1,people marching,test\n--96EN9NUQM,242,"bee, wasp, etc. buzzing",train\r\n',
    )
    assert told(vggsound.read_lists(tmp_path)) == [
        ("test", vggsound.CLASSES.index("people marching"), "---g-f_I2yQ_000001", "", "---g-f_I2yQ"),
        ("train", vggsound.CLASSES.index("bee, wasp, etc. buzzing"), "--96EN9NUQM_000242", "", "--96EN9NUQM"),
    ]
    # The names that the authors' test.csv has for clips, and the ones of OGM-GE.
    assert vggsound.unpadded("--96EN9NUQM_000242") == "--96EN9NUQM_242"
    assert vggsound.unpadded("--5OkAjCI7g_000000") == "--5OkAjCI7g_0"
    assert tuple(sorted(set(vggsound.CLASSES))) == vggsound.CLASSES
    assert len(vggsound.CLASSES) == 309


def test_ucf101_has_the_class_of_the_folder_and_counts_it_from_1(tmp_path):
    lists = tmp_path / "ucfTrainTestlist"
    lines(lists / "trainlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nYoYo/v_YoYo_g25_c05.avi 101\r\n")
    lines(lists / "testlist01.txt", "HandstandPushups/v_HandStandPushups_g01_c01.avi\r\n")
    assert told(ucf101.read_lists(tmp_path)) == [
        ("train", 0, "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01", "", "g08"),
        ("train", 100, "YoYo/v_YoYo_g25_c05", "", "g25"),
        ("test", 36, "HandstandPushups/v_HandStandPushups_g01_c01", "", "g01"),
    ]
    with pytest.raises(DatasetNotFoundError, match="trainlist02"):
        ucf101.read_lists(tmp_path, 2)


@pytest.mark.parametrize("header", ["", "Image_path,text,label\n"])
def test_food101_reads_titles_with_commas_quotes_and_none_at_all(tmp_path, header):
    train = 'apple_pie_0.jpg,"Apple pie, ""the best""",apple_pie\nwaffles_7.jpg,,waffles\n'
    lines(tmp_path / "texts/train_titles.csv", header + train)
    lines(tmp_path / "texts/test_titles.csv", header + "apple_pie_0.jpg,text,apple_pie\n")
    assert told(food101.read_lists(tmp_path)) == [
        ("train", 0, "train/apple_pie/apple_pie_0.jpg", 'Apple pie, "the best"', ""),
        ("train", 100, "train/waffles/waffles_7.jpg", "", ""),
        ("test", 0, "test/apple_pie/apple_pie_0.jpg", "text", ""),
    ]


MOSEI = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode"


def test_mosei_reads_columns_by_name_and_makes_classes_of_the_sentiment(tmp_path):
    rows = '-3g5yACwYnA,13,"Key, is part",1.0,,,,Positive,train\n-3g5yACwYnA,2,"THEY\nSAID",0.0,,,,Neutral,valid\n'
    lines(tmp_path / "label.csv", f"{MOSEI}\n{rows}00000000000,0001,x,-0.3333333,,,,Negative,test\n")
    assert told(cmu_mosei.read_lists(tmp_path)) == [
        ("train", 2, "-3g5yACwYnA/13", "Key, is part", "-3g5yACwYnA"),
        ("validation", 1, "-3g5yACwYnA/2", "THEY\nSAID", "-3g5yACwYnA"),
        ("test", 0, "00000000000/0001", "x", "00000000000"),
    ]
    other = "mode,label,text,clip_id,video_id\ntrain,2.5,x,1,a\n"
    assert told(cmu_mosei.parse_list(lines(tmp_path / "other.csv", other), "seven")) == [("train", 6, "a/1", "x", "a")]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ("three", [0, 0, 0, 0, 1, 2, 2, 2, 2]),
        ("two", [0, 0, 0, 0, 1, 1, 1, 1, 1]),
        # CMU-MultimodalSDK: -2 belongs to [-2, -1), -1 to [-1, 0), 1 to (0, 1], 2 to (1, 2].
        ("seven", [0, 1, 2, 2, 3, 4, 4, 5, 6]),
    ],
)
def test_classes_of_a_sentiment(classes, expected):
    sentiments = [-3.0, -2.0, -1.0, -0.3333333, 0.0, 0.3333333, 1.0, 1.3333334, 3.0]
    found = [cmu_mosei.class_id(sentiment, classes) for sentiment in sentiments]
    assert found == expected
    assert max(found) < len(cmu_mosei.CLASSES[classes])


@pytest.mark.parametrize(
    ("parse", "line", "expected"),
    [
        (vggsound.parse_list, "abc,1,people marching", "YouTube id, start in seconds, label, and train or test"),
        (vggsound.parse_list, "abc,1.5,people marching,test", "YouTube id, start in seconds"),
        (vggsound.parse_list, "abc,1,people marching,val", "YouTube id, start in seconds"),
        (vggsound.parse_list, "abc,1,people dancing,test", "one of the 309 labels"),
        (vggsound.parse_list, 'abc,1,"people marching,test', "every quotation mark closed"),
        (food101.parse_list, "a.jpg,title", "name of the picture, title, and one of the 101 classes"),
        (food101.parse_list, "a.jpg,title,apple pie", "name of the picture"),
        (food101.parse_list, ",title,apple_pie", "name of the picture"),
        (ucf101.parse_list, "YoYo/v_YoYo_g25_c05.avi 100", "and that class's number or nothing"),
        (ucf101.parse_list, "YouYou/v_YoYo_g25_c05.avi 101", "Class/v_Class_gXX_cYY"),
        (ucf101.parse_list, "v_YoYo_g25_c05.avi", "Class/v_Class_gXX_cYY"),
        (cmu_mosei.parse_list, f"{MOSEI}\na,1,x,3.5,,,,Positive,train", "a label from -3 to 3"),
        (cmu_mosei.parse_list, f"{MOSEI}\na,1,x,nan,,,,Positive,train", "a label from -3 to 3"),
        (cmu_mosei.parse_list, f"{MOSEI}\na,1,x,1,,,,Positive,dev", "and a mode"),
        (cmu_mosei.parse_list, f"{MOSEI}\na,1,x,1,Positive,train", "its header's columns"),
    ],
)
def test_the_four_name_the_line_they_can_not_read(tmp_path, parse, line, expected):
    path = lines(tmp_path / "list.txt", line + "\n")
    number = line.count("\n") + 1
    more = () if parse in (vggsound.parse_list, cmu_mosei.parse_list) else ("train",)
    with pytest.raises(AnnotationError, match=rf"list\.txt, line {number}: expected .*{expected}"):
        parse(path, *more)


@pytest.mark.parametrize("header", ["", "video_id,clip_id,text,label\n"])
def test_mosei_without_its_header_says_which_columns_it_needs(tmp_path, header):
    with pytest.raises(AnnotationError, match="needs the columns video_id, clip_id, text, label, mode"):
        cmu_mosei.parse_list(lines(tmp_path / "label.csv", header))


# -- files that are not there, and carved splits -----------------------------------------------------


@pytest.mark.parametrize(
    ("module", "looked"),
    [
        (cremad, "train.csv"),
        (kinetics_sounds, "my_train.txt"),
        (twitter2015, "train.tsv"),
        (nvgesture, ".lst"),
        (food101, "train_titles.csv"),
        (ucf101, "trainlist01.txt"),
        (vggsound, "vggsound.csv"),
        (cmu_mosei, "label.csv"),
    ],
)
def test_a_missing_list_says_what_was_looked_for(tmp_path, module, looked):
    with pytest.raises(DatasetNotFoundError, match=looked) as caught:
        module.read_lists(tmp_path)
    assert str(tmp_path) in str(caught.value)


def records_of(labels, split="train"):
    return [Record(f"{split}{i}", split, label, f"{i}", group=f"g{i % 7}") for i, label in enumerate(labels)]


def test_a_carved_validation_split_is_stratified_seeded_and_of_training_samples_alone():
    records = records_of([0] * 100 + [1] * 40 + [2]) + records_of([0] * 50, "test")
    found = splits.carve_stratified(records, np.random.default_rng(3))
    moved = Counter(r.label for r in found if r.split == "validation")
    # A class of one sample keeps it to train on.
    assert moved == {0: 10, 1: 4}
    assert [r.sample for r in found] == [r.sample for r in records]
    assert all(r.split == "test" for r in found[141:])
    assert found == splits.carve_stratified(records, np.random.default_rng(3))
    assert found != splits.carve_stratified(records, np.random.default_rng(4))


def test_groups_that_can_not_be_split_are_refused():
    with pytest.raises(ConfigError, match="7 groups can't be held out of 7"):
        splits.carve_groups(records_of([0] * 20), np.random.default_rng(0), 7)
    with pytest.raises(ConfigError, match="needs 3 groups; these records have 2"):
        splits.split_groups(records_of([0, 1]), np.random.default_rng(0), (1, 1, 1))


def test_a_quotation_mark_that_is_never_closed_names_its_line(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(
        'label,youtube_id,time_start,time_end\nplaying piano,abc,0,10\n"playing piano,def,0,10\nplaying drums,ghi,0,9\n'
    )
    with pytest.raises(AnnotationError, match=r"train\.csv, line 3: expected .*every quotation mark closed"):
        kinetics_sounds.parse_list(path, "train")
