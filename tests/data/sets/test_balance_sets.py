"""Food-101, UCF-101, VGGSound and CMU-MOSEI: from folders in their published layouts to a run's splits."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dus_gym.data.media.text import title
from dus_gym.data.mock import make_mock
from dus_gym.data.registry import DATA_SETS
from dus_gym.data.sets import ucf101
from dus_gym.errors import BadMediaError, ConfigError, DatasetNotFoundError
from dus_gym.seeding import RunSeeds

SETS = ("food101", "ucf101", "vggsound", "cmu-mosei")
RGB, FLOW = 0, 1


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Not to be changed."""
    folder = tmp_path_factory.mktemp("balance")
    return {name: make_mock(name, folder / name, 12) for name in SETS}


@pytest.fixture
def copy(made, tmp_path):
    """A function of a data set's name: its mock, to be changed."""
    return lambda name: shutil.copytree(made[name], tmp_path / name, ignore=shutil.ignore_patterns(".dus-cache"))


def task_of(name, root=None, **options):
    return DATA_SETS[name].task.configured(options, root)


def data_of(name, root, **options):
    return task_of(name, root, **options).data(RunSeeds(0), root)


def paths_of(name, root, **options):
    """Where each modality's media are looked for, sample to paths below the root."""
    task = task_of(name, root, **options)
    source = task.data_source()
    streams = source.streams(task, task.options, root, source.records(task.options, root))
    return [
        {row.sample: tuple(path.relative_to(root).as_posix() for path in row.paths) for row in stream.rows}
        for stream in streams
    ]


@pytest.mark.parametrize(
    ("name", "modalities", "classes", "encoders"),
    [
        ("food101", ("text", "image"), 101, ("bert", "resnet50:weights=imagenet")),
        ("ucf101", ("rgb", "flow"), 101, ("resnet18", "resnet18")),
        ("vggsound", ("audio", "video"), 309, ("resnet18", "resnet18")),
        ("cmu-mosei", ("text", "audio", "video"), 3, ("bert", "resnet18", "resnet18")),
    ],
)
def test_each_has_its_modalities_classes_and_encoders(name, modalities, classes, encoders):
    task = task_of(name)
    assert (task.modalities, task.num_classes, task.encoders) == (modalities, classes, encoders)
    assert len(set(task.data_source().names(task.options))) == classes


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("food101", [(16,), (3, 32, 32)]),
        ("ucf101", [(3, 3, 224, 224), (2, 3, 224, 224)]),
        ("vggsound", [(1, 257, 454), (3, 3, 224, 224)]),
        ("cmu-mosei", [(16,), (1, 257, 454), (3, 3, 224, 224)]),
    ],
)
def test_batches_have_the_shapes_that_are_told(made, name, shapes):
    data = data_of(name, made[name])
    assert data.input_shapes == shapes
    for modality, shape in enumerate(shapes):
        found = data.train.fetch(modality, torch.arange(2), np.zeros(2, np.int64))
        assert found.shape[0] == 2
        if found.dtype == torch.int64:
            assert 3 < found.shape[1] <= shape[0], "a batch of texts is as long as its longest"
        else:
            assert found.shape[1:] == shape


# -- files that are not there ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("food101", "images/test/apple_pie/apple_pie_0.jpg"),
        ("ucf101", "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"),
        ("ucf101", "tvl1_flow/v/v_ApplyEyeMakeup_g01_c01"),
        ("vggsound", "video/-te_0000000_000000.mp4"),
        ("cmu-mosei", "Raw/-te000_mock/0.mp4"),
    ],
)
def test_a_file_that_is_missing_is_named_and_may_be_left_out(copy, name, file):
    root = copy(name)
    shutil.rmtree(root / file) if (root / file).is_dir() else (root / file).unlink()
    with pytest.raises(BadMediaError, match=rf"missing: .*{file} is not there"):
        data_of(name, root)
    assert data_of(name, root, on_error="skip", max_bad=0.1).dropped == {"test": 1}


