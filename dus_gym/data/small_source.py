"""The small real data sets: a few files that `dus data fetch` gets, read once per process and kept in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dus_gym.data.dataset import Indices, TaskData, TensorSplit
from dus_gym.data.media_source import FolderSettings
from dus_gym.data.task import DataOptions, DataSource, Task
from dus_gym.errors import DatasetNotFoundError

if TYPE_CHECKING:
    from dus_gym.seeding import RunSeeds

Features = npt.NDArray[np.float32]
"""Shape ``(n, ...)``."""


class SmallSource(DataSource):
    """Base of the small data sets: says what to do where files are missing."""

    def read(self, options: Any, root: Path) -> Any:
        """Return what the files below ``root`` hold, read once.

        Raises:
            DatasetNotFoundError: naming the files that were looked for.
        """
        raise NotImplementedError

    def splits(self, task: Task, options: Any, seeds: RunSeeds, root: Path) -> TaskData:
        """Return one run's splits from the files below ``root``.

        Raises:
            DatasetNotFoundError: naming the files that were looked for.
        """
        raise NotImplementedError

    def build(self, task: Task, options: DataOptions, seeds: RunSeeds, root: Path | None) -> TaskData:
        """Return one run's splits.

        Raises:
            DatasetNotFoundError: if files are not there; also says how to get them, and how to do without.
            AnnotationError: for a file of another form.
        """
        with self._help(task):
            return self.splits(task, options, seeds, self._root_of(task, root))

    def has_validation(self, task: Task, options: DataOptions, root: Path | None) -> bool:
        """Tell whether these options have a validation split; see :meth:`build` for what is raised."""
        with self._help(task):
            self.read(options, self._root_of(task, root))
        return super().has_validation(task, options, root)

    def _root_of(self, task: Task, root: Path | None) -> Path:
        """Return the data root, if it is one."""
        if root is None or not root.is_dir():
            where = "no data_root was given" if root is None else f"data_root={root} is no folder"
            raise DatasetNotFoundError(f"DUS-{task.name}-v0 needs its data set and {where}.")
        return root

    @contextmanager
    def _help(self, task: Task) -> Iterator[None]:
        """Say of files that are not there how to get them, and how to do without."""
        try:
            yield
        except DatasetNotFoundError as error:
            raise DatasetNotFoundError(
                f"{error} `dus data fetch {self.dataset} --root DIR` gets the files; data_root=DIR (--data-root DIR) "
                f'then finds them. To try the id without them: trainer="fake", or '
                f"dus train DUS-{task.name}-v0 --trainer fake."
            ) from error


def standardised(features: npt.NDArray[Any], train: Indices, each: bool = True) -> Features:
    """Return features less their mean over the training rows, by their deviation there; a constant one becomes 0.

    Args:
        features: shape ``(n, ...)``.
        train: the training rows; no other has a part in mean and deviation.
        each: a mean and a deviation for each feature; if not, one of each for all.
    """
    seen = features[train].astype(np.float64)
    axis = 0 if each else None
    mean, deviation = seen.mean(axis=axis), seen.std(axis=axis)
    scaled: Features = ((features - mean) / np.where(deviation > 0.0, deviation, 1.0)).astype(np.float32)
    return scaled


def in_memory(
    views: Sequence[npt.NDArray[Any]], labels: Indices, parts: Sequence[Indices | None], root: Path
) -> TaskData:
    """Return splits of arrays that hold all samples.

    Args:
        views: one per modality, shape ``(n, ...)``.
        labels: shape ``(n,)``, from 0.
        parts: rows that train, validate (or None) and test.
        root: the data root, which may say that its files are not the real ones.
    """
    import torch

    tensors = [torch.from_numpy(np.ascontiguousarray(view)) for view in views]
    targets = torch.from_numpy(labels)

    def part(rows: Indices) -> TensorSplit:
        index = torch.from_numpy(np.sort(rows))
        return TensorSplit(tuple(tensor[index] for tensor in tensors), targets[index])

    train, validation, test = parts
    assert train is not None
    assert test is not None
    return TaskData(
        part(train),
        None if validation is None else part(validation),
        part(test),
        [tuple(tensor.shape[1:]) for tensor in tensors],
        FolderSettings.read(root).data_kind,
    )
