"""NVGesture from a folder in its real format to a run's splits."""

import hashlib
import json
import os
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gestures import FRAMES, START, rows, write_gestures
from media_files import write_video
from PIL import Image

from dus_gym.data.registry import get_task
from dus_gym.errors import AnnotationError, BadMediaError, ConfigError, DatasetNotFoundError
from dus_gym.seeding import RunSeeds

FOLDER = os.environ.get("DUS_TEST_DATA")
real = pytest.mark.skipif(FOLDER is None, reason="DUS_TEST_DATA is not set to the folder of real annotation files")
RGB, DEPTH, FLOW = range(3)
EXACT = 8 / 127.5
"""One step of a frame's brightness, after scaling."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Not to be changed."""
    return write_gestures(tmp_path_factory.mktemp("nvgesture"))


@pytest.fixture
def gestures(tmp_path):
    return write_gestures(tmp_path)


def task_of(root, **options):
    return get_task("NVGesture").configured(options, root)


def data_of(root, **options):
    return task_of(root, **options).data(RunSeeds(0), root)


def streams_of(root, **options):
    task = task_of(root, **options)
    return task.data_source().streams(task, task.options, root, task.data_source().records(task.options, root))


def frames_of(clips):
    """Numbers of the frames in a scaled grey clip, read off their brightness: ``(k, t)``."""
    return torch.round((clips[:, 0].mean(dim=(2, 3)) + 1) / EXACT).long()


def test_a_folder_in_the_published_format_trains_an_epoch(shared):
    env = gym.make("dus_gym:DUS-NVGesture-v0", data_root=str(shared), epochs=1, total_batch=6)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    _, reward, terminated, _, _ = env.step(env.action_space.sample())
    assert terminated
    assert np.isfinite(reward)
    scores = env.unwrapped.evaluate().modalities
    assert list(scores) == ["rgb", "depth", "flow"]
    assert all(0 <= score.accuracy <= 1 for score in scores.values())


def test_the_label_is_the_lists_and_not_the_folders(shared):
    data = data_of(shared, validation="none")
    assert data.validation is None
    assert data.train.labels.tolist() == [label - 1 for _, _, label in rows("train")]
    assert rows("train")[0][0] != rows("train")[0][2]
    assert len(data.test.labels) == len(rows("test")), "the last line has no end"


def test_validation_is_of_subjects_that_train_nowhere(shared):
    data = data_of(shared)
    assert (len(data.train.labels), len(data.validation.labels)) == (6, 3)

    def subjects(split):
        view = split.modalities[0]
        return {view.store.samples[row].split("/")[1] for row in view.rows}

    assert len(subjects(data.validation)) == 1
    assert not subjects(data.train) & subjects(data.validation)
    with pytest.raises(ConfigError, match="3 groups can't be held out of 3"):
        data_of(shared, held=3)


@real
def test_two_of_the_twelve_published_subjects_are_held_out():
    source, task = get_task("NVGesture").data_source(), get_task("NVGesture").configured()
    records = source.records(task.options, Path(FOLDER) / "annotations/nvgesture")
    parted = source.carve(records, task.options, np.random.default_rng(0))
    subjects = {split: {r.group for r in parted if r.split == split} for split in ("train", "validation", "test")}
    assert [len(subjects[split]) for split in ("train", "validation", "test")] == [10, 2, 6]


def test_evaluation_sees_every_frame_of_the_window(shared):
    data = data_of(shared)
    clips = data.test.fetch(RGB, torch.tensor([0]))
    assert clips.shape == (1, 3, FRAMES, 36, 36)
    assert frames_of(clips).tolist() == [list(range(START, START + FRAMES))]
    assert data.test.fetch(DEPTH, torch.tensor([0])).shape == (1, 1, FRAMES, 36, 36)
    assert data.test.fetch(FLOW, torch.tensor([0])).shape == (1, 2, FRAMES, 36, 36)


def test_training_sees_a_window_that_all_modalities_share(shared):
    data = data_of(shared)
    rows_, draws = torch.zeros(40, dtype=torch.long), np.arange(40)
    rgb, depth = (data.train.fetch(j, rows_, draws) for j in (RGB, DEPTH))
    assert rgb.shape == (40, 3, 8, 36, 36)
    assert depth.shape == (40, 1, 8, 36, 36)
    starts = frames_of(rgb)[:, 0]
    assert set(starts.tolist()) == {START, START + 1, START + 2}
    assert torch.equal(frames_of(rgb).diff(dim=1), torch.ones(40, 7, dtype=torch.long)), "in order"
    assert torch.equal(frames_of(depth)[:, 0], starts)
    assert data.train.shared
    assert tuple(data.input_shapes[FLOW]) == (2, 8, 36, 36)


