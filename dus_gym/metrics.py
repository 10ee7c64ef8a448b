"""Accuracy, macro-F1 and mean average precision, as scikit-learn defines them, on tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from dus_gym.records import Scores


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Return the fraction of samples whose predicted class is right; both arguments have shape ``(n,)``."""
    return float((predicted == labels).double().mean())


def macro_f1(predicted: Tensor, labels: Tensor, num_classes: int) -> float:
    """Return the unweighted mean of the classes' F1, over the classes that occur among labels or predictions.

    A class that occurs only on one side has F1 0 (``f1_score(average="macro", zero_division=0)``).

    Args:
        predicted: shape ``(n,)``, integer classes.
        labels: shape ``(n,)``.
        num_classes: c.
    """
    hits = torch.bincount(labels[predicted == labels], minlength=num_classes).double()
    support = torch.bincount(labels, minlength=num_classes) + torch.bincount(predicted, minlength=num_classes)
    present = support > 0
    return float((2.0 * hits[present] / support[present]).mean())


def mean_average_precision(probabilities: Tensor, labels: Tensor) -> float:
    """Return the mean over classes of the one-against-rest average precision.

    ``AP = sum_k (R_k - R_{k-1}) P_k`` over the distinct thresholds, so tied samples enter together
    (``average_precision_score(average="macro")``). A class without a positive sample counts 0.

    Args:
        probabilities: shape ``(n, c)``; NaN counts as 0, so a diverged run still has a figure.
        labels: shape ``(n,)``.
    """
    n, classes = probabilities.shape
    ranked, order = torch.nan_to_num(probabilities.double(), nan=0.0).sort(dim=0, descending=True, stable=True)
    relevant = (labels[order] == torch.arange(classes, device=labels.device)).double()
    found = relevant.cumsum(dim=0)
    last_of_tie = torch.ones(n, classes, dtype=torch.bool, device=labels.device)
    last_of_tie[:-1] = ranked[:-1] != ranked[1:]
    # Each positive takes the precision at the end of its own tie: the next row, counted from below, that
    # ends a tie.
    rows = torch.arange(n, device=labels.device).unsqueeze(1).expand(n, classes)
    ends = torch.where(last_of_tie, rows, n).flip(0).cummin(dim=0).values.flip(0)
    precision = found / torch.arange(1, n + 1, device=labels.device, dtype=torch.double).unsqueeze(1)
    gained = (relevant * precision.gather(0, ends)).sum(dim=0)
    positives = found[-1]
    return float(torch.where(positives > 0, gained / positives.clamp(min=1.0), 0.0).mean())


def score_all(logits: Tensor, labels: Tensor) -> Scores:
    """Compute all three for one predictor.

    Args:
        logits: shape ``(n, c)``.
        labels: shape ``(n,)``.
    """
    # argmax of NaN is not defined the same on every device; a diverged run predicts class 0.
    logits = torch.nan_to_num(logits.double(), nan=0.0)
    predicted = logits.argmax(dim=1)
    return Scores(
        accuracy=accuracy(predicted, labels),
        map=mean_average_precision(logits.softmax(dim=1), labels),
        macro_f1=macro_f1(predicted, labels, logits.shape[1]),
    )
