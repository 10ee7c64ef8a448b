"""The registry of data sets and of the tasks on them. All else about a data set stands in its own file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from dus_gym.data.task import DataSource, Task
from dus_gym.errors import unknown_name

EMBEDDED, OWN_TASK = "embedded", "Own"
SETS: dict[str, tuple[str, ...]] = {
    EMBEDDED: ("Digits", "DigitsControl", "Digits3", "DigitsRowsCols", "DigitsHalves"),
    "cremad": ("CREMAD",),
    "kinetics-sounds": ("KineticsSounds",),
    "twitter2015": ("Twitter2015",),
    "sarcasm": ("Sarcasm",),
    "nvgesture": ("NVGesture",),
    "food101": ("Food101",),
    "ucf101": ("UCF101",),
    "vggsound": ("VGGSound",),
    "cmu-mosei": ("CMUMOSEI",),
    "avdigits": ("AVDigits", "AVDigitsOfficial"),
    "cremad-ratings": ("CREMADRatings",),
    "mfeat": ("MFeat",),
    "sarcasm-tags": ("SarcasmTags",),
}
"""Data set to the tasks that its file in ``dus_gym/data/sets/`` defines as ``TASKS``. Files are imported when one of
their tasks is asked for, so that the ids can be registered without any."""


def _module_of(name: str, package: str = "sets") -> str:
    return f"dus_gym.data.{package}.{name.replace('-', '_')}"


MODULES = {task: _module_of(name) for name, tasks in SETS.items() for task in tasks} | {OWN_TASK: "dus_gym.data.own"}
"""Task that comes with the package to the module that defines it."""
REGISTERED: dict[str, Task] = {}
"""The tasks that :func:`dus_gym.register_task` made in this process, by name."""


def task_names() -> list[str]:
    """Return the names of all tasks; imports none of them."""
    return [*MODULES, *REGISTERED]


def get_task(name: str) -> Task:
    """Return the task called ``name``.

    Raises:
        ConfigError: for an unknown name; the message has the nearest one.
    """
    if name in REGISTERED:
        return REGISTERED[name]
    if name not in MODULES:
        raise unknown_name("task", name, task_names())
    tasks: tuple[Task, ...] = import_module(MODULES[name]).TASKS
    return next(task for task in tasks if task.name == name)


@dataclass(frozen=True)
class DataSet:
    """A data set of files, as ``dus data`` speaks of it."""

    name: str
    """The word in ``dus data …``."""

    @property
    def task(self) -> Task:
        """The task on it; of several, the first."""
        return get_task(SETS[self.name][0])

    @property
    def env(self) -> str:
        """The registered id of its task."""
        return f"DUS-{SETS[self.name][0]}-v0"

    @property
    def source(self) -> DataSource:
        """The source of its samples."""
        return self.task.data_source()

    @property
    def published(self) -> Mapping[str, int]:
        """Samples of each split in the published lists."""
        return self.source.published

    @property
    def can_be_fetched(self) -> bool:
        """True if ``dus data fetch`` gets it."""
        return self.source.manifest() is not None

    @property
    def mock_module(self) -> str:
        """The module that writes its mock, if there is one."""
        return _module_of(self.name, "sets.mock")

    @property
    def has_mock(self) -> bool:
        """True if ``dus data mock`` can make one."""
        return find_spec(self.mock_module) is not None

    def how(self) -> str:
        """Return how one gets it, in a sentence or a command."""
        return f"dus data fetch {self.name} --root DIR" if self.can_be_fetched else self.source.how_to_get

    def volume(self) -> str:
        """Return how much that is."""
        manifest = self.source.manifest()
        return self.source.size if manifest is None else f"{manifest.size / 1e6:.1f} MB"


DATA_SETS: dict[str, DataSet] = {name: DataSet(name) for name in SETS if name != EMBEDDED}
"""Every data set of files by its word."""


def data_set(name: str) -> DataSet:
    """Return the data set called ``name``.

    Raises:
        ConfigError: for an unknown name; the message has the nearest one.
    """
    if name not in DATA_SETS:
        raise unknown_name("data set", name, DATA_SETS)
    return DATA_SETS[name]
