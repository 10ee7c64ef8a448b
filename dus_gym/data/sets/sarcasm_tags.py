"""Sarcasm without pictures: the words of a tweet, and the five words that a tagger saw in its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from dus_gym.data.dataset import Indices, TaskData
from dus_gym.data.manifest import Entry, Manifest
from dus_gym.data.record import SPLITS, bad_line, lines_of, one_of
from dus_gym.data.sets import sarcasm
from dus_gym.data.small_source import SmallSource, in_memory
from dus_gym.data.task import DataOptions, Task
from dus_gym.errors import DatasetNotFoundError, check_at_least

if TYPE_CHECKING:
    from dus_gym.seeding import RunSeeds

REPOSITORY = "headacheboy/data-of-multimodal-sarcasm-detection"
COMMIT = f"https://raw.githubusercontent.com/{REPOSITORY}/c924a910dc8a672259b5ee478f08d231b5099cc0/"

LENGTH = 75
"""Words of a tweet that count, as in the data set's paper; the longest has 70."""
PADDING, UNKNOWN, FIRST = 0, 1, 2
"""Ids: no word, a word that the vocabulary lacks, the commonest word of the training tweets."""
TAGS = 1000
"""Size of the vocabulary of the pictures' words; 998 are published."""
WORDS = 5
"""Words said of each picture in ``extract_all``."""
_EXTRACT = ("extract/extract_all", "extract_all", "text/extract_all", "annotations/extract_all")


@dataclass(frozen=True)
class SarcasmTagsOptions(DataOptions):
    """Options of ``DUS-SarcasmTags-v0``."""

    vocabulary: int = 8000
    """The commonest words of the training tweets that have an id of their own, with two ids for none and unknown."""

    def __post_init__(self) -> None:
        check_at_least("vocabulary", self.vocabulary, FIRST + 1)


def parse_words(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the five words that a network said of each picture, by tweet id.

    Raises:
        AnnotationError: for a line of another form.
    """
    words: dict[str, tuple[str, ...]] = {}
    for number, line in lines_of(path):
        fields = sarcasm.literal_list(path, number, line)
        if len(fields) != 1 + WORDS or not all(isinstance(field, str) for field in fields):
            raise bad_line(path, number, line, f"an id and {WORDS} words")
        words[fields[0]] = tuple(fields[1:])
    return words


def read_words(root: Path) -> dict[str, tuple[str, ...]]:
    """Return :func:`parse_words` of the file below ``root``; it covers every tweet of the published lists.

    Raises:
        DatasetNotFoundError: naming the files that were looked for.
    """
    return parse_words(one_of("words of the pictures", root, _EXTRACT))


def word_ids(texts: Sequence[Sequence[str]], train: npt.NDArray[np.bool_], size: int, length: int) -> Indices:
    """Turn words into ids, ``(len(texts), length)``, padded on the right with 0.

    Args:
        texts: the words of each sample.
        train: which samples the vocabulary is made of, shape ``(len(texts),)``.
        size: ids there may be.
        length: words that count.
    """
    cut = [text[:length] for text in texts]
    lengths = np.array([len(text) for text in cut])
    owners = np.repeat(np.arange(len(cut)), lengths)
    words, codes = np.unique([word for text in cut for word in text], return_inverse=True)
    counts = np.bincount(codes[train[owners]], minlength=len(words))
    # Stable, so that words equally common are numbered alphabetically.
    common = np.argsort(-counts, kind="stable")[: size - FIRST]
    common = common[counts[common] > 0]
    ids = np.full(len(words), UNKNOWN)
    ids[common] = FIRST + np.arange(len(common))
    places = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    found = np.full((len(cut), length), PADDING, np.int64)
    found[owners, places] = ids[codes]
    return found


@lru_cache(maxsize=2)
def load(root: Path, vocabulary: int) -> tuple[tuple[Indices, Indices], Indices, tuple[Indices, Indices, Indices]]:
    """Return ids of the tweets' and pictures' words, labels, and the official splits' rows; read once per process.

    Raises:
        DatasetNotFoundError: naming the files that were looked for, or a tweet whose picture has no words.
        AnnotationError: for a line of another form.
    """
    records = sarcasm.read_lists(root)
    words = read_words(root)
    untagged = [record.sample for record in records if record.sample not in words]
    if untagged:
        raise DatasetNotFoundError(f"{root} has no picture words of {len(untagged)} tweets, the first: {untagged[0]}.")
    split = np.array([record.split for record in records])
    parts = tuple(np.flatnonzero(split == name) for name in SPLITS)
    if not all(len(rows) for rows in parts):
        raise DatasetNotFoundError(f"{root} lacks a split: " + ", ".join(f"{s} {(split == s).sum()}" for s in SPLITS))
    train = split == "train"
    texts = word_ids([record.text.split() for record in records], train, vocabulary, LENGTH)
    tags = word_ids([words[record.sample] for record in records], train, TAGS, WORDS)
    labels = np.array([record.label for record in records], np.int64)
    return (texts, tags), labels, (parts[0], parts[1], parts[2])


class SarcasmTags(SmallSource):
    """Both modalities are bags of words through learned embeddings; the published splits, human labels in test."""

    dataset = "sarcasm-tags"
    published: ClassVar[Mapping[str, int]] = {"train": 19816, "validation": 2410, "test": 2409}
    options_type = SarcasmTagsOptions

    def manifest(self) -> Manifest:
        """Return the three lists and the pictures' words."""
        checksums = {
            "text/train.txt": (3355209, "4621567e231fe453686be4a0a030265e8f0a999e0e1b8c6b0a9fe8ee84e24f57"),
            "text/valid2.txt": (275205, "ce3136f550cb6293e4455db07fa6f9e4d3cf29e9e17a1e5c3c2759241e842c76"),
            "text/test2.txt": (277881, "3908a8c3c170921e6fc81bef9b404965091364792aa4b2c54b486e4b74893f56"),
            "extract/extract_all": (2616730, "9cb5e4d5bb1e206b34c025417d2c3b57420a510f9b14bc0f5125293616b42830"),
        }
        return Manifest(
            name=self.dataset,
            title="Sarcasm: tweets, labels and five words for each picture",
            licence="none stated; research use",
            homepage=f"https://github.com/{REPOSITORY}",
            entries=tuple(Entry.of(path, COMMIT, path, *known) for path, known in checksums.items()),
        )

    def configure(self, task: Task, options: DataOptions, root: Path | None) -> Task:
        """Return the task with embeddings for the vocabulary asked for."""
        assert isinstance(options, SarcasmTagsOptions)
        return replace(task, encoders=(f"bag:vocab={options.vocabulary}", f"bag:vocab={TAGS}"))

    def read(self, options: Any, root: Path) -> Any:
        """Return what the files hold."""
        return load(root, options.vocabulary)

    def splits(self, task: Task, options: Any, seeds: RunSeeds, root: Path) -> TaskData:
        """Return the splits; nothing about them is drawn."""
        views, labels, parts = load(root, options.vocabulary)
        return in_memory(views, labels, parts, root)


TASKS = (
    Task(
        name="SarcasmTags",
        modalities=("text", "words"),
        num_classes=2,
        encoders=("bag", "bag"),
        lr=1e-3,
        optimizer="adam",
        epochs=5,
        summary="sarcastic tweets, their words and five words for the picture",
        metric="macro_f1",
        source=SarcasmTags(),
        train_size=19816,
        regime="DigitsControl",
    ),
)
