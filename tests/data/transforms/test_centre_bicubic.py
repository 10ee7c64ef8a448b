"""CLIP's way with pictures: the middle square, bicubic; the same on both kinds of device."""

import numpy as np
import pytest
import torch
from npy_media import keys_of
from PIL import Image
from torchvision.transforms import functional as published

from dus_gym.data.transforms import ImageTransform
from dus_gym.data.transforms.crops import whole_boxes
from dus_gym.data.transforms.resample import Scaling, _at_once, resized
from dus_gym.errors import ConfigError

CPU = torch.device("cpu")
BYTES = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}


def pictures(sizes, seed=0, noise=9.0, period=(4, 30)):
    rng = np.random.default_rng(seed)
    found = []
    for height, width in sizes:
        rows, columns = np.mgrid[0:height, 0:width]
        waves = [127 + 120 * np.sin(rows / rng.uniform(*period) + columns / rng.uniform(*period)) for _ in range(3)]
        found.append(np.clip(np.stack(waves, -1) + rng.normal(0, noise, (height, width, 3)), 0, 255).astype(np.uint8))
    return found


@pytest.mark.parametrize("size", [(96, 140), (150, 90), (200, 200), (40, 61)])
def test_evaluation_sees_what_clips_own_preprocessing_makes(size):
    """Short side to 64 (made larger where it is shorter), then the middle: torchvision's on Pillow pictures."""
    (array,) = pictures([size], noise=0.0, period=(25, 40))
    transform = ImageTransform(64, augment=False, fit="centre", kernel="bicubic", **BYTES)
    found = transform([array], keys_of(1), True, CPU)[0]
    image = published.resize(Image.fromarray(array), 64, published.InterpolationMode.BICUBIC)
    expected = torch.from_numpy(np.asarray(published.center_crop(image, 64)).transpose(2, 0, 1).copy()).float()
    difference = (found - expected).abs()
    # Resizing first rounds the longer side, so its grid is off by less than half a pixel of the result.
    assert difference.mean() < (0.5 if size[0] == size[1] else 4.0)
    if size[0] == size[1]:
        assert difference.max() <= 1.01


def test_bicubic_products_for_accelerators_give_what_the_kernel_gives():
    arrays = [torch.from_numpy(a) for a in pictures([(70, 150), (160, 64), (33, 40)])]
    sizes = np.array([a.shape[:2] for a in arrays])
    flips = np.array([True, False, False])
    given = (arrays, whole_boxes(sizes[:, 0], sizes[:, 1]), flips, (50, 64), Scaling((1.0,) * 3, (0.0,) * 3), "bicubic")
    found = _at_once(*given)
    difference = (found - resized(*given)).abs()
    assert difference.max() <= 2.0, "roundings and cuts to bytes apart"
    assert difference.mean() < 0.5
    assert found.min() >= 0
    assert found.max() <= 255


def test_without_augmentation_training_sees_what_evaluation_sees():
    arrays, keys = pictures([(50, 70), (90, 40)]), keys_of(2)
    still = ImageTransform(32, augment=False)
    assert torch.equal(still(arrays, keys, True, CPU), still(arrays, keys, False, CPU))
    moving = ImageTransform(32)
    assert not torch.equal(moving(arrays, keys, True, CPU), moving(arrays, keys, False, CPU))


def test_words_that_are_none_are_refused():
    with pytest.raises(ConfigError, match="fit='center' is not allowed; choose one of whole, centre"):
        ImageTransform(fit="center")
    with pytest.raises(ConfigError, match="kernel='lanczos' is not allowed"):
        ImageTransform(kernel="lanczos")
