"""A batch whose modalities differ in size, and the streams of sample indices it is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """One iteration's samples of m modalities.

    With prefix pairing, row i of every modality is the same sample, so the first ``paired`` rows are
    complete. With independent pairing nothing is paired and ``paired`` is 0.

    In the batch of R runs every tensor leads with the axis of runs, and a_j is the largest of the runs' sizes. A run
    with a smaller one is filled up with rows that do not count, as ``counted`` and ``paired_counted`` say.
    """

    inputs: tuple[Tensor, ...]
    """Modality j's samples, shape ``(a_j, ...)``."""
    labels: tuple[Tensor, ...]
    """Modality j's labels, shape ``(a_j,)``."""
    paired: int
    """Number of leading rows that every modality holds."""
    keep: Tensor | None = None
    """Shape ``(max a_j, m)``, False where a row's modality is masked (copies made by ``Method.expand``)."""
    counted: tuple[Tensor | None, ...] = ()
    """By modality which of its rows count, ``(a_j,)``; None, or nothing for all modalities: all of them."""
    paired_counted: Tensor | None = None
    """Which of the paired rows count, ``(paired,)``; None: all of them."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """a_j of every modality."""
        return tuple(labels.shape[-1] for labels in self.labels)

    @property
    def paired_labels(self) -> Tensor:
        """The labels of the complete samples, shape ``(paired,)``; a view."""
        return self.labels[0][..., : self.paired]

    def counted_rows(self, j: int | None = None) -> Tensor | None:
        """Return which rows of modality j count, or of the modality with the most rows (None); None: all of them."""
        if not self.counted:
            return None
        if j is not None:
            return self.counted[j]
        widest = max(self.sizes)
        every = [mask for mask, size in zip(self.counted, self.sizes, strict=True) if size == widest]
        if any(mask is None for mask in every):
            return None
        # Two modalities may be the widest in different runs; a row counts where any of them holds it.
        found = torch.stack([mask for mask in every if mask is not None]).any(dim=0)
        for mask, size in zip(self.counted, self.sizes, strict=True):
            if size < widest:
                found[..., :size] |= True if mask is None else mask
        return found


class IndexStream:
    """An endless stream of sample indices: one permutation after another, nothing left out.

    Args:
        num_samples: n, the length of a permutation.
        generator: where permutations come from; its state is part of :meth:`state_dict`.
    """

    def __init__(self, num_samples: int, generator: np.random.Generator) -> None:
        self.num_samples = num_samples
        self.generator = generator
        self._rest: Indices = np.empty(0, dtype=np.int64)

    def take(self, count: int) -> Indices:
        """Return the next ``count`` indices; a permutation that runs out continues into the next one."""
        parts = [self._rest]
        have = len(self._rest)
        while have < count:
            parts.append(self.generator.permutation(self.num_samples))
            have += self.num_samples
        joined = np.concatenate(parts)
        self._rest = joined[count:]
        return joined[:count]

    def restart(self, num_samples: int, rest: Indices) -> None:
        """Give ``rest`` next, in place of what is left of a permutation, and then permutations of ``num_samples``."""
        self.num_samples, self._rest = num_samples, rest

    def state_dict(self) -> dict[str, Any]:
        """Return generator state and the unread part of the permutation."""
        return {"generator": self.generator.bit_generator.state, "rest": self._rest.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned."""
        self.generator.bit_generator.state = state["generator"]
        self._rest = np.asarray(state["rest"], dtype=np.int64).copy()


