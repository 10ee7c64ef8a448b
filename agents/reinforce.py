"""REINFORCE (Eq. 6), by hand: a tiny policy network, its gradient, Adam, and four ways to read the paper.

Everything is NumPy. The network has about two hundred weights, and a framework's overhead on it would be
a tenth of a training step of the embedded tasks; the gradient is seven lines, checked against automatic
differentiation in the tests.

    û = W2 tanh(W1 ŝ + b1) + b2          one number a modality, "logits" below
    policy(û) -> shares                  see the four policies
    ω <- Adam(ω, ∇)                      ascends E[r] + entropy · H(mean split)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from dus_gym.agents.base import Agent, AgentOptions, Array, Info
from dus_gym.errors import ConfigError, check_at_least, check_choice

Vector = npt.NDArray[np.float64]
POLICIES = ("dirichlet", "logistic_normal", "pathwise", "literal")
PRESETS = ("paper", "tuned")
SHARE_FLOOR = 1e-6
MOST_LOGIT = 1e6


@dataclass(frozen=True)
class ReinforceOptions(AgentOptions):
    """Options of REINFORCE; None means the preset's value."""

    policy: str = "dirichlet"
    """dirichlet or logistic_normal: stochastic policies with a proper score function; pathwise: a deterministic
    split, Eq. 5 differentiated through it; literal: Eq. 6 as printed, on a deterministic split. literal walks
    away from uniform in whichever direction its random start leans: for study, not for use."""
    preset: str = "paper"
    """paper: lr 1e-4, one update per epoch, no entropy bonus (nearly inert); tuned: lr 1e-2, an update every 5
    iterations, entropy 0.5 (use it with --min-fraction .25)."""
    lr: float | None = None
    """Learning rate of the policy."""
    entropy: float | None = None
    """Weight of the entropy of the mean split; keeps Eq. 5 from starving the dominant modality."""
    every: int | None = None
    """Iterations between decisions; one epoch if neither this nor the preset gives a number."""
    baseline: bool = True
    """Subtract the running mean of the rewards (never for pathwise and literal)."""
    hidden: int = 32
    """Units of the policy network's tanh layer."""
    concentration: float = 10.0
    """Tightness of the Dirichlet around its mean at the start: each concentration begins at 1 + this."""
    sigma: float = 0.3
    """Standard deviation of the logistic-normal policy's logits."""

    def __post_init__(self) -> None:
        check_choice("policy", self.policy, POLICIES)
        check_choice("preset", self.preset, PRESETS)
        check_at_least("hidden", self.hidden, 1)
        for name in ("lr", "concentration", "sigma"):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise ConfigError(f"{name}={value!r} is not allowed; it must be positive.")
        if self.entropy is not None:
            check_at_least("entropy", self.entropy, 0.0)
        if self.every is not None:
            check_at_least("every", self.every, 1)


def softmax(logits: Vector) -> Vector:
    """Return the point of the simplex of logits ``(m,)``."""
    exponentials = np.exp(logits - logits.max())
    shares: Vector = exponentials / exponentials.sum()
    return shares


class Concentration:
    """The Dirichlet's parameters ``α = 1 + κ softplus(û) / ln 2``: at least 1, and 1 + κ at û = 0."""

    def __init__(self, kappa: float) -> None:
        # Imported here: scipy.special takes a tenth of a second, and listing the agents needs none of it.
        from scipy.special import digamma, expit

        self.digamma, self._expit = digamma, expit
        self.scale = kappa / np.log(2.0)

    def __call__(self, logits: Vector) -> Vector:
        """Return α ``(m,)`` of logits ``(m,)``."""
        alpha: Vector = 1.0 + self.scale * np.logaddexp(0.0, logits)
        return alpha

    def slope(self, logits: Vector) -> Vector:
        """Return dα/dû, entry by entry."""
        slope: Vector = self.scale * self._expit(logits)
        return slope


class Pending(NamedTuple):
    """A decision whose reward is still to come."""

    state: Vector
    hidden: Vector
    logits: Vector
    shares: Vector
    noise: Vector
    """The standard normal draw behind a logistic_normal split; zeros under the other policies."""


