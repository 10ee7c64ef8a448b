"""Which dimensions of a modality's features tell the class, and the loss that teaches them to another one (DI-MML)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dus_gym.methods.prototypes import class_prototypes


def dimension_accuracies(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """How often each dimension alone finds the class with the nearest mean, ``(d,)``; the first class wins ties.

    Args:
        features: shape ``(n, d)``.
        labels: shape ``(n,)``.
        classes: c; a class without a sample is never the nearest.
    """
    means = class_prototypes(features, labels, classes, None, 0.0)
    there = F.one_hot(labels, classes).any(dim=0)
    nearest = torch.full_like(features, float("inf"))
    found = torch.zeros_like(features, dtype=labels.dtype)
    # A class at a time: all at once would take n d c numbers.
    for k, mean in enumerate(torch.where(there.unsqueeze(1), means, float("inf"))):
        distance = (features - mean).abs()
        found = torch.where(distance < nearest, k, found)
        nearest = torch.minimum(distance, nearest)
    return (found == labels.unsqueeze(1)).to(features.dtype).mean(dim=0)


def transfer_loss(student: Tensor, teacher: Tensor, dimensions: Tensor, temperature: float) -> Tensor:
    """InfoNCE between the two modalities of the same samples, with plain dot products over some dimensions.

    Without a dimension, or with one sample, it is a constant.

    Args:
        student: shape ``(p, d)``.
        teacher: shape ``(p, d)``; gets no gradient.
        dimensions: which count, shape ``(d,)``, bool.
        temperature: T.
    """
    # Other dimensions become zero and are not cut out: a boolean index would wait for the device.
    logits = (student * dimensions) @ teacher.detach().T / temperature
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
