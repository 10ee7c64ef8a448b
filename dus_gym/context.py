"""The run as its method sees it: phases, batch, model, optimiser, losses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dus_gym.batch import Batch, counted_mean
from dus_gym.data.dataset import Split
from dus_gym.discrepancy import sample_cross_entropy
from dus_gym.errors import unknown_name
from dus_gym.model import MultimodalModel
from dus_gym.optim import GroupedOptimizer, along
from dus_gym.recorder import Recorder
from dus_gym.records import Figures


@dataclass(frozen=True)
class Phase:
    """A stretch of a method's training."""

    name: str
    """Shown in logs."""
    fraction: float
    """Its length as a fraction of the run's epochs; a method's phases sum to 1."""
    trainable: tuple[str, ...] | None = None
    """Parameter owners that train (``"encoder"`` stands for every ``encoder/NAME``); None: all."""
    sampling: bool = True
    """False: every modality gets its ordinary batch, whatever the agent says."""
    fresh: bool = False
    """True: the optimiser starts anew here, without the momentum of the phase before."""
    own_schedule: bool = False
    """True: the learning-rate schedule starts anew here, at the full rate and over this phase's epochs."""


class Context:
    """The run as its method sees it: the batch, the model, the optimiser by owner, the losses.

    The loop changes ``batch``, ``epoch`` and ``iteration`` as it goes; a method reads them.

    Shapes are those of one run. Where R runs train as one (``runs`` is R, else None), each leads with an axis of R, a
    loss is of shape ``(R,)`` instead of ``()``, and what is one figure or generator a run stands in a list.

    Attributes:
        runs: R, or None where there is no axis of runs.
        modalities: names, in order.
        model: encoders and heads.
        optimizer: one group per owner, with a multiplier each.
        train_split, validation_split: all samples of a split, for methods that look at them between epochs; the second
            is None where the task has none.
        loss_norm: ``"mean"`` or ``"fixed"``.
        batch: the current iteration's samples.
        base_batch: B, the batch size of one modality in ordinary training.
        update: ``"joint"`` or ``"alternating"``.
        epoch, iteration: finished epochs and iterations.
        phase: the one under way, as ``Method.phases`` made it; in ``on_epoch_end`` that of the epoch that ended.
        epochs: of the whole run.
        iterations_per_epoch: iterations of one epoch.
        rngs: a private generator a run for methods that draw; a list of one without the axis of runs.
        train_features: encoder features of every training sample in evaluation mode, without a gradient, m
            tensors ``(n, d_j)`` in the order of ``train_split``.
        validation_features: the same of every validation sample; only where there are any.
        clone_and_fit: trains a copy of the model on another loss for some epochs and returns it; the run
            itself is left as it was, to the bit.
        normal_like: draws standard normal numbers of the shapes of some tensors from the run's own generator of the
            device, which snapshots hold.
    """

    def __init__(
        self,
        *,
        modalities: tuple[str, ...],
        model: MultimodalModel,
        optimizer: GroupedOptimizer,
        train_split: Split,
        validation_split: Split | None,
        base_batch: int,
        loss_norm: str,
        update: str,
        epochs: int,
        iterations_per_epoch: int,
        rngs: Sequence[np.random.Generator],
        figures: Callable[[str, MultimodalModel | None], list[Figures] | None],
        train_features: Callable[[], list[Tensor]],
        validation_features: Callable[[], list[Tensor]],
        clone_and_fit: Callable[[Callable[[Context], Tensor], int], MultimodalModel],
        restart_plateau: Callable[[Iterable[int]], None],
        normal_like: Callable[[Sequence[Tensor]], list[Tensor]],
        ended: Callable[[], Sequence[bool]] = lambda: (),
        logs: Sequence[str] = (),
    ) -> None:
        self.modalities = modalities
        self.num_modalities = len(modalities)
        self.model = model
        self.optimizer = optimizer
        self.train_split = train_split
        self.validation_split = validation_split
        self.base_batch = base_batch
        self.loss_norm = loss_norm
        self.update = update
        self.epochs = epochs
        self.iterations_per_epoch = iterations_per_epoch
        self.runs = model.runs
        self.rngs = rngs
        self._figures = figures
        self.train_features = train_features
        self.validation_features = validation_features
        self.clone_and_fit = clone_and_fit
        self._restart_plateau = restart_plateau
        self.normal_like = normal_like
        self._ended = ended
        self.epoch = 0
        self.iteration = 0
        self.batch: Batch
        self.phase: Phase
        self.logged: dict[str, float | Tensor] = dict.fromkeys(logs, 0.0)
        self._fixed_norm = loss_norm == "fixed"
        self._features: dict[int, Tensor] = {}
        self._recorder: Recorder

    @property
    def iteration_in_epoch(self) -> int:
        """Finished iterations of the current epoch."""
        return self.iteration % self.iterations_per_epoch

    def features(self, j: int) -> Tensor:
        """Return encoder features of modality j's samples, ``(a_j, d_j)``; computed once a substep."""
        found = self._features.get(j)
        if found is None:
            found = self._features[j] = self.model.encode(j, self.batch.inputs[j])
        return found

    def paired_features(self, j: int) -> Tensor:
        """Return :meth:`features` of the rows that every modality holds, ``(p, d_j)``."""
        found, paired = self.features(j), self.batch.paired
        # A slice that leaves nothing out would still cost a copy in the backward pass.
        return found if found.shape[-2] == paired else found[..., :paired, :]

    @property
    def paired_labels(self) -> Tensor:
        """Labels of the rows that every modality holds, ``(p,)``."""
        return self.batch.paired_labels

    def reduce(self, values: Tensor, j: int | None = None) -> Tensor:
        """Reduce losses of samples, ``(a_j,)``, to a scalar as ``loss_norm`` says.

        Under ``"mean"`` it is the mean over a_j (the paper), under ``"fixed"`` the sum over B: the batch
        size then acts as a learning rate of the modality.

        Args:
            values: one a row.
            j: whose samples they are of; None: a row for each of the largest modality.
        """
        counted = self.batch.counted_rows(j)
        if not self._fixed_norm:
            return counted_mean(values, counted)
        if counted is not None:
            values = torch.where(counted, values, 0.0)
        return values.sum(dim=-1) / self.base_batch

    def mean(self, values: Tensor, j: int, dim: int = -1) -> Tensor:
        """Return the mean over modality j's samples, which lie along the last dimension or the one before it."""
        return counted_mean(values, self.batch.counted_rows(j), dim)

    def paired_mean(self, values: Tensor) -> Tensor:
        """Return the mean of one number a paired sample, ``(..., p)``, over the samples."""
        return counted_mean(values, self.batch.paired_counted)

    def cross_entropy(self, j: int, logits: Tensor) -> Tensor:
        """Return the cross entropy of logits ``(a_j, c)`` of modality j's own samples; records nothing."""
        labels = self.batch.labels[j]
        if self.runs is not None:
            return self.reduce(sample_cross_entropy(logits, labels), j)
        if self._fixed_norm:
            return F.cross_entropy(logits, labels, reduction="sum") / self.base_batch
        return F.cross_entropy(logits, labels)

    def modality_loss(self, j: int, logits: Tensor) -> Tensor:
        """Return :meth:`cross_entropy` of modality j and record its score from the logits ``(a_j, c)``."""
        self.record(j, logits)
        return self.cross_entropy(j, logits)

    def fused_loss(self, logits: Tensor) -> Tensor:
        """Return the mean cross entropy of fused logits ``(p, c)`` over the paired samples, under either norm."""
        self.record_fused(logits)
        if self.runs is not None:
            return self.paired_mean(sample_cross_entropy(logits, self.batch.paired_labels))
        return F.cross_entropy(logits, self.batch.paired_labels)

    def record(self, j: int, logits: Tensor) -> None:
        """Record modality j's score from logits ``(a_j, c)`` that carry no loss of their own."""
        self._recorder.modality(j, logits, self.batch.labels[j], self.batch.counted_rows(j))

    def record_fused(self, logits: Tensor) -> None:
        """Record the accuracy of fused logits ``(p, c)`` that carry another loss than cross entropy."""
        self._recorder.fused(logits, self.batch.paired_labels, self.batch.paired_counted)

    def log(self, values: Mapping[str, float | Tensor]) -> None:
        """Report figures of the method's own, which it has named in ``Method.logs``.

        A scalar tensor, ``(R,)`` with the axis of runs, stays on its device until somebody reads the figure. A number
        holds for all runs.
        """
        for name, value in values.items():
            if name not in self.logged:
                raise unknown_name("figure", name, self.logged or {"(Method.logs is empty)"})
            self.logged[name] = value.detach() if isinstance(value, Tensor) else value

    # -- between iterations ------------------------------------------------------------------------

    def figures(self, split: str, model: MultimodalModel | None = None) -> list[Figures] | None:
        """Return scores, accuracies and losses of ``"train"`` or ``"validation"`` in evaluation mode, an entry a run.

        Args:
            split: which; None comes back for a validation split that is not there.
            model: one that ``clone_and_fit`` returned; the run's own if not given.
        """
        return self._figures(split, model)

    def validate(self) -> list[Figures] | None:
        """Return :meth:`figures` of the validation split; None without one."""
        return self._figures("validation", None)

    def restart_plateau(self, runs: Iterable[int] | None = None) -> None:
        """Tell the ``plateau`` schedule that training losses from here on can't be compared with those before.

        For a term that begins or ends, other samples that are drawn, or parameters that were put back.

        Args:
            runs: in which runs, by place; None: in all of them.
        """
        self._restart_plateau(range(self.runs or 1) if runs is None else runs)

    def has_ended(self, run: int) -> bool:
        """Return whether a run has diverged beside others that go on; it is to stay as it is."""
        ended = self._ended()
        return bool(ended) and ended[run]

    def by_run(self, values: Sequence[float], factor_of: Tensor | None = None) -> float | Tensor:
        """Return numbers, one per run, as one of shape ``(R,)``; without the axis of runs the only one.

        Args:
            values: R numbers.
            factor_of: values ``(R, ...)`` that the numbers are to multiply, in whose type and form they then come.
        """
        if self.runs is None:
            return values[0]
        first = self.optimizer.parameters(self.optimizer.names[0])[0]
        found = torch.tensor(list(values), dtype=first.dtype).to(first.device, non_blocking=True)
        return found if factor_of is None else along(found, factor_of).to(factor_of.dtype)

    def paired_uniform(self, columns: int) -> Tensor:
        """Draw numbers from [0, 1) for every paired sample, ``(p, columns)`` in float32, from the run's own ``rngs``.

        A run's rows do not depend on how many rows fill up its batch beside larger ones.
        """
        drawn = [
            # From a generator of its own, whose first rows are the same however many are drawn.
            np.random.default_rng(int(rng.integers(2**63))).random((self.batch.paired, columns), dtype=np.float32)
            for rng in self.rngs
        ]
        return self.stack([torch.from_numpy(rows) for rows in drawn]).to(self.paired_labels.device, non_blocking=True)

    def stack(self, values: Sequence[Tensor]) -> Tensor:
        """Return tensors, one a run, as one with the axis of runs; without the axis the only one."""
        return values[0] if self.runs is None else torch.stack(list(values))

    def set_trainable(self, owners: Iterable[str] | None) -> None:
        """Freeze every parameter owner that is not in ``owners`` (None: all train), down to the last bit.

        Frozen parameters lose their momentum, and frozen encoders go into evaluation mode, so that their
        running statistics stay as well.
        """
        self.optimizer.set_trainable(owners)
        self.model.train(self.model.training)

    def freeze(self, frozen: Sequence[Collection[str]]) -> None:
        """Freeze parameter owners by run, as :meth:`set_trainable` does for all runs.

        Args:
            frozen: for each run the owners that are frozen from now on; all others train.
        """
        self.optimizer.freeze(frozen)
        self.model.train(self.model.training)

    def skip_step(self, skipped: Tensor) -> None:
        """Leave some runs out of the coming step: neither their parameters nor their momentum move.

        Args:
            skipped: which runs, ``(R,)``, bool; only with the axis of runs.
        """
        self.optimizer.skip(skipped)

    # -- for the loop ------------------------------------------------------------------------------

    def begin(self, batch: Batch, recorder: Recorder) -> None:
        """Begin an iteration."""
        self.batch = batch
        self._recorder = recorder
        self._features.clear()

    def forget_features(self) -> None:
        """Forget features after a step: the parameters differ."""
        self._features.clear()