@pytest.mark.parametrize(
    ("name", "folder", "looked"),
    [
        ("ucf101", "UCF-101", r"no frames .*UCF-101/\*\.mp4"),
        ("ucf101", "tvl1_flow", r"no optical flow .*tvl1_flow/u/\*/.*--task\.flow dis computes it"),
        ("vggsound", "video", r"no frames .*video/\*\.mp4"),
        ("cmu-mosei", "Raw", r"no frames .*Raw/\*\.mp4"),
    ],
)
def test_where_a_modality_is_missing_one_line_says_what_was_looked_for_and_what_to_do(copy, name, folder, looked):
    root = copy(name)
    shutil.rmtree(root / folder)
    with pytest.raises(DatasetNotFoundError, match=rf"{looked}.*dus data scan {name} --root DIR") as caught:
        data_of(name, root)
    assert "\n" not in str(caught.value)


def test_the_features_of_mosei_are_pickles_and_stay_closed(copy):
    root = copy("cmu-mosei")
    shutil.rmtree(root / "Raw")
    (root / "Processed").mkdir()
    (root / "Processed/aligned_50.pkl").write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(DatasetNotFoundError, match=r"Processed/aligned_50\.pkl .*can run code"):
        data_of("cmu-mosei", root)


# -- other spellings ---------------------------------------------------------------------------------


def test_vggsound_is_found_as_ogm_ge_names_its_clips(tmp_path):
    (tmp_path / "vggsound.csv").write_text("--96EN9NUQM,30,playing harp,test\n")
    for split in ("train", "test"):
        (tmp_path / f"{split}-audios/{split}-set").mkdir(parents=True)
    (tmp_path / "test-audios/test-set/--96EN9NUQM_30.wav").touch()
    (tmp_path / "test-videos/test-set-img/Image-01-FPS/--96EN9NUQM_30.mp4").mkdir(parents=True)
    clip = "--96EN9NUQM_000030"
    assert paths_of("vggsound", tmp_path) == [
        {clip: ("test-audios/test-set/--96EN9NUQM_30.wav",)},
        {clip: ("test-videos/test-set-img/Image-01-FPS/--96EN9NUQM_30.mp4",)},
    ]
    (tmp_path / "vggsound.csv").write_text("--96EN9NUQM,30,playing harp,test\n--IOqc-XgYo,0,playing piano,train\n")
    assert paths_of("vggsound", tmp_path)[0]["--IOqc-XgYo_000000"] == ("train-audios/train-set/--IOqc-XgYo_0.wav",)


def test_ucf101_is_found_as_the_archives_of_frames_and_flow_spell_it(tmp_path):
    """The archives name a folder of HandstandPushups as its class; the videos in that class are spelled otherwise."""
    clips = {"train": "HandstandPushups/v_HandStandPushups_g08_c01.avi 37", "test": "YoYo/v_YoYo_g01_c01.avi"}
    for split, line in clips.items():
        (tmp_path / f"{split}list01.txt").write_text(line + "\n")
    names = ("v_HandstandPushups_g08_c01", "v_YoYo_g01_c01")
    for name in names:
        for folder in ("jpegs_256", "tvl1_flow/u"):
            (tmp_path / folder / name).mkdir(parents=True)
    samples = ("v_HandStandPushups_g08_c01", "v_YoYo_g01_c01")
    rgb, flow = paths_of("ucf101", tmp_path)
    assert rgb == {sample: (f"jpegs_256/{name}",) for sample, name in zip(samples, names, strict=True)}
    assert flow == {
        sample: (f"tvl1_flow/u/{name}", f"tvl1_flow/v/{name}") for sample, name in zip(samples, names, strict=True)
    }
    (tmp_path / "HandstandPushups").mkdir()
    (tmp_path / "YoYo").mkdir()
    for line in clips.values():
        (tmp_path / line.split()[0]).touch()
    assert paths_of("ucf101", tmp_path)[0][samples[0]] == ("HandstandPushups/v_HandStandPushups_g08_c01.avi",)


