"""PyTorch's map-style datasets, or plain tensors, as the splits of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dus_gym.data.dataset import Indices, Split, TaskData, TensorSplit
from dus_gym.data.splits import VALIDATION_FRACTION, stratified
from dus_gym.data.surveys import surveyed
from dus_gym.data.task import DataOptions, DataSource
from dus_gym.errors import ConfigError, check_choice
from dus_gym.seeding import RunSeeds

if TYPE_CHECKING:
    from dus_gym.data.task import Task

LABELS = ("label", "labels", "y", "target")
"""What the label may be called in an item, or in a mapping of tensors."""


@dataclass(frozen=True)
class DatasetOptions(DataOptions):
    """Options of a task made by :func:`dus_gym.register_task`."""

    validation: str = "auto"
    """auto: the validation set that was registered, or else a tenth of every class of train, drawn by the run's seed;
    none: no validation."""

    def __post_init__(self) -> None:
        check_choice("validation", self.validation, ("auto", "none"))


class Reader:
    """One registered data set, read item by item.

    Args:
        data: a map-style dataset whose items are ``{modality: x, …, "label": y}``, ``(x, …, y)`` in the order of
            the modalities, or ``({modality: x, …}, y)``; or a mapping of whole tensors
            ``{modality: (n, ...), …, "labels": (n,)}``.
        modalities: names, in order.
        where: what it is called in messages, such as ``"train"``.

    Raises:
        ConfigError: for what is none of these.
    """

    def __init__(self, data: Any, modalities: Sequence[str], where: str) -> None:
        self.modalities = tuple(modalities)
        self.where = where
        self.data = data
        if isinstance(data, Mapping):
            self._tensors = self._checked_tensors(data)
        elif not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
            raise ConfigError(
                f"{where}={type(data).__name__} is not allowed; give a map-style dataset (with __len__ and "
                '__getitem__), or a mapping of tensors {modality: (n, ...), "labels": (n,)}.'
            )
        if not len(self):
            raise ConfigError(f"{where} is empty; it needs samples.")

    def __len__(self) -> int:
        return len(self._tensors[-1]) if isinstance(self.data, Mapping) else len(self.data)

    def item(self, index: int) -> tuple[list[Tensor], int]:
        """Return one sample's modalities, and its label.

        Raises:
            ConfigError: for an item of another form.
        """
        if isinstance(self.data, Mapping):
            return [x[index] for x in self._tensors[:-1]], int(self._tensors[-1][index])
        found = self.data[index]
        if isinstance(found, Mapping):
            values, label = self._named(found, index), found[self._label_key(found, index)]
        elif isinstance(found, Sequence) and len(found) == 2 and isinstance(found[0], Mapping):
            values, label = self._named(found[0], index), found[1]
        elif isinstance(found, Sequence) and len(found) == len(self.modalities) + 1:
            *values, label = found
        else:
            count = f" of {len(found)}" if isinstance(found, Sequence) else ""
            raise ConfigError(
                f"item {index} of {self.where} is a {type(found).__name__}{count}; it must be a dict with "
                f"{', '.join(self.modalities)} and label, or a tuple of these {len(self.modalities) + 1}."
            )
        tensors = [self._tensor(x, name, index) for x, name in zip(values, self.modalities, strict=True)]
        return tensors, self._class(label, index)

    def whole(self, num_classes: int) -> TensorSplit:
        """Return all samples in memory, every item read once."""
        if isinstance(self.data, Mapping):
            split = TensorSplit(tuple(self._tensors[:-1]), self._tensors[-1])
        else:
            rows, labels = zip(*(self.item(i) for i in range(len(self))), strict=True)
            columns = [self.stacked([row[j] for row in rows], j) for j in range(len(self.modalities))]
            split = TensorSplit(tuple(columns), torch.tensor(labels))
        for name, values in zip(self.modalities, split.inputs, strict=True):
            if values.is_floating_point() and not bool(torch.isfinite(values).all()):
                raise ConfigError(f"modality {name!r} of {self.where} holds NaN or infinity; leave such samples out.")
        self._check_labels(split.labels, num_classes)
        return split

    def labels(self, num_classes: int) -> Tensor:
        """Return all labels ``(n,)``: of the dataset's ``targets`` if it has them, otherwise of its items, in turn."""
        found = getattr(self.data, "targets", None)
        if found is None:
            found = [self.item(i)[1] for i in range(len(self))]
        labels = torch.tensor([self._class(label, i) for i, label in enumerate(found)])
        self._check_labels(labels, num_classes)
        return labels

    def stacked(self, values: Sequence[Tensor], modality: int) -> Tensor:
        """Return samples of one modality as a batch.

        Raises:
            ConfigError: for samples of differing shapes.
        """
        try:
            return torch.stack(list(values))
        except RuntimeError as error:
            shapes = sorted({tuple(value.shape) for value in values})
            raise ConfigError(
                f"modality {self.modalities[modality]!r} of {self.where} has samples of the shapes "
                f"{', '.join(map(str, shapes[:3]))}; bring all to one, by padding or resizing in the dataset."
            ) from error

    def _checked_tensors(self, data: Mapping[str, Any]) -> list[Tensor]:
        tensors = [self._tensor(data[name], name, None) for name in self.modalities if name in data]
        if len(tensors) < len(self.modalities):
            missing = [name for name in self.modalities if name not in data]
            raise ConfigError(f"{self.where} lacks {', '.join(missing)}; it holds {', '.join(map(str, data))}.")
        found = data[self._label_key(data, None)]
        labels = found.detach().cpu() if isinstance(found, Tensor) else torch.as_tensor(np.asarray(found))
        if labels.ndim != 1 or labels.is_floating_point():
            raise ConfigError(
                f"labels of {self.where} have shape {tuple(labels.shape)} and type {labels.dtype}; they must be "
                "whole numbers, shape (n,)."
            )
        for name, values in zip(self.modalities, tensors, strict=True):
            if values.ndim == 0 or len(values) != len(labels):
                raise ConfigError(
                    f"modality {name!r} of {self.where} has shape {tuple(values.shape)} and there are {len(labels)} "
                    "labels; row i of each must be sample i."
                )
        return [*tensors, labels.long()]

    def _named(self, found: Mapping[str, Any], index: int) -> list[Any]:
        if missing := [name for name in self.modalities if name not in found]:
            raise ConfigError(
                f"item {index} of {self.where} has no {missing[0]!r}; it holds {', '.join(map(str, found))}."
            )
        return [found[name] for name in self.modalities]

    def _label_key(self, found: Mapping[str, Any], index: int | None) -> str:
        keys = [key for key in LABELS if key in found and key not in self.modalities]
        if len(keys) != 1:
            where = self.where if index is None else f"item {index} of {self.where}"
            raise ConfigError(
                f"{where} holds {', '.join(map(str, found))}; one of them must be the label, called 'label'."
            )
        return keys[0]

    def _tensor(self, value: Any, name: str, index: int | None) -> Tensor:
        try:
            tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
        except (TypeError, ValueError) as error:
            where = self.where if index is None else f"item {index} of {self.where}"
            raise ConfigError(
                f"modality {name!r} of {where} is a {type(value).__name__}; give a tensor, an array or a number."
            ) from error
        if tensor.layout != torch.strided:
            where = self.where if index is None else f"item {index} of {self.where}"
            raise ConfigError(f"modality {name!r} of {where} is sparse ({tensor.layout}); give x.to_dense().")
        # Whatever made it is not trained, and encoders compute in float32.
        return tensor.detach().float() if tensor.is_floating_point() else tensor.detach()

    def _class(self, label: Any, index: int) -> int:
        try:
            found = int(label)
            if found != label:
                raise ValueError("no whole number")
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise ConfigError(
                f"the label of item {index} of {self.where} is {label!r}; it must be one class, a whole number."
            ) from error
        return found

    def _check_labels(self, labels: Tensor, num_classes: int) -> None:
        low, high = (int(bound) for bound in torch.aminmax(labels))
        if low < 0 or high >= num_classes:
            raise ConfigError(
                f"label {low if low < 0 else high} of {self.where} is not allowed; num_classes={num_classes}, so "
                f"labels are 0 to {num_classes - 1}."
            )


