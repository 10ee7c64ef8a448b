"""The discrepancy score and Eq. 3, its cumulative form: the state that the agent observes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dus_gym.errors import ConfigError, check_choice

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

CUMULATIVE_MODES = ("run", "epoch", "ema", "none")
EMA_DECAY = 0.95


def true_class_probability(logits: torch.Tensor, labels: torch.Tensor | npt.ArrayLike) -> torch.Tensor:
    """Return the probability each sample's logits give its own class.

    Args:
        logits: shape ``(..., c)``.
        labels: shape ``(...)``, integer classes from 0 to c - 1, on any device.

    Returns:
        Shape ``(...)``; its mean is the paper's discrepancy score s_t. A mean, never a sum: modalities
        have different batch sizes, and a sum would compare the sizes.

    Raises:
        ConfigError: for labels of another shape, or that are no whole numbers.
    """
    import torch

    labels = torch.as_tensor(labels, device=logits.device)
    if labels.is_floating_point() or labels.shape != logits.shape[:-1]:
        raise ConfigError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}; logits of shape {tuple(logits.shape)} need the "
            f"whole number of a class for each sample, shape {tuple(logits.shape[:-1])}."
        )
    labels = labels.long()
    return log_probabilities(logits).gather(-1, labels.unsqueeze(-1)).squeeze(-1).exp()


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Return ``log_softmax`` over the last dimension, in float32 or, of float64, in that.

    Args:
        logits: shape ``(..., c)``.

    Returns:
        The same shape. It is a transposed view: PyTorch's CPU kernel takes ten times as long over a last
        dimension of ten classes as over a first one.
    """
    return unrounded(logits).movedim(-1, 0).contiguous().log_softmax(0).movedim(0, -1)


def unrounded(values: torch.Tensor) -> torch.Tensor:
    """Return values of mixed precision in float32; float32 and float64 as they are."""
    return values if values.is_floating_point() and values.element_size() >= 4 else values.float()


def sample_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy of every sample, nats.

    Args:
        logits: shape ``(n, c)``, or ``(R, n, c)`` of R runs.
        labels: shape ``(n,)`` or ``(R, n)``, integer classes.

    Returns:
        Shape ``(n,)`` or ``(R, n)``.
    """
    if logits.ndim == 2:
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, labels, reduction="none")
    # Classes first, as in log_probabilities.
    surely = unrounded(logits).movedim(-1, 0).contiguous().log_softmax(0)
    return -surely.gather(0, labels.unsqueeze(0)).squeeze(0)


class CumulativeScore:
    """The running score ŝ_t of every modality (Eq. 3).

    Args:
        num_modalities: m.
        mode: ``"run"`` is the paper's plain running mean over all iterations of the run, ``"epoch"``
            restarts it at each step of the environment, ``"ema"`` keeps 0.95 of the old value an
            iteration, ``"none"`` is the last iteration alone (the ablation "w/o CS").

    Raises:
        ConfigError: for another mode.
    """

    def __init__(self, num_modalities: int, mode: str = "run") -> None:
        check_choice("cumulative", mode, CUMULATIVE_MODES)
        self.mode = mode
        self.iterations = 0
        self.value = [0.0] * num_modalities

    def start_step(self) -> None:
        """Begin a step of the environment, before its iterations are added."""
        if self.mode == "epoch":
            self.iterations = 0

    def add(self, scores: Sequence[float], repeats: int = 1) -> None:
        """Add one iteration's scores s_t, or ``repeats`` iterations that all had them.

        Args:
            scores: m means of the true-class probability.
            repeats: how many iterations these scores stand for.
        """
        t = self.iterations
        if len(scores) != len(self.value):
            raise ValueError(f"{len(scores)} scores for {len(self.value)} modalities.")
        if self.mode == "none" or t == 0:
            self.value = list(scores)
        elif self.mode == "ema":
            keep = EMA_DECAY**repeats
            self.value = [keep * old + (1.0 - keep) * s for old, s in zip(self.value, scores, strict=True)]
        else:
            total = t + repeats
            self.value = [old + (s - old) * (repeats / total) for old, s in zip(self.value, scores, strict=True)]
        self.iterations = t + repeats

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed run needs, JSON-able."""
        return {"iterations": self.iterations, "value": list(self.value)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned."""
        self.iterations = int(state["iterations"])
        self.value = [float(v) for v in state["value"]]
