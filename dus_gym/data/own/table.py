"""Own data once it is read: samples of every modality, labels, and splits if it has any."""

from __future__ import annotations

import re
import reprlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dus_gym.data.record import SPLITS
from dus_gym.errors import ConfigError

Array = npt.NDArray[Any]
LARGEST = 2**53
"""Whole numbers up to it are each a float of their own."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
"""What a modality may be called: it names columns, options and folders."""
SPLIT_WORDS = {name: name for name in SPLITS} | {"val": "validation", "valid": "validation", "dev": "validation"}
"""Words in use for the three splits."""


@dataclass(frozen=True, eq=False)
class Table:
    """Own data in memory, as it lay in its files."""

    modalities: Mapping[str, Array]
    """Name to samples, shape ``(n, ...)``; of a modality of .txt files, its texts as objects ``(n,)``."""
    labels: npt.NDArray[np.int64]
    """Shape ``(n,)``, from 0."""
    classes: tuple[str, ...]
    """Names in the order of the class ids: the labels as they stood, sorted."""
    splits: tuple[str, ...] | None = None
    """``train``, ``validation`` or ``test`` of each sample; None: none was given."""
    dropped: Mapping[str, int] | None = None
    """By split, samples left out because a file of theirs is bad (under ``train`` where no split was given)."""
    decoded: Mapping[str, str] = field(default_factory=dict)
    """The layout of the samples of modalities whose decoder made it, such as ``CHW``; of others the user knows it."""


def plain_labels(labels: Array, where: str) -> Array:
    """Return labels as int64, or as text without the spaces around it; two that differ never become one.

    Raises:
        ConfigError: for labels that are no list of classes.
    """
    if labels.dtype.kind == "S":
        try:
            labels = np.char.decode(labels, "utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{where} holds bytes that are no UTF-8 text ({error}); save it as text.") from error
    if labels.dtype.kind == "U":
        # NumPy reads any four bytes as a letter, and stops with a SystemError where there is no such letter.
        codes = f"{labels.dtype.byteorder}u4"
        if labels.dtype.itemsize and (np.ascontiguousarray(labels).view(codes) > sys.maxunicode).any():
            raise ConfigError(f"{where} holds text that is none: the file is damaged; save it again.")
        stripped = np.char.strip(labels)
        if (empty := stripped == "").any():
            raise ConfigError(f"{where} is empty at sample {int(empty.argmax())}; give it a word, or leave it out.")
        return stripped
    if labels.dtype.kind not in "biuf":
        raise ConfigError(f"{where} is of type {labels.dtype}; labels are whole numbers or text.")
    if labels.dtype.kind == "f" and not (np.isfinite(labels).all() and np.array_equal(labels, np.round(labels))):
        raise ConfigError(f"{where} holds numbers that are no classes (fractions or NaN); save whole numbers.")
    if labels.size and not (labels.min() >= -LARGEST and labels.max() <= LARGEST):
        raise ConfigError(
            f"{where} holds numbers beyond ±2^53, of which several may be one as a float; save classes as 0, 1, 2, … "
            "(numpy.unique(labels, return_inverse=True)[1]) or as text."
        )
    return labels.astype(np.int64)


def class_ids(labels: Array, where: str) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Return ids from 0 for labels of any kind, and the classes' names; sorted, so numbers keep their order.

    Raises:
        ConfigError: for labels that are no list of classes, or of fewer than two.
    """
    found, ids = np.unique(plain_labels(labels, where), return_inverse=True)
    if len(found) < 2:
        raise ConfigError(f"{where} holds {len(found)} class; a task needs two or more.")
    return ids.reshape(-1).astype(np.int64), tuple(str(name) for name in found)


def split_names(words: Sequence[object], where: str) -> tuple[str, ...]:
    """Return one split per sample, from words or from 0, 1, 2.

    Raises:
        ConfigError: for an unknown word, or no sample to train or to test on.
    """
    numbers = {str(i): name for i, name in enumerate(SPLITS)}
    found = []
    for i, word in enumerate(words):
        split = (SPLIT_WORDS | numbers).get(str(word).strip().lower())
        if split is None:
            raise ConfigError(
                f"{where} has {reprlib.repr(str(word))} at sample {i}; allowed are {', '.join(SPLITS)}, or 0, 1, 2 for "
                "these."
            )
        found.append(split)
    for needed in ("train", "test"):
        if needed not in found:
            raise ConfigError(
                f"{where} gives no sample to {needed!r}; give it some, or leave the splits out and have them drawn."
            )
    return tuple(found)


def check_names(names: Sequence[str], where: str) -> None:
    """Refuse one modality, none, and names that can't name one.

    Raises:
        ConfigError: with what to do.
    """
    if len(names) < 2:
        raise ConfigError(
            f"{where} has {'the one modality ' + repr(names[0]) if names else 'no modality'} beside the labels; "
            "sampling is balanced between two or more. Give each modality an array or a sub-folder of its own."
        )
    if wrong := [name for name in names if not NAME.fullmatch(name)]:
        raise ConfigError(
            f"{where} calls a modality {wrong[0]!r}; rename it: a letter, then letters, digits, '_', '.' or '-'."
        )


def check_samples(name: str, samples: Array, count: int, where: str) -> None:
    """Refuse an array that can't be a modality of ``count`` samples.

    Raises:
        ConfigError: naming the array and what is wrong with it.
    """
    if samples.dtype.kind not in "biuf":
        raise ConfigError(f"array {name!r} in {where} is of type {samples.dtype}; a modality is made of numbers.")
    if samples.ndim == 0 or len(samples) != count:
        length = "no samples" if samples.ndim == 0 else f"{len(samples)} samples"
        raise ConfigError(
            f"array {name!r} in {where} has {length} and the labels have {count}; row i of every array must be "
            "sample i. Save them again with the same rows in the same order."
        )
    if samples.size == 0:
        raise ConfigError(f"array {name!r} in {where} is empty (shape {samples.shape}).")
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):
            good = np.isfinite(samples.astype(np.float32)).reshape(count, -1).all(axis=1)
        if not good.all():
            bad = np.flatnonzero(~good)
            raise ConfigError(
                f"array {name!r} in {where} holds NaN, infinity or numbers too large for float32 in {len(bad)} "
                f"samples, the first is {bad[0]}; fill them in, or leave these samples out of all arrays."
            )