class Reinforce(Agent):
    """The paper's agent on a proper policy.

    Args:
        num_modalities: m.
        seed: of the network's start and of its draws.
        options: see :class:`ReinforceOptions`.
    """

    name: ClassVar[str] = "reinforce"
    summary: ClassVar[str] = "the paper's agent: REINFORCE on the scores, one update a decision"
    options_type: ClassVar[type[AgentOptions]] = ReinforceOptions
    options: ReinforceOptions
    learns = True

    def __init__(self, num_modalities: int, seed: int = 0, options: AgentOptions | None = None) -> None:
        super().__init__(num_modalities, seed, options)
        chosen = self.options
        tuned = chosen.preset == "tuned"
        self.lr = chosen.lr if chosen.lr is not None else (1e-2 if tuned else 1e-4)
        self.entropy = chosen.entropy if chosen.entropy is not None else (0.5 if tuned else 0.0)
        self._every = chosen.every if chosen.every is not None else (5 if tuned else None)
        self.concentration = Concentration(chosen.concentration)
        m, h = num_modalities, chosen.hidden
        self._shapes = {"w1": (h, m), "b1": (h,), "w2": (m, h), "b2": (m,)}
        # One vector, seen as four arrays: Adam then costs a dozen small operations instead of four dozen.
        self._vector = np.zeros(h * m + h + m * h + m)
        self.weights = self._views(self._vector)
        bound_in, bound_out = m**-0.5, h**-0.5
        self.weights["w1"][:] = self.rng.uniform(-bound_in, bound_in, (h, m))
        self.weights["b1"][:] = self.rng.uniform(-bound_in, bound_in, h)
        if chosen.policy == "literal":
            # Elsewhere the last layer stays zero, so that training starts at the uniform split.
            self.weights["w2"][:] = self.rng.uniform(-bound_out, bound_out, (m, h))
            self.weights["b2"][:] = self.rng.uniform(-bound_out, bound_out, m)
        self._gradient = np.zeros_like(self._vector)
        self._gradients = self._views(self._gradient)
        self._first, self._second = np.zeros_like(self._vector), np.zeros_like(self._vector)
        self.updates = 0
        self.skipped = 0
        self._reward_sum = 0.0
        self._rewards = 0
        self._pending: Pending | None = None

    @property
    def interval(self) -> int | None:
        """Iterations between decisions; None: one epoch."""
        return self._every

    def _views(self, vector: Vector) -> dict[str, Vector]:
        """Return the four arrays that a vector of all weights holds, by name, without a copy."""
        views: dict[str, Vector] = {}
        start = 0
        for name, shape in self._shapes.items():
            size = int(np.prod(shape))
            views[name] = vector[start : start + size].reshape(shape)
            start += size
        return views

    # -- acting ------------------------------------------------------------------------------------

    def logits(self, state: Vector) -> tuple[Vector, Vector]:
        """Return the hidden layer ``(h,)`` and the logits ``(m,)`` of scores ``(m,)``."""
        w = self.weights
        hidden = np.tanh(w["w1"] @ state + w["b1"])
        return hidden, w["w2"] @ hidden + w["b2"]

    def mean(self, logits: Vector) -> Vector:
        """Return the policy's mean split ``(m,)``; for logistic_normal the split of its mean logits."""
        if self.options.policy == "dirichlet":
            alpha = self.concentration(logits)
            mean: Vector = alpha / alpha.sum()
            return mean
        return softmax(logits)

    def sample(self, logits: Vector) -> tuple[Vector, Vector]:
        """Return a split, and the standard normal draw behind it (zeros where there is none), both ``(m,)``."""
        policy = self.options.policy
        noise = np.zeros(len(logits))
        if policy == "dirichlet":
            gammas = self.rng.standard_gamma(self.concentration(logits))
            # A share of exactly 0 has no logarithm; the draw is floored before its probability is taken.
            shares = np.maximum(gammas / gammas.sum(), SHARE_FLOOR)
            return shares / shares.sum(), noise
        if policy == "logistic_normal":
            noise = self.rng.standard_normal(len(logits))
            return softmax(logits + self.options.sigma * noise), noise
        return softmax(logits), noise

    def score(self, pending: Pending) -> Vector:
        """Return ∇_û log π(shares), shape ``(m,)``; for literal what Eq. 6 has in its place."""
        policy = self.options.policy
        if policy == "dirichlet":
            return self.dirichlet_score(pending.logits, pending.shares)
        if policy == "logistic_normal":
            return pending.noise / self.options.sigma
        # Eq. 6 as printed: the gradient of the sum of log ψ_j, as if the shares were probabilities of a draw.
        return 1.0 - len(pending.shares) * pending.shares

    def dirichlet_score(self, logits: Vector, shares: Vector) -> Vector:
        """Return ∇_û log Dirichlet(shares; α(û)), shape ``(m,)``."""
        alpha, digamma = self.concentration(logits), self.concentration.digamma
        score: Vector = (digamma(alpha.sum()) - digamma(alpha) + np.log(shares)) * self.concentration.slope(logits)
        return score

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return a split drawn from the policy; the uniform one if the policy is no longer finite."""
        state = np.asarray(observation, dtype=np.float64)
        hidden, logits = self.logits(state)
        self._pending = None
        # Beyond these logits a split is a corner anyway, and their exponentials overflow.
        if not (np.abs(logits) < MOST_LOGIT).all():
            return self.uniform_action()
        if deterministic:
            return self.mean(logits).astype(np.float32)
        shares, noise = self.sample(logits)
        self._pending = Pending(state, hidden, logits, shares, noise)
        return shares.astype(np.float32)

    # -- learning ----------------------------------------------------------------------------------

    def entropy_gradient(self, logits: Vector) -> Vector:
        """Return ∇_û H(mean split), shape ``(m,)``: towards uniform."""
        mean = self.mean(logits)
        log_mean = np.log(np.maximum(mean, SHARE_FLOOR))
        entropy = -(mean * log_mean).sum()
        if self.options.policy == "dirichlet":
            total = self.concentration(logits).sum()
            gradient: Vector = (-log_mean - entropy) / total * self.concentration.slope(logits)
            return gradient
        return np.asarray(-mean * (log_mean + entropy))

    def ascent(self, pending: Pending, reward: float) -> Vector:
        """Return the direction in logits, ``(m,)``, that this reward asks for."""
        policy = self.options.policy
        if policy == "pathwise":
            weak = pending.state != pending.state.max()
            direction = (weak - weak.sum() * pending.shares) / len(weak)
        elif policy == "literal":
            direction = reward * self.score(pending)
        else:
            expected = self._reward_sum / self._rewards if self.options.baseline and self._rewards else 0.0
            direction = (reward - expected) * self.score(pending)
        if self.entropy:
            direction = direction + self.entropy * self.entropy_gradient(pending.logits)
        return np.asarray(direction)

    def gradient(self, pending: Pending, direction: Vector) -> Vector:
        """Backpropagate a direction in logits to the vector of all weights, which the next call overwrites."""
        into, hidden = self._gradients, pending.hidden
        np.matmul(direction, self.weights["w2"], out=into["b1"])
        into["b1"] *= 1.0 - hidden * hidden
        np.multiply.outer(into["b1"], pending.state, out=into["w1"])
        np.multiply.outer(direction, hidden, out=into["w2"])
        into["b2"][:] = direction
        return self._gradient

    def learn(self, reward: float) -> None:
        """Make one step of Adam on the decision that is pending; none if nothing is, or if it is not finite."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        gradient = self.gradient(pending, self.ascent(pending, reward))
        if np.isfinite(gradient).all():
            self._adam(gradient)
        else:
            self.skipped += 1
        if np.isfinite(reward):
            self._reward_sum += reward
            self._rewards += 1

    def _adam(self, g: Vector, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> None:
        self.updates += 1
        t, first, second = self.updates, self._first, self._second
        first *= b1
        first += (1.0 - b1) * g
        g *= g
        second *= b2
        second += (1.0 - b2) * g
        # sqrt(second / (1 - b2^t)) + eps, in the memory of the gradient, which is done with.
        np.sqrt(second, out=g)
        g *= (1.0 - b2**t) ** -0.5
        g += eps
        np.divide(first, g, out=g)
        g *= self.lr / (1.0 - b1**t)
        self._vector += g

    # -- state -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return weights, Adam's moments, the reward baseline and the generator."""
        return super().state_dict() | {
            "weights": {name: w.copy() for name, w in self.weights.items()},
            "first": self._first.copy(),
            "second": self._second.copy(),
            "updates": self.updates,
            "skipped": self.skipped,
            "reward_sum": self._reward_sum,
            "rewards": self._rewards,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned, at a step boundary."""
        super().load_state_dict(state)
        for name, w in self.weights.items():
            kept = np.asarray(state["weights"][name])
            if kept.shape != w.shape:
                raise ValueError(f"weights {name} have shape {kept.shape}; this policy's have {w.shape}")
            w[:] = kept
        self._first[:], self._second[:] = state["first"], state["second"]
        self.updates, self.skipped = int(state["updates"]), int(state["skipped"])
        self._reward_sum, self._rewards = float(state["reward_sum"]), int(state["rewards"])
        self._pending = None
