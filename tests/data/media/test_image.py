"""Pictures of any kind become RGB bytes, and a broken one is never read as a grey one."""

import numpy as np
import pytest
from PIL import Image, ImageFile

from dus_gym.data.media.image import ImageDecoder, read_image
from dus_gym.data.store import Row, open_store
from dus_gym.errors import ConfigError, MediaError


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def smooth(height, width):
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows % 256, columns % 256, (rows + columns) // 2 % 256], -1).astype(np.uint8)


def test_a_small_rgb_picture_comes_back_to_the_bit(tmp_path):
    pixels = noise(20, 30)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((512, 600), (256, 300)), ((600, 512), (300, 256)), ((300, 301), (256, 256)), ((256, 900), (256, 900)),
     ((100, 90), (100, 90))],
)  # fmt: skip
def test_the_short_side_is_at_most_256_and_nothing_is_made_larger(tmp_path, size, expected):
    Image.fromarray(smooth(*size)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (*expected, 3)
    assert read_image(tmp_path / "a.png", None).shape == (*size, 3)


@pytest.mark.parametrize("make", [smooth, noise])
def test_the_picture_is_made_smaller_as_torchvision_does_it_but_for_the_last_rounding(tmp_path, make):
    from torchvision.transforms import Resize

    pixels = make(401, 333)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = np.asarray(Resize(200)(Image.fromarray(pixels)))
    difference = np.abs(read_image(tmp_path / "a.png", 200).astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_a_picture_made_smaller_lies_in_memory_as_it_is_stored(tmp_path):
    Image.fromarray(noise(60, 40)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", 20).flags.c_contiguous


def test_grey_cmyk_palette_and_transparency_become_rgb(tmp_path):
    grey = noise(8, 9, 1)[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, 2))

    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "cmyk.jpg", quality=95)
    found = read_image(tmp_path / "cmyk.jpg").reshape(-1, 3)
    assert np.abs(found.astype(int) - (0, 255, 255)).max() <= 3, "all cyan ink"

    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.save(tmp_path / "palette.png", transparency=bytes([0, 128]))
    assert (read_image(tmp_path / "palette.png") == (200, 100, 50)).all()

    Image.fromarray(np.dstack([noise(5, 5), np.zeros((5, 5), np.uint8)])).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), noise(5, 5))


def test_exif_rotation_is_ignored_as_by_the_peers(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(smooth(20, 40)).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert read_image(tmp_path / "turned.jpg").shape == (20, 40, 3)


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_every_way_a_file_can_be_broken_has_its_kind(tmp_path, ending):
    path = tmp_path / f"a.{ending}"

    def kind():
        with pytest.raises(MediaError, match=str(path)) as raised:
            read_image(path)
        return raised.value.kind

    assert kind() == "missing"
    path.write_bytes(b"")
    assert kind() == "empty"
    path.write_bytes(b"<html>404 Not Found</html>")
    assert kind() == "undecodable"
    Image.fromarray(noise(64, 64)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert kind() == "truncated"


def test_pillows_switch_for_broken_files_is_refused(tmp_path, monkeypatch):
    Image.fromarray(noise(8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ConfigError, match="LOAD_TRUNCATED_IMAGES"):
        read_image(tmp_path / "a.png")


def test_32_bit_samples_are_refused(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(MediaError, match="more than 8 bits"):
        read_image(tmp_path / "a.tiff")


def test_pictures_of_any_size_go_through_the_store(tmp_path):
    rows = []
    for i, size in enumerate([(20, 30), (300, 400), (31, 17)]):
        Image.fromarray(smooth(*size)).save(tmp_path / f"{i}.png")
        rows.append(Row(f"s{i}", (tmp_path / f"{i}.png",)))
    store = open_store(tmp_path / ".cache", "toy", ImageDecoder(), rows)
    for found, row in zip(store.gather(["s0", "s1", "s2"]), rows, strict=True):
        np.testing.assert_array_equal(found, read_image(row.paths[0]))
    other = ImageDecoder(short_side=None)
    assert open_store(tmp_path / ".cache", "toy", other, rows).gather(["s1"])[0].shape == (300, 400, 3)
