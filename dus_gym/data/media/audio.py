"""Sound files as one channel of samples: libsndfile's formats by soundfile, the sound of videos by PyAV."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import firwin, resample_poly

from dus_gym.data.store import Row
from dus_gym.errors import MediaError

Wave = npt.NDArray[np.float32]
RESAMPLER = "scipy.signal.resample_poly, kaiser 5.0"
"""Named in every decoder's parameters: librosa's resamplers give slightly other values, by version."""
LIBRARIES = ("soundfile", "av", "scipy", "numpy")
VIDEO = {".mp4", ".m4a", ".mkv", ".webm", ".avi", ".flv", ".mov"}
_UNKNOWN_LENGTH = (0, 0xFFFFFFFF)


def read_wave(path: Path, rate: int, least: int = 1) -> Wave:
    """A sound file: channels averaged, resampled, clipped to ±1.

    Args:
        path: wav (8 to 32 bit or float), flac, ogg, mp3, or a video with a sound track.
        rate: samples a second wanted.
        least: fewer samples than this at that rate are an error, such as one window of a spectrogram.

    Returns:
        Shape ``(n,)``, n >= ``least``.

    Raises:
        MediaError: ``missing``; ``empty`` for a file without a byte or a sample; ``truncated`` for a wav that ends
            before its header says; ``too-short``; ``not-finite``; ``undecodable``.
    """
    try:
        if path.stat().st_size == 0:
            raise MediaError("empty", f"{path} has no bytes")
        samples, found = _of_video(path) if path.suffix.lower() in VIDEO else _of_sound(path)
    except FileNotFoundError as error:
        raise MediaError("missing", f"{path} is not there") from error
    except (soundfile.LibsndfileError, av.FFmpegError) as error:
        raise MediaError("undecodable", f"{path} can't be decoded ({error})") from error
    if len(samples) == 0:
        raise MediaError("empty", f"{path} has no samples")
    if not np.isfinite(samples).all():
        raise MediaError("not-finite", f"{path} has samples that are NaN or infinite")
    wave = resampled(samples, found, rate)
    if len(wave) < least:
        raise MediaError("too-short", f"{path} has {len(wave)} samples at {rate} Hz; at least {least} are needed")
    return np.clip(wave, -1.0, 1.0)


def resampled(samples: Wave, found: int, rate: int) -> Wave:
    """Samples at ``found`` a second as samples at ``rate`` a second."""
    if found == rate:
        return samples
    common = math.gcd(found, rate)
    up, down = rate // common, found // common
    wave: Wave = resample_poly(samples, up, down, window=_low_pass(up, down)).astype(np.float32, copy=False)
    return wave


@lru_cache(maxsize=16)
def _low_pass(up: int, down: int) -> Wave:
    """The filter that ``resample_poly`` designs anew in every call, which takes longer than using it."""
    longest = max(up, down)
    found: Wave = firwin(20 * longest + 1, 1 / longest, window=("kaiser", 5.0)).astype(np.float32)
    return found


def looped(wave: Wave, samples: int) -> Wave:
    """The wave repeated until it has ``samples`` samples, and cut there."""
    return np.resize(wave, samples)


def _of_sound(path: Path) -> tuple[Wave, int]:
    _check_riff(path)
    samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    mean: Wave = samples.mean(axis=1)
    return mean, int(rate)


def _check_riff(path: Path) -> None:
    """Refuses a wav that was cut off: libsndfile reads what is there of it, and says nothing."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        (length,) = struct.unpack("<I", head[4:8])
        if length not in _UNKNOWN_LENGTH and length + 8 > path.stat().st_size:
            raise MediaError("truncated", f"{path} has {path.stat().st_size} bytes; its header says {length + 8}")


def _of_video(path: Path) -> tuple[Wave, int]:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise MediaError("empty", f"{path} has no sound track")
        stream = container.streams.audio[0]
        rate = int(stream.codec_context.sample_rate)
        mono = av.AudioResampler(format="flt", layout="mono", rate=rate)
        parts = [part for frame in container.decode(stream) for part in mono.resample(frame)]
        parts += mono.resample(None)
        arrays = [part.to_ndarray()[0] for part in parts]
    return (np.concatenate(arrays) if arrays else np.zeros(0, np.float32)), rate


@dataclass(frozen=True)
class WaveformDecoder:
    """The samples of one sound file, ``(n,)`` float32, ragged."""

    name: str = "audio"
    rate: int = 22_050
    least: int = 512
    """Fewer samples are an error."""
    libraries: tuple[str, ...] = LIBRARIES
    fixed_shape: None = None
    dtype: str = "float32"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What changes the result."""
        return {"rate": self.rate, "least": self.least, "channels": "mean", "resampler": RESAMPLER, "clip": 1.0}

    def __call__(self, row: Row) -> Wave:
        """The row's samples."""
        return read_wave(row.paths[0], self.rate, self.least)
