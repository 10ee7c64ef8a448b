"""The data sets that ``dus data`` knows: their words, the tasks on them, and how one gets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dus_gym.data.manifests import manifest_names, read_manifest
from dus_gym.data.source import DataSource
from dus_gym.data.tasks import Task, get_task
from dus_gym.errors import unknown_name


@dataclass(frozen=True)
class DataSet:
    """One data set."""

    name: str
    """The word in ``dus data …``."""
    task_name: str
    """The task on it; of several, the first."""
    size: str = ""
    """Of what one has to get; of what can be fetched, its manifest knows."""
    of_fetched: Mapping[str, int] = field(default_factory=dict)
    """Samples of each split in the published lists, where no source of media says so."""

    @property
    def env(self) -> str:
        """The registered id."""
        return f"DUS-{self.task_name}-v0"

    @property
    def task(self) -> Task:
        """The task."""
        return get_task(self.task_name)

    @property
    def source(self) -> DataSource:
        """Its source."""
        return self.task.data_source()

    @property
    def can_be_fetched(self) -> bool:
        """Whether ``dus data fetch`` gets it."""
        return self.name in manifest_names()

    @property
    def has_mock(self) -> bool:
        """Whether ``dus data mock`` can make one."""
        # Imported here: it needs PyTorch, which a listing does not.
        from dus_gym.data.mock.making import MOCKS

        return self.name in MOCKS

    @property
    def published(self) -> Mapping[str, int]:
        """Samples of each split in the published lists."""
        found: Mapping[str, int] = getattr(self.source, "published", self.of_fetched)
        return found

    def how(self) -> str:
        """How one gets it, in a sentence or a command."""
        if self.can_be_fetched:
            return f"dus data fetch {self.name} --root DIR"
        return str(getattr(self.source, "how_to_get", ""))

    def volume(self) -> str:
        """How much that is."""
        return f"{read_manifest(self.name).size / 1e6:.1f} MB" if self.can_be_fetched else self.size


DATA_SETS: dict[str, DataSet] = {
    found.name: found
    for found in (
        DataSet("cremad", "CREMAD", "3.0 GB: wav 0.6, flv 2.4"),
        DataSet("kinetics-sounds", "KineticsSounds", "18 716 clips of 10 s"),
        DataSet("twitter2015", "Twitter2015", "3502 pictures"),
        DataSet("sarcasm", "Sarcasm", "24 635 pictures"),
        DataSet("nvgesture", "NVGesture", "41 GB"),
        DataSet("avdigits", "AVDigits", of_fetched={"train": 2000, "test": 1000}),
        DataSet("cremad-ratings", "CREMADRatings", of_fetched={"train": 6698, "test": 744}),
        DataSet("mfeat", "MFeat", of_fetched={"train": 1000, "test": 1000}),
        DataSet("sarcasm-tags", "SarcasmTags", of_fetched={"train": 19816, "validation": 2410, "test": 2409}),
    )
}


def data_set(name: str) -> DataSet:
    """The data set called ``name``.

    Raises:
        ConfigError: for an unknown name; the message has the nearest one.
    """
    if name not in DATA_SETS:
        raise unknown_name("data set", name, DATA_SETS)
    return DATA_SETS[name]
