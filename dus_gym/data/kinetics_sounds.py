"""Kinetics-Sounds: 31 actions that can be seen and heard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dus_gym.data.annotations import kinetics_sounds as lists
from dus_gym.data.annotations.record import Record
from dus_gym.data.audio_video import FBANK, AudioVideoOptions, AudioVideoSource, Loop
from dus_gym.data.media.container import VIDEO_ENDINGS
from dus_gym.data.media.layout import FOLDER, Place
from dus_gym.errors import check_choice

LOOPS = {"bss10s": Loop(35_400, 10)}
_VIDEOS = tuple(Place(folder, VIDEO_ENDINGS) for folder in ("{split}_video", "video", "videos", "{split}"))


@dataclass(frozen=True)
class KineticsSoundsOptions(AudioVideoOptions):
    """Options of Kinetics-Sounds."""

    audio: str = "bss10s"
    """bss10s: the sound repeated to 10 s at 35.4 kHz, log spectrogram 257 × 1003 (BSS); fbank: Kaldi filter bank
    1024 × 128 (MLA, BalanceBenchmark)."""
    frames_per_clip: int = 3
    """T."""

    def __post_init__(self) -> None:
        check_choice("audio", self.audio, (*LOOPS, FBANK))
        super().__post_init__()


class KineticsSoundsSource(AudioVideoSource):
    """17 396 clips of 10 s in the published lists, and 1320 more to validate in BML's.

    Class ids are those of a fixed table. A class without a file on the disk keeps its id, unlike in BSS and AMSS,
    whose ids are the order in which classes are met on the disk.
    """

    options_type = KineticsSoundsOptions
    dataset = "kinetics-sounds"
    published: ClassVar[Mapping[str, int]] = {"train": 14799, "validation": 1320, "test": 2597}
    class_names = lists.CLASSES
    how_to_get = (
        "Get Kinetics-400 by the scripts of github.com/cvdfoundation/kinetics-dataset, keep the clips of my_train.txt "
        "and my_test.txt of OGM-GE's data/KineticSound, and put both lists beside them."
    )
    loops = LOOPS
    sounds = (
        *(Place(folder, ".wav") for folder in ("{split}_wav", "audio/{split}_wav", "audio", "wav", "audio_wav")),
        *_VIDEOS,
    )
    banks = (
        Place("audio/{split}_fbank", ".npy"),
        Place("kinsound/audio/{split}_fbank", ".npy"),
        Place("audio", ".npy"),
    )
    closed = ("{split}_wav_pkl", "audio_spec", "KineticSound/audio_spec")

    def pictures(self, fps: int) -> Sequence[Place]:
        """Folders of frames before videos: they are what the published loaders read."""
        frames = f"Image-{fps:02d}-FPS"
        folders = (
            f"{{split}}_img/{frames}",
            f"visual/{{split}}_imgs/{frames}",
            f"kinsound/visual/{{split}}_imgs/{frames}",
            frames,
            "visual",
            "KineticSound/visual",
            "{split}_img",
        )
        return (*(Place(folder, FOLDER) for folder in folders), *_VIDEOS)

    def records(self, options: Any, root: Path) -> list[Record]:
        """The clips of the lists."""
        return lists.read(root)


KINETICS_SOUNDS = KineticsSoundsSource()