def test_numbers_are_between_minus_one_and_one(shared):
    data = data_of(shared, validation="none")
    for modality in (RGB, DEPTH, FLOW):
        clips = data.train.fetch(modality, torch.arange(4))
        assert clips.min() >= -1
        assert clips.max() <= 1
    motion = data.train.fetch(FLOW, torch.arange(3))
    # Row number n moves n pixels across and down in 32 × 24; in 40 × 40 that is 40/32 n and 40/24 n.
    expected = torch.tensor([[n * 40 / 32 / 20, n * 40 / 24 / 20] for n in range(3)])
    assert torch.allclose(motion.mean(dim=(2, 3, 4)), expected, atol=0.005)


def test_the_peers_preset_is_bgr_with_imagenets_numbers_raw_flow_and_eight_steps(shared):
    task = task_of(shared, preset="bss")
    assert get_task("NVGesture").configured({"preset": "bss"}).encoders == ("i3d:pool=first8",) * 3
    assert task.encoders == ("i3d:width=0.1",) * 3, "a folder's own words stay"
    data, plain = data_of(shared, preset="bss"), data_of(shared)
    assert [tuple(shape) for shape in data.input_shapes] == [(3, 8, 36, 36), (1, 8, 36, 36), (2, FRAMES, 36, 36)]
    row = torch.tensor([2])
    grey = (plain.train.fetch(RGB, row) + 1) / 2
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    scaled = (grey.flip(1) - mean[:, None, None, None]) / std[:, None, None, None]
    assert torch.allclose(data.train.fetch(RGB, row), scaled, atol=1e-5)
    assert torch.allclose(data.train.fetch(DEPTH, row), (plain.train.fetch(DEPTH, row) + 1) / 2, atol=1e-6)
    assert torch.allclose(data.train.fetch(FLOW, row), plain.train.fetch(FLOW, row) * 20, atol=1e-5)
    drawn = data.train.fetch(FLOW, row, np.zeros(1, np.int64))
    assert drawn.shape[2] == FRAMES
    assert plain.train.fetch(FLOW, row, np.zeros(1, np.int64)).shape[2] == 8


def test_a_video_shorter_than_its_window_is_named(gestures):
    path = gestures / "Video_data/class_02/subject5_r0/sk_depth.avi"
    write_video(path, START + FRAMES - 1, codec="mjpeg")
    with pytest.raises(BadMediaError, match=r"class_02/subject5_r0: .*sk_depth\.avi: too-short: .* has 12 frames"):
        data_of(gestures)
    data = data_of(gestures, on_error="skip", max_bad=0.1)
    assert data.dropped == {"test": 1}


def test_frames_taken_out_of_the_videos_will_do(gestures):
    names = rows("test")
    for folder, subject, _ in names:
        for sensor in ("sk_color", "sk_depth"):
            video = gestures / f"Video_data/class_{folder:02d}/subject{subject}_r0/{sensor}.avi"
            video.unlink()
            video.with_suffix("").mkdir()
            for i in range(START + FRAMES):
                pixels = np.full((24, 32, 3), 8 * i, np.uint8)
                Image.fromarray(pixels).save(video.with_suffix("") / f"frame{i:05d}.png")
    test = data_of(gestures).test
    assert len(test.labels) == len(names)
    for modality in (RGB, DEPTH):
        clips = test.fetch(modality, torch.arange(len(names)))
        assert (frames_of(clips) == torch.arange(START, START + FRAMES)).all()
    (video.with_suffix("") / "frame00000.png").unlink()
    with pytest.raises(BadMediaError, match=r"sk_depth: too-short: .* has 12 frames; frames 3 to 12 are wanted"):
        data_of(gestures)


def test_a_missing_video_is_named(gestures):
    (gestures / "Video_data/class_25/subject8_r0/sk_color.avi").unlink()
    with pytest.raises(BadMediaError, match=r"class_25/subject8_r0/sk_color\.avi: missing"):
        data_of(gestures)


