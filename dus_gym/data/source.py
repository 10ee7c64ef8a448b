"""Where a task's samples come from: one source a data set, with the options it understands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

    from dus_gym.data.dataset import TaskData
    from dus_gym.data.tasks import Task
    from dus_gym.seeding import RunSeeds


@dataclass(frozen=True)
class DataOptions:
    """Options of a data set; each has its own subclass, whose fields become CLI options (``--task.NAME``).

    Two names mean the same everywhere and are CLI words of their own: ``validation`` (how the validation split is
    chosen) and ``encoder`` (another set of encoders).
    """


class DataSource:
    """Base of all sources; ``Task.source`` names an instance as ``module:OBJECT``."""

    options_type: ClassVar[type[DataOptions]] = DataOptions

    def configure(self, task: Task, options: DataOptions, root: Path | None) -> Task:
        """The task as these options change it: other modalities, encoders, classes. Reads no samples.

        Args:
            task: as registered.
            options: of ``options_type``.
            root: the data root; may be None or not there, which is an error of :meth:`build` alone.
        """
        return task

    def build(self, task: Task, options: DataOptions, seeds: RunSeeds, root: Path | None) -> TaskData:
        """One run's splits.

        Raises:
            DatasetNotFoundError: if files are not there; says which were looked for where and how to get them.
        """
        raise NotImplementedError
