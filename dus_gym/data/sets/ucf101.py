"""UCF-101 (Soomro et al. 2012): 101 actions from pictures and optical flow, in the official splits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dus_gym.data.audio_video import ClipOptions, frames_stream, located_rows
from dus_gym.data.media.layout import FOLDER, VIDEO_ENDINGS, Place
from dus_gym.data.media_source import MediaSource, Stream
from dus_gym.data.record import Record, bad_line, class_table, lines_of, one_of, unique
from dus_gym.data.sets.nvgesture import FILES, FLOWS
from dus_gym.data.splits import carve_groups
from dus_gym.data.store import Row
from dus_gym.data.task import Task
from dus_gym.errors import check_at_least, check_choice

CLASSES = class_table("ucf101.txt")
"""In the order of ``classInd.txt``, which is not needed."""
_IDS = {name: i for i, name in enumerate(CLASSES)}
SPLITS = ("1", "2", "3")
RATE = 25
"""Frames a second of every video."""
_CLIP = re.compile(r"(\w+)/(v_\w+_(g[0-9]{2})_c[0-9]{2})\.avi(?: ([0-9]{1,3}))?")
_FOLDERS = (
    "",
    "ucfTrainTestlist/",
    "UCF101TrainTestSplits-RecognitionTask/ucfTrainTestlist/",
    "annotations/",
    "splits/",
)


def parse_list(path: Path, split: str) -> list[Record]:
    """Read ``trainlist01.txt`` (``Class/v_Class_gXX_cYY.avi 1``) or ``testlist01.txt``, which has no number.

    The class is the folder; a number must be the folder's in ``classInd.txt``, which counts from 1.

    Raises:
        AnnotationError: for a line of another form.
    """
    records = []
    for number, line in lines_of(path):
        clip = _CLIP.fullmatch(line.strip())
        label = _IDS.get(clip[1]) if clip is not None else None
        if clip is None or label is None or (clip[4] is not None and int(clip[4]) != label + 1):
            raise bad_line(path, number, line, "Class/v_Class_gXX_cYY.avi, and that class's number or nothing")
        records.append(Record(clip[2], split, label, f"{clip[1]}/{clip[2]}", group=clip[3]))
    return unique(records, path)


def read_lists(root: Path, split: int = 1) -> list[Record]:
    """Read one official split; of the first, 9537 clips to train and 3783 to test, which share no group.

    Raises:
        DatasetNotFoundError: naming the files that were looked for.
    """
    records: list[Record] = []
    for part in ("train", "test"):
        names = [f"{folder}{part}list{split:02d}.txt" for folder in _FOLDERS]
        records += parse_list(one_of(f"list of the {part} clips", root, names), part)
    return unique(records, root)


def _flat(clip: str) -> str:
    """Return a clip's name in the archives of frames and flow, which spell one class as its folder, not as its files
    (``v_HandStandPushups_g01_c01.avi`` in ``HandstandPushups/``).
    """
    return clip.rpartition("/")[2].replace("HandStand", "Handstand")


_VIDEOS = tuple(Place(folder, VIDEO_ENDINGS) for folder in ("UCF-101", "UCF101", "videos", "."))
_FRAMES = tuple(Place(folder, FOLDER, _flat) for folder in ("jpegs_256", "ucf101_jpegs_256/jpegs_256"))
_FLOW = tuple(Place(folder, FOLDER, _flat) for folder in ("tvl1_flow/u", "ucf101_tvl1_flow/tvl1_flow/u"))


@dataclass(frozen=True)
class UCF101Options(ClipOptions):
    """Options of UCF-101."""

    flow: str = FILES
    """files: pictures of all frames in tvl1_flow/u/CLIP/ and tvl1_flow/v/CLIP/; dis or farneback: computed between each
    frame that is kept and the next (the extra 'flow')."""
    split: int = 1
    """Number of the official split, of three."""
    frames_per_clip: int = 3
    """T, of pictures and of flow; BalanceBenchmark's."""
    shared_crop: bool = True
    """Crop and mirror all frames of a clip alike; BalanceBenchmark draws anew for each."""
    validation: str = "groups"
    """groups: those of some groups of the training list, since clips of one group are cut from one video; none: no
    validation split."""
    held: int = 2
    """Groups held out for validation, of 18."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("flow", self.flow, FLOWS)
        check_choice("split", str(self.split), SPLITS)
        check_choice("validation", self.validation, ("groups", "none"))
        check_at_least("held", self.held, 1)


class UCF101(MediaSource):
    """13 320 clips of 101 actions. Pictures and flow of a clip are cropped and mirrored alike."""

    options_type = UCF101Options
    dataset = "ucf101"
    size = "13 320 videos of 320 × 240"
    published: ClassVar[Mapping[str, int]] = {"train": 9537, "test": 3783}
    class_names = CLASSES
    how_to_get = (
        "UCF101.rar and UCF101TrainTestSplits-RecognitionTask.zip are on the page of UCF's Center for Research in "
        "Computer Vision; flow as pictures is in the README of feichtenhofer/twostreamfusion (tvl1_flow/u and v), or "
        "--task.flow dis computes it from the videos."
    )
    crops_alike = True

    def records(self, options: Any, root: Path) -> list[Record]:
        """Return the clips of the split's two lists."""
        return read_lists(root, options.split)

    def carve(self, records: Sequence[Record], options: Any, rng: np.random.Generator) -> list[Record]:
        """Return the records with some groups' training clips held out, as the test list holds out seven."""
        return carve_groups(records, rng, options.held) if options.validation == "groups" else list(records)

    def streams(self, task: Task, options: Any, root: Path, records: Sequence[Record]) -> list[Stream]:
        """Return the streams of pictures and flow."""
        from dus_gym.data.media.flow import STEPS, ZERO, ClipFlowDecoder
        from dus_gym.data.transforms import ImageTransform

        rows = located_rows("frames", root, records, (*_VIDEOS, *_FRAMES))
        # Bytes to -1 … 1, no motion to 0: what a mirror turns round is its sign.
        image = ImageTransform(mean=(ZERO / 255,) * 2, std=(STEPS / 255,) * 2, signed=(0,))
        method, moving = options.flow, rows
        if options.flow == FILES:
            across = located_rows("optical flow", root, records, _FLOW)
            moving = tuple(Row(row.sample, (x, x.parent.with_name("v") / x.name)) for row in across for x in row.paths)
            method = None
        return [
            frames_stream(options, rows, name="rgb", rate=RATE),
            frames_stream(options, moving, ClipFlowDecoder, image, rate=RATE, method=method),
        ]


TASKS = (
    Task(
        name="UCF101",
        modalities=("rgb", "flow"),
        num_classes=101,
        encoders=("resnet18", "resnet18"),
        lr=1e-2,
        schedule="plateau",
        epochs=100,
        summary="UCF-101, 101 actions, pictures and optical flow",
        source=UCF101(),
        train_size=9537,
    ),
)