class BatchSampler:
    """Sampler of the indices of every modality, which counts what each has seen.

    Args:
        num_samples: n, the number of training samples.
        num_modalities: m.
        pairing: ``"prefix"``: one shared stream, an iteration draws ``max a_j`` indices and modality j
            takes the first ``a_j``. ``"independent"``: one stream per modality (Algorithm 1 read to the
            letter), nothing is paired.
        generators: one generator a stream: the first alone is used with ``"prefix"``.
    """

    def __init__(
        self, num_samples: int, num_modalities: int, pairing: str, generators: Sequence[np.random.Generator]
    ) -> None:
        self.pairing = pairing
        streams = 1 if pairing == "prefix" else num_modalities
        self.streams = [IndexStream(num_samples, generators[i]) for i in range(streams)]
        self.draws = np.zeros((num_modalities, num_samples), dtype=np.int64)
        self._entries: Indices | None = None
        self._keep: npt.NDArray[np.bool_] | None = None

    def draw(self, sizes: Sequence[int], iterations: int) -> list[Indices]:
        """Draw stream positions for several iterations at once.

        Args:
            sizes: a_j of every modality.
            iterations: k.

        Returns:
            One array of shape ``(k, a_j)`` a modality; with prefix pairing they are views of one array.
        """
        if self.pairing == "prefix":
            widest = max(sizes)
            block = self.streams[0].take(iterations * widest).reshape(iterations, widest)
            return [block[:, :size] for size in sizes]
        return [
            stream.take(iterations * size).reshape(iterations, size)
            for stream, size in zip(self.streams, sizes, strict=True)
        ]

    def samples_of(self, positions: Sequence[Indices]) -> list[Indices]:
        """Return the sample behind each position; the same unless the stream was expanded.

        Each is counted as drawn, but not for a modality that a copy masks.
        """
        samples = [p if self._entries is None else self._entries[p] for p in positions]
        for j, drawn in enumerate(samples):
            shown = drawn.ravel() if self._keep is None else drawn[self._keep[positions[j], j]]
            self.draws[j] += np.bincount(shown, minlength=self.draws.shape[1])
        return samples

    def draw_numbers(self, positions: Sequence[Indices], *, shared: bool = False) -> list[Indices]:
        """Number each position's draw of its sample by its modality: 0, 1, 2, … over the run.

        To be asked before :meth:`samples_of`, which counts the positions as drawn. A masked copy is no draw: it has
        the number of the draw that comes next.

        Args:
            positions: what :meth:`draw` returned.
            shared: number alike in all modalities, by all draws of a sample in any of them, so that paired rows
                have one number; only with prefix pairing, which alone pairs rows.
        """
        shown = [None if self._keep is None else self._keep[p, j] for j, p in enumerate(positions)]
        samples = [p if self._entries is None else self._entries[p] for p in positions]
        if not (shared and self.pairing == "prefix"):
            return [
                before[block] + _earlier(block, None if weights is None else weights.astype(np.int64))
                for before, block, weights in zip(self.draws, samples, shown, strict=True)
            ]
        widest = max(samples, key=lambda block: block.shape[-1])
        weights = np.zeros(widest.shape, dtype=np.int64)
        for block, mask in zip(samples, shown, strict=True):
            weights[:, : block.shape[-1]] += 1 if mask is None else mask
        numbers = self.draws.sum(axis=0)[widest] + _earlier(widest, weights)
        return [numbers[:, : block.shape[-1]] for block in samples]

    def keep_of(self, positions: Indices) -> npt.NDArray[np.bool_] | None:
        """Return the modalities of each position that are not masked, ``(..., m)``, or None if none is."""
        return None if self._keep is None else self._keep[positions]

    def expand(self, indices: Indices, keep: npt.NDArray[np.bool_]) -> None:
        """Append copies of samples with some modalities masked; they replace the copies of before.

        Args:
            indices: shape ``(k,)``, the samples copied.
            keep: shape ``(k, m)``, which modalities each copy shows.
        """
        m, n = self.draws.shape
        self._entries = np.concatenate([np.arange(n), indices])
        self._keep = np.concatenate([np.ones((n, m), dtype=np.bool_), keep])
        for stream in self.streams:
            stream.restart(len(self._entries), np.empty(0, dtype=np.int64))

    def follow(self, samples: Indices) -> None:
        """Draw these samples next, in this order, and then permutations of them; they replace copies of before.

        Args:
            samples: shape ``(k,)``, any samples, as often as they are to be drawn.
        """
        self._entries, self._keep = samples.copy(), None
        for stream in self.streams:
            stream.restart(len(samples), np.arange(len(samples)))

    def coverage(self) -> list[float]:
        """Return, for every modality, the fraction of the training samples drawn at least once."""
        seen: list[float] = (self.draws > 0).mean(axis=1).tolist()
        return seen

    def state_dict(self) -> dict[str, Any]:
        """Return streams, counts, and which samples the streams are of where not of each once."""
        state: dict[str, Any] = {
            "streams": {str(i): stream.state_dict() for i, stream in enumerate(self.streams)},
            "draws": self.draws.copy(),
        }
        if self._entries is not None:
            keep = {} if self._keep is None else {"keep": self._keep.copy()}
            state["expanded"] = {"entries": self._entries.copy()} | keep
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned."""
        self._entries = self._keep = None
        n = self.draws.shape[1]
        if "expanded" in state:
            self._entries = np.asarray(state["expanded"]["entries"], dtype=np.int64)
            keep = state["expanded"].get("keep")
            self._keep = None if keep is None else np.asarray(keep, dtype=np.bool_)
            n = len(self._entries)
        for i, stream in enumerate(self.streams):
            stream.num_samples = n
            stream.load_state_dict(state["streams"][str(i)])
        self.draws = np.asarray(state["draws"], dtype=np.int64).copy()


def _earlier(samples: Indices, weights: Indices | None) -> Indices:
    """Sum, for each entry in reading order, the weights (1 by default) of the equal entries before it."""
    flat = samples.ravel()
    weight = np.ones(len(flat), dtype=np.int64) if weights is None else weights.ravel()
    order = np.argsort(flat, kind="stable")
    before = np.cumsum(weight[order]) - weight[order]
    grouped = flat[order]
    starts = np.flatnonzero(np.diff(grouped, prepend=-1))
    counted = np.empty(len(flat), dtype=np.int64)
    counted[order] = before - np.repeat(before[starts], np.diff(starts, append=len(flat)))
    return counted.reshape(samples.shape)


def counted_mean(values: Tensor, counted: Tensor | None, dim: int = -1) -> Tensor:
    """Return the mean over the rows that count.

    Args:
        values: rows lie along ``dim``, the last dimension or the one before.
        counted: which rows count, ``(rows,)`` or, of R runs, ``(R, rows)``; None: all of them.
        dim: -1 or -2.
    """
    if counted is None:
        return values.mean(dim=dim)
    number = counted.sum(dim=-1)
    if dim == -2:
        counted, number = counted.unsqueeze(-1), number.unsqueeze(-1)
    # where, not a product: a row that does not count may hold what is not finite.
    return torch.where(counted, values, 0.0).sum(dim=dim) / number


def to_device(indices: Indices, device: torch.device) -> Tensor:
    """Move an index array to a tensor; pinned and without waiting when it goes to an accelerator."""
    tensor = torch.from_numpy(np.ascontiguousarray(indices))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor
