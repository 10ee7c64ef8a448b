"""Sustained boosting (AUG, Jiang et al., NeurIPS 2025): the modality that lags gets one more classifier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dus_gym.context import Context
from dus_gym.discrepancy import sample_cross_entropy, true_class_probability
from dus_gym.errors import ONE_BY_ONE, ConfigError, check_fraction
from dus_gym.methods.base import Method, MethodOptions
from dus_gym.model import BOOSTED_MOST


@dataclass(frozen=True)
class AUGOptions(MethodOptions):
    """Options of the residual loss and of who gets classifiers."""

    residual_weight: float = 0.5
    """Part of the probability that the earlier classifiers give the true class which the newest need not learn; 0.5 is
    the authors' for CREMA-D, 0.2 theirs for Kinetics-Sounds and NVGesture."""
    period: float = 0.1
    """Epochs between two looks at who lags, as a fraction of the run's, with the first after one epoch; the authors'
    tenth."""
    lag: float | None = None
    """A modality lags if its score over the sum of the others' is below this; none: the authors' 0.99 for two
    modalities and 0.4 for three, and 0.8 / (m - 1) for more (ours)."""

    def __post_init__(self) -> None:
        check_fraction("residual_weight", self.residual_weight)
        check_fraction("period", self.period, "(0, 1]")
        if self.lag is not None:
            check_fraction("lag", self.lag, "(0, 1]")

    def lag_of(self, m: int) -> float:
        """Return the limit for m modalities."""
        if self.lag is not None:
            return self.lag
        return 0.99 if m == 2 else 0.8 / (m - 1)


def boosting_losses(earlier: Tensor, newest: Tensor, labels: Tensor, residual_weight: float) -> Tensor:
    """Return ``CE(earlier, y) + (1 - β p̄_y) CE(newest, y)`` of every sample, ``(n,)``.

    The second part is the newest classifier's cross entropy against the residual ``e_y - β p̄_y e_y``.

    Args:
        earlier: logits of all classifiers but the newest, summed, ``(n, c)``; p̄ is their softmax, without a gradient.
        newest: the newest one's logits, ``(n, c)``.
        labels: shape ``(n,)``.
        residual_weight: β.
    """
    left = 1.0 - residual_weight * true_class_probability(earlier.detach(), labels)
    return sample_cross_entropy(earlier, labels) + left * sample_cross_entropy(newest, labels)


