"""VGGSound (Chen et al. 2020): 309 sounds whose source is seen. Clips are named after their YouTube id and start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dus_gym.data.audio_video import AudioVideoOptions, AudioVideoSource, Loop
from dus_gym.data.media.layout import FOLDER, VIDEO_ENDINGS, Place
from dus_gym.data.record import Record, bad_line, class_table, one_of, rows_of, unique
from dus_gym.data.task import Task

CLASSES = class_table("vggsound.txt")
"""Names of the published list, sorted, as the authors' loader numbers them; OGM-GE and BalanceBenchmark number them as
they meet them on the disk."""
_IDS = {name: i for i, name in enumerate(CLASSES)}
_LISTS = ("vggsound.csv", "annotations/vggsound.csv", "data/vggsound.csv", "data/VGGSound/vggsound.csv")
SECONDS = 6
"""Digits of a start in the name of a clip."""


def parse_list(path: Path) -> list[Record]:
    """Read ``vggsound.csv``: YouTube id, start in seconds, label, ``train`` or ``test``; labels with commas are quoted.

    Raises:
        AnnotationError: for a line of another form or a label that is none of the 309.
    """
    records = []
    for number, row in rows_of(path):
        if len(row) != 4 or not row[1].isdecimal() or len(row[1]) > SECONDS or row[3] not in ("train", "test"):
            raise bad_line(path, number, ",".join(row), "YouTube id, start in seconds, label, and train or test")
        video, start, label, split = row
        if label not in _IDS:
            raise bad_line(path, number, ",".join(row), "one of the 309 labels of VGGSound")
        clip = f"{video}_{int(start):0{SECONDS}d}"
        records.append(Record(clip, split, _IDS[label], clip, group=video))
    return unique(records, path)


def read_lists(root: Path) -> list[Record]:
    """Read the list: 183730 clips to train and 15446 to test.

    Raises:
        DatasetNotFoundError: naming the files that were looked for.
    """
    return parse_list(one_of("list of the clips", root, _LISTS))


def unpadded(clip: str) -> str:
    """Return a clip's name as OGM-GE and BalanceBenchmark spell it: ``ID_30`` for ``ID_000030``."""
    return f"{clip[:-SECONDS]}{int(clip[-SECONDS:])}"


def _framed(clip: str) -> str:
    """Return the name of a clip's folder of frames as OGM-GE's script makes it."""
    return f"{unpadded(clip)}.mp4"


_VIDEOS = (
    *(Place(folder, VIDEO_ENDINGS) for folder in ("video", "videos", "{split}")),
    Place("{split}-videos/{split}-set", VIDEO_ENDINGS, unpadded),
)


@dataclass(frozen=True)
class VGGSoundOptions(AudioVideoOptions):
    """Options of VGGSound."""

    loops: ClassVar[Mapping[str, Loop]] = {"loop10s": Loop(16_000, 10)}
    audio: str = "loop10s"
    """loop10s: the sound repeated to 10 s at 16 kHz (as the authors'), log spectrogram 257 × 454 (as OGM-GE's of
    CREMA-D); fbank: Kaldi filter bank 1024 × 128."""
    frames_per_clip: int = 3
    """T; BalanceBenchmark's."""


class VGGSound(AudioVideoSource):
    """199 176 clips of 10 s. A validation split is carved of train: nobody published one."""

    options_type = VGGSoundOptions
    dataset = "vggsound"
    size = "199 176 clips of 10 s"
    published: ClassVar[Mapping[str, int]] = {"train": 183730, "test": 15446}
    class_names = CLASSES
    how_to_get = (
        "The list, vggsound.csv, is in the repository hche11/VGGSound (CC BY 4.0), whose README says how to get the "
        "clips; name each ID_SECONDS with six digits, as its example_audio does, in video/, or its sound in audio/."
    )
    sounds = (
        Place("audio", ".wav"),
        Place("{split}-audios/{split}-set", ".wav", unpadded),
        *_VIDEOS,
    )

    def pictures(self, fps: int) -> Sequence[Place]:
        """Return folders of frames before videos."""
        frames = f"Image-{fps:02d}-FPS"
        return (Place(frames, FOLDER), Place(f"{{split}}-videos/{{split}}-set-img/{frames}", FOLDER, _framed), *_VIDEOS)

    def records(self, options: Any, root: Path) -> list[Record]:
        """Return the clips of the list."""
        return read_lists(root)


TASKS = (
    Task(
        name="VGGSound",
        modalities=("audio", "video"),
        num_classes=309,
        encoders=("resnet18", "resnet18"),
        lr=1e-2,
        schedule="plateau",
        epochs=100,
        summary="VGGSound, 309 sounds, sound and video",
        source=VGGSound(),
        train_size=183730,
    ),
)