# -- UCF-101 -----------------------------------------------------------------------------------------


def test_validation_is_of_groups_that_train_nowhere(made):
    records = ucf101.read_lists(made["ucf101"])
    source = DATA_SETS["ucf101"].source
    options = task_of("ucf101", made["ucf101"]).options
    parted = source.carve(records, options, np.random.default_rng(0))
    groups = {split: {r.group for r in parted if r.split == split} for split in ("train", "validation", "test")}
    assert len(groups["validation"]) == options.held == 1
    assert not groups["train"] & groups["validation"]
    assert {r.label for r in parted if r.split == "validation"} == {0, 1}, "a group has clips of every class"
    unheld = task_of("ucf101", made["ucf101"], validation="none").options
    assert source.carve(records, unheld, np.random.default_rng(0)) == records


def test_flow_of_pictures_is_x_then_y_from_minus_one_to_one_and_a_mirror_turns_x(copy):
    root = copy("ucf101")
    # Motion of one class is 10 pixels to the right and 20 up, of the other nothing: bytes 191.25, 0 and 127.5.
    for folder in (root / "tvl1_flow").glob("[uv]/*"):
        still = "Lipstick" in folder.name
        byte = 128 if still else {"u": 191, "v": 0}[folder.parent.name]
        for path in folder.iterdir():
            Image.fromarray(np.full((24, 32), byte, np.uint8)).save(path, quality=100)
    data = data_of("ucf101", root, validation="none", frames_per_clip=2)
    still = [i for i, label in enumerate(data.train.labels.tolist()) if label == ucf101.CLASSES.index("ApplyLipstick")]
    moves = [i for i in range(len(data.train.labels)) if i not in still]
    seen = data.train.fetch(FLOW, torch.tensor(moves))
    assert seen.shape == (4, 2, 2, 224, 224)
    assert torch.allclose(seen[:, 0], torch.tensor((191 - 128) / 127), atol=1e-5)
    assert torch.allclose(seen[:, 1], torch.tensor(-128 / 127), atol=1e-5)
    assert data.train.fetch(FLOW, torch.tensor(still)).abs().max() < 1e-6
    draws = np.arange(40)
    rows = torch.tensor([moves[0]] * 40)
    drawn = data.train.fetch(FLOW, rows, draws).mean(dim=(2, 3, 4))
    assert torch.allclose(drawn[:, 1], torch.tensor(-128 / 127), atol=1e-5), "motion down has no sign in a mirror"
    mirrored = drawn[:, 0] < 0
    assert 8 < int(mirrored.sum()) < 32
    assert torch.allclose(drawn[:, 0].abs(), torch.tensor(63 / 127), atol=1e-5)


def test_pictures_and_flow_of_a_clip_are_mirrored_together(copy):
    root = copy("ucf101")
    ramp = np.linspace(30, 220, 32).astype(np.uint8)[None].repeat(24, axis=0)
    for folder in (root / "tvl1_flow").glob("[uv]/*"):
        for path in folder.iterdir():
            Image.fromarray(np.full((24, 32), 191, np.uint8)).save(path, quality=100)
        frames = root / "jpegs_256" / folder.name
        frames.mkdir(parents=True, exist_ok=True)
        for number in range(1, 26):
            Image.fromarray(ramp).save(frames / f"frame{number:06d}.jpg", quality=95)
    shutil.rmtree(root / "UCF-101")
    data = data_of("ucf101", root, validation="none")
    rows, draws = torch.zeros(24, dtype=torch.long), np.arange(24)
    rgb = data.train.fetch(RGB, rows, draws)
    brighter_on_the_left = rgb[..., :20].mean(dim=(1, 2, 3, 4)) > rgb[..., -20:].mean(dim=(1, 2, 3, 4))
    to_the_left = data.train.fetch(FLOW, rows, draws)[:, 0].mean(dim=(1, 2, 3)) < 0
    assert torch.equal(brighter_on_the_left, to_the_left)
    assert to_the_left.any()
    assert not to_the_left.all()


