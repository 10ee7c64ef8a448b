"""Splits: the samples that a task hands to the training loop, each modality on its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from dus_gym.errors import ONE_BY_ONE, ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Indices = npt.NDArray[np.int64]
"""Positions of samples, or class ids."""


class Split(Protocol):
    """Samples of m modalities with one label each.

    Modalities are fetched one by one, so a batch of 20 audio and 44 video samples decodes nothing twice.
    """

    @property
    def augments(self) -> bool:
        """True if training draws differ from evaluation; otherwise draws are not numbered."""
        ...

    @property
    def labels(self) -> Tensor:
        """Shape ``(n,)``, integer classes, on the device the split was moved to."""
        ...

    def fetch(self, modality: int, indices: Tensor, draws: Indices | None = None) -> Tensor:
        """Return modality ``modality`` of the samples ``indices`` (shape ``(k,)``), shape ``(k, ...)``.

        Args:
            modality: which.
            indices: rows of the split, on its device.
            draws: for training, which draw of its sample by this modality each row is in this run (0, 1, …), shape
                ``(k,)``, on the host; everything random about the row follows from it. None: as evaluation sees it.
        """
        ...

    def to(self, device: torch.device) -> Split:
        """Return the split with whatever it delivers on ``device``."""
        ...


@dataclass(frozen=True)
class TensorSplit:
    """A split that is small enough to live in memory."""

    inputs: tuple[Tensor, ...]
    """Modality j's samples, shape ``(n, ...)``."""
    labels: Tensor
    """Shape ``(n,)``, integer classes."""
    augments: ClassVar[bool] = False

    def fetch(self, modality: int, indices: Tensor, draws: Indices | None = None) -> Tensor:
        """Return rows ``indices`` of one modality."""
        return self.inputs[modality].index_select(0, indices)

    def to(self, device: torch.device) -> TensorSplit:
        """Return a copy on ``device``; itself where it is there already."""
        return TensorSplit(tuple(x.to(device) for x in self.inputs), self.labels.to(device))


@dataclass(frozen=True)
class TextSplit(TensorSplit):
    """A split in memory with texts among its modalities, whose batches are cut to their longest text.

    How long the texts are is kept on the host, where a batch is drawn: no accelerator is asked and waited for.
    """

    lengths: tuple[Indices | None, ...] = ()
    """By modality, tokens of each sample up to its last one, ``(n,)``; None where the modality is no text."""
    shared: ClassVar[bool] = False

    @classmethod
    def of(cls, split: TensorSplit, texts: Collection[int]) -> TextSplit:
        """Return a split whose modalities ``texts`` are token ids ``(n, L)``, padded with 0 at the end."""
        import torch

        def lengths(ids: Tensor) -> Indices:
            places = torch.arange(1, ids.shape[1] + 1)
            found: Indices = (places * (ids != 0).cpu()).amax(dim=1).clamp(min=1).numpy()
            return found

        # Samples of another shape are no ids, which their encoder says when it is built.
        known = [lengths(x) if j in texts and x.ndim == 2 else None for j, x in enumerate(split.inputs)]
        return cls(split.inputs, split.labels, tuple(known))

    def fetch(self, modality: int, indices: Tensor, draws: Indices | None = None) -> Tensor:
        """Return rows ``indices`` of one modality; of a text, up to the longest one's end, rounded up."""
        return self.finish(modality, self.prepare(modality, indices.cpu().numpy(), draws))

    def prepare(self, modality: int, rows: Indices, draws: Indices | None = None) -> tuple[Indices, int | None]:
        """Return the rows and their common length; None where the modality is no text."""
        from dus_gym.encoders.tokens import padded_length

        lengths = self.lengths[modality]
        if lengths is None:
            return rows, None
        return rows, padded_length(int(lengths[rows].max(initial=1)), self.inputs[modality].shape[1])

    def finish(self, modality: int, prepared: tuple[Indices, int | None]) -> Tensor:
        """Return the batch on the device."""
        from dus_gym.batch import to_device

        rows, length = prepared
        samples = self.inputs[modality] if length is None else self.inputs[modality][:, :length]
        return samples.index_select(0, to_device(rows, self.labels.device))

    def to(self, device: torch.device) -> TextSplit:
        """Return a copy on ``device``; itself where it is there already."""
        return TextSplit(tuple(x.to(device) for x in self.inputs), self.labels.to(device), self.lengths)


