"""CREMA-D from files in the layouts of every repository, to batches, to a training run."""

import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch
from media_files import write_cremad, write_frames, write_sound, write_video

from dus_gym.data.media_source import SETTINGS
from dus_gym.data.registry import get_task
from dus_gym.data.sets.cremad import CREMADOptions
from dus_gym.errors import BadMediaError, ConfigError, DatasetNotFoundError
from dus_gym.seeding import RunSeeds

TASK = "CREMAD"
CREMAD = get_task(TASK).data_source()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("cremad")
    write_cremad(root)
    return root


@pytest.fixture
def root(made, tmp_path):
    """A copy that a test may change, without what was decoded."""
    return shutil.copytree(made, tmp_path / "cremad", ignore=shutil.ignore_patterns(".dus-cache"))


def data_of(root, seed=0, **options):
    return get_task(TASK).configured(options, root).data(RunSeeds(seed), root)


def samples(split):
    view = split.modalities[0]
    return [view.store.samples[row] for row in view.rows.tolist()]


def paths_of(root, modality, **options):
    chosen = CREMADOptions(**options)
    stream = CREMAD.streams(get_task(TASK), chosen, root, CREMAD.records(chosen, root))[modality]
    return {row.sample: row.paths[0].relative_to(root).as_posix() for row in stream.rows}


# -- samples and splits -----------------------------------------------------------------------------


def test_splits_are_the_lists_and_a_tenth_of_train_validates(made):
    data = data_of(made)
    assert (len(data.train.labels), len(data.validation.labels), len(data.test.labels)) == (30, 6, 36)
    assert sorted(data.validation.labels.tolist()) == list(range(6))
    assert not set(samples(data.train)) & set(samples(data.validation))
    assert all("_IEO_" in sample for sample in samples(data.test))
    assert data.data_kind == "real"
    assert data.dropped == {}
    assert data.input_shapes == [(1, 257, 188), (3, 224, 224)]


def test_without_validation_all_of_train_trains(made):
    data = data_of(made, validation="none")
    assert data.validation is None
    assert len(data.train.labels) == 36


def test_actors_can_be_kept_apart(made):
    data = data_of(made, split="actors")
    actors = [{name[:4] for name in samples(part)} for part in (data.train, data.validation, data.test)]
    assert [len(found) for found in actors] == [4, 1, 1]
    assert not actors[0] & actors[1]
    assert not actors[0] & actors[2]
    assert not actors[1] & actors[2]
    others = [{name[:4] for name in samples(data_of(made, seed, split="actors").test)} for seed in range(1, 6)]
    assert any(found != actors[2] for found in others)
    whole = data_of(made, split="actors", validation="none")
    assert whole.validation is None
    assert {name[:4] for name in samples(whole.train)} == actors[0] | actors[1]