def test_flow_can_be_computed_from_the_videos(copy):
    pytest.importorskip("cv2", reason="OpenCV (the extra 'flow') is not installed")
    root = copy("ucf101")
    shutil.rmtree(root / "tvl1_flow")
    data = data_of("ucf101", root, flow="dis", validation="none")
    rgb, flow = (view.store for view in data.train.modalities)
    for sample in rgb.samples:
        pictures, motion = rgb.gather([sample])[0], flow.gather([sample])[0]
        assert motion.shape == (*pictures.shape[:3], 2), "one field of motion a picture"
        assert motion.dtype == np.uint8


# -- options -----------------------------------------------------------------------------------------


def test_moseis_classes_may_be_two_or_seven(made):
    root = made["cmu-mosei"]
    for classes, count, expected in (("three", 3, [0, 1]), ("two", 2, [0, 1]), ("seven", 7, [1, 3])):
        task = task_of("cmu-mosei", root, classes=classes)
        assert (task.num_classes, len(task.data_source().names(task.options))) == (count, count)
        # The mock's sentences have -1.33 and 0.
        found = task.data_source().records(task.options, root)
        assert sorted({record.label for record in found}) == expected


def test_moseis_sentences_are_read_by_the_encoders_vocabulary(made):
    root = made["cmu-mosei"]
    records = DATA_SETS["cmu-mosei"].source.records(task_of("cmu-mosei", root).options, root)
    words = (root / "vocab.txt").read_text().splitlines()
    test = [record for record in records if record.split == "test"]
    ids = data_of("cmu-mosei", root).test.fetch(0, torch.arange(len(test)))
    shown = [" ".join(words[i] for i in row if words[i] not in ("[CLS]", "[SEP]", "[PAD]")) for row in ids.tolist()]
    assert shown == [record.text.replace(",", " ,") for record in test]


def test_food101_under_balance_benchmarks_preset(made):
    root = made["food101"]
    task = task_of("food101", root, preset="balance", size=24, length=None)
    source = task.data_source()
    text, image = source.streams(task, task.options, root, source.records(task.options, root))
    assert (text.decoder.length, text.decoder.clean) == (40, "title")
    assert image.shape == (3, 24, 24)
    keys = np.arange(32, dtype=np.uint64)
    sizes = np.full(32, 30), np.full(32, 50)
    boxes, flips = image.transform.choose(keys, *sizes, train=True)
    assert (boxes == [0, 0, 30, 50]).all(), "the whole picture, never a crop"
    assert 4 < flips.sum() < 28


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RT \t best #pie ever", "best pie ever"),
        ("pie https://a.b/c and more", "pie "),
        ("see http://x.y\nnext", "see next"),
        ("an RT in the middle", "an RT in the middle"),
    ],
)
def test_titles_are_cleaned_as_balance_benchmark_does(text, expected):
    """Worked by hand from its ``clean_text``."""
    assert title(text) == expected


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("food101", {"preset": "bss"}, "preset='bss' is not allowed; choose one of default, balance"),
        ("ucf101", {"flow": "tvl1"}, "flow='tvl1' is not allowed; choose one of files, dis, farneback"),
        ("ucf101", {"split": 4}, "split='4' is not allowed; choose one of 1, 2, 3"),
        ("ucf101", {"held": 4}, "4 groups can't be held out of 4"),
        ("ucf101", {"validation": "random"}, "validation='random' is not allowed; choose one of groups, none"),
        ("vggsound", {"audio": "ogm3s"}, "audio='ogm3s' is not allowed; choose one of loop10s, fbank"),
        ("cmu-mosei", {"classes": "five"}, "classes='five' is not allowed; choose one of three, two, seven"),
        ("cmu-mosei", {"length": 2}, "length=2 is not allowed"),
    ],
)
def test_options_that_can_not_be_are_named(made, name, option, message):
    with pytest.raises(ConfigError, match=message):
        data_of(name, made[name], **option)
