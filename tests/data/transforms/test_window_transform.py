"""Blocks cut out of clips: where they may lie, that modalities share them, and what their numbers are."""

import numpy as np
import pytest
import torch
from npy_media import keys_of

from dus_gym.data.transforms import Scaling, WindowTransform

CPU = torch.device("cpu")
SAME = Scaling((1.0,), (0.0,))


def numbered(k=50, t=6, height=7, width=9):
    """Clips whose bytes tell where they are: first frame and corner can be read off a block."""
    at = 36 * np.arange(t)[:, None, None] + 6 * np.arange(height)[:, None] + np.arange(width)
    assert at.max() < 256
    return np.tile(at.astype(np.uint8)[None, ..., None], (k, 1, 1, 1, 1))


def test_evaluation_sees_all_frames_of_the_middle():
    clips = numbered(2)
    found = WindowTransform(SAME, crop=5, frames=4)(clips, keys_of(2), False, CPU)
    assert found.dtype == torch.float32
    assert torch.equal(found[:, 0], torch.from_numpy(clips[:, :, 1:6, 2:7, 0]).float())


def test_training_cuts_blocks_everywhere_and_nowhere_else():
    found = WindowTransform(SAME, crop=5, frames=4)(numbered(300), keys_of(300), True, CPU)
    assert found.shape == (300, 1, 4, 5, 5)
    corners = found[:, 0, 0, 0, 0].long()
    first, top, left = corners // 36, corners % 36 // 6, corners % 36 % 6
    assert set(first.tolist()) == {0, 1, 2}
    assert set(top.tolist()) == {0, 1, 2}
    assert set(left.tolist()) == {0, 1, 2, 3, 4}
    # Blocks are whole: neither mirrored nor in another order.
    steps = found[:, 0].diff(dim=1), found[:, 0].diff(dim=2), found[:, 0].diff(dim=3)
    assert [step.unique().tolist() for step in steps] == [[36.0], [6.0], [1.0]]


def test_the_same_keys_cut_the_same_block_of_every_modality():
    clips = numbered(20)
    one = WindowTransform(SAME, crop=5, frames=4)(clips, keys_of(20), True, CPU)
    three = WindowTransform(Scaling((1.0,) * 3, (0.0,) * 3), crop=5, frames=4)
    found = three(np.repeat(clips, 3, axis=4), keys_of(20), True, CPU)
    assert torch.equal(found, one.expand(-1, 3, -1, -1, -1))
    # With all frames the place is still the same.
    whole = WindowTransform(SAME, crop=5, frames=None)(clips, keys_of(20), True, CPU)
    assert whole.shape[2] == 6
    assert torch.equal(whole[:, :, 0] % 36, one[:, :, 0] % 36)


def test_channels_are_scaled_and_may_come_in_reverse():
    clips = np.stack([np.full((3, 4, 4), value, np.uint8) for value in (0, 51, 255)], axis=-1)[None]
    scaling = Scaling((2.0, 1.0, 1.0), (1.0, 0.0, -1.0))
    found = WindowTransform(scaling, crop=4, frames=3)(clips, keys_of(1), False, CPU)
    assert found[0, :, 0, 0, 0].tolist() == [1.0, 51.0, 254.0]
    found = WindowTransform(scaling, crop=4, frames=3, reverse=True)(clips, keys_of(1), False, CPU)
    assert found[0, :, 0, 0, 0].tolist() == [511.0, 51.0, -1.0]
    assert WindowTransform(scaling, crop=4)(clips[:0], keys_of(0), False, CPU).shape == (0, 3, 3, 4, 4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("train", [False, True])
def test_a_cuda_device_gives_the_same_numbers(train):
    clips = np.random.default_rng(0).integers(0, 256, (4, 8, 9, 9, 3), np.uint8)
    transform = WindowTransform(Scaling((1 / 127.5,) * 3, (-1.0,) * 3), crop=7, frames=5)
    there = transform(clips, keys_of(4), train, torch.device("cuda"))
    assert there.device.type == "cuda"
    assert torch.equal(there.cpu(), transform(clips, keys_of(4), train, CPU))
