"""A task, and the source that its samples come from. Plain values: importing this loads no framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dus_gym.errors import ConfigError, check_positive
from dus_gym.options import build_options

if TYPE_CHECKING:
    from dus_gym.data.dataset import DataOverview, TaskData
    from dus_gym.data.manifest import Manifest
    from dus_gym.seeding import RunSeeds


@dataclass(frozen=True)
class DataOptions:
    """Options of a data set; each has its own subclass, whose fields become CLI options (``--task.NAME``).

    Two names mean the same everywhere and are CLI words of their own: ``validation`` (how the validation split is
    chosen) and ``encoder`` (another set of encoders).
    """

    lr: float | None = None
    """Learning rate that the network begins with; the task's own if not given."""


@dataclass(frozen=True)
class FolderDefaults:
    """Defaults that a data root sets for a task on it; what whoever asked has set goes before."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the data set's options."""
    encoders: tuple[str, ...] | None = None
    """One word per modality, where the option ``encoder`` was not set."""


class DataSource:
    """Base of all sources of samples."""

    options_type: ClassVar[type[DataOptions]] = DataOptions
    dataset: ClassVar[str] = ""
    """The word in ``dus data …``, and the cache's folder; empty for what ``dus data`` does not know."""
    published: ClassVar[Mapping[str, int]] = {}
    """Samples of each split in the published lists; a split that nobody published is not in it."""
    size: ClassVar[str] = ""
    """Size of the files one has to get; a manifest knows better."""
    how_to_get: ClassVar[str] = ""
    """Origin of the files, in one sentence for error messages; a manifest knows better."""

    def manifest(self) -> Manifest | None:
        """Return what ``dus data fetch`` downloads; None for files that may not be passed on."""
        return None

    def configure(self, task: Task, options: DataOptions, root: Path | None) -> Task:
        """Return the task as these options change it: other modalities, encoders, classes. Reads no samples.

        Args:
            task: as registered.
            options: of ``options_type``.
            root: the data root; may be None or not there, which is an error of :meth:`build` alone.
        """
        return task

    def folder_defaults(self, root: Path | None) -> FolderDefaults:
        """Return what the data root says of itself.

        Raises:
            ConfigError: for a file that says it in another form.
        """
        return FolderDefaults()

    def has_validation(self, task: Task, options: DataOptions, root: Path | None) -> bool:
        """Tell from metadata whether :meth:`build` returns a validation split; builds nothing.

        Raises:
            DatasetNotFoundError: if files are not there; says which were looked for where and how to get them.
        """
        return getattr(options, "validation", "") != "none"

    def build(self, task: Task, options: DataOptions, seeds: RunSeeds, root: Path | None) -> TaskData:
        """Return one run's splits.

        Raises:
            DatasetNotFoundError: if files are not there; says which were looked for where and how to get them.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Task:
    """One registered task: which samples are trained on, by which networks, for how long."""

    name: str
    """The id without ``DUS-`` and ``-v0``."""
    modalities: tuple[str, ...]
    num_classes: int
    encoders: tuple[str, ...]
    """One word per modality."""
    lr: float
    epochs: int
    summary: str
    """One line for ``dus envs``."""
    source: DataSource | str
    """The source of the samples; ``module:OBJECT`` if importing it loads a framework."""
    batch: int = 64
    """B, the batch size of one modality in ordinary training."""
    metric: str = "map"
    """The paper's second metric beside accuracy: ``map`` or ``macro_f1``."""
    optimizer: str = "sgd"
    schedule: str = "step"
    train_size: int = 0
    """Training samples, for a fake run of a task whose data is not there."""
    regime: str = "Digits"
    """Whose learning curves the fake trainer follows."""
    options: DataOptions | None = None
    """Set by :meth:`configured`."""

    def data_source(self) -> DataSource:
        """Return where the samples come from."""
        if isinstance(self.source, DataSource):
            return self.source
        module, _, name = self.source.partition(":")
        source: DataSource = getattr(import_module(module), name)
        return source

    @property
    def options_type(self) -> type[DataOptions]:
        """The data set's options."""
        return self.data_source().options_type

    def configured(self, options: Mapping[str, Any] | None = None, data_root: str | Path | None = None) -> Task:
        """Return the task with options of its data set, which may change modalities, encoders and classes.

        Args:
            options: what was set, by name, also where it equals a default: it goes before what the data root says.
            data_root: where the data set's files lie.

        Raises:
            ConfigError: for an option the data set does not have, or a bad value.
        """
        source, root, given = self.data_source(), _path(data_root), dict(options or {})
        folder = source.folder_defaults(root)
        chosen = build_options(source.options_type, {**folder.options, **given}, f"option of task {self.name!r}:")
        task = source.configure(replace(self, options=chosen), chosen, root)
        if chosen.lr is not None:
            check_positive("lr", chosen.lr)
            task = replace(task, lr=chosen.lr)
        if folder.encoders is None or "encoder" in given:
            return task
        if len(folder.encoders) != len(task.modalities):
            raise ConfigError(
                f"the settings in {root} name {len(folder.encoders)} encoders; task {task.name!r} has "
                f"{len(task.modalities)} modalities and needs one each."
            )
        return replace(task, encoders=folder.encoders)

    def has_validation(self, data_root: str | Path | None) -> bool:
        """Tell from the data's metadata whether a run has a validation split; builds no data.

        Raises:
            DatasetNotFoundError: see :meth:`data`.
        """
        source = self.data_source()
        options = self.options if self.options is not None else source.options_type()
        return source.has_validation(self, options, _path(data_root))

    def data(self, seeds: RunSeeds, data_root: str | Path | None) -> TaskData:
        """Return one run's splits.

        Raises:
            DatasetNotFoundError: if the files are not there; says where they were looked for, how to get
                them and how to try the id without them.
        """
        source = self.data_source()
        options = self.options if self.options is not None else source.options_type()
        # Encoders load a framework.
        from dus_gym.encoders import cuts_texts

        found = source.build(self, options, seeds, _path(data_root))
        texts = [j for j, word in enumerate(self.encoders) if cuts_texts(word)]
        return found.with_texts(texts) if texts else found

    def overview(self, seeds: RunSeeds, data_root: str | Path | None) -> DataOverview:
        """Return what a run trains and tests on, in numbers; builds its data, and raises as :meth:`data` does."""
        return self.data(seeds, data_root).overview(self.modalities, self.num_classes)


def _path(root: str | Path | None) -> Path | None:
    return None if root is None else Path(root).expanduser()
