"""CREMA-D as people rated it: from the voice alone, and from the face alone.

Each of the 7442 clips was rated by about ten people in each of three conditions; a clip's intended emotion is the
label. Rows of the third condition (voice and face together) are not used: they already mix both senses.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dus_gym.data.dataset import Indices, TaskData
from dus_gym.data.manifest import Entry, Manifest
from dus_gym.data.record import one_of
from dus_gym.data.sets import cremad
from dus_gym.data.small_source import Features, SmallSource, in_memory, standardised
from dus_gym.data.splits import VALIDATION_FRACTION, stratified
from dus_gym.data.task import Task
from dus_gym.errors import AnnotationError, DatasetNotFoundError, first_line

if TYPE_CHECKING:
    from dus_gym.seeding import RunSeeds

REPOSITORY = "CheyneyComputerScience/CREMA-D"
RATINGS = f"https://raw.githubusercontent.com/{REPOSITORY}/63f0471e4a7db8cec2b1aae42e732fe2792e978c/"
SPLIT = "https://raw.githubusercontent.com/GeWu-Lab/OGM-GE_CVPR2022/65a8324464207f5efd41533cb362648c0cdee8a8/"

CONDITIONS = {"voice": "1", "face": "2"}
"""Modality to the first digit of its rows' ids."""
VOTES = ("A", "D", "F", "H", "N", "S")
LEVELS = ("meanAngerResp", "meanDisgustResp", "meanFearResp", "meanHappyResp", "meanNeutralResp", "meanSadResp")
"""Mean intensity among those who voted for the emotion; -1 where nobody did."""
_TABLES = tuple(f"{folder}tabulatedVotes.csv" for folder in ("", "cremad_ratings/", "processedResults/"))


def read_votes(path: Path) -> dict[str, tuple[dict[str, int], Features]]:
    """Read the table of votes.

    Returns:
        For each modality, the row of each clip and the features ``(clips, 13)``: share of each emotion among the
        votes, mean level of each, number of responses.

    Raises:
        AnnotationError: for a file without the columns, a value that is no number, or a clip rated twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise AnnotationError(f"{path} is no csv file in UTF-8 ({first_line(error)}).") from error
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
def load(root: Path) -> tuple[dict[str, Features], Indices, tuple[Indices, Indices]]:
    """Return features of each modality ``(7442, 13)``, labels, and the official split's rows; read once per process.

    Raises:
        DatasetNotFoundError: naming the files that were looked for, or a clip of the split that has no rating.
    """
    table = one_of("table of ratings", root, _TABLES)
    try:
        records = cremad.read_lists(root)
    except DatasetNotFoundError:
        if table.parent == root:
            raise
        records = cremad.read_lists(table.parent)
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
    published: ClassVar[Mapping[str, int]] = {"train": 6698, "test": 744}

    def manifest(self) -> Manifest:
        """Return the table of votes and OGM-GE's two lists."""
        return Manifest(
            name=self.dataset,
            title="CREMA-D: tabulated ratings of voice and face, and OGM-GE's split of the clips",
            licence="ratings ODbL 1.0 / DbCL 1.0, split MIT",
            homepage=f"https://github.com/{REPOSITORY}",
            entries=(
                Entry.of(
                    "tabulatedVotes.csv",
                    RATINGS,
                    "processedResults/tabulatedVotes.csv",
                    4057953,
                    "774d9d759cb5caf2542758a39eca8c0f1d2777f9987ff5d5adf8066d192f377b",
                ),
                Entry.of(
                    "train.csv",
                    SPLIT,
                    "data/CREMAD/train.csv",
                    140658,
                    "68d0d3fd253830328fc92c68f3cf2e215db8c5b86757ad9c5112d2c76ba68bde",
                ),
                Entry.of(
                    "test.csv",
                    SPLIT,
                    "data/CREMAD/test.csv",
                    15624,
                    "14866c99301fd56fb4a16f8a7048a8a6372a47069aee9f216443bc718be45f1f",
                ),
            ),
        )

    def read(self, options: Any, root: Path) -> Any:
        """Return what the files hold."""
        return load(root)

    def splits(self, task: Task, options: Any, seeds: RunSeeds, root: Path) -> TaskData:
        """Return one run's splits; the seed chooses the validation rows."""
        features, labels, (pool, test) = load(root)
        held = stratified(labels[pool].tolist(), VALIDATION_FRACTION, seeds.generator("data/split"))
        train, validation = np.delete(pool, held), pool[held]
        views = [standardised(features[name], train) for name in task.modalities]
        return in_memory(views, labels, (train, validation, test), root)


TASKS = (
    Task(
        name="CREMADRatings",
        modalities=("voice", "face"),
        num_classes=6,
        encoders=("mlp", "mlp"),
        lr=1e-2,
        epochs=30,
        summary="emotions from how people rated voice and face of CREMA-D's clips",
        source=CREMADRatings(),
        train_size=6028,
        regime="DigitsControl",
    ),
)
