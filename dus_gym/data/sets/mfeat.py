"""Multiple features of handwritten numerals (UCI): six views of the same 2000 scanned digits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from dus_gym.data.dataset import Indices, TaskData
from dus_gym.data.manifest import Entry, Manifest
from dus_gym.data.record import one_of
from dus_gym.data.small_source import SmallSource, in_memory, standardised
from dus_gym.data.splits import VALIDATION_FRACTION, stratified
from dus_gym.data.task import DataOptions, Task
from dus_gym.errors import AnnotationError, ConfigError, first_line, unknown_name

if TYPE_CHECKING:
    from dus_gym.seeding import RunSeeds

WIDTHS = {"pix": 240, "fou": 76, "fac": 216, "zer": 47, "kar": 64, "mor": 6}
"""View to its number of features: pixel averages, Fourier, profile correlations, Zernike moments, Karhunen-Loève,
morphological. Files order the views differently, so a view is known by its width."""
_REGIMES = {2: "Digits", 3: "Digits3"}
_FILES = tuple(f"{folder}{name}.mat" for folder in ("", "mfeat/", "data/") for name in ("handwritten", "Handwritten"))


@dataclass(frozen=True)
class MFeatOptions(DataOptions):
    """Options of ``DUS-MFeat-v0``."""

    modalities: tuple[str, ...] = ("fou", "zer", "mor")
    """Two or more of pix, fou, fac, zer, kar, mor, in the order wanted."""

    def __post_init__(self) -> None:
        for name in self.modalities:
            if name not in WIDTHS:
                raise unknown_name("view", name, WIDTHS)
        if len(self.modalities) < 2 or len(set(self.modalities)) < len(self.modalities):
            raise ConfigError(f"modalities={self.modalities} is not allowed; give two or more views, each once.")


@lru_cache(maxsize=2)
def load(root: Path) -> tuple[dict[str, npt.NDArray[np.float64]], Indices]:
    """Return every view ``(2000, d)`` by name, and the labels; read once per process.

    Raises:
        DatasetNotFoundError: naming the files that were looked for.
        AnnotationError: for a file that is not six numeric views and a label for each sample.
    """
    from scipy.io import loadmat

    path = one_of("file of views", root, _FILES)
    try:
        found: dict[str, Any] = loadmat(path, variable_names=["X", "Y"])
        views = [np.asarray(view) for view in np.ravel(found["X"])]
        labels = np.ravel(found["Y"])
    except Exception as error:  # the library raises all kinds of errors over damaged files
        raise AnnotationError(f"{path} can't be read as MATLAB data with X and Y ({first_line(error)}).") from error
    by_width = {view.shape[-1]: view for view in views if view.ndim == 2}
    for view in (*views, labels):
        # Objects and texts are MATLAB values too.
        if view.dtype.kind not in "uif" or len(view) != len(labels):
            raise AnnotationError(f"{path} must hold numbers, a row for each of its {len(labels)} labels.")
    if sorted(by_width) != sorted(WIDTHS.values()):
        raise AnnotationError(f"{path} has views of width {sorted(by_width)}; expected {sorted(WIDTHS.values())}.")
    classes = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    return {name: by_width[width].astype(np.float64) for name, width in WIDTHS.items()}, classes


class MFeat(SmallSource):
    """Views of handwritten digits: half of each class trains, a tenth of that validates, half tests."""

    dataset = "mfeat"
    published: ClassVar[Mapping[str, int]] = {"train": 1000, "test": 1000}
    options_type = MFeatOptions

    def manifest(self) -> Manifest:
        """Return the one file of all six views."""
        return Manifest(
            name=self.dataset,
            title="Multiple features of handwritten numerals, six views of 2000 digits",
            licence="see the UCI page; the repository it comes from states none",
            homepage="https://archive.ics.uci.edu/dataset/72/multiple+features",
            entries=(
                Entry.of(
                    "handwritten.mat",
                    "https://raw.githubusercontent.com/jiajunsi/RCML/c9c5ab41e6fe62a85e5f6441a4dc7b568e1fa421/",
                    "data/handwritten.mat",
                    3484080,
                    "8a9ad81f11c05fd7f07f1369bcbbaefc3d391bad10d3aa32366bd47d608eb05d",
                ),
            ),
        )

    def configure(self, task: Task, options: DataOptions, root: Path | None) -> Task:
        """Return the task with the views asked for."""
        assert isinstance(options, MFeatOptions)
        names = options.modalities
        return replace(
            task,
            modalities=names,
            encoders=(task.encoders[0],) * len(names),
            regime=_REGIMES.get(len(names), task.regime),
        )

    def read(self, options: Any, root: Path) -> Any:
        """Return what the files hold."""
        return load(root)

    def splits(self, task: Task, options: Any, seeds: RunSeeds, root: Path) -> TaskData:
        """Return one run's splits; the seed draws them all, as nobody published one."""
        views, labels = load(root)
        if labels.max() + 1 != task.num_classes:
            raise AnnotationError(f"the views under {root} have {labels.max() + 1} classes, not {task.num_classes}.")
        rng = seeds.generator("data/split")
        everything = np.arange(len(labels))
        pool = stratified(labels.tolist(), 0.5, rng)
        test = np.setdiff1d(everything, pool)
        held = stratified(labels[pool].tolist(), VALIDATION_FRACTION, rng)
        train, validation = np.delete(pool, held), pool[held]
        chosen = [standardised(views[name], train) for name in task.modalities]
        return in_memory(chosen, labels, (train, validation, test), root)


TASKS = (
    Task(
        name="MFeat",
        modalities=("fou", "zer", "mor"),
        num_classes=10,
        encoders=("mlp", "mlp", "mlp"),
        lr=1e-2,
        epochs=30,
        summary="three of six views of handwritten numerals; others by --task.modalities",
        source=MFeat(),
        train_size=900,
        regime="Digits3",
    ),
)