@pytest.mark.parametrize(("order", "ids"), [("ogm", [0, 1, 2, 3, 4, 5]), ("mla", [4, 3, 5, 2, 1, 0])])
def test_class_ids_are_in_the_order_asked_for(made, order, ids):
    data = data_of(made, labels=order)
    found = {
        name.split("_")[2]: label for name, label in zip(samples(data.test), data.test.labels.tolist(), strict=True)
    }
    assert [found[emotion] for emotion in ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")] == ids
    names = CREMAD.names(CREMADOptions(labels=order))
    assert [names[found[emotion]] for emotion in ("NEU", "ANG")] == ["neutral", "anger"]
    assert CREMAD.class_names == CREMAD.names(CREMADOptions())


def test_a_list_that_was_never_published_together_is_refused(root):
    (root / "train.csv").rename(root / "my_train_cre.txt")
    with pytest.raises(DatasetNotFoundError, match=r"dus data mock cremad"):
        data_of(root)


# -- layouts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["AudioWAV", "Audio", "audio", "audio/AudioWAV"])
def test_sound_is_found_under_every_name_in_use(root, folder):
    (root / "AudioWAV").rename(root / "moved")
    (root / folder).parent.mkdir(exist_ok=True)
    (root / "moved").rename(root / folder)
    found = paths_of(root, 0)
    assert len(found) == 72
    assert found["1001_DFA_NEU_XX"] == f"{folder}/1001_DFA_NEU_XX.wav"


@pytest.mark.parametrize("folder", ["Image-01-FPS", "visual/Image-01-FPS", "visual/train_imgs/Image-01-FPS", "visual"])
def test_frames_are_found_under_every_name_in_use(root, folder):
    (root / "Image-01-FPS").rename(root / "moved")
    (root / folder).parent.mkdir(exist_ok=True, parents=True)
    (root / "moved").rename(root / folder)
    found = paths_of(root, 1)
    assert found["1001_DFA_NEU_XX"] == f"{folder}/1001_DFA_NEU_XX"


def test_clips_in_folders_of_both_splits_are_found_in_either(root):
    for clip in (root / "Image-01-FPS").iterdir():
        split = "train" if "_DFA_" in clip.name else "test"
        target = root / f"visual/{split}_imgs/Image-01-FPS/{clip.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        clip.rename(target)
    found = paths_of(root, 1)
    assert found["1001_IEO_NEU_XX"] == "visual/test_imgs/Image-01-FPS/1001_IEO_NEU_XX"
    shutil.rmtree(root / "visual/test_imgs/Image-01-FPS/1001_IEO_NEU_XX")
    assert paths_of(root, 1) == found, "a missing clip is expected beside those of its split"


def test_videos_will_do_where_there_are_no_frames(root):
    (root / "Image-01-FPS").rename(root / "moved")
    for i, clip in enumerate(path.name for path in (root / "moved").iterdir()):
        write_video(root / f"VideoFlash/{clip}.flv", 20, codec="flv", value=lambda _, i=i: 3 * i)
    assert paths_of(root, 1)["1001_DFA_NEU_XX"] == "VideoFlash/1001_DFA_NEU_XX.flv"
    data = data_of(root)
    assert data.test.fetch(1, torch.arange(2)).shape == (2, 3, 224, 224)


def test_media_come_from_one_place_even_if_another_has_some(root):
    write_sound(root / "AudioMP3/1001_DFA_NEU_XX.wav").rename(root / "AudioMP3/1001_DFA_NEU_XX.mp3")
    (root / "AudioWAV/1001_DFA_NEU_XX.wav").unlink()
    assert paths_of(root, 0)["1001_DFA_NEU_XX"] == "AudioWAV/1001_DFA_NEU_XX.wav"
    with pytest.raises(BadMediaError, match=r"AudioWAV/1001_DFA_NEU_XX\.wav: missing"):
        data_of(root)


def test_another_rate_of_frames_is_another_folder(root):
    with pytest.raises(DatasetNotFoundError, match="Image-02-FPS"):
        data_of(root, fps=2)
    for clip in (root / "Image-01-FPS").iterdir():
        write_frames(root / f"Image-02-FPS/{clip.name}", 6, step=15)
    assert paths_of(root, 1, fps=2)["1001_DFA_NEU_XX"] == "Image-02-FPS/1001_DFA_NEU_XX"


def test_stored_filter_banks_of_mla_are_used_if_there_is_no_sound(root):
    for clip in paths_of(root, 0):
        folder = root / f"audio/{'train' if '_DFA_' in clip else 'test'}_fbank"
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{clip}.npy", np.full((1024, 128), 2.0, np.float32))
    assert paths_of(root, 0, audio="fbank")["1001_DFA_NEU_XX"].startswith("AudioWAV/")
    shutil.rmtree(root / "AudioWAV")
    assert paths_of(root, 0, audio="fbank")["1001_IEO_NEU_XX"] == "audio/test_fbank/1001_IEO_NEU_XX.npy"
    batch = data_of(root, audio="fbank").test.fetch(0, torch.arange(2))
    torch.testing.assert_close(batch, torch.full((2, 1, 1024, 128), 2.0))
    with pytest.raises(DatasetNotFoundError, match="AudioWAV"):
        data_of(root)


@pytest.mark.parametrize("folder", ["Audio-1004", "AudioWAV"])
def test_pickles_of_peers_are_refused_and_never_opened(root, folder):
    shutil.rmtree(root / "AudioWAV")
    (root / folder).mkdir()
    (root / folder / "1001_DFA_NEU_XX.pkl").write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(DatasetNotFoundError, match=rf"{folder}/1001_DFA_NEU_XX\.pkl .*can run code.*sound files"):
        data_of(root)


def test_a_data_set_that_is_not_there_says_what_to_do(tmp_path):
    for root in (None, tmp_path / "nowhere", tmp_path):
        with pytest.raises(DatasetNotFoundError, match=r"CREMA-D with Git LFS .*dus data scan cremad.*--trainer fake"):
            get_task(TASK).configured({}, root).data(RunSeeds(0), root)


# -- presets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ({}, [(1, 257, 188), (3, 224, 224)]),
        ({"audio": "bss20s"}, [(1, 257, 1250), (3, 224, 224)]),
        ({"audio": "fbank", "frames_per_clip": 3}, [(1, 1024, 128), (3, 3, 224, 224)]),
    ],
)
def test_batches_have_the_shapes_of_their_preset(made, options, shapes):
    data = data_of(made, **options)
    assert data.input_shapes == shapes
    for modality, shape in enumerate(shapes):
        for draws in (None, np.arange(4)):
            batch = data.train.fetch(modality, torch.arange(4), draws)
            assert batch.shape == (4, *shape)
            assert batch.dtype == torch.float32
            assert torch.isfinite(batch).all()


def test_the_loop_of_20_seconds_is_stored_as_a_waveform(made):
    store = data_of(made, audio="bss20s").train.modalities[0].store
    assert store.fixed_shape is None
    assert store.gather([0])[0].shape == (6615,)


def test_standardising_is_of_the_filter_bank_alone(made):
    plain = data_of(made, audio="fbank").test.fetch(0, torch.arange(3))
    scaled = data_of(made, audio="fbank", standardise=True).test.fetch(0, torch.arange(3))
    torch.testing.assert_close(scaled, (plain + 4.503877) / (2 * 5.141276))
    with pytest.raises(ConfigError, match="standardise=True"):
        CREMADOptions(standardise=True)


def test_training_draws_differ_and_evaluation_does_not(made):
    data = data_of(made)
    rows = torch.arange(6)
    first, again, second = (data.train.fetch(1, rows, np.full(6, draw)) for draw in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(data.test.fetch(1, rows), data.test.fetch(1, rows, np.arange(6)))
    sound = [data.train.fetch(0, rows, np.full(6, draw)) for draw in (0, 1)]
    assert torch.equal(*sound), "sound is not augmented, as published"


def test_even_frames_store_no_others(made):
    every, even, first = (
        data_of(made, frames=frames).test.modalities[1].store for frames in ("segment", "even", "peer_first")
    )
    assert [store.gather([0])[0].shape for store in (every, even, first)] == [
        (3, 24, 32, 3),
        (1, 24, 32, 3),
        (1, 24, 32, 3),
    ]
    np.testing.assert_array_equal(even.gather([0])[0][0], every.gather([0])[0][1])
    np.testing.assert_array_equal(first.gather([0])[0][0], every.gather([0])[0][0])


def test_full_frames_are_stored_when_asked_for(root):
    write_frames(root / "Image-01-FPS/1001_DFA_NEU_XX", 3, size=(300, 400))
    small, full = (data_of(root, short_side=side).train.modalities[1].store for side in (256, 0))
    assert small.gather(["1001_DFA_NEU_XX"])[0].shape == (3, 256, 341, 3)
    assert full.gather(["1001_DFA_NEU_XX"])[0].shape == (3, 300, 400, 3)


# -- bad files ---------------------------------------------------------------------------------------


def test_a_clip_with_one_bad_file_is_left_out_of_both_modalities(root):
    (root / "AudioWAV/1001_DFA_NEU_XX.wav").write_bytes(b"")
    frame = root / "Image-01-FPS/1002_IEO_SAD_XX/00030.jpg"
    frame.write_bytes(frame.read_bytes()[:-30])
    with pytest.raises(BadMediaError, match=r"AudioWAV/1001_DFA_NEU_XX\.wav: empty"):
        data_of(root)
    data = data_of(root, on_error="skip", max_bad=0.1)
    assert {"1001_DFA_NEU_XX", "1002_IEO_SAD_XX"}.isdisjoint({*samples(data.train), *samples(data.test)})
    assert len(data.test.labels) == 35
    assert sum(data.dropped.values()) == 2
    assert data.dropped["test"] == 1


@pytest.mark.parametrize(
    "option",
    [{"audio": "bss10s"}, {"labels": "alphabetical"}, {"split": "random"}, {"frames": "first"}, {"fps": 0},
     {"frames_per_clip": 0}, {"short_side": -1}, {"validation": "some"}, {"encoder": "big"}],
)  # fmt: skip
def test_options_that_cannot_be_are_named(option):
    (name, value), *_ = option.items()
    with pytest.raises(ConfigError, match=f"{name}={value!r}"):
        get_task(TASK).configured(option)


@pytest.mark.parametrize("written", [{"options": [0] * 10_000}, {"encoders": [0] * 10_000}])
def test_nonsense_in_a_folder_is_named_in_one_short_line(root, written):
    (root / SETTINGS).write_text(json.dumps(written))
    with pytest.raises(ConfigError, match=rf"{SETTINGS} is not allowed; give") as caught:
        get_task(TASK).configured(None, root)
    assert len(str(caught.value)) < len(str(root)) + 200


# -- a run -------------------------------------------------------------------------------------------


def test_it_trains(root):
    (root / SETTINGS).write_text(json.dumps({"encoders": ["cnn:pool=mean", "cnn:pool=mean"], "data_kind": "mock"}))
    env = gym.make("dus_gym:DUS-CREMAD-v0", data_root=str(root), epochs=1, total_batch=16)
    first, _ = env.reset(seed=0)
    assert first.shape == (2,)
    observation, reward, terminated, _, info = env.step(np.array([0.5, 0.5], np.float32))
    assert terminated
    assert np.isfinite(reward)
    assert 0 < observation.min() < observation.max() < 1
    assert info["diverged"] is False
    result = env.unwrapped.evaluate()
    assert result
    env.close()
