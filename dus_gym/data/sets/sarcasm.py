"""Sarcasm (Cai, Cai & Wan 2019, "MMSD"): is a tweet with a picture sarcastic? And its cleaned successors.

Read from the published lists or those of BSS and AMSS.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from dus_gym.data.record import SPLITS, Record, bad_line, first_of, lines_of, unique
from dus_gym.data.task import DataOptions, Task
from dus_gym.data.text_image import CLIP_MEAN, CLIP_STD, DEFAULT, Preset, TextImageOptions, TextImageSource
from dus_gym.errors import AnnotationError, DatasetNotFoundError, check_choice, first_line
from dus_gym.json_text import read_json

CLASSES = ("not sarcastic", "sarcastic")
GIVEAWAYS = frozenset(
    ("sarcasm", "sarcastic", "reposting", "<url>", "joke", "humour", "humor", "jokes", "irony", "ironic", "exgag")
)
"""Words that give the label away: the published code drops every tweet that has one of them."""

_FOLDERS = ("", "text/", "text_data/", "data/text/", "annotations/")
_LISTS = {"train": ("train.txt",), "validation": ("valid2.txt", "valid.txt"), "test": ("test2.txt", "test.txt")}
_STEMS = {"train": ("train",), "validation": ("valid", "val", "dev"), "test": ("test",)}
_CLEANED = {"mmsd-clean": "text_json_clean", "mmsd2": "text_json_final"}
VERSIONS = ("mmsd", *_CLEANED)
"""``mmsd``: the published lists. ``mmsd2`` (Qin et al. 2023): the same tweets with other text and 1095 other labels.
``mmsd-clean``: that repository's copy of ``mmsd`` without some tweets. Figures of two versions can't be compared."""


def parse_list(path: Path, split: str) -> list[Record]:
    """Read one published file of a Python list per line.

    That is ``[id, text, label]`` or ``[id, text, hashtag label, human label]``. Where a line has two labels, the human
    one counts: they differ in 231 of the 4819 lines. Tweets with a word of :data:`GIVEAWAYS` between spaces are left
    out, as the published code does; a word that merely contains one stays.

    Raises:
        AnnotationError: for a line of another form. Lines are literals and never run.
    """
    records = []
    for number, line in lines_of(path):
        fields = literal_list(path, number, line)
        if len(fields) not in (3, 4) or not all(label in (0, 1) for label in fields[2:]):
            raise bad_line(path, number, line, "[id, text, label] or [id, text, hashtag label, human label]")
        tweet, text = (str(field) for field in fields[:2])
        if GIVEAWAYS.isdisjoint(text.split()):
            records.append(Record(tweet, split, int(fields[-1]), f"{tweet}.jpg", text))
    return unique(records, path)


def parse_json(path: Path, split: str) -> list[Record]:
    """Read a list of objects with ``text``, ``label`` and ``image`` (a path, of which the last part counts: BSS) or
    ``image_id`` (MMSD2.0). Nothing is left out.

    Raises:
        AnnotationError: for anything else.
    """
    try:
        found = read_json(path.read_text(encoding="utf-8-sig"))
        if not isinstance(found, list):
            raise TypeError(type(found).__name__)
        records = [_of_json(entry, split) for entry in found]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AnnotationError(
            f"{path} is no list of objects with text, label (0 or 1) and image or image_id ({first_line(error)})."
        ) from error
    return unique(records, path)


def _of_json(entry: Mapping[str, Any], split: str) -> Record:
    picture = f"{entry['image_id']}.jpg" if "image_id" in entry else entry["image"].rpartition("/")[2]
    label = int(entry["label"])
    if label not in (0, 1) or not isinstance(entry["text"], str):
        raise ValueError(entry)
    return Record(picture.rpartition(".")[0] or picture, split, label, picture, entry["text"])


def parse_tsv(path: Path, split: str) -> list[Record]:
    """Read a table with the columns ``Label``, ``ImageID`` and ``String`` (AMSS); quotes are ordinary characters.

    Raises:
        AnnotationError: for a header without these names, or a line of another form.
    """
    lines = list(lines_of(path))
    header = lines[0][1].split("\t") if lines else []
    if not {"Label", "ImageID", "String"} <= set(header):
        raise AnnotationError(f"{path} needs the columns Label, ImageID and String; its first line has {header}.")
    places = [header.index(name) for name in ("Label", "ImageID", "String")]
    records = []
    for number, line in lines[1:]:
        fields = line.split("\t")
        if len(fields) != len(header) or fields[places[0]] not in ("0", "1") or not fields[places[1]]:
            raise bad_line(path, number, line, "the columns of its header and a label of 0 or 1")
        label, picture, text = (fields[place] for place in places)
        records.append(Record(picture.rpartition(".")[0] or picture, split, int(label), picture, text))
    return unique(records, path)


def literal_list(path: Path, number: int, line: str) -> list[Any]:
    """Return the Python list that a line holds, which is never run.

    Raises:
        AnnotationError: for a line of another form.
    """
    try:
        fields = ast.literal_eval(line)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise bad_line(path, number, line, "a list of texts and numbers") from error
    if not isinstance(fields, list):
        raise bad_line(path, number, line, "a list of texts and numbers")
    return fields


def read_lists(root: Path, version: str = "mmsd") -> list[Record]:
    """Read all splits, 19816 / 2410 / 2409 tweets from the published lists (29040 to train before the filter).

    ``mmsd`` may also be the files of BSS (``train_data.json``) or AMSS (``train.tsv``), which need no validation
    split. One layout is read whole: the first that has a training and a test file.

    Args:
        root: the data root.
        version: one of :data:`VERSIONS`.

    Raises:
        DatasetNotFoundError: naming the files that were looked for.
    """
    check_choice("version", version, VERSIONS)
    looked: list[str] = []
    for names, parse in _layouts(version):
        paths = {split: first_of(root, names[split]) for split in SPLITS}
        if paths["train"] is not None and paths["test"] is not None:
            records = [record for split, path in paths.items() if path is not None for record in parse(path, split)]
            return unique(records, root)
        looked += [name for split, path in paths.items() if path is None for name in names[split]]
    raise DatasetNotFoundError(f"no whole set of lists of {version} under {root}; looked for {', '.join(looked)}.")


def _layouts(version: str) -> list[tuple[dict[str, list[str]], Callable[[Path, str], list[Record]]]]:
    """Return the layouts of a version: spellings of each split's file, and what reads them."""
    if version != "mmsd":
        folder = _CLEANED[version]
        places = (f"data/{folder}/", f"{folder}/")
        return [({s: [f"{p}{stem}.json" for p in places for stem in _STEMS[s]] for s in SPLITS}, parse_json)]
    return [
        ({s: [f"{f}{name}" for f in _FOLDERS for name in _LISTS[s]] for s in SPLITS}, parse_list),
        ({s: [f"annotations/{stem}_data.json" for stem in _STEMS[s]] for s in SPLITS}, parse_json),
        ({s: [f"annotations/{stem}.tsv" for stem in _STEMS[s]] for s in SPLITS}, parse_tsv),
    ]


