"""Optical flow from files and from videos: bytes that lose little, shapes that are checked, motion that is right."""

import sys

import av
import numpy as np
import pytest
from PIL import Image

from dus_gym.data.media import flow
from dus_gym.data.media.flow import ClipFlowDecoder, FlowDecoder, FlowFileDecoder
from dus_gym.data.media.video import read_window
from dus_gym.data.store import Row, open_store
from dus_gym.errors import BadMediaError, ConfigError, MediaError


def pixels(found):
    """Bytes back to pixels a frame."""
    return (found.astype(float) - flow.ZERO) * flow.LIMIT / flow.STEPS


def decoder(frames=8, size=6, **naming):
    return FlowFileDecoder(frames, size, naming)


def saved(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=False)
    return Row(path.stem, (path,))


def test_a_byte_is_a_twelfth_of_a_pixel_off_at_most_no_motion_is_exact_and_far_motion_is_cut():
    motion = np.linspace(-25, 25, 4001, dtype=np.float32).reshape(1, 4001, 1, 1)
    difference = np.abs(pixels(flow.to_bytes(motion)) - np.clip(motion, -20, 20))
    assert difference.max() < 1 / 12
    assert flow.to_bytes(np.zeros(3, np.float32)).tolist() == [128] * 3
    assert flow.to_bytes(np.array([-99.0, 99.0], np.float32)).tolist() == [1, 255]


@pytest.mark.parametrize("frames", [79, 80])
def test_files_of_79_and_80_frames_both_give_80(tmp_path, frames):
    motion = np.random.default_rng(0).uniform(-20, 20, (6, 6, 2, frames)).astype(np.float32)
    found = decoder(80)(saved(tmp_path / "3.npy", motion))
    assert found.shape == (80, 6, 6, 2)
    assert np.abs(pixels(found[:frames]) - motion.transpose(3, 0, 1, 2)).max() < 1 / 12
    assert np.array_equal(found[-1], found[frames - 1])


def test_motion_scales_with_the_picture(tmp_path):
    motion = np.empty((12, 24, 2, 7), np.float16)
    motion[:, :, 0], motion[:, :, 1] = 8.0, -4.0
    found = pixels(decoder()(saved(tmp_path / "0.npy", motion)))
    assert np.allclose(found[..., 0], 2.0, atol=0.08)
    assert np.allclose(found[..., 1], -2.0, atol=0.08)


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.zeros((6, 6, 2, 5), np.float32), "wrong-shape"),
        (np.zeros((6, 6, 3, 8), np.float32), "wrong-shape"),
        (np.zeros((6, 6, 2), np.float32), "wrong-shape"),
        (np.zeros((6, 6, 2, 8), np.uint8), "wrong-shape"),
        (np.full((6, 6, 2, 8), np.nan, np.float32), "not-finite"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, array, kind):
    with pytest.raises(MediaError) as caught:
        decoder()(saved(tmp_path / "0.npy", array))
    assert caught.value.kind == kind
    assert str(tmp_path / "0.npy") in caught.value.message


def test_a_pickle_is_never_loaded(tmp_path):
    np.save(tmp_path / "0.npy", np.array([{"code": "any"}], dtype=object), allow_pickle=True)
    (tmp_path / "1.npy").write_bytes(b"nonsense")
    for name in ("0.npy", "1.npy"):
        with pytest.raises(MediaError, match="undecodable"):
            decoder()(Row("s", (tmp_path / name,)))
    with pytest.raises(BadMediaError, match=r"2\.npy: missing"):
        open_store(tmp_path / "cache", "gestures", decoder(), [Row("s", (tmp_path / "2.npy",))])


def test_a_store_depends_on_what_ties_files_to_samples(tmp_path):
    row = saved(tmp_path / "0.npy", np.zeros((6, 6, 2, 8), np.float32))
    paths = {open_store(tmp_path / "c", "g", decoder(rows_of=name), [row]).path for name in ("list-a", "list-b")}
    assert len(paths) == 2


def test_without_opencv_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r'pip install "dus-gym\[flow\]"'):
        FlowDecoder("dis", 4, 32)
    with pytest.raises(ConfigError, match="method='tvl1' is not allowed; choose one of dis, farneback"):
        FlowDecoder("tvl1", 4, 32)


