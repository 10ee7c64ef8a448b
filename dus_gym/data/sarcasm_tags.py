"""Sarcasm without pictures: the words of a tweet, and the five words that a tagger saw in its picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dus_gym.data.annotations import sarcasm
from dus_gym.data.annotations.record import SPLITS
from dus_gym.data.dataset import TaskData
from dus_gym.data.small_source import Rows, SmallSource, in_memory
from dus_gym.data.source import DataOptions
from dus_gym.errors import DatasetNotFoundError, check_at_least

if TYPE_CHECKING:
    from dus_gym.data.tasks import Task
    from dus_gym.seeding import RunSeeds

LENGTH = 75
"""Words of a tweet that count, as in the data set's paper; the longest has 70."""
PADDING, UNKNOWN, FIRST = 0, 1, 2
"""Ids: no word, a word that the vocabulary lacks, the commonest word of the training tweets."""
TAGS = 1000
"""Size of the vocabulary of the pictures' words; 998 are published."""


@dataclass(frozen=True)
class SarcasmTagsOptions(DataOptions):
    """Options of ``DUS-SarcasmTags-v0``."""

    vocabulary: int = 8000
    """The commonest words of the training tweets that have an id of their own, with two ids for none and unknown."""

    def __post_init__(self) -> None:
        check_at_least("vocabulary", self.vocabulary, FIRST + 1)


def word_ids(texts: Sequence[Sequence[str]], train: npt.NDArray[np.bool_], size: int, length: int) -> Rows:
    """Words to ids, ``(len(texts), length)``, padded on the right with 0.

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
def load(root: Path, vocabulary: int) -> tuple[tuple[Rows, Rows], Rows, tuple[Rows, Rows, Rows]]:
    """Ids of the tweets' words and of the pictures', labels, and the official splits' rows; read once a process.

    Raises:
        DatasetNotFoundError: naming what was looked for, or a tweet whose picture has no words.
        AnnotationError: for a line of another form.
    """
    records = sarcasm.read(root)
    words = sarcasm.read_words(root)
    untagged = [record.sample for record in records if record.sample not in words]
    if untagged:
        raise DatasetNotFoundError(f"{root} has no picture words of {len(untagged)} tweets, the first: {untagged[0]}.")
    split = np.array([record.split for record in records])
    parts = tuple(np.flatnonzero(split == name) for name in SPLITS)
    if not all(len(rows) for rows in parts):
        raise DatasetNotFoundError(f"{root} lacks a split: " + ", ".join(f"{s} {(split == s).sum()}" for s in SPLITS))
    train = split == "train"
    texts = word_ids([record.text.split() for record in records], train, vocabulary, LENGTH)
    tags = word_ids([words[record.sample] for record in records], train, TAGS, sarcasm.WORDS)
    labels = np.array([record.label for record in records], np.int64)
    return (texts, tags), labels, (parts[0], parts[1], parts[2])


class SarcasmTags(SmallSource):
    """Both modalities are bags of words through learned embeddings; the published splits, human labels in test."""

    dataset = "sarcasm-tags"
    options_type = SarcasmTagsOptions

    def configure(self, task: Task, options: DataOptions, root: Path | None) -> Task:
        """The task with embeddings for the vocabulary asked for."""
        assert isinstance(options, SarcasmTagsOptions)
        return replace(task, encoders=(f"bag:vocab={options.vocabulary}", f"bag:vocab={TAGS}"))

    def splits(self, task: Task, options: Any, seeds: RunSeeds, root: Path) -> TaskData:
        """The splits; nothing about them is drawn."""
        views, labels, parts = load(root, options.vocabulary)
        return in_memory(views, labels, parts, root)


SOURCE = SarcasmTags()
