"""A split whose samples lie in stores: one store per modality, changed by a transform on their way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from dus_gym.data.dataset import Indices
from dus_gym.data.store.decoder import Array
from dus_gym.data.store.randomness import Keys, draw_keys, words_of
from dus_gym.data.store.reader import Bytes, Store, new_bytes
from dus_gym.errors import ConfigError

SHARED_STREAM = "shared"


class Transform(Protocol):
    """Turns stored arrays into what an encoder reads, a whole batch at once."""

    def __call__(self, arrays: Array | list[Array], keys: Keys, train: bool, device: torch.device) -> Tensor:
        """Return a batch ``(k, ...)`` on ``device``.

        Args:
            arrays: what the store holds, ``(k, ...)``, or a list of k arrays of differing shapes. The transform
                may not keep them: ``torch.from_numpy(arrays).to(device, non_blocking=True)`` is the way on, and
                needs no pinning of its own.
            keys: shape ``(k,)``; every random choice follows from them and nothing else
                (:func:`~dus_gym.data.store.randomness.uniforms`).
            train: whether to augment; if not, the keys mean nothing.
            device: where to.
        """
        ...


@runtime_checkable
class PartialTransform(Transform, Protocol):
    """A transform that looks at parts of what is stored only, such as some frames of a clip; no others are read."""

    def parts(self, lengths: Indices, keys: Keys, train: bool) -> Indices:
        """Return the places along the first axis that are looked at.

        Args:
            lengths: of the first axis of each array, shape ``(k,)``.
            keys: as of the call.
            train: as of the call.

        Returns:
            Shape ``(k, t)``. The call is then given arrays of t, these, and must take all of such.
        """
        ...


@dataclass(frozen=True)
class StoredModality:
    """One modality of a split."""

    name: str
    store: Store
    rows: Indices
    """Row numbers in the store, shape ``(n,)``, in the order of the split."""
    transform: Transform

    @classmethod
    def of(cls, name: str, store: Store, samples: Sequence[str], transform: Transform) -> StoredModality:
        """Return the modality of samples by their ids."""
        return cls(name, store, store.rows_of(samples), transform)


@dataclass(frozen=True)
class Staged:
    """A batch on the host, on its way to the transform."""

    arrays: Array | list[Array]
    keys: Keys
    train: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in self.arrays)


def without_bad(samples: Sequence[str], stores: Sequence[Store]) -> list[int]:
    """Return positions of the samples that every store can deliver.

    A sample that one modality lacks is left out of all, so that batches stay paired and every figure is of the same
    samples. The length lost belongs into ``TaskData.dropped``.
    """
    good = np.ones(len(samples), np.bool_)
    for store in stores:
        good &= store.usable(store.rows_of(samples))
    return [int(position) for position in np.flatnonzero(good)]


class StoreSplit:
    """Samples of m modalities in m stores.

    The result of a training draw depends on (seed, modality, sample, draw) and nothing else.

    Args:
        modalities: all of the same samples in the same order.
        labels: shape ``(n,)``, integer classes.
        seed: of the augmentation; give one that was made from the run's seeds.
        augments: whether training draws are augmented: True for training splits.
        shared: whether the rows of one sample in several modalities are changed alike, such as one crop for RGB,
            depth and flow; the transforms must ask the keys for the same numbers.
        device: where batches go.

    Raises:
        ConfigError: for modalities of differing samples, or samples whose media is bad.
    """

    def __init__(
        self,
        modalities: Sequence[StoredModality],
        labels: Tensor,
        *,
        seed: int = 0,
        augments: bool = False,
        shared: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self.modalities = tuple(replace(one, rows=np.asarray(one.rows, np.int64)) for one in modalities)
        self.device = torch.device("cpu") if device is None else device
        self.labels = labels.to(self.device)
        self.seed = seed
        self.augments = augments
        self.shared = shared
        first = self.modalities[0]
        samples = [first.store.samples[row] for row in first.rows.tolist()]
        for one in self.modalities:
            if len(one.rows) != len(labels) or [one.store.samples[row] for row in one.rows.tolist()] != samples:
                raise ConfigError(
                    f"{one.name!r} has other samples than {first.name!r}, or the labels have another length."
                )
            if not (good := one.store.usable(one.rows)).all():
                bad = [samples[i] for i in np.flatnonzero(~good)]
                raise ConfigError(f"{one.name!r} has no usable media of {bad[:5]}; leave them out with without_bad().")
        self._words = words_of(samples)

    def fetch(self, modality: int, indices: Tensor, draws: Indices | None = None) -> Tensor:
        """Return modality ``modality`` of the rows ``indices``; augmented if they are training draws."""
        return self.finish(modality, self.prepare(modality, indices.cpu().numpy(), draws))

    def prepare(self, modality: int, rows: Indices, draws: Indices | None = None) -> Any:
        """Do the part of :meth:`fetch` that another thread may do: reading, and on the CPU transforming too."""
        staged = self.read(modality, rows, draws)
        return staged if self.device.type == "cuda" else self._transformed(modality, staged)

    def read(self, modality: int, rows: Indices, draws: Indices | None = None) -> Staged:
        """Copy what will be looked at; the host's part where a device transforms."""
        stored = self.modalities[modality]
        train = self.augments and draws is not None
        counted = np.zeros(len(rows), np.int64) if draws is None else np.asarray(draws, np.int64)
        stream = SHARED_STREAM if self.shared else stored.name
        keys = draw_keys(self.seed, stream, self._words[rows], counted)
        wanted, parts = stored.rows[rows], None
        if isinstance(stored.transform, PartialTransform):
            lengths = np.array([stored.store.shape_of(row)[0] for row in wanted.tolist()], np.int64)
            parts = stored.transform.parts(lengths, keys, train)
        allocate = _pinned if self.device.type == "cuda" else new_bytes
        return Staged(stored.store.gather(wanted, allocate, parts), keys, train)

    def finish(self, modality: int, prepared: Any) -> Tensor:
        """Do the rest of :meth:`fetch`, in the thread that trains."""
        return self._transformed(modality, prepared) if isinstance(prepared, Staged) else prepared

    def to(self, device: torch.device) -> StoreSplit:
        """Return the same split with batches and labels on ``device``."""
        if device == self.device:
            return self
        return StoreSplit(
            self.modalities, self.labels, seed=self.seed, augments=self.augments, shared=self.shared, device=device
        )

    def _transformed(self, modality: int, staged: Staged) -> Tensor:
        # Evaluation fetches inside its mixed precision, training outside: media are the same in both.
        with torch.autocast(self.device.type, enabled=False):
            return self.modalities[modality].transform(staged.arrays, staged.keys, staged.train, self.device)


def _pinned(size: int) -> Bytes:
    found: Bytes = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
    return found
