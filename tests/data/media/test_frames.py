"""Frames of a folder or a video, in the order of their numbers."""

import numpy as np
import pytest
from media_files import write_video
from PIL import Image

from dus_gym.data.media.frames import FramesDecoder, picture_files
from dus_gym.data.store import Row, open_store
from dus_gym.errors import ConfigError, MediaError


def write_frames(folder, names, size=(20, 30)):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.fromarray(np.full((*size, 3), 20 * i, np.uint8)).save(folder / name)
    return folder


def seen(decoder, path):
    return (decoder(Row("a", (path,))).mean((1, 2, 3)) / 20).round().astype(int).tolist()


@pytest.mark.parametrize("pattern", ["frame_{}.jpg", "{}.jpg", "frame_{:05d}.jpg", "{:05d}.png", "9_{}.JPEG"])
def test_frames_are_ordered_by_their_number_and_not_by_their_letters(tmp_path, pattern):
    folder = write_frames(tmp_path / "clip", [pattern.format(i) for i in range(1, 13)])
    (folder / "notes.txt").write_text("no picture")
    (folder / "._frame_1.jpg").write_bytes(b"what macOS leaves beside files")
    assert seen(FramesDecoder(), folder) == list(range(12))


def test_only_the_frames_that_will_be_seen_are_kept(tmp_path):
    folder = write_frames(tmp_path / "clip", [f"{30 * i:05d}.jpg" for i in range(10)])
    assert seen(FramesDecoder(keep="even", frames=3), folder) == [1, 5, 8]
    assert seen(FramesDecoder(keep="peer_first", frames=3), folder) == [0, 1, 2]
    few = write_frames(tmp_path / "few", ["00000.jpg", "00030.jpg"])
    assert seen(FramesDecoder(keep="even", frames=3), few) == [0, 1, 1]
    assert seen(FramesDecoder(keep="peer_first", frames=3), few) == [0, 1, 1]
    assert seen(FramesDecoder(), few) == [0, 1]


def test_a_video_gives_the_frames_a_folder_would_hold(tmp_path):
    path = write_video(tmp_path / "clip.flv", 90, codec="flv", value=lambda i: i // 30 * 20)
    assert seen(FramesDecoder(), path) == [0, 1, 2]
    assert seen(FramesDecoder(per_second=2), path) == [0, 0, 1, 1, 2, 2]
    assert seen(FramesDecoder(keep="even", frames=1), path) == [1]


def test_of_a_folder_of_all_frames_those_are_kept_that_a_video_would_give(tmp_path):
    folder = write_frames(tmp_path / "clip", [f"{i:05d}.jpg" for i in range(12)])
    path = write_video(tmp_path / "clip.avi", 12, rate=4, value=lambda i: 20 * i)
    for per_second in (1, 2, 4):
        kept = seen(FramesDecoder(per_second=per_second, rate=4), folder)
        assert kept == seen(FramesDecoder(per_second=per_second), path) == list(range(0, 12, 4 // per_second))
    assert seen(FramesDecoder(keep="even", frames=2, per_second=1, rate=4), folder) == [0, 8]


def test_the_recipe_tells_apart_what_is_kept():
    recipes = [
        FramesDecoder(), FramesDecoder(keep="even"), FramesDecoder(keep="even", frames=3),
        FramesDecoder(keep="peer_first"), FramesDecoder(per_second=2), FramesDecoder(short_side=None),
        FramesDecoder(rate=25),
    ]  # fmt: skip
    assert len({str(sorted(recipe.parameters.items(), key=str)) for recipe in recipes}) == len(recipes)
    assert FramesDecoder(frames=3).parameters == FramesDecoder(frames=1).parameters, "one store of all frames"


def test_what_is_wrong_with_a_folder_is_told(tmp_path):
    def kind(folder):
        with pytest.raises(MediaError, match=str(folder)) as raised:
            FramesDecoder()(Row("a", (folder,)))
        return raised.value.kind

    assert kind(tmp_path / "none") == "missing"
    (tmp_path / "empty").mkdir()
    assert kind(tmp_path / "empty") == "empty"
    mixed = write_frames(tmp_path / "mixed", ["1.jpg"])
    Image.fromarray(np.zeros((21, 30, 3), np.uint8)).save(mixed / "2.jpg")
    assert kind(mixed) == "wrong-shape"
    broken = write_frames(tmp_path / "broken", ["1.jpg", "2.jpg"])
    (broken / "2.jpg").write_bytes((broken / "2.jpg").read_bytes()[:-20])
    assert kind(broken) == "truncated"
    assert [p.name for p in picture_files(broken)] == ["1.jpg", "2.jpg"]


def test_a_new_frame_in_a_folder_is_noticed(tmp_path):
    folder = write_frames(tmp_path / "clip", ["1.jpg", "2.jpg"])
    rows = [Row("a", (folder,))]
    assert open_store(tmp_path / "c", "toy", FramesDecoder(), rows).gather(["a"])[0].shape == (2, 20, 30, 3)
    write_frames(folder, ["1.jpg", "2.jpg", "3.jpg"])
    assert open_store(tmp_path / "c", "toy", FramesDecoder(), rows).gather(["a"])[0].shape == (3, 20, 30, 3)


@pytest.mark.parametrize(("option", "value"), [("keep", "some"), ("frames", 0), ("per_second", 0)])
def test_options_that_cannot_be_are_named(option, value):
    with pytest.raises(ConfigError, match=f"{option}={value!r}"):
        FramesDecoder(**{option: value})