class AUG(Method):
    """Sustained boosting with adaptive classifier assignment (Jiang, Huang and Yang, NeurIPS 2025).

    A modality's logits z_j are the sum of its classifiers: each a hidden layer of its own on h_j and one linear layer
    that all classifiers of all modalities share. It begins with one. After the first epoch, and every ``period`` from
    then on, a modality whose mean true-class probability of the epoch lags behind the others' gets one more, at most
    ten. The loss of a modality is ``CE(z_j, y)``, and once it has more than one classifier :func:`boosting_losses` as
    well. Modalities step in turn, whatever ``update`` says, and predict together by the mean of their logits.

    Nothing is paired: modality j takes its own a_j samples. In the released code the optimiser is made before the first
    classifier is added, so that added layers never train; here they do.
    """

    name: ClassVar[str] = "aug"
    paper: ClassVar[str] = (
        "Jiang, Huang and Yang, Rethinking Multimodal Learning from the Perspective of Mitigating Classification "
        "Ability Disproportion, NeurIPS 2025"
    )
    year: ClassVar[int] = 2025
    changes: ClassVar[str] = "gives the modality that lags more classifiers, each for what the ones before leave"
    fuses: ClassVar[bool] = False
    heads: ClassVar[frozenset[str]] = frozenset({"boosted"})
    own_predictor: ClassVar[str] = "sum"
    alternates: ClassVar[bool] = True
    maps_runs: ClassVar[bool] = True
    supports_unpaired: ClassVar[bool] = True
    supports_independent: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("classifiers/*",)
    options_type: ClassVar[type[MethodOptions]] = AUGOptions
    options: AUGOptions

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self._added: list[list[int]] = []
        self._scores: list[Tensor] = []

    def on_fit_start(self, ctx: Context) -> None:
        """Begin with one classifier per modality."""
        if ctx.runs is not None and ctx.optimizer.config.name != "sgd":
            raise ConfigError(
                f"optimizer={ctx.optimizer.config.name!r} counts its steps for all runs together, and method="
                f"{self.name!r} adds classifiers in single runs; {ONE_BY_ONE}."
            )
        self._added = [[0] * ctx.num_modalities for _ in range(ctx.runs or 1)]

    def on_epoch_start(self, ctx: Context) -> None:
        """Give a classifier to who lagged in the epoch that ended, where it is time to look."""
        period = max(1, round(self.options.period * ctx.epochs))
        if ctx.epoch == 1 or (ctx.epoch and ctx.epoch % period == 0):
            columns = [scores.reshape(-1).tolist() for scores in self._scores]
            limit = self.options.lag_of(ctx.num_modalities)
            grown = set()
            for r in (r for r in range(len(self._added)) if not ctx.has_ended(r)):
                of_run = [column[r] for column in columns]
                for j, score in enumerate(of_run):
                    if score < limit * (sum(of_run) - score) and self._added[r][j] < BOOSTED_MOST:
                        self._add(ctx, r, j)
                        grown.add(r)
            ctx.restart_plateau(grown)
        self._scores = []
        for j, name in enumerate(ctx.modalities):
            ctx.log({f"classifiers/{name}": ctx.by_run([1.0 + of[j] for of in self._added])})

    def _add(self, ctx: Context, r: int, j: int) -> None:
        """Give modality j of run r one more classifier, initialised as released."""
        model = ctx.model
        assert model.boosted_layers is not None
        assert model.boosted_active is not None
        self._added[r][j] += 1
        k = self._added[r][j]
        layers = model.boosted_layers[j]
        assert isinstance(layers, nn.ModuleList)
        layer = layers[k]
        assert isinstance(layer, nn.Linear)
        out, into = layer.weight.shape[-2:]
        drawn = torch.from_numpy(ctx.rngs[r].standard_normal((out, into)) * sqrt(2.0 / (out + into)))
        with torch.no_grad():
            weight, active = (of if ctx.runs is None else of[r] for of in (layer.weight, model.boosted_active))
            # Its bias is 0 since it was built.
            weight.copy_(drawn)
            active[j, k - 1] = 1.0

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield one loss per modality."""
        scores: list[Tensor] = []
        for j in range(ctx.num_modalities):
            h, added = ctx.features(j), [of[j] for of in self._added]
            parts = [ctx.model.boosted_part(j, k, h) for k in range(max(added) + 1)]
            earlier = parts[0]
            newest: Tensor | None = None
            for k, part in enumerate(parts[1:], start=1):
                # A run may have fewer classifiers than another.
                before = part * ctx.by_run([float(k < count) for count in added], part)
                last = part * ctx.by_run([float(k == count) for count in added], part)
                earlier, newest = earlier + before, last if newest is None else newest + last
            total = earlier if newest is None else earlier + newest
            loss = ctx.modality_loss(j, total)
            if newest is not None:
                more = ctx.reduce(
                    boosting_losses(earlier, newest, ctx.batch.labels[j], self.options.residual_weight), j
                )
                loss = loss + more * ctx.by_run([float(count > 0) for count in added])
            scores.append(ctx.mean(true_class_probability(total.detach(), ctx.batch.labels[j]), j))
            yield loss
        earlier_scores = self._scores or [torch.zeros_like(of) for of in scores]
        self._scores = [one.to(more.device) + more for one, more in zip(earlier_scores, scores, strict=True)]

    def predict(self, unimodal: Tensor, predictions: Mapping[str, Tensor]) -> Tensor:
        """Return the mean of the modalities' logits."""
        return unimodal.mean(dim=0)

    def state_dict(self) -> dict[str, Any]:
        """Return who has how many added classifiers, by run, and the scores of the epoch under way."""
        return {"added": [list(of) for of in self._added], "scores": [of.clone() for of in self._scores]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put them back; which classifiers count is part of the model."""
        self._added = [list(of) for of in state["added"]]
        self._scores = [torch.as_tensor(of).clone() for of in state["scores"]]
