"""Batches whose modalities differ in size, from PyTorch's DataLoaders: what :meth:`DUS.loaders` returns."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from dus_gym.agents.plugin import with_arrays, with_tensors
from dus_gym.batch import IndexStream, Indices
from dus_gym.errors import ConfigError, check_at_least, unknown_name
from dus_gym.seeding import RunSeeds
from dus_gym.state import check_form, restoring

if TYPE_CHECKING:
    from dus_gym.agents.plugin import DUS

OURS = ("dataset", "batch_size", "shuffle", "sampler", "batch_sampler", "drop_last", "generator", "in_order")
"""The arguments of DataLoader that are set here: out of order, modalities would not be of the same samples."""


class ModalityLoaders:
    """One DataLoader per modality, side by side: each iteration gives as many samples of each as DUS says.

        loaders = dus.loaders({"audio": spectrograms, "video": clips}, labels, num_workers=2, pin_memory=True)
        for sizes in loaders.epochs():              # asks dus.next_sizes()
            for batch in loaders:
                audio, audio_labels = batch["audio"]    # sizes["audio"] samples
                video, video_labels = batch["video"]    # sizes["video"] samples
                paired = min(sizes.values())            # the first rows of both are the same samples

    The first ``min(sizes)`` rows of every modality are the same samples, from one stream of permutations; its other
    rows come from a stream of its own. A stream that ends begins a new permutation, for ever, so each draws every
    sample equally often, and the draws of any two samples by one modality differ by at most 2. (The paper draws each
    modality by itself, Algorithm 1, line 5; ``paired=False`` is that.)

    Batches depend on the seed alone: not on workers, nor on what they read ahead. While samples are read, the global
    generators of Python, NumPy and PyTorch's CPU are seeded for this batch, so random augmentation repeats too, in a
    resumed run as well; what a dataset draws from a generator of its own does not.

    Args:
        dus: says the sizes.
        datasets: by modality, whatever has a length and rows by number: a Dataset, a tensor, a list.
        labels: of the samples, in order; the items of a modality are then ``(sample, label)``. None: the datasets have
            them, or there are none.
        iterations: of a pass; by default ``dus.interval``, else those in which equal batches use the longest dataset
            up once.
        paired: False: nothing is paired, and datasets may differ in length.
        settings: of DataLoader, such as ``num_workers``, ``pin_memory``, ``collate_fn``; for all modalities, or a dict
            by modality. Workers are of one modality, and live on from one pass to the next.

    Raises:
        ConfigError: for datasets, labels or settings that don't fit.
    """

    def __init__(
        self,
        dus: DUS,
        datasets: Mapping[str, Any],
        labels: Sequence[Any] | None = None,
        *,
        iterations: int | None = None,
        paired: bool = True,
        **settings: Any,
    ) -> None:
        self._dus = dus
        self._lengths = _checked_lengths(dus.modalities, datasets, labels, paired)
        if iterations is None:
            longest = max(self._lengths.values())
            iterations = dus.interval or max(1, longest // dus.allocation.base_batch)
        check_at_least("iterations", iterations, 1)
        self._iterations = int(iterations)
        self._batches: dict[str, list[tuple[int, list[int]]]] = {name: [] for name in dus.modalities}
        self._seeds = RunSeeds(dus.seed)
        self._loaders: dict[str, DataLoader[Any]] = {}
        for name, chosen in _by_modality(settings, dus.modalities).items():
            if chosen.get("num_workers"):
                chosen = {"persistent_workers": True} | chosen
            # A DataLoader draws its workers' seed: from a generator of its own, so that the global one stays as it is.
            own = torch.Generator().manual_seed(self._seeds.integer(f"loader/{name}"))
            self._loaders[name] = DataLoader(
                _Rows(datasets[name], labels),  # type: ignore[arg-type]
                batch_sampler=self._batches[name],  # type: ignore[arg-type]
                generator=own,
                **chosen,
            )
        self._shared = IndexStream(min(self._lengths.values()), self._seeds.generator("order")) if paired else None
        self._own = {
            name: IndexStream(length, self._seeds.generator(f"order/{name}")) for name, length in self._lengths.items()
        }
        # Streams are ahead of what was handed out, so their state is kept as it was at the start of the pass.
        self._start = self._streams()
        self._epoch, self._sizes, self._planned = 0, dict.fromkeys(dus.modalities, 1), 0
        self._done, self._before = 0, 0
        self._pass: object = None

    def __repr__(self) -> str:
        samples = ", ".join(f"{name}: {length}" for name, length in self._lengths.items())
        return f"ModalityLoaders({samples} samples; {len(self)} batches per pass, {self.left} left of this one)"

    def __len__(self) -> int:
        """Return the batches of a whole pass."""
        return self._iterations

    @property
    def left(self) -> int:
        """Return how many batches are left of the pass that DUS last decided on; 0 after its end."""
        if self._epoch == self._dus.epoch:
            return self._planned - self._done
        # Decided on, and not begun.
        return self._iterations if self._dus.epoch and not self._dus.history[-1]["scores"] else 0

    def epochs(self) -> Iterator[dict[str, int]]:
        """Yield the sizes of one epoch (or interval) after another, asking DUS for each, until DUS's last.

        After :meth:`load_state_dict`, the first is the one that was decided on and not at its end.
        """
        going_on = self.left > 0
        while going_on or self._dus.epoch < self._dus.epochs:
            yield dict(self._dus.history[-1]["sizes"]) if going_on else self.next_epoch()
            going_on = False

    def next_epoch(self) -> dict[str, int]:
        """Let DUS decide on the coming epoch, whichever its lever is, and return the sizes.

        Raises:
            ConfigError: as :meth:`DUS.next_sizes`.
        """
        if self._dus.allocation.lever == "samples":
            self._dus.next_sizes()
        else:
            self._dus.next_rates()
        return dict(self._dus.history[-1]["sizes"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches of one pass, those that are left if it was resumed: by modality what its loader collates.

        A batch counts as used once it was handed out. Leaving a pass early loses no sample: the next one goes on there.

        Raises:
            ConfigError: without a call of :meth:`DUS.next_sizes` (or ``next_rates``) since the last whole pass.
        """
        self._begin()
        me = self._pass = object()
        iterators = [iter(loader) for loader in self._loaders.values()]
        for parts in zip(*iterators, strict=True):
            self._done += 1
            yield dict(zip(self._loaders, parts, strict=True))
            if self._pass is not me:
                raise ConfigError(
                    "this pass over the loaders can't go on: another was begun, or a state was loaded; end it first."
                )

    def _begin(self) -> None:
        """Plan what is left of the pass that DUS's last decision is for."""
        dus = self._dus
        if self._epoch != dus.epoch:
            if self._epoch > dus.epoch:
                raise ConfigError(
                    f"these loaders are in epoch {self._epoch} and DUS in {dus.epoch}; load the states of both, or "
                    "make both anew."
                )
            # What was planned and never handed out goes back into its streams.
            self._draw(self._done)
            self._start, self._before = self._streams(), self._before + self._done
            self._epoch, self._sizes = dus.epoch, dict(dus.history[-1]["sizes"])
            self._planned, self._done = self._iterations, 0
        elif not self.left:
            raise ConfigError(
                f"the batches of epoch {dus.epoch} are used up; call dus.next_sizes() before each pass, or loop over "
                "loaders.epochs()."
                if dus.epoch
                else "no sizes yet; call dus.next_sizes() before the first pass, or loop over loaders.epochs()."
            )
        rows = self._draw(self._planned)
        for name, planned in self._batches.items():
            planned[:] = [
                (self._seeds.integer(f"read/{name}/{self._before + i}"), rows[name][i].tolist())
                for i in range(self._done, self._planned)
            ]

    def _draw(self, count: int) -> dict[str, Indices]:
        """Draw the pass's first ``count`` iterations; by modality, rows ``(count, a_j)``."""
        self._rewind(self._start)
        paired = 0 if self._shared is None else min(self._sizes.values())
        first = np.zeros((count, 0), dtype=np.int64)
        if self._shared is not None:
            first = self._shared.take(count * paired).reshape(count, paired)
        return {
            name: np.hstack([first, self._own[name].take(count * (size - paired)).reshape(count, size - paired)])
            for name, size in self._sizes.items()
        }

    def _streams(self) -> dict[str, Any]:
        """Return the state of all streams."""
        shared = {} if self._shared is None else self._shared.state_dict()
        return {"shared": shared, "own": {name: stream.state_dict() for name, stream in self._own.items()}}

    def _rewind(self, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`_streams` returned."""
        if self._shared is not None:
            self._shared.load_state_dict(state["shared"])
        for name, stream in self._own.items():
            stream.load_state_dict(state["own"][name])

    def state_dict(self) -> dict[str, Any]:
        """Return where these loaders are, in the middle of a pass too; ``torch.save`` writes it, beside DUS's own."""
        state = {
            "seed": self._seeds.seed,
            "lengths": self._lengths,
            "paired": self._shared is not None,
            "epoch": self._epoch,
            "sizes": self._sizes,
            "planned": self._planned,
            "done": self._done,
            "before": self._before,
            "streams": self._start,
        }
        found: dict[str, Any] = with_tensors(state)
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned; DUS needs its own state too.

        Raises:
            CheckpointError: for the state of something else.
        """
        with restoring(f"this state, put into {self!r},"):
            read, mine = with_arrays(state), with_arrays(self.state_dict())
            for name in ("seed", "paired", "lengths"):
                if read[name] != mine[name]:
                    raise ValueError(f"it has {name}={read[name]!r}, not {mine[name]!r}")
            check_form(mine, read, "the loaders' state")
            self._rewind(read["streams"])
        self._start = read["streams"]
        self._epoch, self._sizes, self._planned = read["epoch"], read["sizes"], read["planned"]
        self._done, self._before = read["done"], read["before"]
        # A pass that is under way belongs to the state that was here before.
        self._pass = None


class _Rows:
    """A dataset that reads a whole batch under the seed that comes with it."""

    def __init__(self, dataset: Any, labels: Sequence[Any] | None) -> None:
        self.dataset, self.labels = dataset, labels

    def __len__(self) -> int:
        return len(self.dataset)

    # The name that DataLoader asks for when a dataset can read several rows at once.
    def __getitems__(self, planned: tuple[int, list[int]]) -> list[Any]:
        seed, rows = planned
        with _seeded(seed):
            together = getattr(self.dataset, "__getitems__", None)
            items = [self.dataset[row] for row in rows] if together is None else together(rows)
        return items if self.labels is None else [(x, self.labels[row]) for x, row in zip(items, rows, strict=True)]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of the CPU, and put them back afterwards."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


def _checked_lengths(
    modalities: Sequence[str], datasets: Mapping[str, Any], labels: Sequence[Any] | None, paired: bool
) -> dict[str, int]:
    """Return the number of samples of each modality, in order.

    Raises:
        ConfigError: for datasets and labels that don't fit.
    """
    if not isinstance(datasets, Mapping) or set(datasets) != set(modalities):
        given = sorted(datasets) if isinstance(datasets, Mapping) else repr(type(datasets).__name__)
        raise ConfigError(f"datasets={given} is not allowed; give a dict with one for each of {list(modalities)}.")
    lengths = {}
    for name in modalities:
        dataset = datasets[name]
        if isinstance(dataset, IterableDataset) or not all(hasattr(dataset, of) for of in ("__len__", "__getitem__")):
            raise ConfigError(
                f"datasets[{name!r}] is {type(dataset).__name__}, which has no rows to draw by number; give one with "
                "__len__ and __getitem__."
            )
        lengths[name] = len(dataset)
        check_at_least(f"the length of datasets[{name!r}]", lengths[name], 1)
    if paired and len(set(lengths.values())) > 1:
        raise ConfigError(
            f"datasets have {lengths} samples; row i of each must be the same sample. If they are not of the same "
            "samples, say paired=False."
        )
    if labels is not None and {len(labels)} != set(lengths.values()):
        raise ConfigError(f"labels has {len(labels)} entries for {lengths} samples; give one label for each sample.")
    return lengths


def _by_modality(settings: Mapping[str, Any], modalities: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the settings of each modality's DataLoader.

    Raises:
        ConfigError: for what is no argument of DataLoader, is set here, or names another modality.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in modalities}
    allowed = set(inspect.signature(DataLoader).parameters) - set(OURS)
    for setting, value in settings.items():
        if setting in OURS:
            raise ConfigError(f"{setting}= is not allowed; DUS says how many samples are drawn, leave it out.")
        if setting not in allowed:
            raise unknown_name("argument of torch.utils.data.DataLoader", setting, allowed)
        each = value if isinstance(value, Mapping) else dict.fromkeys(modalities, value)
        for name, own in each.items():
            if name not in found:
                raise unknown_name(f"modality in {setting}", str(name), modalities)
            found[name][setting] = own
    return found