BSS = Preset(
    {"mean": CLIP_MEAN, "std": CLIP_STD, "scale": (0.5, 1.0), "kernel": "bicubic"},
    clean="bss_caption",
    length=128,
)
"""Fifty words without marks, crops and flips, CLIP's mean and deviation; BSS's RandAugment is left out."""
AMSS = Preset(
    {"mean": (0.48456, 0.49888, 0.53066), "std": (0.24399, 0.24868, 0.25736), "augment": False},
    length=128,
    special=False,
)
"""Wordpieces without [CLS] and [SEP], pictures with their own mean and deviation, nothing augmented."""


@dataclass(frozen=True)
class SarcasmOptions(TextImageOptions):
    """Options of Sarcasm."""

    version: str = "mmsd"
    """mmsd: the data set of the paper. mmsd2 and mmsd-clean (the files of MMSD2.0) are other data sets on the same
    pictures, with other texts, labels or sizes: figures can't be compared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("version", self.version, VERSIONS)


class Sarcasm(TextImageSource):
    """Tweets with one picture each, sarcastic or not."""

    options_type = SarcasmOptions
    dataset = "sarcasm"
    size = "24 635 pictures"
    published: ClassVar[Mapping[str, int]] = {"train": 19816, "validation": 2410, "test": 2409}
    class_names = CLASSES
    how_to_get = (
        "Lists and links to the four archives of pictures are in the repository data-of-multimodal-sarcasm-detection "
        "of headacheboy (research use); unpack the pictures into one folder, dataset_image."
    )
    presets: ClassVar[Mapping[str, Preset]] = {"default": DEFAULT, "dus": DEFAULT, "bss": BSS, "amss": AMSS}
    folders = ("dataset_image", "image_data", "images", "data/dataset_image", "dataset_image/dataset_image")

    def records(self, options: Any, root: Path) -> list[Record]:
        """Return the tweets of the version's lists."""
        return read_lists(root, options.version)

    def configure(self, task: Task, options: DataOptions, root: Path | None) -> Task:
        """Return the task, which says so where it is of another version."""
        task = super().configure(task, options, root)
        assert isinstance(task.options, SarcasmOptions)
        version = task.options.version
        return task if version == "mmsd" else replace(task, summary=f"{task.summary} ({version}, another data set)")


TASKS = (
    Task(
        name="Sarcasm",
        modalities=("text", "image"),
        num_classes=2,
        encoders=("bert", "resnet50:weights=imagenet"),
        lr=1e-5,
        optimizer="adam",
        schedule="plateau",
        epochs=100,
        summary="Sarcasm, sarcastic tweets, text and image",
        metric="macro_f1",
        source=Sarcasm(),
        train_size=19816,
    ),
)
