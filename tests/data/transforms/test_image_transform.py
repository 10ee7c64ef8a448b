"""Pictures come out as Pillow and torchvision would make them, for any batch, on any device."""

import numpy as np
import pytest
import torch
from npy_media import keys_of
from PIL import Image

from dus_gym.data.store.reader import Ragged
from dus_gym.data.transforms import IMAGENET_MEAN, IMAGENET_STD, ImageTransform
from dus_gym.data.transforms.batch import to_device
from dus_gym.data.transforms.crops import random_boxes
from dus_gym.data.transforms.resample import Scaling, _at_once, resized

CPU = torch.device("cpu")


def pictures(count=6, seed=0):
    """Smooth pictures with some noise, of differing sizes."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        height, width = rng.integers(60, 400, 2)
        rows, columns = np.mgrid[0:height, 0:width]
        waves = [127 + 90 * np.sin(rows / rng.uniform(5, 40) + columns / rng.uniform(5, 40)) for _ in range(3)]
        noisy = np.stack(waves, -1) + rng.normal(0, 12, (height, width, 3))
        found.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return found


def published(picture, box, flip, size):
    """Crop, resize and normalise as the published loaders do."""
    top, left, height, width = box
    image = Image.fromarray(picture).crop((left, top, left + width, top + height))
    image = image.resize((size, size), Image.Resampling.BILINEAR)
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image
    scaled = np.asarray(image).transpose(2, 0, 1).astype(np.float32) / 255
    return (scaled - np.array(IMAGENET_MEAN)[:, None, None]) / np.array(IMAGENET_STD)[:, None, None]


ONE_STEP = 1.01 / 255 / min(IMAGENET_STD)


@pytest.mark.parametrize("train", [False, True])
def test_the_result_is_pillows_to_one_step_of_a_byte(train):
    transform, arrays, keys = ImageTransform(96), pictures(), keys_of(6)
    found = transform(arrays, keys, train, CPU)
    assert found.shape == (6, *transform.shape)
    assert found.dtype == torch.float32
    sizes = np.array([a.shape[:2] for a in arrays])
    boxes, flips = transform.choose(keys, sizes[:, 0], sizes[:, 1], train)
    assert flips.any() == train
    for i in range(6):
        difference = np.abs(found[i].numpy() - published(arrays[i], boxes[i], flips[i], 96))
        assert difference.max() <= ONE_STEP
        assert difference.mean() < ONE_STEP / 20


def test_the_products_for_accelerators_give_what_the_kernel_gives():
    arrays, keys = pictures(), keys_of(6)
    sizes = np.array([a.shape[:2] for a in arrays])
    boxes, coins = random_boxes(keys, sizes[:, 0], sizes[:, 1], (0.08, 1.0), (3 / 4, 4 / 3))
    given = ([torch.from_numpy(a) for a in arrays], boxes, coins < 0.5, (50, 96), Scaling((1.0,) * 3, (0.0,) * 3))
    difference = (_at_once(*given) - resized(*given)).abs()
    assert difference.max() <= 1.05, "two roundings to bytes apart"
    assert difference.mean() < 0.5


def test_a_sample_does_not_depend_on_its_batch():
    transform, arrays, keys = ImageTransform(32), pictures(), keys_of(6)
    whole = transform(arrays, keys, True, CPU)
    order = [4, 0, 3]
    part = transform([arrays[i] for i in order], keys[order], True, CPU)
    assert torch.equal(part, whole[order])
    same = np.stack([arrays[0]] * 3)
    assert torch.equal(transform(same, keys[:3], True, CPU), transform(list(same), keys[:3], True, CPU))


@pytest.mark.parametrize("train", [False, True])
def test_on_the_cpu_channels_are_last_in_memory(train):
    found = ImageTransform(32)(pictures(), keys_of(6), train, CPU)
    assert found.shape == (6, 3, 32, 32)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_an_empty_batch_keeps_its_shape():
    assert ImageTransform(32)(np.empty((0, 8, 8, 3), np.uint8), keys_of(0), True, CPU).shape == (0, 3, 32, 32)


def test_flips_are_optional_and_of_the_chance_asked_for():
    rows = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3))
    arrays = np.stack([rows] * 200)

    def mirrored(flip):
        found = ImageTransform(16, flip=flip, mean=(0.0,) * 3, std=(1.0,) * 3)(arrays, keys_of(200), True, CPU)
        return (found[:, 0, 8, 0] > found[:, 0, 8, -1]).float().mean().item()

    assert mirrored(0.0) == 0.0
    assert mirrored(1.0) == 1.0
    assert abs(mirrored(0.5) - 0.5) < 0.1
    assert abs(mirrored(0.1) - 0.1) < 0.08


def test_one_channel_and_other_statistics_are_allowed():
    arrays = np.full((2, 20, 30, 1), 51, np.uint8)
    found = ImageTransform(8, mean=(0.1,), std=(0.5,))(arrays, keys_of(2), False, CPU)
    torch.testing.assert_close(found, torch.full((2, 1, 8, 8), (0.2 - 0.1) / 0.5))


def test_the_global_generators_are_left_alone():
    before = torch.get_rng_state()
    ImageTransform(16)(pictures(2), keys_of(2), True, CPU)
    assert torch.equal(before, torch.get_rng_state())


def test_ragged_arrays_travel_in_one_copy():
    arrays = pictures(3)
    memory = np.concatenate([a.reshape(-1) for a in arrays])
    meta = torch.device("meta")
    found = to_device(Ragged(arrays, memory), meta)
    assert [tuple(t.shape) for t in found] == [a.shape for a in arrays]
    assert {t.untyped_storage().nbytes() for t in found} == {len(memory)}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_the_gpu_it_is_the_same_picture():
    device, arrays, keys = torch.device("cuda"), pictures(), keys_of(6)
    memory = np.concatenate([a.reshape(-1) for a in arrays])
    transform = ImageTransform(96)
    expected = transform(arrays, keys, True, CPU)
    for given in (arrays, Ragged(arrays, memory)):
        found = transform(given, keys, True, device).cpu()
        assert (found - expected).abs().max() <= 2 * ONE_STEP


def test_without_crops_training_sees_what_evaluation_sees_or_its_mirror():
    transform, arrays, keys = ImageTransform(32, crop=False), pictures(), keys_of(6)
    sizes = np.array([a.shape[:2] for a in arrays])
    _, flips = transform.choose(keys, sizes[:, 0], sizes[:, 1], True)
    assert 0 < flips.sum() < 6
    plain, trained = (transform(arrays, keys, train, CPU) for train in (False, True))
    for i in range(6):
        assert torch.equal(trained[i], plain[i].flip(-1) if flips[i] else plain[i])


def test_a_channel_of_motion_changes_its_sign_in_a_mirror():
    arrays, keys = pictures(), keys_of(6)
    plain = ImageTransform(32, mean=(0.5,) * 3, std=(0.5,) * 3)
    signed = ImageTransform(32, mean=(0.5,) * 3, std=(0.5,) * 3, signed=(0, 2))
    sizes = np.array([a.shape[:2] for a in arrays])
    _, flips = plain.choose(keys, sizes[:, 0], sizes[:, 1], True)
    seen, turned = plain(arrays, keys, True, CPU), signed(arrays, keys, True, CPU)
    for i in range(6):
        sign = -1 if flips[i] else 1
        assert torch.equal(turned[i], seen[i] * torch.tensor([sign, 1, sign])[:, None, None])
    assert torch.equal(signed(arrays, keys, False, CPU), plain(arrays, keys, False, CPU))
