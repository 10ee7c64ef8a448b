"""Sound files as one channel of samples: libsndfile's formats by soundfile, all others, videos too, by PyAV."""

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

from dus_gym.data.media.container import opened
from dus_gym.data.media.reading import reading
from dus_gym.data.store import Row
from dus_gym.errors import MediaError

Wave = npt.NDArray[np.float32]
RESAMPLER = "scipy.signal.resample_poly, kaiser 5.0"
"""Named in every decoder's parameters: librosa's resamplers give slightly other values, by version."""
LIBRARIES = ("soundfile", "av", "scipy", "numpy")
CHANNELS = "mean of the decoded channels"
"""How many channels become one, in every decoder's parameters."""
_LIBSNDFILE = {".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff", ".au", ".w64"}
_UNKNOWN_LENGTH = 0x7FFFF000
"""From this length on a recorder that wrote to a pipe meant that it could not know: sox 0x7FFFF000, arecord 2^31,
ffmpeg 0xFFFFFFFF."""
_RATES = (1_000, 1_000_000)
"""Least and most samples a second that a recording may have; a filter for others would take gigabytes."""
_LENGTH_NOT_KNOWN = 1 << 62
"""libsndfile's number of samples where a header has none."""
_BLOCK = 1 << 20
"""Samples of all channels read at once: what a header says of length and channels is not allocated on trust."""


def read_wave(path: Path, rate: int, least: int = 1) -> Wave:
    """Read a sound file: channels averaged, resampled, clipped to ±1.

    One definition of mono for every container: the mean of the channels, as they were decoded.

    Args:
        path: wav (8 to 32 bit or float), flac, ogg, mp3, or any container with a sound track that PyAV reads. Of
            several tracks the first is taken, from its first sample on.
        rate: samples per second wanted.
        least: fewer samples than this at that rate are an error, such as one window of a spectrogram.

    Returns:
        Shape ``(n,)``, n >= ``least``.

    Raises:
        MediaError: ``missing``; ``empty`` for a file without a byte or a sample; ``truncated`` for a file that ends
            before its header says; ``too-short``; ``not-finite``; ``undecodable``.
    """
    with reading(path):
        if path.stat().st_size == 0:
            raise MediaError("empty", f"{path} has no bytes")
        if (said := _ogg_flac_samples(path)) is not None:
            samples, found = _of_container(path)
            if len(samples) < said:
                raise MediaError("truncated", f"{path} has {len(samples)} samples; its header says {said}")
        else:
            samples, found = (_of_sound if path.suffix.lower() in _LIBSNDFILE else _of_container)(path)
    if len(samples) == 0:
        raise MediaError("empty", f"{path} has no samples")
    if not _RATES[0] <= found <= _RATES[1]:
        raise MediaError("undecodable", f"{path} says {found} samples per second; {_RATES[0]} to {_RATES[1]} can be")
    if not np.isfinite(samples).all():
        raise MediaError("not-finite", f"{path} has samples that are NaN or infinite")
    wave = resampled(samples, found, rate)
    if len(wave) < least:
        raise MediaError("too-short", f"{path} has {len(wave)} samples at {rate} Hz; at least {least} are needed")
    return np.clip(wave, -1.0, 1.0)


def resampled(samples: Wave, found: int, rate: int) -> Wave:
    """Return samples at ``found`` a second as samples at ``rate`` a second."""
    if found == rate:
        return samples
    common = math.gcd(found, rate)
    up, down = rate // common, found // common
    wave: Wave = resample_poly(samples, up, down, window=_low_pass(up, down)).astype(np.float32, copy=False)
    return wave


@lru_cache(maxsize=16)
def _low_pass(up: int, down: int) -> Wave:
    """Return the filter that ``resample_poly`` designs anew in every call, which takes longer than using it."""
    longest = max(up, down)
    found: Wave = firwin(20 * longest + 1, 1 / longest, window=("kaiser", 5.0)).astype(np.float32)
    return found


def looped(wave: Wave, samples: int) -> Wave:
    """Return the wave repeated until it has ``samples`` samples, and cut there."""
    return np.resize(wave, samples)


def _ogg_flac_samples(path: Path) -> int | None:
    """Return how many samples FLAC in an Ogg container says it has, 0 if it does not; None for any other file.

    Builds of libsndfile differ in whether they read it; FFmpeg does, and does not notice an end that is missing.
    """
    with path.open("rb") as file:
        head = file.read(128)
    at = head.find(b"\x7fFLAC")
    if not head.startswith(b"OggS") or at < 0:
        return None
    # The mark, a version, a count, "fLaC" and a block's header are 17 bytes; then STREAMINFO, whose last number before
    # its checksum it is: 36 bits (RFC 9639, 8.2).
    number = head[at + 17 + 13 : at + 17 + 18]
    return int.from_bytes(number, "big") & 0xFFFFFFFFF


def _of_sound(path: Path) -> tuple[Wave, int]:
    _check_riff(path)
    with soundfile.SoundFile(str(path)) as file:
        parts: list[Wave] = []
        count = max(1, _BLOCK // file.channels)
        while len(block := file.read(count, dtype="float32", always_2d=True)):
            parts.append(block.mean(axis=1))
        samples = _joined(parts)
        if len(samples) < file.frames < _LENGTH_NOT_KNOWN:
            raise MediaError("truncated", f"{path} has {len(samples)} samples; its header says {file.frames}")
        return samples, int(file.samplerate)


def _check_riff(path: Path) -> None:
    """Refuse a wav whose samples end before they should: libsndfile reads what is there of them, and says nothing.

    The length of the chunk of samples counts. That of the whole file is often wrong in files that are whole.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return
        while len(chunk := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", chunk)
            end = file.tell() + length
            if name == b"data":
                if length < _UNKNOWN_LENGTH and end > size:
                    raise MediaError("truncated", f"{path} has {size} bytes; its samples should end at byte {end}")
                return
            file.seek(end + length % 2)
    (length,) = struct.unpack("<I", head[4:8])
    if length + 8 > size:
        raise MediaError("truncated", f"{path} has {size} bytes and no samples; its header says {length + 8} bytes")


def _of_container(path: Path) -> tuple[Wave, int]:
    with opened(path) as container:
        if not container.streams.audio:
            raise MediaError("empty", f"{path} has no sound track")
        parts: list[Wave] = []
        rate = 0
        for frame in container.decode(container.streams.audio[0]):
            # Of the frames, not of the stream: some codecs double what the container says.
            if parts and frame.sample_rate != rate:
                raise MediaError("undecodable", f"{path} changes from {rate} to {frame.sample_rate} samples per second")
            rate = int(frame.sample_rate)
            parts.append(_mean_of_channels(frame))
    return _joined(parts), rate


def _mean_of_channels(frame: av.AudioFrame) -> Wave:
    """Return the mean, and no weights by loudspeaker: FFmpeg's own mono of two equal channels is √2 times as loud."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:  # (1, samples times channels)
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    if samples.dtype.kind != "f":
        middle = 128 if samples.dtype == np.uint8 else 0
        samples = (samples.astype(np.float32) - middle) / 2 ** (8 * samples.dtype.itemsize - 1)
    mean: Wave = samples.astype(np.float32, copy=False).mean(axis=0)
    return mean


def _joined(parts: list[Wave]) -> Wave:
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


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
        """Options that change the result."""
        return {"rate": self.rate, "least": self.least, "channels": CHANNELS, "resampler": RESAMPLER, "clip": 1.0}

    def __call__(self, row: Row) -> Wave:
        """Return the row's samples."""
        return read_wave(row.paths[0], self.rate, self.least)
