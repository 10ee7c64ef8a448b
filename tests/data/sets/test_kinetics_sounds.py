"""Kinetics-Sounds: class ids that no missing file can move, names that begin with any character, every layout."""

import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch
from media_files import write_frames, write_sound, write_video

from dus_gym.data.media_source import SETTINGS
from dus_gym.data.registry import get_task
from dus_gym.data.sets.kinetics_sounds import KineticsSoundsOptions
from dus_gym.errors import BadMediaError, ConfigError, DatasetNotFoundError
from dus_gym.seeding import RunSeeds

TASK = "KineticsSounds"
KINETICS_SOUNDS = get_task(TASK).data_source()
CLASSES = ("tickling", "blowing nose", "tapping pen", "bowling")
IDS = {"tickling": 30, "blowing nose": 0, "tapping pen": 29, "bowling": 2}


def stem(split, number, label):
    """A YouTube id of eleven characters with dashes and underscores, and the second the clip starts at."""
    return f"-{split[:2]}_{number}_{label:02d}-_{'_' if split == 'test' else 'x'}_000012"


def clips(split):
    return [(stem(split, number, i), name) for number in range(3) for i, name in enumerate(CLASSES)]


def write(root):
    """The layout of BSS: lists that name classes, wavs and frames in folders of each split."""
    for split in ("train", "test"):
        for i, (clip, name) in enumerate(clips(split)):
            write_sound(root / f"{split}_wav/{clip}.wav", hertz=300 + 200 * CLASSES.index(name), seed=i)
            frames = root / f"{split}_img/Image-01-FPS/{clip}"
            write_frames(frames, 10, pattern="frame_{}.jpg", step=1, value=10 * CLASSES.index(name), seed=i)
        lines = ["label,youtube_id", *(f"{name},{clip}" for clip, name in clips(split))]
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/{split}.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("ks")
    write(root)
    return root


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "ks", ignore=shutil.ignore_patterns(".dus-cache"))


def data_of(root, seed=0, **options):
    return get_task(TASK).configured(options, root).data(RunSeeds(seed), root)


def labels_of(split):
    view = split.modalities[0]
    return dict(zip((view.store.samples[row] for row in view.rows.tolist()), split.labels.tolist(), strict=True))


def paths_of(root, modality, **options):
    chosen = KineticsSoundsOptions(**options)
    stream = KINETICS_SOUNDS.streams(get_task(TASK), chosen, root, KINETICS_SOUNDS.records(chosen, root))[modality]
    return {row.sample: row.paths[0].relative_to(root).as_posix() for row in stream.rows}


def test_class_ids_are_those_of_the_fixed_table(made):
    assert labels_of(data_of(made).test) == {clip: IDS[name] for clip, name in clips("test")}
    assert [KINETICS_SOUNDS.class_names[i] for i in (0, 2, 29, 30)] == [
        "blowing nose",
        "bowling",
        "tapping pen",
        "tickling",
    ]
    assert len(KINETICS_SOUNDS.class_names) == get_task(TASK).num_classes == 31


def test_a_class_without_a_file_on_the_disk_renumbers_nothing(root):
    for split in ("train", "test"):
        for clip, name in clips(split):
            if name == "blowing nose":
                (root / f"{split}_wav/{clip}.wav").unlink()
                shutil.rmtree(root / f"{split}_img/Image-01-FPS/{clip}")
    with pytest.raises(BadMediaError, match="missing"):
        data_of(root)
    data = data_of(root, on_error="skip", max_bad=0.3)
    assert labels_of(data.test) == {clip: IDS[name] for clip, name in clips("test") if name != "blowing nose"}
    assert data.dropped["test"] == 3


def test_lists_that_number_classes_and_lists_that_name_them_agree(root):
    named = labels_of(data_of(root).test)
    shutil.rmtree(root / "annotations")
    for split in ("train", "test"):
        lines = [f"{clip},10,{IDS[name]}" for clip, name in clips(split)]
        (root / f"my_{split}.txt").write_bytes(("\r\n".join(lines) + "\r\n").encode())
    assert labels_of(data_of(root).test) == named


def test_the_published_validation_split_is_used_where_it_is_there_and_carved_where_not(root):
    carved = data_of(root)
    assert len(carved.validation.labels) == 4
    assert len(carved.train.labels) == 8
    assert data_of(root, validation="none").validation is None
    extra = {f"va_{i}_______": name for i, name in enumerate(CLASSES)}
    for clip in extra:
        write_sound(root / f"val_wav/{clip}.wav")
        write_frames(root / f"val_img/Image-01-FPS/{clip}", 3)
    database = {clip: {"subset": "validation", "label": name.replace(" ", "_")} for clip, name in extra.items()}
    (root / "KS_train_val.json").write_text(json.dumps({"labels": [], "database": database}))
    published = data_of(root)
    assert labels_of(published.validation) == {clip: IDS[name] for clip, name in extra.items()}
    assert len(published.train.labels) == 12
    unused = data_of(root, validation="none")
    assert unused.validation is None
    assert len(unused.train.labels) == 12


