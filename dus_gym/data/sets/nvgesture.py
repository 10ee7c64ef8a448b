"""NVGesture: 25 hand gestures seen by several sensors in a car.

Read from its lists, its videos, and optical flow from files or computed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dus_gym.data.media_source import MediaOptions, MediaSource, Stream
from dus_gym.data.record import Record, bad_line, lines_of, one_of, unique
from dus_gym.data.splits import carve_groups
from dus_gym.data.store import Row
from dus_gym.data.task import Task
from dus_gym.errors import AnnotationError, ConfigError, DatasetNotFoundError, check_at_least, check_choice

NUM_CLASSES = 25
LONGEST_NUMBER = 9
"""Digits of a frame or label."""
_ENDINGS = ("correct_cvpr2016_v2", "correct_v2", "correct")
_FOLDERS = ("", "annotations/", "meta/", "nvgesture/meta/")
_SUBJECT = re.compile(r"(subject[0-9]+)_r[0-9]+")


def parse_list(path: Path, split: str) -> list[Record]:
    """Read one split file of ``key:value`` words, such as ``path:./Video_data/class_01/subject3_r0 … label:1``.

    The label is the word ``label``, from 1 in the file; it is not the folder, which disagrees with it in 23 rows.

    Raises:
        AnnotationError: for a line of another form.
    """
    records = []
    for number, line in lines_of(path):
        words = dict(word.partition(":")[::2] for word in line.split())
        folder, label = words.pop("path", ""), words.pop("label", "")
        subject = _SUBJECT.fullmatch(folder.rpartition("/")[2])
        windows = {name: value.split(":") for name, value in words.items()}
        if (
            subject is None
            or not (label.isdecimal() and len(label) <= LONGEST_NUMBER)
            or not 1 <= int(label) <= NUM_CLASSES
            or any(
                len(w) != 3 or not all(n.isdecimal() and len(n) <= LONGEST_NUMBER for n in w[1:])
                for w in windows.values()
            )
        ):
            raise bad_line(path, number, line, "path, sensors with first and last frame, and label from 1 to 25")
        media = folder.removeprefix("./")
        sample = "/".join(media.split("/")[-2:])
        frames = tuple((name, int(start), int(end)) for name, (_, start, end) in windows.items())
        records.append(Record(sample, split, int(label) - 1, media, windows=frames, group=subject[1]))
    return unique(records, path)


def find_lists(root: Path) -> dict[str, Path]:
    """Return the split files below ``root``, in any of the spellings in use.

    Raises:
        DatasetNotFoundError: naming the files that were looked for.
    """
    found: dict[str, Path] = {}
    for split in ("train", "test"):
        names = [f"{folder}nvgesture_{split}_{ending}.lst" for ending in _ENDINGS for folder in _FOLDERS]
        found[split] = one_of(f"list of the {split} clips", root, names)
    return found


def read_lists(root: Path) -> list[Record]:
    """Read both splits, 1050 and 482 clips, which share no subject."""
    return [record for split, path in find_lists(root).items() for record in parse_list(path, split)]


FILES = "files"
FLOWS = (FILES, "dis", "farneback")
"""Origins of the optical flow; the two last as :mod:`dus_gym.data.media.flow` knows them."""
SENSORS = {"color": "sk_color.avi", "depth": "sk_depth.avi"}
_HOMES = ("", "nvGesture_v1.1/", "nvGesture/")
_FLOW = "Video_data/flow_data"
_SIGNED = (1 / 127.5, -1.0)
"""Bytes to -1 … 1, as I3D's published weights saw them."""


