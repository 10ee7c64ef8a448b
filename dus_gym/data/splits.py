"""Validation splits carved from the training records, and splits that share nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dus_gym.data.dataset import Indices
from dus_gym.data.record import Record
from dus_gym.errors import ConfigError

VALIDATION_FRACTION = 0.1


def stratified(labels: Sequence[int], fraction: float, rng: np.random.Generator) -> Indices:
    """Return positions of a random part of every class, at least one of each class that has two or more.

    Args:
        labels: one per sample.
        fraction: of each class.
        rng: where the draw comes from.

    Returns:
        Sorted positions.
    """
    classes = np.asarray(labels)
    chosen: list[int] = []
    for label in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == label))
        count = round(fraction * len(rows))
        chosen += rows[: max(count, 1) if len(rows) > 1 else 0].tolist()
    return np.sort(np.asarray(chosen, dtype=np.int64))


def carve_stratified(
    records: Sequence[Record], rng: np.random.Generator, fraction: float = VALIDATION_FRACTION
) -> list[Record]:
    """Return the records with a stratified part of the training ones turned into validation."""
    train = [i for i, record in enumerate(records) if record.split == "train"]
    moved = {train[i] for i in stratified([records[i].label for i in train], fraction, rng).tolist()}
    return [replace(record, split="validation") if i in moved else record for i, record in enumerate(records)]


def carve_groups(records: Sequence[Record], rng: np.random.Generator, count: int) -> list[Record]:
    """Return the records with whole groups of the training ones (subjects, actors) turned into validation.

    Raises:
        ConfigError: if that would leave no group to train on.
    """
    groups = sorted({record.group for record in records if record.split == "train"})
    if count >= len(groups):
        raise ConfigError(f"validation: {count} groups can't be held out of {len(groups)}; at least one must train.")
    held = set(rng.permutation(groups)[:count].tolist())
    return [
        replace(record, split="validation") if record.split == "train" and record.group in held else record
        for record in records
    ]


def split_groups(records: Sequence[Record], rng: np.random.Generator, shares: tuple[int, int, int]) -> list[Record]:
    """Return all records, split anew so that no group is in two splits.

    Args:
        records: whatever their splits.
        rng: where the order of the groups comes from.
        shares: how many groups train, validate and test, scaled to the groups there are.
    """
    groups = rng.permutation(sorted({record.group for record in records})).tolist()
    if len(groups) < 3:
        raise ConfigError(f"a split that shares nobody needs 3 groups; these records have {len(groups)}.")
    total = sum(shares)
    test = max(1, round(len(groups) * shares[2] / total))
    validation = max(1, round(len(groups) * shares[1] / total))
    owner = dict.fromkeys(groups[:test], "test") | dict.fromkeys(groups[test : test + validation], "validation")
    return [replace(record, split=owner.get(record.group, "train")) for record in records]
