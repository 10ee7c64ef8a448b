"""What a method sees of a run while it trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from dus_gym.batch import Batch
from dus_gym.errors import unknown_name
from dus_gym.model import MultimodalModel
from dus_gym.optim import GroupedOptimizer
from dus_gym.recorder import Recorder
from dus_gym.records import Figures

if TYPE_CHECKING:
    from dus_gym.data.dataset import Split


class Context:
    """The run as its method sees it: the batch, the model, the optimiser by owner, the losses.

    The loop changes ``batch``, ``epoch`` and ``iteration`` as it goes; a method reads them.

    Attributes:
        modalities: names, in order.
        model: encoders and heads.
        optimizer: one group an owner, with a multiplier each.
        train_split: the training samples, for methods that look at all of them between epochs.
        batch: the current iteration's samples.
        base_batch: B, the ordinary batch of one modality.
        update: ``"joint"`` or ``"alternating"``.
        epoch, iteration: finished epochs and iterations.
        iterations_per_epoch: iterations of one epoch.
        rng: a private generator for methods that draw.
        validate: figures of the validation split now, in evaluation mode; None without one.
        clone_and_fit: trains a copy of the model on another loss for some epochs and returns it; the run
            itself is left as it was, to the bit.
    """

    def __init__(
        self,
        *,
        modalities: tuple[str, ...],
        model: MultimodalModel,
        optimizer: GroupedOptimizer,
        train_split: Split,
        base_batch: int,
        loss_norm: str,
        update: str,
        iterations_per_epoch: int,
        rng: np.random.Generator,
        validate: Callable[[], Figures | None],
        clone_and_fit: Callable[[Callable[[Context], Tensor], int], MultimodalModel],
        logs: Sequence[str] = (),
    ) -> None:
        self.modalities = modalities
        self.num_modalities = len(modalities)
        self.model = model
        self.optimizer = optimizer
        self.train_split = train_split
        self.base_batch = base_batch
        self.update = update
        self.iterations_per_epoch = iterations_per_epoch
        self.rng = rng
        self.validate = validate
        self.clone_and_fit = clone_and_fit
        self.epoch = 0
        self.iteration = 0
        self.batch: Batch
        self.logged = dict.fromkeys(logs, 0.0)
        self._fixed_norm = loss_norm == "fixed"
        self._features: dict[int, Tensor] = {}
        self._recorder: Recorder

    @property
    def iteration_in_epoch(self) -> int:
        """Finished iterations of the current epoch."""
        return self.iteration % self.iterations_per_epoch

    def features(self, j: int) -> Tensor:
        """Encoder features of modality j's samples, ``(a_j, d_j)``; computed once a substep."""
        found = self._features.get(j)
        if found is None:
            found = self._features[j] = self.model.encode(j, self.batch.inputs[j])
        return found

    def paired_features(self, j: int) -> Tensor:
        """:meth:`features` of the rows that every modality holds, ``(p, d_j)``."""
        found, paired = self.features(j), self.batch.paired
        # A slice that leaves nothing out would still cost a copy in the backward pass.
        return found if len(found) == paired else found[:paired]

    def modality_loss(self, j: int, logits: Tensor) -> Tensor:
        """Cross entropy of modality j over its own samples, normalised by ``loss_norm``; records its score.

        Under ``"mean"`` it is the mean over a_j (the paper), under ``"fixed"`` the sum over B: the batch
        size then acts as a learning rate of the modality.

        Args:
            j: the modality.
            logits: shape ``(a_j, c)``.
        """
        labels = self.batch.labels[j]
        self._recorder.modality(j, logits, labels)
        if self._fixed_norm:
            return F.cross_entropy(logits, labels, reduction="sum") / self.base_batch
        return F.cross_entropy(logits, labels)

    def fused_loss(self, logits: Tensor) -> Tensor:
        """Mean cross entropy of fused logits ``(p, c)`` over the paired samples, under either norm."""
        labels = self.batch.paired_labels
        self._recorder.fused(logits, labels)
        return F.cross_entropy(logits, labels)

    def record(self, j: int, logits: Tensor) -> None:
        """Records modality j's score from logits ``(a_j, c)`` that carry no loss of their own."""
        self._recorder.modality(j, logits, self.batch.labels[j])

    def log(self, **values: float) -> None:
        """Reports figures of the method's own, which it has named in ``Method.logs``."""
        for name in values:
            if name not in self.logged:
                raise unknown_name("figure", name, self.logged or {"(Method.logs is empty)"})
        self.logged.update(values)

    # -- for the loop ------------------------------------------------------------------------------

    def begin(self, batch: Batch, recorder: Recorder) -> None:
        """A new iteration."""
        self.batch = batch
        self._recorder = recorder
        self._features.clear()

    def forget_features(self) -> None:
        """After a step the parameters differ: features must be computed again."""
        self._features.clear()