@dataclass(frozen=True)
class NVGestureOptions(MediaOptions):
    """Options of NVGesture."""

    preset: str = "default"
    """default: RGB, depth and flow between -1 and 1. bss (also AMSS's): colour as BGR with ImageNet's mean and
    deviation, depth between 0 and 1, flow in pixels and with all its frames in training, I3D's first eight steps."""
    flow: str = FILES
    """files: .npy files below Video_data/flow_data; dis or farneback: computed from the colour videos (the extra
    'flow')."""
    size: int = 256
    """Height and width that frames are stored with."""
    crop: int = 224
    """Height and width that an encoder sees: one random square for all three modalities in training, the middle in
    evaluation."""
    frames: int = 64
    """Frames of a training sample, at a random place that is the same in all modalities; evaluation sees all 80."""
    validation: str = "subjects"
    """subjects: those of some subjects of the training list; none: no validation split."""
    held: int = 2
    """Subjects held out for validation, of 12."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("preset", self.preset, ("default", "bss"))
        check_choice("flow", self.flow, FLOWS)
        check_choice("validation", self.validation, ("subjects", "none"))
        for name in ("crop", "frames", "held"):
            check_at_least(name, getattr(self, name), 1)
        if self.size < self.crop:
            raise ConfigError(f"size={self.size!r} is not allowed; it must be at least crop={self.crop}.")


class NVGesture(MediaSource):
    """25 hand gestures in RGB, depth and optical flow. Nothing is mirrored: classes differ by left and right."""

    options_type = NVGestureOptions
    dataset = "nvgesture"
    size = "41 GB"
    published: ClassVar[Mapping[str, int]] = {"train": 1050, "test": 482}
    class_names = tuple(f"gesture {number}" for number in range(1, NUM_CLASSES + 1))
    """As the lists number them: the tables of names that were published disagree about left and right."""
    how_to_get = (
        "The archive (nvGesture_v1.1, 41 GB) is on NVIDIA's page of Molchanov et al. 2016, for research; nobody "
        "published the optical flow: --task.flow dis computes it."
    )
    crops_alike = True

    def records(self, options: Any, root: Path) -> list[Record]:
        """Return the clips of both lists."""
        return read_lists(root)

    def carve(self, records: Sequence[Record], options: Any, rng: np.random.Generator) -> list[Record]:
        """Return the records with some subjects' training clips held out, as the official test split holds out six."""
        return carve_groups(records, rng, options.held) if options.validation == "subjects" else list(records)

    def encoders(self, task: Task, options: Any) -> tuple[str, ...]:
        """Return I3D for each; it pools as BSS does under its preset."""
        words = super().encoders(task, options)
        return tuple(f"{word}:pool=first8" for word in words) if options.preset == "bss" else words

    def streams(self, task: Task, options: Any, root: Path, records: Sequence[Record]) -> list[Stream]:
        """Return the streams of RGB, depth and flow."""
        from dus_gym.data.media import flow
        from dus_gym.data.media.flow import FlowDecoder, FlowFileDecoder
        from dus_gym.data.media.window import WindowDecoder
        from dus_gym.data.transforms import IMAGENET_MEAN, IMAGENET_STD, Scaling, WindowTransform

        length = _length(records)
        if options.frames > length:
            raise ConfigError(f"frames={options.frames} is not allowed; the windows of the lists have {length} frames.")
        home = next((root / name for name in _HOMES if (root / name / "Video_data").is_dir()), root)
        bss = options.preset == "bss"
        cut = WindowTransform(Scaling(*zip(_SIGNED, strict=True)), crop=options.crop, frames=options.frames)

        def stream(decoder: Any, rows: Sequence[Row], channels: int, scale: tuple[float, float], **how: Any) -> Stream:
            scaling = Scaling((scale[0],) * channels, (scale[1],) * channels)
            transform = replace(cut, **{"scaling": scaling, **how})
            shape = (channels, transform.frames or length, options.crop, options.crop)
            return Stream(decoder, transform, tuple(rows), shape)

        colour = [_window_row(home, record, "color") for record in records]
        depth = [_window_row(home, record, "depth") for record in records]
        bgr = {"reverse": True, "scaling": Scaling.of(IMAGENET_MEAN, IMAGENET_STD)} if bss else {}
        found = [
            stream(WindowDecoder("rgb", length, options.size), colour, 3, _SIGNED, **bgr),
            stream(WindowDecoder("depth", length, options.size, "grey"), depth, 1, (1 / 255, 0.0) if bss else _SIGNED),
        ]
        if options.flow == FILES:
            rows, naming = _flow_rows(home, root, records)
            decoder: Any = FlowFileDecoder(length, options.size, naming)
        else:
            rows, decoder = colour, FlowDecoder(options.flow, length, options.size)
        whole = {"frames": None} if bss else {}
        limit = flow.LIMIT if bss else 1.0  # pixels, or -1 … 1 as the others
        scale = (limit / flow.STEPS, -flow.ZERO * limit / flow.STEPS)
        found.append(stream(decoder, rows, 2, scale, **whole))
        return found


def _length(records: Sequence[Record]) -> int:
    """Return the number of frames of the windows of colour and depth, the same in every row."""
    lengths: dict[int, str] = {}
    for record in records:
        windows = {name: end - start for name, start, end in record.windows if name in SENSORS}
        if set(windows) != set(SENSORS):
            raise AnnotationError(f"the row of {record.sample!r} has no window of {' and '.join(SENSORS)}.")
        lengths.update((length, record.sample) for length in windows.values())
    if len(lengths) != 1 or min(lengths) < 1:
        shown = ", ".join(f"{length} ({sample})" for length, sample in sorted(lengths.items())[:3])
        raise AnnotationError(f"windows of colour and depth must all have one length; the lists have {shown}.")
    return next(iter(lengths))


def _window_row(home: Path, record: Record, sensor: str) -> Row:
    start, end = next((start, end) for name, start, end in record.windows if name == sensor)
    path = home / record.media / SENSORS[sensor]
    frames = path.with_suffix("")
    if not path.exists() and frames.is_dir():  # frames taken out of the video beforehand
        path = frames
    return Row(record.sample, (path,), f"{start}:{end}")


def _flow_rows(home: Path, root: Path, records: Sequence[Record]) -> tuple[list[Row], dict[str, Any]]:
    """Return files of flow, and what ties them to their samples.

    That is ``<class>_<subject>.npy`` where there is one such file, else the row's number in its list, from 0, which
    holds for one content of that list alone.
    """
    folder = home / _FLOW
    if not folder.is_dir():
        raise DatasetNotFoundError(
            f"no optical flow at {folder}: put .npy files there, or compute it from the colour videos with flow=dis "
            '(--task.flow dis), which needs pip install "dus-gym[flow]".'
        )
    named, numbered = [], []
    count = dict.fromkeys(("train", "validation", "test"), 0)
    for record in records:
        file = f"{record.sample.replace('/', '_')}.npy"
        beside = folder / record.split / file
        named.append(Row(record.sample, (beside if beside.exists() else folder / file,)))
        numbered.append(Row(record.sample, (folder / record.split / f"{count[record.split]}.npy",)))
        count[record.split] += 1
    if any(row.paths[0].exists() for row in named):
        return named, {"by": "name"}
    lists = {split: hashlib.sha256(path.read_bytes()).hexdigest() for split, path in find_lists(root).items()}
    return numbered, {"by": "row of the list", "lists": lists}


TASKS = (
    Task(
        name="NVGesture",
        modalities=("rgb", "depth", "flow"),
        num_classes=NUM_CLASSES,
        encoders=("i3d", "i3d", "i3d"),
        lr=1e-2,
        schedule="plateau",
        epochs=100,
        batch=6,
        summary="NVGesture, 25 hand gestures, RGB, depth and optical flow",
        metric="macro_f1",
        source=NVGesture(),
        train_size=1050,
        regime="Digits3",
    ),
)