@pytest.fixture
def moving(tmp_path):
    """A smooth texture of 96 × 64 that moves by (3, -2) pixels a frame, eight frames after two that stand still."""
    pytest.importorskip("cv2", reason="OpenCV (the extra 'flow') is not installed")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:64, 0:96]
    waves = [
        np.sin(2 * np.pi * (f * rows / 64 + g * columns / 96) + rng.uniform(0, 7))
        for f, g in rng.integers(-5, 6, (12, 2))
    ]
    texture = np.clip(127 + 25 * np.sum(waves, axis=0), 0, 255).astype(np.uint8)
    path = tmp_path / "sk_color.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for i in range(10):
            step = max(i - 2, 0)
            picture = np.roll(texture, (-2 * step, 3 * step), (0, 1))[..., None].repeat(3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_computed_flow_is_the_motion_of_the_window_on_the_resized_grid(moving, method):
    decode = FlowDecoder(method, 8, 64)
    found = pixels(decode(Row("s", (moving,), "2:10")))
    assert found.shape == decode.fixed_shape == (8, 64, 64, 2)
    middle = np.median(found[:, 16:48, 16:48], axis=(1, 2))
    assert np.allclose(middle, [2.0, -2.0], atol=0.25), middle
    assert np.array_equal(found[7], found[6])
    with pytest.raises(MediaError, match="too-short"):
        decode(Row("s", (moving,), "4:12"))
    assert {name.partition("-")[0] for name in decode.libraries} == {"opencv", "av", "Pillow"}


@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_flow_of_a_clip_is_from_each_frame_that_is_kept_to_the_next(moving, method):
    """The video has 30 frames a second, of which five a second are kept: 0 and 6; it moves by (3, -2) from 2 on."""
    found = ClipFlowDecoder(method=method, per_second=5, short_side=None)(Row("s", (moving,)))
    assert found.shape == (2, 64, 96, 2)
    expected = flow.between(*read_window(moving, 6, 8, colour="grey")[..., 0], method)
    assert np.abs(pixels(found[1]) - np.clip(expected, -20, 20)).max() < 1 / 12
    assert np.allclose(np.median(pixels(found[:, 16:48, 16:80]), axis=(1, 2)), [[0, 0], [3, -2]], atol=0.25)
    one = ClipFlowDecoder(method=method, per_second=5, short_side=None, keep="even", frames=1)(Row("s", (moving,)))
    assert np.array_equal(one, found[1:])


def test_flow_is_computed_from_a_folder_of_all_frames_as_from_the_video(moving, tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    for i, picture in enumerate(read_window(moving, 0, 7)):
        Image.fromarray(picture).save(folder / f"frame{i + 1:06d}.png")
    made = ClipFlowDecoder(method="dis", per_second=5, rate=30, short_side=None)
    found = made(Row("s", (folder,)))
    # Seven frames: the last that is kept, number 6, stands second.
    middle = np.median(pixels(found[:, 16:48, 16:80]), axis=(1, 2))
    assert np.allclose(middle, [[0, 0], [3, -2]], atol=0.25)


def pictures_of_flow(root, across, down):
    """Two folders of pictures, each of one byte all over."""
    for letter, values in (("u", across), ("v", down)):
        (root / letter).mkdir(parents=True)
        for i, value in enumerate(values):
            Image.fromarray(np.full((6, 8), value, np.uint8)).save(root / letter / f"frame{i + 1:06d}.png")
    return Row("s", (root / "u", root / "v"))


def test_flow_of_pictures_is_x_then_y_of_the_frames_that_are_kept(tmp_path):
    row = pictures_of_flow(tmp_path, [10, 20, 30, 40, 50], [110, 120, 130, 140, 150])
    found = ClipFlowDecoder(per_second=1, rate=2)(row)
    assert found.shape == (3, 6, 8, 2)
    assert found[:, 0, 0].tolist() == [[10, 110], [30, 130], [50, 150]]
    assert ClipFlowDecoder(keep="even", frames=1)(row)[:, 0, 0].tolist() == [[30, 130]]


def test_pictures_of_x_and_y_must_be_as_many(tmp_path):
    with pytest.raises(MediaError, match=r"u has 2 pictures and .*v has 1"):
        ClipFlowDecoder()(pictures_of_flow(tmp_path, [1, 2], [3]))


def test_how_flow_was_made_is_part_of_a_store(moving):
    made = [ClipFlowDecoder(), ClipFlowDecoder(method="dis"), ClipFlowDecoder(method="farneback")]
    assert len({str(decoder.parameters) for decoder in made}) == 3
    assert not any(name.startswith("opencv") for name in made[0].libraries)
    assert any(name.startswith("opencv") for name in made[1].libraries)
