"""Spoken digits with pictures: splits that share nothing, spectrograms that can be checked by hand."""

import zipfile

import numpy as np
import pytest
import torch
from small_data import build, real, real_folder, wav, write_recordings

from dus_gym.data.sets import avdigits
from dus_gym.data.sets.avdigits import BANDS, log_mel, mel_bank
from dus_gym.data.sets.embedded import digits
from dus_gym.errors import ConfigError, DatasetNotFoundError, MediaError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("avdigits"))


@pytest.mark.parametrize(
    ("task", "options", "sizes"),
    [
        ("AVDigits", {}, (2000, None, 1000)),
        ("AVDigits", {"validation": "speaker"}, (1500, 500, 1000)),
        ("AVDigits", {"validation": "random"}, (1700, 300, 1000)),
        ("AVDigitsOfficial", {}, (2300, 400, 300)),
        ("AVDigitsOfficial", {"validation": "none"}, (2700, None, 300)),
    ],
)
def test_splits_have_the_stated_sizes_and_every_class(root, task, options, sizes):
    data, _ = build(task, root, **options)
    parts = (data.train, data.validation, data.test)
    assert tuple(None if part is None else len(part.labels) for part in parts) == sizes
    assert all(part is None or part.labels.unique().tolist() == list(range(10)) for part in parts)
    assert data.data_kind == "real"
    assert list(data.input_shapes) == [(1, 16, 16), (1, 8, 8)]


def test_another_seed_draws_other_pictures_and_the_same_recordings(root):
    one, other = (build("AVDigits", root, seed)[0] for seed in (0, 1))
    assert torch.equal(one.train.inputs[0], other.train.inputs[0])
    assert not torch.equal(one.train.inputs[1], other.train.inputs[1])
    assert torch.equal(one.train.inputs[1], build("AVDigits", root, 0)[0].train.inputs[1])


@pytest.mark.parametrize("options", [{}, {"validation": "speaker"}, {"validation": "random"}])
def test_no_picture_is_in_two_splits_and_each_is_of_the_digit_spoken(root, options, monkeypatch):
    monkeypatch.setattr(avdigits, "PICTURE_NOISE", 0.0)
    data, _ = build("AVDigits", root, standardise="scalar", **options)
    images, classes = digits()
    class_of = {(16.0 * image).astype(np.uint8).tobytes(): label for image, label in zip(images, classes, strict=True)}
    seen = []
    for part in filter(None, (data.train, data.validation, data.test)):
        pictures = part.inputs[1].numpy().astype(np.float64)
        # One mean and one deviation for all pixels can be taken back: the darkest is 0 and the brightest 16.
        sixteenths = np.rint(16.0 * (pictures - pictures.min()) / np.ptp(pictures)).astype(np.uint8)
        keys = [picture.tobytes() for picture in sixteenths]
        assert [class_of[key] for key in keys] == part.labels.tolist()
        seen.append(set(keys))
    assert all(a.isdisjoint(b) for i, a in enumerate(seen) for b in seen[:i])


def test_each_feature_has_mean_0_and_deviation_1_over_the_training_samples_alone(root):
    data, _ = build("AVDigits", root, validation="random")
    images = data.train.inputs[1]
    torch.testing.assert_close(images.mean(0), torch.zeros(1, 8, 8), atol=1e-4, rtol=0)
    torch.testing.assert_close(images.std(0, unbiased=False), torch.ones(1, 8, 8), atol=1e-4, rtol=0)
    assert data.test.inputs[1].mean(0).abs().max() > 1e-3
    scalar, _ = build("AVDigits", root, standardise="scalar")
    assert scalar.train.inputs[1].mean().abs() < 1e-5
    assert scalar.train.inputs[1].mean(0).abs().max() > 0.1


@pytest.mark.slow
def test_a_folder_of_recordings_gives_what_its_zip_gives(root, tmp_path):
    with zipfile.ZipFile(root / "fsdd.zip") as archive:
        archive.extractall(tmp_path)
    (tmp_path / "free-spoken-digit-dataset-master").rename(tmp_path / "fsdd")
    unpacked = avdigits.load(tmp_path)
    assert np.array_equal(unpacked.features, avdigits.load(root).features)


def test_files_that_are_missing_or_wrong_are_named(tmp_path):
    with pytest.raises(DatasetNotFoundError) as caught:
        build("AVDigits", tmp_path)
    for word in (str(tmp_path), "recordings", "fsdd.zip", "dus data fetch avdigits --root DIR", 'trainer="fake"'):
        assert word in str(caught.value)
    with pytest.raises(DatasetNotFoundError, match="no data_root was given"):
        build("AVDigits", None)
    gone = write_recordings(tmp_path / "gone", lambda name, data: None if name == "3_theo_7.wav" else data)
    with pytest.raises(DatasetNotFoundError, match=r"lacks 1 of 3000 recordings, the first: 3_theo_7\.wav"):
        build("AVDigits", gone)
    stereo = write_recordings(
        tmp_path / "stereo", lambda name, data: wav(np.zeros((9, 2))) if name == "0_lucas_0.wav" else data
    )
    with pytest.raises(MediaError, match=r"0_lucas_0\.wav.*\(9, 2\).*expected one channel at 8000 Hz"):
        build("AVDigits", stereo)
    broken = write_recordings(tmp_path / "broken", lambda name, data: b"RIFF" if name == "0_lucas_0.wav" else data)
    with pytest.raises(MediaError, match=r"undecodable: .*0_lucas_0\.wav"):
        build("AVDigits", broken)


def test_options_that_can_not_be_are_refused(root):
    with pytest.raises(ConfigError, match="choose one of random, none"):
        build("AVDigitsOfficial", root, validation="speaker")
    with pytest.raises(ConfigError, match="standardise='pixel'"):
        build("AVDigits", root, standardise="pixel")


def test_a_tone_is_in_its_band_at_its_time_and_louder_changes_nothing():
    times = np.arange(3200) / 8000.0
    tone = np.sin(2 * np.pi * 1000.0 * times).astype(np.float32)
    found = log_mel([tone, 7.0 * tone])
    assert found.shape == (2, 16, 16)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-4)
    # Half of 0.8 s, in its middle: the quarters before and after are silent.
    assert (found[0, :3] < -6.0).all()
    assert (found[0, 13:] < -6.0).all()
    mel = 2595 * np.log10(1 + np.array([60.0, 1000.0, 4000.0]) / 700)
    band = (mel[1] - mel[0]) / (mel[2] - mel[0]) * (BANDS + 1) - 1
    assert abs(found[0, 8].argmax() - band / 2) < 1.0


def test_long_recordings_keep_their_middle_and_silence_stays_finite():
    rng = np.random.default_rng(0)
    long = rng.normal(size=10_000).astype(np.float32)
    middle = long[1800:8200] / np.sqrt(np.mean(long**2)) * np.sqrt(np.mean(long[1800:8200] ** 2))
    np.testing.assert_allclose(log_mel([long]), log_mel([middle]), atol=0.1)
    assert np.allclose(log_mel([np.zeros(100, np.float32)]), np.log(1e-3))


def test_no_mel_band_is_empty():
    bank = mel_bank()
    assert bank.shape == (32, 129)
    assert (bank.sum(axis=1) > 0).all()
    assert bank.max() <= 1.0


@real
def test_the_published_recordings():
    found = avdigits.load(real_folder())
    assert found.features.shape == (3000, 16, 16)
    assert np.isfinite(found.features).all()
    data, _ = build("AVDigits", real_folder(), validation="speaker")
    assert [len(part.labels) for part in (data.train, data.validation, data.test)] == [1500, 500, 1000]
