"""Crop boxes have torchvision's distribution, and follow from the keys alone."""

import numpy as np
import pytest
import torch
from npy_media import keys_of

from dus_gym.data.transforms.crops import random_boxes, whole_boxes

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def boxes_of(count, height, width, scale=SCALE, ratio=RATIO, seed=0):
    sizes = np.full(count, height), np.full(count, width)
    return random_boxes(keys_of(count, seed), *sizes, scale, ratio)


def test_boxes_lie_in_their_pictures_whatever_their_sizes():
    rng = np.random.default_rng(0)
    heights, widths = rng.integers(1, 300, 2000), rng.integers(1, 300, 2000)
    boxes, coins = random_boxes(keys_of(2000), heights, widths, SCALE, RATIO)
    top, left, height, width = boxes.T
    assert (boxes >= 0).all()
    assert (height >= 1).all()
    assert (width >= 1).all()
    assert (top + height <= heights).all()
    assert (left + width <= widths).all()
    assert ((coins >= 0) & (coins < 1)).all()


def test_a_box_depends_on_its_own_key_and_size_alone():
    boxes, coins = boxes_of(50, 256, 341)
    keys = keys_of(50)
    for i in (0, 7, 49):
        one, coin = random_boxes(keys[[i]], np.array([256]), np.array([341]), SCALE, RATIO)
        np.testing.assert_array_equal(one[0], boxes[i])
        assert coin[0] == coins[i]
    assert not np.array_equal(boxes, boxes_of(50, 256, 341, seed=1)[0])


@pytest.mark.parametrize(("height", "width"), [(256, 341), (300, 100), (64, 64)])
def test_the_distribution_is_torchvisions(height, width):
    from torchvision.transforms import RandomResizedCrop

    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = torch.empty(1, height, width)
        theirs = np.array([RandomResizedCrop.get_params(image, list(SCALE), list(RATIO)) for _ in range(4000)])
    ours, _ = boxes_of(4000, height, width)
    for column, name in enumerate(("top", "left", "height", "width")):
        points = np.quantile(np.concatenate([ours[:, column], theirs[:, column]]), np.linspace(0.05, 0.95, 19))
        below = [(values[:, column, None] <= points).mean(axis=0) for values in (ours, theirs)]
        # 4000 against 4000: a Kolmogorov-Smirnov distance above 0.046 has chance 0.0004 if both are alike.
        assert np.abs(below[0] - below[1]).max() < 0.046, name


def test_where_no_try_fits_the_largest_allowed_box_in_the_middle_is_taken():
    boxes, _ = boxes_of(20, 10, 1000, scale=(0.9, 1.0))
    np.testing.assert_array_equal(boxes, np.tile([0, 493, 10, 13], (20, 1)))  # 10 × 4/3 wide
    boxes, _ = boxes_of(20, 1000, 10, scale=(0.9, 1.0))
    np.testing.assert_array_equal(boxes, np.tile([493, 0, 13, 10], (20, 1)))


def test_flips_are_fair_and_do_not_hang_on_the_box():
    boxes, coins = boxes_of(4000, 256, 256)
    assert abs((coins < 0.5).mean() - 0.5) < 0.03
    assert abs(np.corrcoef(coins, boxes[:, 2])[0, 1]) < 0.06


def test_whole_boxes_are_the_pictures():
    assert whole_boxes(np.array([3, 5]), np.array([4, 6])).tolist() == [[0, 0, 3, 4], [0, 0, 5, 6]]
