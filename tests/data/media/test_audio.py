"""Every kind of sound file becomes one channel of samples, or an error that says what is wrong."""

import math
import struct

import numpy as np
import pytest
import soundfile
from media_files import write_video
from scipy.signal import resample_poly

from dus_gym.data.media.audio import WaveformDecoder, looped, read_wave, resampled
from dus_gym.data.store import Row, open_store
from dus_gym.errors import MediaError


def tone(rate, seconds=0.5, hertz=440.0, height=0.5):
    return (height * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def kind_of(path, rate=16_000, least=1):
    with pytest.raises(MediaError, match=str(path)) as raised:
        read_wave(path, rate, least)
    return raised.value.kind


@pytest.mark.parametrize(
    ("subtype", "near"), [("PCM_U8", 1 / 120), ("PCM_16", 1e-4), ("PCM_24", 1e-6), ("PCM_32", 1e-7), ("FLOAT", 0.0)]
)
def test_samples_of_any_depth_come_back(tmp_path, subtype, near):
    wave = tone(16_000)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype=subtype)
    found = read_wave(tmp_path / "a.wav", 16_000)
    assert found.dtype == np.float32
    assert np.abs(found - wave).max() <= near


def test_stereo_is_averaged(tmp_path):
    left, right = tone(16_000), tone(16_000, hertz=700)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_wave(tmp_path / "a.wav", 16_000), (left + right) / 2, atol=1e-7)


def test_float_samples_beyond_one_are_clipped(tmp_path):
    soundfile.write(tmp_path / "a.wav", 3 * tone(16_000), 16_000, subtype="FLOAT")
    found = read_wave(tmp_path / "a.wav", 16_000)
    np.testing.assert_allclose(found, np.clip(3 * tone(16_000), -1, 1))


@pytest.mark.parametrize(("source", "target"), [(16_000, 22_050), (44_100, 35_400), (16_000, 35_400), (44_100, 16_000)])
def test_a_tone_stays_that_tone_at_another_rate(source, target):
    found = resampled(tone(source), source, target)
    assert found.dtype == np.float32
    assert len(found) == -(-len(tone(source)) * target // source)
    inner = slice(target // 50, -target // 50)  # the ends meet silence
    assert np.abs(found[inner] - tone(target)[: len(found)][inner]).max() < 2e-3


@pytest.mark.parametrize(("source", "target"), [(16_000, 22_050), (44_100, 22_050), (48_000, 35_400)])
def test_a_filter_that_is_kept_changes_no_bit_of_scipys_result(source, target):
    wave = np.random.default_rng(0).normal(size=3000).astype(np.float32)
    common = math.gcd(source, target)
    expected = resample_poly(wave, target // common, source // common)
    for _ in range(2):  # designed, then kept
        np.testing.assert_array_equal(resampled(wave, source, target), expected)


def test_what_a_lower_rate_cannot_hold_is_removed_and_not_folded():
    assert np.abs(resampled(tone(44_100, hertz=15_000), 44_100, 16_000)[500:-500]).max() < 2e-3


def test_a_wave_is_repeated_and_cut():
    assert looped(np.array([1, 2, 3], np.float32), 8).tolist() == [1, 2, 3, 1, 2, 3, 1, 2]
    assert looped(np.array([1, 2, 3], np.float32), 2).tolist() == [1, 2]


def test_a_broken_file_has_its_kind(tmp_path):
    path = tmp_path / "a.wav"
    assert kind_of(path) == "missing"
    path.write_bytes(b"")
    assert kind_of(path) == "empty"
    soundfile.write(path, np.zeros(0, np.float32), 16_000)
    assert kind_of(path) == "empty", "the peers' loaders never return from such a file"
    soundfile.write(path, tone(16_000)[:1], 16_000)
    assert kind_of(path, least=512) == "too-short"
    assert len(read_wave(path, 16_000)) == 1
    path.write_bytes(b"RIFF or not, this is no sound" * 20)
    assert kind_of(path) in ("undecodable", "truncated")
    path.write_bytes(b"<html>404</html>" * 20)
    assert kind_of(path) == "undecodable"
    soundfile.write(path, np.array([0.0, np.nan, 0.1], np.float32), 16_000, subtype="FLOAT")
    assert kind_of(path) == "not-finite"


def test_a_wav_that_was_cut_off_is_not_read_as_a_shorter_one(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(16_000), 16_000)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert kind_of(path) == "truncated"
    # A recorder that writes to a pipe can't know the length; its files are whole.
    path.write_bytes(whole[:4] + struct.pack("<I", 0xFFFFFFFF) + whole[8:])
    assert len(read_wave(path, 16_000)) == 8000


def test_the_sound_of_a_video_is_read_too(tmp_path):
    wave = tone(16_000, 1.0)
    path = write_video(tmp_path / "a.avi", 10, sound=wave)
    found = read_wave(path, 16_000)
    assert abs(len(found) - 16_000) < 3000, "mp3 pads its ends"
    middle = found[4000:12_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert abs(np.argmax(spectrum) * 16_000 / len(middle) - 440) < 3
    assert abs(np.abs(middle).max() - 0.5) < 0.05
    assert kind_of(write_video(tmp_path / "b.avi", 10)) == "empty"


def test_waves_of_any_length_go_through_the_store(tmp_path):
    rows = []
    for i, seconds in enumerate((0.2, 0.5)):
        soundfile.write(tmp_path / f"{i}.wav", tone(16_000, seconds), 16_000)
        rows.append(Row(f"s{i}", (tmp_path / f"{i}.wav",)))
    decoder = WaveformDecoder(rate=22_050)
    assert "resample_poly" in decoder.parameters["resampler"]
    for found, row in zip(open_store(tmp_path / "c", "toy", decoder, rows).gather(["s0", "s1"]), rows, strict=True):
        np.testing.assert_array_equal(found, read_wave(row.paths[0], 22_050))