class ItemSplit:
    """A split whose items are read when they are needed: two threads ahead of the training, nothing kept.

    A dataset that changes its samples at random gives other samples each time; what it draws from is its own affair,
    and a run is then not repeatable to the bit.

    Args:
        reader: the data set.
        rows: which of its items, shape ``(n,)``.
        labels: of these, shape ``(n,)``.
        device: where batches go.
    """

    augments: ClassVar[bool] = False
    shared: ClassVar[bool] = False

    def __init__(self, reader: Reader, rows: Indices, labels: Tensor, device: torch.device | None = None) -> None:
        self.reader = reader
        self.rows = rows
        self.device = torch.device("cpu") if device is None else device
        self.labels = labels.to(self.device)

    def fetch(self, modality: int, indices: Tensor, draws: Indices | None = None) -> Tensor:
        """Return modality ``modality`` of the rows ``indices``."""
        return self.finish(modality, self.prepare(modality, indices.cpu().numpy(), draws))

    def prepare(self, modality: int, rows: Indices, draws: Indices | None = None) -> Any:
        """Read the items; the part another thread may do."""
        return self.reader.stacked([self.reader.item(i)[0][modality] for i in self.rows[rows].tolist()], modality)

    def finish(self, modality: int, prepared: Any) -> Tensor:
        """Return the batch on the device."""
        batch: Tensor = prepared
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        return batch.to(self.device, non_blocking=True)

    def to(self, device: torch.device) -> ItemSplit:
        """Return the same split with batches and labels on ``device``."""
        return self if device == self.device else ItemSplit(self.reader, self.rows, self.labels, device)


