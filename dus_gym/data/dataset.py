"""Splits: the samples that a task hands to the training loop, each modality on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

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
