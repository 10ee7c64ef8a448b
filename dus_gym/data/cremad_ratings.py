"""How people rated the clips of CREMA-D: from the voice alone, and from the face alone.

Each of the 7442 clips was rated by about ten people in each of three conditions; a clip's intended emotion is the
label. Rows of the third condition (voice and face together) are not used: they already mix both senses.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dus_gym.data.annotations import cremad
from dus_gym.data.annotations.record import first_of
from dus_gym.data.dataset import TaskData
from dus_gym.data.small_source import Rows, SmallSource, Table, in_memory, standardised
from dus_gym.data.splits import VALIDATION_FRACTION, stratified
from dus_gym.errors import AnnotationError, DatasetNotFoundError

if TYPE_CHECKING:
    from dus_gym.data.tasks import Task
    from dus_gym.seeding import RunSeeds

CONDITIONS = {"voice": "1", "face": "2"}
"""Modality to the first digit of its rows' ids."""
VOTES = ("A", "D", "F", "H", "N", "S")
LEVELS = ("meanAngerResp", "meanDisgustResp", "meanFearResp", "meanHappyResp", "meanNeutralResp", "meanSadResp")
"""Mean intensity among those who voted for the emotion; -1 where nobody did."""
_TABLES = tuple(f"{folder}tabulatedVotes.csv" for folder in ("", "cremad_ratings/", "processedResults/"))


def read_votes(path: Path) -> dict[str, tuple[dict[str, int], Table]]:
    """The table of votes.

    Returns:
        For each modality, the row of each clip and the features ``(clips, 13)``: share of each emotion among the
        votes, mean level of each, number of responses.

    Raises:
        AnnotationError: for a file without the columns, a value that is no number, or a clip rated twice.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    missing = [name for name in (*VOTES, *LEVELS, "fileName", "numResponses") if name not in header]
    if missing:
        raise AnnotationError(f"{path} lacks the columns {', '.join(missing)}; its first line has {header[:12]}.")
    column = {name: header.index(name) for name in header}
    found = {}
    for modality, digit in CONDITIONS.items():
        chosen = [row for row in rows if len(row) == len(header) and row[0].startswith(digit)]
        clips = [row[column["fileName"]] for row in chosen]
        places = {clip: i for i, clip in enumerate(clips)}
        if len(places) < len(clips):
            twice = next(clip for i, clip in enumerate(clips) if places[clip] != i)
            raise AnnotationError(f"{path} has more than one {modality} row of clip {twice!r}.")
        wanted = [column[name] for name in (*VOTES, *LEVELS, "numResponses")]
        try:
            numbers = np.array([[float(row[i]) for i in wanted] for row in chosen], np.float32).reshape(-1, 13)
        except ValueError as error:
            raise AnnotationError(f"{path} has a {modality} row with a value that is no number ({error}).") from error
        votes = numbers[:, :6]
        votes /= np.maximum(votes.sum(axis=1, keepdims=True), 1.0)
        found[modality] = (places, numbers)
    return found


@lru_cache(maxsize=2)
def load(root: Path) -> tuple[dict[str, Table], Rows, tuple[Rows, Rows]]:
    """Features of each modality ``(7442, 13)``, labels, and the official split's rows; read once a process.

    Raises:
        DatasetNotFoundError: naming what was looked for, or a clip of the split that has no rating.
    """
    table = first_of(root, _TABLES)
    if table is None:
        raise DatasetNotFoundError(f"no table of ratings under {root}; looked for {', '.join(_TABLES)}.")
    try:
        records = cremad.read(root)
    except DatasetNotFoundError:
        if table.parent == root:
            raise
        records = cremad.read(table.parent)
    features = {}
    for modality, (places, numbers) in read_votes(table).items():
        unrated = [record.sample for record in records if record.sample not in places]
        if unrated:
            raise DatasetNotFoundError(
                f"{table} has no {modality} row of {len(unrated)} clips of the split, the first: {unrated[0]}."
            )
        features[modality] = numbers[[places[record.sample] for record in records]]
    labels = np.array([record.label for record in records], np.int64)
    test = np.array([record.split == "test" for record in records])
    return features, labels, (np.flatnonzero(~test), np.flatnonzero(test))


class CREMADRatings(SmallSource):
    """Voice and face ratings, 13 numbers each; OGM-GE's split, a stratified tenth of train for validation."""

    dataset = "cremad-ratings"

    def splits(self, task: Task, options: Any, seeds: RunSeeds, root: Path) -> TaskData:
        """One run's splits; the seed chooses the validation rows."""
        features, labels, (pool, test) = load(root)
        held = stratified(labels[pool].tolist(), VALIDATION_FRACTION, seeds.generator("data/split"))
        train, validation = np.delete(pool, held), pool[held]
        views = [standardised(features[name], train) for name in task.modalities]
        return in_memory(views, labels, (train, validation, test), root)


SOURCE = CREMADRatings()
