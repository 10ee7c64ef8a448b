"""Spectrograms equal what SciPy and transformers compute, in the shapes of the published presets."""

import numpy as np
import pytest
import soundfile
import torch
from npy_media import keys_of
from scipy.signal import ShortTimeFFT, get_window

from dus_gym.data.media.audio import looped, read_wave
from dus_gym.data.media.fbank import GEWU_MEAN, GEWU_STD, FbankDecoder, fbank
from dus_gym.data.media.spectrogram import STFT, SpectrogramDecoder
from dus_gym.data.store import Row, open_store
from dus_gym.data.transforms import SpectrogramTransform, WaveformTransform
from dus_gym.errors import BadMediaError, MediaError

CPU = torch.device("cpu")


def speech(samples, seed=0):
    """Noise that comes and goes."""
    rng = np.random.default_rng(seed)
    wave = 0.2 * rng.standard_normal(samples) * (1 + np.sin(np.arange(samples) / 900))
    return np.clip(wave, -1, 1).astype(np.float32)


def write(path, samples=40_640, rate=16_000, seed=0):
    soundfile.write(path, speech(samples, seed), rate, subtype="PCM_16")
    return path


def scipys(wave, hop=353, n_fft=512):
    """Log STFT by SciPy."""
    transform = ShortTimeFFT(get_window("hann", n_fft), hop, fs=1, fft_mode="onesided", phase_shift=None)
    frames = transform.stft(wave.astype(np.float64), p0=0, p1=len(wave) // hop + 1)
    return np.log(np.abs(frames) + 1e-7)


def test_the_stft_is_scipys():
    wave = speech(66_150)
    found = STFT()(torch.from_numpy(wave)[None])[0].numpy()
    assert found.shape == STFT().shape(66_150) == (257, 188)
    np.testing.assert_allclose(found, scipys(wave), atol=2e-3)


def test_silence_is_the_logarithm_of_the_floor():
    found = STFT()(torch.zeros(1, 3530))
    torch.testing.assert_close(found, torch.full((1, 257, 11), np.log(1e-7).astype(np.float32)))


@pytest.mark.parametrize(
    ("rate", "seconds", "shape"), [(22_050, 3, (257, 188)), (22_050, 20, (257, 1250)), (35_400, 10, (257, 1003))]
)
def test_presets_have_their_shapes_and_loop_the_sound(tmp_path, rate, seconds, shape):
    decoder = SpectrogramDecoder(rate=rate, samples=rate * seconds)
    path = write(tmp_path / "a.wav")
    found = decoder(Row("a", (path,)))
    assert found.shape == decoder.fixed_shape == shape
    assert found.dtype == np.float16
    expected = scipys(looped(read_wave(path, rate), rate * seconds))
    # Half a step of float16 at 8 to 16, and what float32 leaves where the tone cancels out to nearly nothing.
    loud = expected > -4
    assert np.abs(found - expected)[loud].max() < 0.005
    assert np.abs(np.exp(found.astype(np.float64)) - np.exp(expected))[~loud].max() < 3e-4


def test_the_stored_waveform_gives_the_same_spectrogram(tmp_path):
    waves = [speech(5000), speech(9000, 1)]
    transform = WaveformTransform(STFT(), 22_050)
    found = transform(waves, keys_of(2), True, CPU)
    assert found.shape == (2, *transform.shape) == (2, 1, 257, 63)
    for one, wave in zip(found, waves, strict=True):
        torch.testing.assert_close(one, STFT()(torch.from_numpy(looped(wave, 22_050))[None]))
    assert transform([], keys_of(0), True, CPU).shape == (0, 1, 257, 63)


@pytest.mark.filterwarnings("ignore:At least one mel filter")  # 128 bands are more than 512 points can tell apart
def test_the_filter_bank_is_kaldis():
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    wave = speech(20_000)
    bank = mel_filter_bank(257, 128, 20, 8000, 16_000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True)
    expected = spectrogram(
        wave, window_function(400, "hann", periodic=False), 400, 160, 512, power=2.0, center=False, preemphasis=0.97,
        mel_filters=bank, log_mel="log", mel_floor=float(np.finfo(np.float32).eps), remove_dc_offset=True,
    ).T  # fmt: skip
    found = fbank(wave, 16_000, 128)
    assert found.shape == expected.shape == (123, 128)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_filter_bank_is_filled_up_or_cut_at_1024_frames(tmp_path):
    decoder = FbankDecoder()
    short = decoder(Row("a", (write(tmp_path / "a.wav"),)))
    assert short.shape == decoder.fixed_shape == (1024, 128)
    assert (short[:252] != 0).any(axis=1).all()
    assert (short[252:] == 0).all()
    long = decoder(Row("b", (write(tmp_path / "b.wav", 200_000),)))
    assert (long != 0).any(axis=1).all()


def test_filter_banks_that_peers_stored_are_taken_and_their_shape_is_checked(tmp_path):
    good = np.random.default_rng(0).normal(size=(1024, 128)).astype(np.float32)
    np.save(tmp_path / "a.npy", good)
    rows = [Row("a", (tmp_path / "a.npy",))]
    np.testing.assert_array_equal(
        open_store(tmp_path / "c", "toy", FbankDecoder(), rows).gather(["a"])[0], good.astype(np.float16)
    )
    np.save(tmp_path / "a.npy", good[:, :64])
    with pytest.raises(BadMediaError, match="wrong-shape"):
        open_store(tmp_path / "c", "toy", FbankDecoder(), rows)


def test_an_npy_file_that_needs_pickle_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(MediaError, match="Python objects") as raised:
        FbankDecoder()(Row("a", (tmp_path / "a.npy",)))
    assert raised.value.kind == "undecodable"


def test_numbers_reach_the_network_in_float32_after_one_multiply_add():
    stored = np.random.default_rng(0).normal(size=(3, 8, 4)).astype(np.float16)
    plain = SpectrogramTransform()(stored, keys_of(3), True, CPU)
    assert plain.dtype == torch.float32
    np.testing.assert_array_equal(plain[:, 0].numpy(), stored.astype(np.float32))
    scale = 1 / (2 * GEWU_STD)
    found = SpectrogramTransform(scale, -GEWU_MEAN * scale)(stored, keys_of(3), True, CPU)
    expected = (stored.astype(np.float32) + 4.503877) / (2 * 5.141276)
    np.testing.assert_allclose(found[:, 0].numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(plain[:, 0].numpy(), stored.astype(np.float32))


def test_a_file_shorter_than_one_window_is_too_short(tmp_path):
    path = write(tmp_path / "a.wav", 1)
    for decoder in (SpectrogramDecoder(), FbankDecoder()):
        with pytest.raises(MediaError) as raised:
            decoder(Row("a", (path,)))
        assert raised.value.kind == "too-short"
