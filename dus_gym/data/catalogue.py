"""The data sets that ``dus data`` knows: their words, the tasks on them, and how one gets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dus_gym.data.manifests import manifest_names, read_manifest
from dus_gym.data.mock.making import MOCKS
from dus_gym.data.tasks import TASKS, Task
from dus_gym.errors import unknown_name


@dataclass(frozen=True)
class DataSet:
    """One data set."""

    name: str
    """The word in ``dus data …``."""
    task: str
    """The task on it; of several, the first."""
    published: Mapping[str, int]
    """Samples of each split in the published lists, as the task uses them."""
    size: str = ""
    """Of what one has to get; of what can be fetched, its manifest knows."""
    how: str = ""
    """How one gets it; empty for what can be fetched."""

    @property
    def env(self) -> str:
        """The registered id."""
        return f"DUS-{self.task}-v0"

    @property
    def can_be_fetched(self) -> bool:
        """Whether ``dus data fetch`` gets it."""
        return self.name in manifest_names()

    def get(self) -> str:
        """How one gets it, in one line."""
        return f"dus data fetch {self.name} --root DIR" if self.can_be_fetched else self.how

    def volume(self) -> str:
        """How much that is."""
        return f"{read_manifest(self.name).size / 1e6:.1f} MB" if self.can_be_fetched else self.size

    @property
    def has_mock(self) -> bool:
        """Whether ``dus data mock`` can make one."""
        return self.name in MOCKS

    def definition(self) -> Task | None:
        """The task; None while this version does not have it."""
        return TASKS.get(self.task)


DATA_SETS: dict[str, DataSet] = {
    found.name: found
    for found in (
        DataSet(
            "cremad",
            "CREMAD",
            {"train": 6698, "test": 744},
            "3.0 GB: wav 0.6, flv 2.4",
            "clone github.com/CheyneyComputerScience/CREMA-D with Git LFS (ODbL), lists from OGM-GE's data/CREMAD",
        ),
        DataSet(
            "kinetics-sounds",
            "KineticsSounds",
            {"train": 14799, "validation": 1320, "test": 2597},
            "18 716 clips of 10 s",
            "Kinetics-400 by the scripts of github.com/cvdfoundation/kinetics-dataset, lists from OGM-GE's "
            "data/KineticSound",
        ),
        DataSet(
            "twitter2015",
            "Twitter2015",
            {"train": 3179, "validation": 1122, "test": 1037},
            "3502 pictures",
            "lists and the link to the pictures from github.com/jefferyYu/TomBERT (research use)",
        ),
        DataSet(
            "sarcasm",
            "Sarcasm",
            {"train": 19816, "validation": 2410, "test": 2409},
            "24 635 pictures",
            "lists and the links to the pictures from "
            "github.com/headacheboy/data-of-multimodal-sarcasm-detection (research use)",
        ),
        DataSet(
            "nvgesture",
            "NVGesture",
            {"train": 1050, "test": 482},
            "41 GB",
            "NVIDIA's page of Molchanov et al. 2016 (non-commercial research); flow as .npy files of your own",
        ),
        DataSet("avdigits", "AVDigits", {"train": 2000, "test": 1000}),
        DataSet("cremad-ratings", "CREMADRatings", {"train": 6698, "test": 744}),
        DataSet("mfeat", "MFeat", {"train": 1000, "test": 1000}),
        DataSet("sarcasm-tags", "SarcasmTags", {"train": 19816, "validation": 2410, "test": 2409}),
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
