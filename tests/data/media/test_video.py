"""Frames come by their number, and a video that ends too early is never filled up."""

import numpy as np
import pytest
from media_files import write_video

from dus_gym.data.media.video import read_every, read_pairs, read_window
from dus_gym.errors import MediaError

NEAR = 6  # what a lossy codec may change


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.avi", "mpeg4"), ("a.avi", "mjpeg"), ("a.avi", "libx264"), ("a.mp4", "libx264"), ("b.flv", "flv")],
)
def test_a_window_holds_exactly_its_frames(tmp_path, name, codec):
    path = write_video(tmp_path / name, codec=codec)
    found = read_window(path, 20, 35)
    assert found.shape == (15, 32, 48, 3)
    assert found.dtype == np.uint8
    assert np.abs(found.mean((1, 2, 3)) - 4 * np.arange(20, 35)).max() < NEAR


def test_frames_are_resized_without_their_aspect_and_may_be_grey(tmp_path):
    path = write_video(tmp_path / "a.avi")
    assert read_window(path, 0, 4, (16, 16)).shape == (4, 16, 16, 3)
    grey = read_window(path, 40, 44, (20, 10), "grey")
    assert grey.shape == (4, 20, 10, 1)
    assert np.abs(grey.mean((1, 2, 3)) - 4 * np.arange(40, 44)).max() < NEAR


def test_colours_are_in_the_order_red_green_blue(tmp_path):
    path = write_video(tmp_path / "a.avi", 2, value=lambda i: (250, 120, 10))
    assert np.abs(read_window(path, 1, 2).mean((0, 1, 2)) - (250, 120, 10)).max() < NEAR


def test_the_last_frame_is_there_and_one_more_is_too_short(tmp_path):
    path = write_video(tmp_path / "a.avi", 60)
    assert len(read_window(path, 50, 60)) == 10
    with pytest.raises(MediaError, match="has 60 frames; frames 50 to 60") as raised:
        read_window(path, 50, 61)
    assert raised.value.kind == "too-short"


@pytest.mark.parametrize("window", [(-1, 3), (4, 4), (5, 2)])
def test_a_window_that_is_none_is_refused(tmp_path, window):
    with pytest.raises(ValueError, match="no window"):
        read_window(tmp_path / "a.avi", *window)


@pytest.mark.parametrize(
    ("rate", "each", "expected"),
    [(30, 1, [0, 30]), (25, 1, [0, 25, 50]), (30, 3, [0, 10, 20, 30, 40, 50]), (10, 3, [0, 3, 6, 10, 13, 16, 20, 23,
     26, 30, 33, 36, 40, 43, 46, 50, 53, 56]), (2, 5, list(range(60)))],
)  # fmt: skip
def test_so_many_frames_of_each_second_are_kept(tmp_path, rate, each, expected):
    path = write_video(tmp_path / "a.avi", 60, rate=rate)
    found = read_every(path, each)
    assert len(found) == len(expected)
    assert np.abs(found.mean((1, 2, 3)) - 4 * np.asarray(expected)).max() < NEAR


def test_a_rate_that_is_no_integer_is_cut(tmp_path):
    from fractions import Fraction

    path = write_video(tmp_path / "a.flv", 60, rate=Fraction(30000, 1001), codec="flv")
    found = read_every(path, 1)
    assert np.abs(found.mean((1, 2, 3)) - 4 * np.array([0, 29, 58])).max() < NEAR


def test_the_short_side_of_kept_frames_is_limited(tmp_path):
    path = write_video(tmp_path / "a.avi", 3, size=(64, 128))
    assert read_every(path, 1, 32).shape == (1, 32, 64, 3)
    assert read_every(path, 1, 256).shape == (1, 64, 128, 3)


@pytest.mark.parametrize(
    ("frames", "expected"),
    # Ten a second, two of each kept: 0, 5, 10, 15, … The last one stands second where nothing comes after it.
    [(14, [(0, 1), (5, 6), (10, 11)]), (11, [(0, 1), (5, 6), (9, 10)]), (2, [(0, 1)])],
)
def test_a_pair_is_a_frame_that_is_kept_and_the_next(tmp_path, frames, expected):
    path = write_video(tmp_path / "a.avi", frames, rate=10, value=lambda i: 10 * i)
    found = read_pairs(path, 2)
    assert found.shape == (len(expected), 2, 32, 48)
    assert len(found) == len(read_every(path, 2))
    for pair, (first, second) in zip(found, expected, strict=True):
        for picture, number in zip(pair, (first, second), strict=True):
            assert np.array_equal(picture, read_window(path, number, number + 1, colour="grey")[0, ..., 0])
    assert read_pairs(path, 2, 16).shape == (len(expected), 2, 16, 24)


def test_motion_needs_two_frames(tmp_path):
    with pytest.raises(MediaError, match="less than two frames") as raised:
        read_pairs(write_video(tmp_path / "a.avi", 1), 1)
    assert raised.value.kind == "too-short"


def test_every_way_a_file_can_be_broken_has_its_kind(tmp_path):
    path = tmp_path / "a.avi"

    def kind():
        with pytest.raises(MediaError, match=str(path)) as raised:
            read_window(path, 10, 60)
        with pytest.raises(MediaError) as other:
            read_every(path, 1)
        assert other.value.kind == raised.value.kind or raised.value.kind == "too-short"
        return raised.value.kind

    assert kind() == "missing"
    path.write_bytes(b"")
    assert kind() == "empty"
    path.write_bytes(b"no video at all " * 100)
    assert kind() == "undecodable"
    whole = write_video(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert kind() in ("undecodable", "too-short")