class StackedSplit:
    """The splits of R runs, which differ in their samples and not in their number; every tensor leads with R.

    Args:
        splits: one per run, on one device.

    Raises:
        ConfigError: for splits of different lengths.
    """

    def __init__(self, splits: Sequence[Split]) -> None:
        import torch

        self.splits = list(splits)
        lengths = [len(split.labels) for split in splits]
        if len(set(lengths)) > 1:
            other = next(r for r, n in enumerate(lengths) if n != lengths[0])
            raise ConfigError(
                f"run 0 has a split of {lengths[0]} samples and run {other} one of {lengths[other]}, so they can't "
                f"train as one computation; {ONE_BY_ONE}."
            )
        self.augments = any(split.augments for split in splits)
        self.shared = all(getattr(split, "shared", False) for split in splits)
        """True if draws are numbered alike in all modalities, as :class:`dus_gym.data.prefetch.PreparedSplit` says."""
        self.labels = torch.stack([split.labels for split in splits])
        self._first = torch.arange(len(splits), device=self.labels.device).unsqueeze(1) * lengths[0]
        self._flat: list[Tensor] | None = None
        kept = [split for split in splits if isinstance(split, TensorSplit)]
        if len(kept) == len(self.splits):
            # One table of all runs' samples, so that one look-up serves them all.
            self._flat = [torch.cat([split.inputs[j] for split in kept]) for j in range(len(kept[0].inputs))]
            # The runs' own copies are not needed any more.
            self.splits = []

    def fetch(self, modality: int, indices: Tensor, draws: Indices | None = None) -> Tensor:
        """Return modality ``modality`` of the samples ``indices``, ``(R, k)``, shape ``(R, k, ...)``.

        Args:
            modality: which.
            indices: each run's rows of its own split.
            draws: see :meth:`Split.fetch`, shape ``(R, k)``.
        """
        import torch

        if self._flat is not None:
            table = self._flat[modality]
            return table.index_select(0, (indices + self._first).flatten()).view(*indices.shape, *table.shape[1:])
        return torch.stack(
            [
                split.fetch(modality, rows, None if draws is None else draws[r])
                for r, (split, rows) in enumerate(zip(self.splits, indices, strict=True))
            ]
        )

    def to(self, device: torch.device) -> StackedSplit:
        """Return itself: it lies where the runs' splits lay when it was made."""
        return self


@dataclass(frozen=True)
class DataOverview:
    """The data that a run trains and tests on, in numbers."""

    shapes: Mapping[str, tuple[int, ...]]
    """By modality, one sample as its encoder takes it."""
    prepared: Mapping[str, str]
    """By modality, what was done to the samples that were given, such as standardising; empty where the source of the
    samples says nothing of it."""
    classes: tuple[str, ...]
    """Names in the order of the class ids; the ids where they have none."""
    counts: Mapping[str, tuple[int, ...]]
    """By split, samples of each class, shape ``(c,)``; no entry for a split that is not there."""
    dropped: Mapping[str, int]
    """By split, samples left out because a file of theirs is bad; they are in no count."""

    @property
    def sizes(self) -> dict[str, int]:
        """Samples of each split."""
        return {split: sum(counts) for split, counts in self.counts.items()}

    @property
    def majority(self) -> tuple[str, float]:
        """The most frequent class of the test split and its fraction of it: the accuracy of always answering it."""
        test = self.counts["test"]
        largest = max(test)
        return self.classes[test.index(largest)], largest / sum(test)

    def rare(self, least: int) -> dict[str, int]:
        """Return the classes that have fewer than ``least`` test samples, and how many these have."""
        return {name: n for name, n in zip(self.classes, self.counts["test"], strict=True) if n < least}


@dataclass(frozen=True)
class TaskData:
    """One run's data. Agents and early stopping see ``train`` and ``validation`` only."""

    train: Split
    validation: Split | None
    test: Split
    input_shapes: Sequence[tuple[int, ...]]
    """The shape of one sample of each modality."""
    data_kind: str = "real"
    """``real``, ``mock``, ``stand-in`` or ``own``; stated in every output."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """By split, how many samples were left out because a file of theirs is bad; a figure of a split is of the rest."""
    classes: tuple[str, ...] = ()
    """Names in the order of the class ids; none where they have none."""
    prepared: Mapping[str, str] = field(default_factory=dict)
    """By modality, what was done to the samples that were given."""

    def with_texts(self, texts: Collection[int]) -> TaskData:
        """Return the same data, those splits of it that lie in memory with the modalities ``texts`` as texts."""

        def cut(split: Split) -> Split:
            return TextSplit.of(split, texts) if type(split) is TensorSplit else split

        validation = None if self.validation is None else cut(self.validation)
        return replace(self, train=cut(self.train), validation=validation, test=cut(self.test))

    def overview(self, modalities: Sequence[str], num_classes: int) -> DataOverview:
        """Return what the data are, in numbers.

        Args:
            modalities: names, in order.
            num_classes: c.
        """
        import torch

        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        classes = self.classes or tuple(map(str, range(num_classes)))
        return DataOverview(
            shapes=dict(zip(modalities, map(tuple, self.input_shapes), strict=True)),
            prepared=dict(self.prepared),
            classes=classes,
            counts={
                name: tuple(torch.bincount(split.labels, minlength=len(classes)).tolist())
                for name, split in splits.items()
                if split is not None
            },
            dropped=dict(self.dropped),
        )
