"""CREMA-D: six acted emotions, voice and face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dus_gym.data.annotations import cremad as lists
from dus_gym.data.annotations.record import Record
from dus_gym.data.audio_video import FBANK, AudioVideoOptions, AudioVideoSource, Loop, without_validation
from dus_gym.data.media.container import VIDEO_ENDINGS
from dus_gym.data.media.layout import FOLDER, Place
from dus_gym.data.splits import split_groups
from dus_gym.errors import check_choice

LOOPS = {"ogm3s": Loop(22_050, 3), "bss20s": Loop(22_050, 20, waveform=True)}
ACTORS = (56, 18, 17)
"""Actors that train, validate and test in a split that shares nobody."""
WORDS = {"NEU": "neutral", "HAP": "happy", "SAD": "sad", "FEA": "fear", "DIS": "disgust", "ANG": "anger"}


@dataclass(frozen=True)
class CREMADOptions(AudioVideoOptions):
    """Options of CREMA-D."""

    audio: str = "ogm3s"
    """ogm3s: the sound repeated to 3 s at 22.05 kHz, log spectrogram 257 × 188 (OGM-GE, ReconBoost, AMSS, AGM); bss20s:
    repeated to 20 s, 257 × 1250 (BSS, LFM, AUG); fbank: Kaldi filter bank 1024 × 128 (MLA, BalanceBenchmark)."""
    labels: str = "ogm"
    """Order of the class ids. ogm: NEU HAP SAD FEA DIS ANG; mla: ANG DIS FEA HAP NEU SAD."""
    split: str = "official"
    """official: the lists under the data root, where every actor is in train and test; actors: 56, 18 and 17 actors
    train, validate and test, drawn by the run's seed."""

    def __post_init__(self) -> None:
        check_choice("audio", self.audio, (*LOOPS, FBANK))
        super().__post_init__()
        check_choice("labels", self.labels, lists.LABELS)
        check_choice("split", self.split, ("official", "actors"))


class CremaD(AudioVideoSource):
    """7442 clips of 91 actors."""

    options_type = CREMADOptions
    dataset = "cremad"
    published: ClassVar[Mapping[str, int]] = {"train": 6698, "test": 744}
    class_names = tuple(WORDS[emotion] for emotion in lists.EMOTIONS)
    how_to_get = (
        "Clone github.com/CheyneyComputerScience/CREMA-D with Git LFS (ODbL; AudioWAV/ and VideoFlash/ are enough) and "
        "put train.csv and test.csv of OGM-GE's data/CREMAD beside them."
    )
    loops = LOOPS
    sounds = tuple(
        Place(folder, ending)
        for folder, ending in (
            ("AudioWAV", ".wav"),
            ("Audio", ".wav"),
            ("audio", ".wav"),
            ("audio/AudioWAV", ".wav"),
            ("AudioMP3", ".mp3"),
        )
    )
    banks = (Place("audio/{split}_fbank", ".npy"), Place("audio", ".npy"), Place("Audio", ".npy"))
    closed = ("Audio-1004", "Audio-299", "audio_spec", "audio")

    def pictures(self, fps: int) -> Sequence[Place]:
        """Folders of frames before videos: they are what the published loaders read."""
        frames = f"Image-{fps:02d}-FPS"
        folders = (frames, f"visual/{frames}", f"visual/{{split}}_imgs/{frames}", "visual")
        videos = (Place(folder, (".flv", *VIDEO_ENDINGS)) for folder in ("VideoFlash", "video"))
        return (*(Place(folder, FOLDER) for folder in folders), *videos)

    def names(self, options: Any) -> tuple[str, ...]:
        """Class names in the order asked for."""
        return tuple(WORDS[emotion] for emotion in lists.LABELS[options.labels])

    def records(self, options: Any, root: Path) -> list[Record]:
        """The clips of one repository's two lists."""
        return lists.read(root, options.labels)

    def carve(self, records: Sequence[Record], options: Any, rng: np.random.Generator) -> list[Record]:
        """A tenth of every class of train, or splits that share no actor."""
        if options.split == "official":
            return super().carve(records, options, rng)
        parted = split_groups(records, rng, ACTORS)
        return without_validation(parted) if options.validation == "none" else parted


CREMAD = CremaD()