@pytest.mark.parametrize(
    ("sound", "frames"),
    [
        ("{split}_wav", "{split}_img/Image-01-FPS"),
        ("audio", "visual"),
        ("audio/{split}_wav", "visual/{split}_imgs/Image-01-FPS"),
        ("wav", "Image-01-FPS"),
    ],
)
def test_media_are_found_under_every_name_in_use(root, sound, frames):
    for split in ("train", "test"):
        for old, new in ((f"{split}_wav", sound), (f"{split}_img/Image-01-FPS", frames)):
            target = root / "new" / new.format(split=split)
            shutil.copytree(root / old, target, dirs_exist_ok=True)
            shutil.rmtree(root / old)
    for path in (root / "new").iterdir():
        shutil.copytree(path, root / path.name, dirs_exist_ok=True)
    clip = clips("test")[0][0]
    assert paths_of(root, 0)[clip] == f"{sound.format(split='test')}/{clip}.wav"
    assert paths_of(root, 1)[clip] == f"{frames.format(split='test')}/{clip}"


def test_videos_alone_will_do(root):
    for split in ("train", "test"):
        shutil.rmtree(root / f"{split}_wav")
        shutil.rmtree(root / f"{split}_img")
        for clip, _ in clips(split):
            tone = 0.3 * np.sin(np.arange(16_000) / 5)
            write_video(root / f"video/{clip}.mp4", 20, rate=10, codec="mpeg4", sound=tone)
    data = data_of(root, frames="even")
    assert data.train.fetch(0, torch.arange(2)).shape == (2, 1, 257, 1003)
    assert data.train.fetch(1, torch.arange(2)).shape == (2, 3, 3, 224, 224)


@pytest.mark.parametrize("name", ["train_wav_pkl", "audio_spec"])
def test_pickles_of_peers_are_refused(root, name):
    for split in ("train", "test"):
        shutil.rmtree(root / f"{split}_wav")
    (root / name).mkdir()
    (root / name / "a.pkl").write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(DatasetNotFoundError, match=rf"no sound .*{name}/a\.pkl .*can run code"):
        data_of(root)


def test_batches_have_the_published_shapes(made):
    data = data_of(made)
    assert data.input_shapes == [(1, 257, 1003), (3, 3, 224, 224)]
    assert data.train.fetch(0, torch.arange(2), np.zeros(2, np.int64)).shape == (2, 1, 257, 1003)
    assert data.train.fetch(1, torch.arange(2), np.zeros(2, np.int64)).shape == (2, 3, 3, 224, 224)
    bank = data_of(made, audio="fbank", standardise=True, frames_per_clip=2)
    assert bank.input_shapes == [(1, 1024, 128), (3, 2, 224, 224)]
    assert bank.test.fetch(0, torch.arange(2)).shape == (2, 1, 1024, 128)


def test_frames_beyond_the_ninth_are_in_their_place(made):
    stored = data_of(made).test.modalities[1].store.gather([stem("test", 0, 0)])[0]
    assert len(stored) == 10
    assert (np.diff(stored.mean((1, 2, 3))) > 10).all(), "each frame was made brighter than the one before"


def test_an_empty_sound_is_an_error_and_no_endless_loop(root):
    clip = clips("train")[0][0]
    write_sound(root / f"train_wav/{clip}.wav", seconds=0)
    with pytest.raises(BadMediaError, match="has no samples"):
        data_of(root)


@pytest.mark.parametrize("option", [{"audio": "ogm3s"}, {"frames": "all"}, {"validation": "random"}])
def test_options_that_cannot_be_are_named(option):
    (name, value), *_ = option.items()
    with pytest.raises(ConfigError, match=f"{name}={value!r}"):
        get_task(TASK).configured(option)


def test_it_trains(root):
    (root / SETTINGS).write_text(json.dumps({"encoders": ["cnn:pool=mean", "cnn:pool=mean"], "data_kind": "mock"}))
    env = gym.make("dus_gym:DUS-KineticsSounds-v0", data_root=str(root), epochs=1, total_batch=8)
    env.reset(seed=0)
    observation, _, terminated, _, info = env.step(np.array([0.5, 0.5], np.float32))
    assert terminated
    assert np.isfinite(observation).all()
    assert info["diverged"] is False
    env.close()