def test_flow_by_row_number_holds_for_one_content_of_the_list(gestures):
    before = streams_of(gestures)[FLOW]
    path = gestures / "nvgesture_test_correct_cvpr2016_v2.lst"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert before.decoder.parameters["naming"]["lists"]["test"] == digest
    assert before.rows[9].paths[0] == gestures / "Video_data/flow_data/test/0.npy"
    lines = path.read_text().split("\n")
    path.write_text("\n".join(reversed(lines)))
    assert streams_of(gestures)[FLOW].decoder.parameters != before.decoder.parameters


def test_flow_by_name_needs_no_list(gestures):
    folder = gestures / "Video_data/flow_data"
    for split in ("train", "test"):
        for number, (place, subject, _) in enumerate(rows(split)):
            (folder / split / f"{number}.npy").rename(folder / split / f"class_{place:02d}_subject{subject}_r0.npy")
    stream = streams_of(gestures)[FLOW]
    assert stream.decoder.parameters["naming"] == {"by": "name"}
    assert stream.rows[0].paths[0] == folder / "train/class_07_subject1_r0.npy"
    motion = data_of(gestures, validation="none").train.fetch(FLOW, torch.tensor([1]))
    assert motion[0, 0].mean() == pytest.approx(40 / 32 / 20, abs=0.005)


def test_without_flow_the_error_says_how_to_compute_it(tmp_path):
    write_gestures(tmp_path, flow=False)
    with pytest.raises(DatasetNotFoundError, match=r"flow=dis .*pip install \"dus-gym\[flow\]\""):
        data_of(tmp_path)


def test_flow_can_be_computed(tmp_path):
    pytest.importorskip("cv2", reason="OpenCV (the extra 'flow') is not installed")
    write_gestures(tmp_path, flow=False)
    data = data_of(tmp_path, flow="dis")
    # Frames without any texture do not move.
    assert data.test.fetch(FLOW, torch.tensor([0])).abs().max() < 0.01


def test_windows_of_several_lengths_are_refused(gestures):
    path = gestures / "nvgesture_train_correct_cvpr2016_v2.lst"
    path.write_text(path.read_text().replace("color:sk_color:3:13", "color:sk_color:3:12", 1))
    with pytest.raises(AnnotationError, match=r"must all have one length; the lists have 9 \(class_07/subject1_r0\)"):
        data_of(gestures)
    path.write_text(path.read_text().replace("color:sk_color:3:12", "", 1))
    with pytest.raises(AnnotationError, match="'class_07/subject1_r0' has no window of color and depth"):
        data_of(gestures)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "mmpose"}, "preset='mmpose' is not allowed; choose one of default, bss"),
        ({"flow": "tvl1"}, "flow='tvl1' is not allowed; choose one of files, dis, farneback"),
        ({"size": 32, "crop": 36}, "size=32 is not allowed; it must be at least crop=36"),
        ({"frames": 11}, "frames=11 is not allowed; the windows of the lists have 10 frames"),
        ({"frames": 0}, "frames=0 is not allowed"),
        ({"validation": "random"}, "validation='random' is not allowed; choose one of subjects, none"),
        ({"encoder": "clip"}, "encoder='clip' is not allowed; choose one of paper"),
    ],
)
def test_options_that_can_not_be_are_named(shared, options, message):
    with pytest.raises(ConfigError, match=message):
        data_of(shared, **options)


@pytest.mark.slow
def test_a_step_of_full_size(tmp_path):
    """The published network with random weights, two samples of each modality: 64 frames each, of 112² to be done
    within a minute or two on the CPU."""
    write_gestures(tmp_path)
    for split in ("train", "test"):
        path = tmp_path / f"nvgesture_{split}_correct_cvpr2016_v2.lst"
        path.write_text(path.read_text().replace(":3:13", ":3:67"))
    for path in tmp_path.rglob("*.avi"):
        write_video(path, 67, (24, 32), codec="mjpeg", value=lambda i: i)
    for path in tmp_path.rglob("*.npy"):
        np.save(path, np.zeros((24, 32, 2, 63), np.float32), allow_pickle=False)
    settings = {
        "data_kind": "mock",
        "encoders": ["i3d"] * 3,
        "options": {"size": 128, "crop": 112, "validation": "none"},
    }
    (tmp_path / "dus-data.json").write_text(json.dumps(settings))
    env = gym.make("dus_gym:DUS-NVGesture-v0", data_root=str(tmp_path), epochs=1, total_batch=6, iterations=1)
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[2]
