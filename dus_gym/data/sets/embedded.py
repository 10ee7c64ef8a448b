"""The five embedded tasks: views of real handwritten digits that come with scikit-learn.

1797 images of 8×8 pixels, 10 classes. Every draw comes from the run's seed, so another seed is another
split, another noise and another start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dus_gym.data.dataset import Indices, TaskData, TensorSplit
from dus_gym.data.task import DataOptions, DataSource, Task

if TYPE_CHECKING:
    from pathlib import Path

    from dus_gym.seeding import RunSeeds

Images = npt.NDArray[np.float64]


@lru_cache(maxsize=1)
def digits() -> tuple[Images, Indices]:
    """Return images ``(1797, 8, 8)`` in [0, 1] and labels ``(1797,)``; read once per process."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.images / 16.0, found.target.astype(np.int64)


VIEWS: dict[str, Callable[[Images], Images]] = {
    "pixels": lambda images: images,
    "columns": lambda images: images.sum(axis=1),
    "rows": lambda images: images.sum(axis=2),
    "left": lambda images: images[:, :, :4],
    "right": lambda images: images[:, :, 4:],
}
"""Views by name, each from images ``(n, 8, 8)``."""


def _writers_split(rng: np.random.Generator) -> tuple[Indices, ...]:
    """Return rows to train, validate and test: 400 of the first 1000 images, 100 of the other 600, the last 797."""
    pool = rng.permutation(1000)
    return pool[:400], pool[400:500], np.arange(1000, 1797)


def _random_split(rng: np.random.Generator) -> tuple[Indices, ...]:
    """Return rows to train, validate and test: of 1200 random images 15 % validate; the other 597 test."""
    order = rng.permutation(1797)
    return order[180:1200], order[:180], order[1200:]


_OF_TASK: dict[str, tuple[tuple[str, float], ...]] = {
    "Digits": (("pixels", 1.0), ("columns", 0.0)),
    "Digits3": (("pixels", 1.5), ("rows", 0.0), ("columns", 0.0)),
    "DigitsControl": (("left", 0.0), ("right", 1.0)),
    "DigitsRowsCols": (("rows", 0.0), ("columns", 0.0)),
    "DigitsHalves": (("left", 0.0), ("right", 0.0)),
}
"""Task to its views, each with its noise as a factor on the view's standard deviation."""


class Embedded(DataSource):
    """The digit tasks; nothing to download and nothing to choose."""

    def build(self, task: Task, options: DataOptions, seeds: RunSeeds, root: Path | None) -> TaskData:
        """Return one run's splits; see :func:`build`."""
        return build(task.name, seeds)


def build(task: str, seeds: RunSeeds) -> TaskData:
    """Return one run's splits.

    A view's noise is drawn for all 1797 images, scaled by the standard deviation of the whole view, and
    added before standardising. Standardising takes ONE mean and ONE deviation per modality over its
    training values: one per feature gives another, less imbalanced task.

    Args:
        task: a key of the table above.
        seeds: the run's generators.
    """
    images, _ = digits()
    split = _writers_split if task in ("Digits", "Digits3") else _random_split
    views = []
    parts = split(seeds.generator("data/split"))
    for name, noise in _OF_TASK[task]:
        view = VIEWS[name](images).reshape(len(images), -1)
        if noise:
            view = view + noise * view.std() * seeds.generator(f"data/noise/{name}").standard_normal(view.shape)
        views.append(view)
    return assembled(views, parts)


def assembled(views: Sequence[Images], parts: Sequence[Indices]) -> TaskData:
    """Return the splits of views ``(1797, d)``, standardised by one mean and one deviation per view.

    Args:
        views: of all images, one per modality.
        parts: rows to train, validate and test; mean and deviation are those of the training values.
    """
    import torch

    train, validation, test = parts
    tensors = [torch.from_numpy((view - view[train].mean()) / view[train].std()).float() for view in views]
    targets = torch.from_numpy(digits()[1])

    def part(rows: Indices) -> TensorSplit:
        index = torch.from_numpy(np.sort(rows))
        return TensorSplit(tuple(tensor[index] for tensor in tensors), targets[index])

    return TaskData(part(train), part(validation), part(test), [tuple(tensor.shape[1:]) for tensor in tensors])


def _task(name: str, epochs: int, train_size: int, regime: str, summary: str) -> Task:
    modalities = tuple(view for view, _ in _OF_TASK[name])
    return Task(
        name=name,
        modalities=modalities,
        num_classes=10,
        encoders=("mlp",) * len(modalities),
        lr=0.03,
        epochs=epochs,
        summary=summary,
        source=Embedded(),
        train_size=train_size,
        regime=regime,
    )


TASKS = (
    _task("Digits", 100, 400, "Digits", "noisy pixels are memorised, column sums learn slowly: balancing helps"),
    _task("DigitsControl", 30, 1020, "DigitsControl", "clean left half, noisy right half: balancing must not help"),
    _task("Digits3", 100, 400, "Digits3", "three views: pixels, row and column sums"),
    _task("DigitsRowsCols", 33, 1020, "DigitsControl", "row sums and column sums: balancing costs a little"),
    _task("DigitsHalves", 33, 1020, "DigitsControl", "two halves alike: balancing changes nothing"),
)
