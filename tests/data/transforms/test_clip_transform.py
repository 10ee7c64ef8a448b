"""Which frames are seen, and how each is cropped."""

import numpy as np
import pytest
import torch
from npy_media import keys_of

from dus_gym.data.media.frames import places
from dus_gym.data.transforms import ClipTransform, ImageTransform
from dus_gym.errors import ConfigError

CPU = torch.device("cpu")
PLAIN = ImageTransform(8, mean=(0.0,) * 3, std=(1 / 255,) * 3, flip=0.0)


def clips(*counts, size=(12, 16)):
    """Clips whose frame i is i all over."""
    return [np.stack([np.full((*size, 3), i, np.uint8) for i in range(n)]) for n in counts]


def seen(transform, arrays, train, keys=None):
    found = transform(arrays, keys_of(len(arrays)) if keys is None else keys, train, CPU)
    return found[:, 0].mean((-1, -2)).round().int().tolist()


@pytest.mark.parametrize(
    ("count", "frames", "even", "first"),
    [
        (10, 3, [1, 5, 8], [0, 1, 2]),
        (9, 3, [1, 4, 7], [0, 1, 2]),
        (3, 1, [1], [0]),
        (2, 1, [1], [0]),
        (1, 3, [0, 0, 0], [0, 0, 0]),
        (2, 3, [0, 1, 1], [0, 1, 1]),
        (3, 3, [0, 1, 2], [0, 1, 2]),
    ],
)
def test_even_frames_are_the_middles_of_segments_and_few_frames_repeat(count, frames, even, first):
    assert places(np.array([count]), frames, "even").tolist() == [even]
    assert places(np.array([count]), frames, "segment").tolist() == [even]
    assert places(np.array([count]), frames, "peer_first").tolist() == [first]


def test_random_frames_stay_in_their_segments_and_reach_all_of_them():
    drawn = np.random.default_rng(0).random((500, 3))
    found = places(np.full(500, 10), 3, "segment", drawn)
    assert [sorted(set(column.tolist())) for column in found.T] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    few = places(np.full(500, 2), 3, "segment", drawn)
    assert (np.diff(few, axis=1) >= 0).all()
    assert few.max() == 1


def test_training_draws_frames_and_evaluation_does_not():
    arrays = clips(*[10] * 40)
    segment, even = ClipTransform(3, image=PLAIN), ClipTransform(3, "even", PLAIN)
    assert seen(segment, arrays, False) == [[1, 5, 8]] * 40
    drawn = seen(segment, arrays, True)
    assert len({tuple(row) for row in drawn}) > 10
    assert seen(segment, arrays, True) == drawn, "the same keys, the same frames"
    assert seen(even, arrays, True) == [[1, 5, 8]] * 40
    assert seen(ClipTransform(3, "peer_first", PLAIN), arrays, True) == [[0, 1, 2]] * 40


def test_clips_of_differing_lengths_and_sizes_make_one_batch():
    arrays = [*clips(10, 2), *clips(4, size=(20, 9))]
    found = ClipTransform(3, "even", PLAIN)(arrays, keys_of(3), True, CPU)
    assert found.shape == (3, 3, 3, 8, 8)
    assert seen(ClipTransform(3, "even", PLAIN), arrays, True) == [[1, 5, 8], [0, 1, 1], [0, 2, 3]]


def test_one_frame_is_a_picture():
    transform = ClipTransform(1, image=PLAIN)
    assert transform.shape == (3, 8, 8)
    assert transform(clips(4, 5), keys_of(2), True, CPU).shape == (2, 3, 8, 8)
    assert transform([], keys_of(0), True, CPU).shape == (0, 3, 8, 8)


def gradient(frames):
    """The same picture over and over, in which a crop shows."""
    rows, columns = np.mgrid[0:64, 0:64].astype(np.uint8)
    return np.stack([np.stack([rows * 4, columns * 4, rows], -1)] * frames)


def test_each_frame_has_a_crop_of_its_own_unless_they_share_it():
    own = ClipTransform(3, "even", ImageTransform(8))([gradient(3)], keys_of(1), True, CPU)[0]
    assert not torch.equal(own[:, 0], own[:, 1])
    assert not torch.equal(own[:, 1], own[:, 2])
    shared = ClipTransform(3, "even", ImageTransform(8), shared=True)([gradient(3)], keys_of(1), True, CPU)[0]
    assert torch.equal(shared[:, 0], shared[:, 1])
    picture = ImageTransform(8)([gradient(1)[0]], keys_of(1), True, CPU)[0]
    assert torch.equal(shared[:, 0], picture), "a shared crop is the one that a picture of the same key has"


def test_evaluation_shows_the_whole_frames():
    found = ClipTransform(2, image=PLAIN)([gradient(4)], keys_of(1), False, CPU)[0]
    assert torch.equal(found[:, 0], found[:, 1])
    assert torch.equal(found[:, 0], PLAIN([gradient(1)[0]], keys_of(1), False, CPU)[0])


def test_what_cannot_be_is_named():
    with pytest.raises(ConfigError, match="frames=0"):
        ClipTransform(0)
    with pytest.raises(ConfigError, match=r"choice='evn'.*even"):
        ClipTransform(1, "evn")


@pytest.mark.parametrize("choice", ["segment", "even", "peer_first"])
def test_reading_only_the_frames_that_are_seen_changes_nothing(choice):
    arrays, keys = [gradient(10) + np.arange(10, dtype=np.uint8)[:, None, None, None]] * 20, keys_of(20)
    transform = ClipTransform(3, choice, ImageTransform(8))
    for train in (False, True):
        parts = transform.parts(np.full(20, 10), keys, train)
        seen_alone = [array[part] for array, part in zip(arrays, parts, strict=True)]
        assert torch.equal(transform(seen_alone, keys, train, CPU), transform(arrays, keys, train, CPU))
