"""Sample-level modality valuation (SMV, Wei et al., CVPR 2024): 2 - 2φ masked copies of a sample per modality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import factorial, tanh
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dus_gym.context import Context
from dus_gym.errors import check_at_least, check_choice, check_fraction
from dus_gym.methods.base import Method, MethodOptions
from dus_gym.methods.shapley import features_of_zeros, inputs_of_zeros, shapley_weights


@dataclass(frozen=True)
class SMVOptions(MethodOptions):
    """Options of the valuation and of the copies that follow from it."""

    level: str = "sample"
    """``sample``: every sample is copied in each modality that contributes little to it; ``modality``: samples drawn
    at random are copied in the modality that contributes least on average."""
    warm_up: float = 0.08
    """Fraction of the run's epochs before the first copies, at least one epoch; the authors' 5 epochs of 60."""
    masking: str = "features"
    """Zeros in a masked modality: ``features``, before the head (the released code), or ``inputs``, before
    the encoder (from memory of the paper)."""
    alpha: float = 1.0
    """Strength α of the modality-level copies."""
    growth: str = "linear"
    """Modality-level copies per training sample from g = 2/3 of the gap of mean contributions: ``linear``: α g;
    ``tanh``: tanh(α g); ``power``: α g^1.5, with α outside the exponent as in the released code."""
    part: float = 0.2
    """Fraction of the training samples, drawn anew each time, that the modality level is judged on."""

    def __post_init__(self) -> None:
        check_choice("level", self.level, ("sample", "modality"))
        check_choice("masking", self.masking, ("features", "inputs"))
        check_choice("growth", self.growth, ("linear", "tanh", "power"))
        check_at_least("alpha", self.alpha, 0)
        check_fraction("warm_up", self.warm_up, "[0, 1)")
        check_fraction("part", self.part, "(0, 1]")

    def grown(self, gap: float) -> float:
        """Return the modality-level copies per training sample for a gap of mean contributions."""
        alpha, g = self.alpha, 2.0 / 3.0 * gap
        copies: dict[str, float] = {"linear": alpha * g, "tanh": tanh(alpha * g), "power": alpha * g**1.5}
        return copies[self.growth]


def copies(values: Tensor, m: int) -> Tensor:
    """Return the times a sample is repeated in a modality: 2 - 2φ, at least 0, φ rounded to halves (up).

    Args:
        values: φ times m!, of :func:`value_shares`.
        m: modalities.
    """
    whole = factorial(m)
    halves = torch.div(4 * values + whole, 2 * whole, rounding_mode="floor")
    return (2 - halves).clamp_min(0)


def subset_logits(present: Sequence[Tensor], absent: Sequence[Tensor]) -> Tensor:
    """Return fused logits from every set of modalities, ``(2^m - 1, n, c)``; set k's members are the bits of k + 1.

    Args:
        present: additive parts of the samples, m tensors ``(n, c)``.
        absent: additive parts of a masked modality, m tensors ``(1, c)``.
    """
    m = len(present)
    both = torch.stack([torch.stack([zero.expand_as(part), part]) for part, zero in zip(present, absent, strict=True)])
    sets = [[members >> j & 1 for j in range(m)] for members in range(1, 2**m)]
    return torch.stack([sum((both[j, k] for j, k in enumerate(chosen)), start=both.new_zeros(())) for chosen in sets])


def value_shares(right: Tensor) -> Tensor:
    """Return Shapley values of v(S) = |S| where the prediction from S is right, else 0, in units of 1 / m!.

    Args:
        right: whether the prediction from each set of modalities is right, shape ``(2^m - 1, n)``; the members of set
            k are the bits of k + 1.

    Returns:
        Shape ``(m, n)``, integers: φ times m!. Over modalities they sum to v(all) m!.
    """
    sets = len(right)
    m = (sets + 1).bit_length() - 1
    members = torch.tensor([(k + 1).bit_count() for k in range(sets)], device=right.device)
    weights = (shapley_weights(m) * factorial(m)).round().long().to(right.device)
    # Not a matrix product, which accelerators lack for integers.
    by_set = right.movedim(0, -1) * members
    return torch.stack([(by_set * of_modality).sum(dim=-1) for of_modality in weights])


class SMV(Method):
    """Sample-level modality valuation (Wei, Feng, Wang and Hu, CVPR 2024).

    ``L = CE(z, y)`` of the concat head. After the warm-up, at the end of every epoch, the prediction of each training
    sample from each set S of modalities, in evaluation mode, has the value |S| if it is right and 0 if not, and a
    modality's contribution φ is its Shapley value. At the sample level the next epoch has :func:`copies` of the
    sample that show this modality alone. At the modality level it has as many copies as ``growth`` says, of samples
    drawn with replacement, shown in the modality with the least mean φ alone; with more than two modalities the gap is
    to the largest (ours).

    An epoch keeps its number of iterations, so that one on a longer list does not show all of it; the released code
    makes the epoch longer. It is a sampler of its own, and the copies mask modalities, so no agent steers it.

    Features are masked, so a modality's score is of all rows, also of those that do not show it. Masked inputs reach
    the encoder, its running statistics too, and the score.
    """

    name: ClassVar[str] = "smv"
    paper: ClassVar[str] = (
        "Wei, Feng, Wang and Hu, Enhancing Multimodal Cooperation via Sample-level Modality Valuation, CVPR 2024"
    )
    year: ClassVar[int] = 2024
    changes: ClassVar[str] = "repeats samples, masked to the modality that contributes little to their prediction"
    heads: ClassVar[frozenset[str]] = frozenset({"fused"})
    iterates_alike: ClassVar[bool] = True
    maps_runs: ClassVar[bool] = True
    logs: ClassVar[tuple[str, ...]] = ("contribution/*", "copies/*")
    options_type: ClassVar[type[MethodOptions]] = SMVOptions
    options: SMVOptions

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield the fused loss of the samples and their masked copies."""
        keep = ctx.batch.keep
        if keep is not None and self.options.masking == "inputs":
            shown = zip(ctx.batch.inputs, keep.unbind(-1), strict=True)
            features = [ctx.model.encode(j, _masked(x, kept)) for j, (x, kept) in enumerate(shown)]
        else:
            features = [ctx.features(j) for j in range(ctx.num_modalities)]
        parts = ctx.model.additive_parts(features)
        for j, part in enumerate(parts):
            ctx.record(j, part)
        if keep is not None and self.options.masking == "features":
            parts = ctx.model.additive_parts([_masked(h, k) for h, k in zip(features, keep.unbind(-1), strict=True)])
        yield ctx.fused_loss(sum(parts[1:], start=parts[0]))

    def expand(self, ctx: Context) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]] | None:
        """Return the copies of the coming epoch, by run; None in the warm-up, and after the last epoch."""
        first = max(1, round(self.options.warm_up * ctx.epochs))
        if ctx.epoch < first or ctx.epoch == ctx.epochs:
            return None
        if ctx.epoch == first:
            ctx.restart_plateau()
        values = self._valuate(ctx)
        by_run = [values] if ctx.runs is None else values.unbind(1)
        found, means, counts = [], [], []
        for of_run, rng in zip(by_run, ctx.rngs, strict=True):
            indices, mean = self._copies(of_run, rng)
            shows = np.repeat(np.eye(ctx.num_modalities, dtype=np.bool_), [len(of) for of in indices], axis=0)
            found.append((np.concatenate(indices), shows))
            means.append(mean)
            counts.append([float(len(of)) for of in indices])
        for j, name in enumerate(ctx.modalities):
            ctx.log({f"contribution/{name}": ctx.stack([mean[j] for mean in means])})
            ctx.log({f"copies/{name}": ctx.by_run([count[j] for count in counts])})
        return found

    def _copies(self, values: Tensor, rng: np.random.Generator) -> tuple[list[npt.NDArray[np.int64]], Tensor]:
        """Return the samples of one run to copy, by the modality that they show, and the mean contributions, ``(m,)``.

        Args:
            values: of :func:`value_shares`, ``(m, n)``.
            rng: the run's own.
        """
        m, n = values.shape
        if self.options.level == "sample":
            numbers = copies(values, m).cpu().numpy()
            indices = [np.repeat(np.arange(n), of) for of in numbers]
        else:
            rows = np.sort(rng.permutation(n)[: max(1, round(self.options.part * n))])
            means = (values[:, torch.from_numpy(rows).to(values.device)].double().mean(dim=1) / factorial(m)).tolist()
            drawn = rng.integers(n, size=int(self.options.grown(max(means) - min(means)) * n))
            least = means.index(min(means))
            indices = [drawn if j == least else drawn[:0] for j in range(m)]
        return indices, values.double().mean(dim=1) / factorial(m)

    def _valuate(self, ctx: Context) -> Tensor:
        """Return every modality's contributions to every training sample, times m!, ``(m, n)`` or ``(m, R, n)``."""
        features = ctx.train_features()
        if self.options.masking == "features":
            nothing = [torch.zeros_like(h[..., :1, :]) for h in features]
        else:
            with torch.no_grad():
                nothing = features_of_zeros(ctx.model, inputs_of_zeros(ctx))
        with torch.no_grad():
            present, absent = ctx.model.additive_parts(features), ctx.model.additive_parts(nothing)
            right = subset_logits(present, absent).argmax(dim=-1) == ctx.train_split.labels
        return value_shares(right)


def _masked(rows: Tensor, keep: Tensor) -> Tensor:
    """Return ``rows`` with zeros where ``keep``, ``(n,)``, is False."""
    return rows.masked_fill(~keep.view(*keep.shape, *[1] * (rows.ndim - keep.ndim)), 0)