class Datasets(DataSource):
    """Three registered data sets.

    Args:
        train: read at the first reset.
        validation: None: carved from train.
        test: as train.
        in_memory: whether every item is read once and kept.
    """

    options_type: ClassVar[type[DatasetOptions]] = DatasetOptions

    def __init__(self, train: Reader, validation: Reader | None, test: Reader, in_memory: bool) -> None:
        self.readers = {"train": train, "validation": validation, "test": test}
        self.in_memory = in_memory
        self._kept: dict[str, TensorSplit] = {}

    def has_validation(self, task: Task, options: DataOptions, root: Path | None) -> bool:
        """Tell whether one was registered, or train has a class of which one sample can be held out."""
        if not super().has_validation(task, options, root):
            return False
        return self.readers["validation"] is not None or bool(
            len(stratified(self._labels("train", task).tolist(), VALIDATION_FRACTION, np.random.default_rng(0)))
        )

    def build(self, task: Task, options: DataOptions, seeds: RunSeeds, root: Path | None) -> TaskData:
        """Return one run's splits."""
        assert isinstance(options, DatasetOptions)
        labels = {split: self._labels(split, task) for split, reader in self.readers.items() if reader is not None}
        rows = {split: np.arange(len(found)) for split, found in labels.items()}
        owner = {split: split for split in rows}
        if options.validation == "none":
            rows.pop("validation", None)
        elif "validation" not in rows:
            rng = seeds.generator("data/split")
            held = stratified(labels["train"].tolist(), VALIDATION_FRACTION, rng)
            if len(held):
                rows["validation"], owner["validation"] = held, "train"
                rows["train"] = np.setdiff1d(rows["train"], held)
        splits = {split: self._part(owner[split], chosen, labels[owner[split]]) for split, chosen in rows.items()}
        first, _ = self._reader("train").item(0)
        return TaskData(
            splits["train"],
            splits.get("validation"),
            splits["test"],
            [tuple(x.shape) for x in first],
            "own",
        )

    def _reader(self, split: str) -> Reader:
        reader = self.readers[split]
        assert reader is not None
        return reader

    def _labels(self, split: str, task: Task) -> Tensor:
        if self.in_memory:
            if split not in self._kept:
                self._kept[split] = self._reader(split).whole(task.num_classes)
            return self._kept[split].labels
        return surveyed((id(self), split), lambda: self._reader(split).labels(task.num_classes))

    def _part(self, split: str, rows: Indices, labels: Tensor) -> Split:
        index = torch.from_numpy(rows)
        if not self.in_memory:
            return ItemSplit(self._reader(split), rows, labels[index])
        kept = self._kept[split]
        if len(rows) == len(kept.labels):
            return kept
        return TensorSplit(tuple(x[index] for x in kept.inputs), kept.labels[index])
