"""Evaluation-mode predictions and figures of a split: every sample once, none dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from dus_gym.data.dataset import Split
from dus_gym.discrepancy import log_probabilities, unrounded
from dus_gym.methods.base import Method
from dus_gym.metrics import score_all
from dus_gym.model import MultimodalModel
from dus_gym.records import FUSED_PREDICTORS, Evaluation, Figures

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Predictions:
    """Logits of a split; of R runs' splits one after the other, so that n is R times one's length."""

    unimodal: Tensor
    """Shape ``(m, n, c)``."""
    fused: dict[str, Tensor | None]
    """By predictor, ``(n, c)``; None where the method has no such head."""
    log_probabilities: Tensor
    """Of the unimodal logits, shape ``(m, n, c)``."""
    labels: Tensor
    """Shape ``(n,)``."""


def entropy_weighted(unimodal: Tensor, logp: Tensor | None = None) -> Tensor:
    """Weigh unimodal logits per sample by softmax(-entropy) over modalities.

    Args:
        unimodal: shape ``(m, n, c)``.
        logp: their log probabilities, where they are known already.

    Returns:
        Shape ``(n, c)``; a sample's result does not depend on the other samples.
    """
    if logp is None:
        logp = log_probabilities(unimodal)
    entropy = -(logp.exp() * logp).sum(-1)
    return ((-entropy).softmax(0).unsqueeze(-1) * unimodal).sum(0)


class Evaluator:
    """Predictor with one model and method.

    Args:
        model: put into evaluation mode for the time of a prediction.
        method: gives unimodal logits and its own fused prediction.
        predict_with: the predictor reported as ``method``: ``"method"``, one of the common three, or ``"sum-all"``.
        trains_fused: whether the fused head, if there is one, learns at all; if not, ``concat`` is None.
        autocast: makes the mixed-precision context.
    """

    def __init__(
        self,
        model: MultimodalModel,
        method: Method,
        predict_with: str,
        trains_fused: bool,
        autocast: Callable[[], torch.autocast | nullcontext[None]],
    ) -> None:
        self.model = model
        self.method = method
        self.predict_with = predict_with
        self.has_concat = trains_fused and "fused" in method.heads
        self.autocast = autocast

    def predict(self, split: Split, indices: Tensor | None = None) -> Predictions:
        """Return logits of ``split``, or of its rows ``indices``."""
        labels = split.labels if indices is None else split.labels.gather(-1, indices)
        rows = _every_row(split) if indices is None else indices
        m = len(self.model.encoders)
        with self._evaluating(), torch.inference_mode(), self.autocast():
            chunks = ([self.model.encode(j, split.fetch(j, chunk)) for j in range(m)] for chunk in _chunks(rows))
            return self._heads(chunks, labels)

    def predict_from(self, features: Sequence[Tensor], labels: Tensor) -> Predictions:
        """Return logits of samples whose features are known; those of :meth:`features` give :meth:`predict`'s.

        Args:
            features: m tensors ``(n, d_j)``.
            labels: shape ``(n,)``.
        """
        with self._evaluating(), torch.inference_mode(), self.autocast():
            return self._heads(zip(*(h.split(EVALUATION_BATCH, dim=-2) for h in features), strict=True), labels)

    def _heads(self, chunks: Iterable[Sequence[Tensor]], labels: Tensor) -> Predictions:
        """Return what the heads make of features, which come in chunks of samples."""
        m, classes = len(self.model.encoders), self.model.num_classes
        unimodal: list[Tensor] = []
        concat: list[Tensor] = []
        for features in chunks:
            unimodal.append(unrounded(torch.stack(self.method.unimodal_logits(self.model, features))))
            if self.has_concat:
                concat.append(unrounded(self.model.fused(features)))
        # What follows goes sample by sample, so that it need not know whose a sample is.
        joined = torch.cat(unimodal, dim=-2) if len(unimodal) > 1 else unimodal[0]
        logits = joined.reshape(m, -1, classes)
        logp = log_probabilities(logits)
        common: dict[str, Tensor] = {"sum": logits.sum(0), "entropy": entropy_weighted(logits, logp)}
        if concat:
            fused_logits = torch.cat(concat, dim=-2) if len(concat) > 1 else concat[0]
            common["concat"] = fused_logits.reshape(-1, classes)
        if self.predict_with == "method":
            own = self.method.predict(logits, common if self.has_concat else {"concat": common["sum"]} | common)
        elif self.predict_with == "sum-all":
            own = common["concat"] + common["sum"]
        else:
            own = common[self.predict_with]
        fused = {name: own if name == "method" else common.get(name) for name in FUSED_PREDICTORS}
        return Predictions(logits, fused, logp, labels.reshape(-1))

    def features(self, split: Split) -> list[Tensor]:
        """Return encoder features of every sample in evaluation mode, without a gradient: m tensors ``(n, d_j)``."""
        chunks = _chunks(_every_row(split))
        with self._evaluating(), torch.no_grad(), self.autocast():
            return [
                torch.cat([unrounded(self.model.encode(j, split.fetch(j, chunk))) for chunk in chunks], dim=-2)
                for j in range(len(self.model.encoders))
            ]

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        was_training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(was_training)

    def figures(self, split: Split, indices: Tensor | None = None) -> list[Figures]:
        """Compute scores, accuracies and losses, with one transfer to the host; an entry a run."""
        found = self.predict(split, indices)
        m, n, _ = found.unimodal.shape
        runs = self.model.runs or 1
        names = [name for name, logits in found.fused.items() if logits is not None]
        heads = torch.stack([logits for logits in found.fused.values() if logits is not None])
        logp = found.log_probabilities.gather(-1, found.labels.expand(m, n).unsqueeze(-1)).squeeze(-1)
        fused_logp = log_probabilities(heads).gather(-1, found.labels.expand(len(heads), n).unsqueeze(-1)).squeeze(-1)
        right = torch.cat([found.unimodal, heads]).argmax(-1) == found.labels
        # A diverged head has no probability of being right, and the worst loss there is: whoever compares must see it.
        worst = torch.finfo(torch.float32).max

        def means(values: Tensor) -> Tensor:
            return values.view(len(values), runs, -1).mean(2)

        losses = (-means(torch.cat([logp, fused_logp]))).nan_to_num(nan=worst)
        parts = [means(logp.exp()).nan_to_num(nan=0.0), losses[:m], means(right.to(losses.dtype)), losses[m:]]
        by_run: list[list[float]] = torch.cat(parts).T.tolist()
        every = []
        for values in by_run:
            accuracy = dict(zip(names, values[3 * m :], strict=False))
            loss = dict(zip(names, values[3 * m + len(names) :], strict=True))
            every.append(
                Figures(
                    scores=values[:m],
                    losses=values[m : 2 * m],
                    accuracies=values[2 * m : 3 * m],
                    fused={name: accuracy.get(name) for name in found.fused},
                    fused_losses={name: loss.get(name) for name in found.fused},
                )
            )
        return every

    def evaluate(self, split: Split, modalities: tuple[str, ...]) -> list[Evaluation]:
        """Compute all metrics of every modality and predictor, an entry a run."""
        found = self.predict(split)
        runs, classes = self.model.runs or 1, self.model.num_classes

        def of_runs(logits: Tensor) -> Tensor:
            return logits.view(runs, -1, classes)

        labels = found.labels.view(runs, -1)
        return [
            Evaluation(
                modalities={
                    name: score_all(of_runs(logits)[r], labels[r])
                    for name, logits in zip(modalities, found.unimodal, strict=True)
                },
                fused={
                    name: None if logits is None else score_all(of_runs(logits)[r], labels[r])
                    for name, logits in found.fused.items()
                },
            )
            for r in range(runs)
        ]


def _every_row(split: Split) -> Tensor:
    """Return the rows of a split in order, ``(n,)``, or ``(R, n)`` of the splits of R runs."""
    labels = split.labels
    rows = torch.arange(labels.shape[-1], device=labels.device)
    return rows if labels.ndim == 1 else rows.expand(labels.shape)


def _chunks(rows: Tensor) -> tuple[Tensor, ...]:
    chunks: tuple[Tensor, ...] = rows.split(EVALUATION_BATCH, dim=-1)
    return chunks
