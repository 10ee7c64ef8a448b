"""Clips, with sound or without: presets of the sound, choice of frames, and the streams made of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from dus_gym.data.media.layout import Place, locate
from dus_gym.data.media_source import MediaOptions, MediaSource, Stream
from dus_gym.data.record import Record
from dus_gym.data.store import Row
from dus_gym.data.task import Task
from dus_gym.errors import ConfigError, check_at_least, check_choice

if TYPE_CHECKING:
    from dus_gym.data.media.frames import FrameChoice, FramesDecoder
    from dus_gym.data.transforms import ImageTransform

FBANK = "fbank"
SEGMENT = "segment"
FRAMES = (SEGMENT, "even", "peer_first")
"""The choices of frames, as :mod:`dus_gym.data.media.frames` knows them."""


@dataclass(frozen=True)
class Loop:
    """A log spectrogram of a sound that is repeated to a length."""

    rate: int
    """Samples per second."""
    seconds: int
    waveform: bool = False
    """True: waveforms are stored and turned into spectrograms on the device: where the sound is repeated many times
    that takes far less disk."""


@dataclass(frozen=True)
class ClipOptions(MediaOptions):
    """Options of the data sets of clips."""

    frames: str = SEGMENT
    """The frames of a clip that are seen. segment: a random one of each of T equal segments in training, their middle
    ones in evaluation; even: the middle ones always, and no others are stored; peer_first: the first T by number, as
    OGM-GE, BSS, AMSS and ReconBoost end up with."""
    frames_per_clip: int = 1
    """T."""
    fps: int = 1
    """Frames per second: names the folder Image-01-FPS, and is what is taken of video files."""
    shared_crop: bool = False
    """Crop and mirror all frames of a clip alike."""
    short_side: int = 256
    """Longest short side of a stored frame; 0 stores frames in full, so that crops equal the peers'."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("frames", self.frames, FRAMES)
        check_at_least("frames_per_clip", self.frames_per_clip, 1)
        check_at_least("fps", self.fps, 1)
        check_at_least("short_side", self.short_side, 0)


@dataclass(frozen=True)
class AudioVideoOptions(ClipOptions):
    """Options of the data sets of clips with sound."""

    loops: ClassVar[Mapping[str, Loop]] = {}
    """Presets of the sound beside ``fbank``."""
    audio: str = FBANK
    """Preset of the sound."""
    standardise: bool = False
    """With fbank: (x + 4.503877) / (2 · 5.141276), as BalanceBenchmark; MLA leaves it as it is."""
    validation: str = "auto"
    """auto: the published validation split, or a tenth of every class of train where nobody published one; none: no
    validation, as the published runs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("audio", self.audio, (*self.loops, FBANK))
        check_choice("validation", self.validation, ("auto", "none"))
        if self.standardise and self.audio != FBANK:
            raise ConfigError(f"standardise=True is not allowed with audio={self.audio!r}; it is of {FBANK!r} alone.")


class AudioVideoSource(MediaSource):
    """Base of the data sets of clips with sound; the task's modalities are audio and video, in this order."""

    options_type: ClassVar[type[AudioVideoOptions]] = AudioVideoOptions
    sounds: ClassVar[Sequence[Place]]
    """Places where sound files may lie."""
    banks: ClassVar[Sequence[Place]] = ()
    """Places where filter banks of the peers may lie, as ``.npy``."""
    closed: ClassVar[Sequence[str]] = ()
    """Folders of pickles."""

    def pictures(self, fps: int) -> Sequence[Place]:
        """Return the places where frames or videos may lie."""
        raise NotImplementedError

    def streams(self, task: Task, options: Any, root: Path, records: Sequence[Record]) -> list[Stream]:
        """Return the streams of sound and frames.

        Raises:
            DatasetNotFoundError: if there is no sound or no picture at all, in any known layout.
        """
        frames = located_rows("frames", root, records, self.pictures(options.fps), self.closed)
        return [self._sound(options, root, records), frames_stream(options, frames)]

    def carve(self, records: Sequence[Record], options: Any, rng: np.random.Generator) -> list[Record]:
        """Return records with a validation split as of every data set, or with none at all."""
        if options.validation == "none":
            return [record for record in records if record.split != "validation"]
        return super().carve(records, options, rng)

    def _sound(self, options: AudioVideoOptions, root: Path, records: Sequence[Record]) -> Stream:
        from dus_gym.data.media.audio import WaveformDecoder
        from dus_gym.data.media.fbank import GEWU_MEAN, GEWU_STD, FbankDecoder
        from dus_gym.data.media.spectrogram import STFT, SpectrogramDecoder
        from dus_gym.data.transforms import SpectrogramTransform, WaveformTransform

        places = (*self.sounds, *self.banks) if options.audio == FBANK else self.sounds
        rows = located_rows("sound", root, records, places, self.closed)
        if options.audio == FBANK:
            bank = FbankDecoder()
            factor = 1 / (2 * GEWU_STD) if options.standardise else 1.0
            offset = -GEWU_MEAN * factor if options.standardise else 0.0
            return Stream(bank, SpectrogramTransform(factor, offset), rows, (1, *bank.fixed_shape))
        loop = options.loops[options.audio]
        samples = loop.rate * loop.seconds
        if loop.waveform:
            transform = WaveformTransform(STFT(), samples)
            return Stream(WaveformDecoder(rate=loop.rate, least=transform.stft.n_fft), transform, rows, transform.shape)
        decoder = SpectrogramDecoder(rate=loop.rate, samples=samples)
        return Stream(decoder, SpectrogramTransform(), rows, (1, *decoder.fixed_shape))


def frames_stream(
    options: ClipOptions,
    rows: tuple[Row, ...],
    decoder: type[FramesDecoder] | None = None,
    image: ImageTransform | None = None,
    **how: Any,
) -> Stream:
    """Return the stream of frames that the options choose.

    Args:
        options: of the data set.
        rows: folders or videos, one per record.
        decoder: the kind of frames, by default pictures.
        image: what becomes of a frame; by default as of pictures.
        how: further arguments of the decoder.
    """
    from dus_gym.data.media.frames import ALL, FramesDecoder
    from dus_gym.data.transforms import ClipTransform, ImageTransform

    choice = cast("FrameChoice", options.frames)
    made = (decoder or FramesDecoder)(
        keep=ALL if choice == SEGMENT else choice,
        frames=options.frames_per_clip,
        per_second=options.fps,
        short_side=options.short_side or None,
        **how,
    )
    transform = ClipTransform(options.frames_per_clip, choice, image or ImageTransform(), options.shared_crop)
    return Stream(made, transform, rows, transform.shape)


def located_rows(
    what: str, root: Path, records: Sequence[Record], places: Sequence[Place], closed: Sequence[str] = ()
) -> tuple[Row, ...]:
    """Return a row for each record, of its file or folder; see :func:`~dus_gym.data.media.layout.locate`."""
    paths = locate(what, root, records, places, closed)
    return tuple(Row(record.sample, (path,)) for record, path in zip(records, paths, strict=True))


def without_validation(records: Sequence[Record]) -> list[Record]:
    """Return the records with those of validation back in train."""
    return [replace(record, split="train") if record.split == "validation" else record for record in records]
