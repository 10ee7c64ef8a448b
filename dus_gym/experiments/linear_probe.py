"""Linear probe: multinomial logistic regression on frozen features, fitted with L-BFGS in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dus_gym.data.splits import stratified
from dus_gym.experiments.probe_result import LinearProbe

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""C, the weight of the loss against the penalty on the weights; one of them is chosen, of equals the smallest."""
HELD_OUT = 0.2
"""Fraction of the training samples, by class, that choose C where there is no validation split."""
MOST_ITERATIONS = 2000
"""Of L-BFGS."""
CONVERGED = 1e-4
"""Bound of the gradient's largest entry, of the mean over samples: scikit-learn's tolerance."""
Samples = tuple[Tensor, Tensor]
"""Features ``(n, d)`` and labels ``(n,)``."""


@dataclass(frozen=True)
class Logistic:
    """A fitted logistic regression; it takes features as they come and standardises them itself."""

    mean: Tensor
    """Of the training features, ``(d,)``."""
    scale: Tensor
    """Their standard deviation, 1 where that is 0, ``(d,)``."""
    weight: Tensor
    """Shape ``(c, d)``."""
    bias: Tensor
    """Shape ``(c,)``."""
    converged: bool

    def accuracy(self, samples: Sequence[Tensor]) -> float:
        """Return the fraction of :data:`Samples` whose class has the largest logit."""
        features, labels = samples
        logits = ((features.double() - self.mean) / self.scale) @ self.weight.T + self.bias
        return float((logits.argmax(1) == labels).double().mean())


def fit_logistic(samples: Samples, num_classes: int, strength: float, start: Logistic | None = None) -> Logistic:
    """Return the minimum of ``½‖W‖² + C Σ CE(W x + b, y)`` over W and b, the objective of scikit-learn.

    Features are standardised with their own mean and standard deviation first; b is not penalised.

    Args:
        samples: to train on.
        num_classes: c.
        strength: C, positive.
        start: where the search begins, a fit to the same samples under another C; zeros if None.
    """
    raw, labels = samples[0].detach().double(), samples[1]
    mean, scale = raw.mean(0), raw.std(0, correction=0)
    scale = torch.where(scale > 0.0, scale, 1.0)
    features = (raw - mean) / scale
    n, d = features.shape
    if start is None:
        weight, bias = raw.new_zeros(num_classes, d), raw.new_zeros(num_classes)
    else:
        weight, bias = start.weight.clone(), start.bias.clone()
    for parameter in (weight, bias):
        parameter.requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=MOST_ITERATIONS,
        max_eval=2 * MOST_ITERATIONS,
        tolerance_grad=CONVERGED / 10.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        # Divided by C n, which moves no minimum: the gradient is that of a mean.
        optimiser.zero_grad()
        loss = cross_entropy(features @ weight.T + bias, labels) + weight.square().sum() / (2.0 * strength * n)
        loss.backward()
        return loss

    optimiser.step(objective)
    objective()
    steepest = max(float(p.grad.abs().max()) for p in (weight, bias) if p.grad is not None)
    return Logistic(mean, scale, weight.detach(), bias.detach(), steepest <= CONVERGED)


def linear_probe(
    train: Samples, validation: Samples | None, test: Samples, num_classes: int, rng: np.random.Generator
) -> LinearProbe:
    """Train on ``train``, choose C of :data:`STRENGTHS` by accuracy on ``validation``, score once on ``test``.

    Args:
        train: features of one encoder and labels.
        validation: None: a stratified fifth of ``train`` chooses, and all of it is trained on then.
        test: looked at once, by the chosen one.
        num_classes: c.
        rng: draws the fifth.
    """
    fitted_on, chooser = train, validation
    if chooser is None:
        held = torch.zeros_like(train[1], dtype=torch.bool)
        held[torch.from_numpy(stratified(train[1].tolist(), HELD_OUT, rng)).to(held.device)] = True
        fitted_on, chooser = (train[0][~held], train[1][~held]), (train[0][held], train[1][held])
    fits: list[Logistic] = []
    for strength in STRENGTHS:
        # From the last one, which lies near: a third of the steps from zeros.
        fits.append(fit_logistic(fitted_on, num_classes, strength, fits[-1] if fits else None))
    accuracies = [fit.accuracy(chooser) for fit in fits]
    best = accuracies.index(max(accuracies))
    chosen = fits[best] if validation is not None else fit_logistic(train, num_classes, STRENGTHS[best])
    return LinearProbe(chosen.accuracy(test), accuracies[best], STRENGTHS[best], chosen.converged)
