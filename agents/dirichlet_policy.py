"""A Dirichlet policy for stable-baselines3's PPO and A2C: every action it draws is a split.

Their Gaussian policies draw outside the box of shares, are clipped to its walls and learn from the unclipped
draw. The same reading of the network's output as in :mod:`dus_gym.agents.reinforce`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from dus_gym.errors import ConfigError

SHARE_FLOOR = 1e-6


def onto_simplex(shares: torch.Tensor) -> torch.Tensor:
    """Lift shares ``(n, m)`` off the walls, where a density has no finite logarithm, and renormalise them."""
    lifted = shares.clamp(min=SHARE_FLOOR)
    return lifted / lifted.sum(-1, keepdim=True)


class DirichletDistribution(Distribution):
    """Splits of m modalities, with concentrations ``α = 1 + κ softplus(û) / ln 2``.

    α is at least 1, so that the density is finite everywhere, and 1 + κ at û = 0.

    Args:
        num_modalities: m.
        concentration: κ, how tight the distribution is around its mean at the start.
    """

    distribution: torch.distributions.Dirichlet

    def __init__(self, num_modalities: int, concentration: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_modalities = num_modalities
        self.concentration = concentration

    def proba_distribution_net(self, latent_dim: int) -> nn.Module:
        """Return the layer from the policy's last layer to û ``(m,)``."""
        return nn.Linear(latent_dim, self.num_modalities)

    def proba_distribution(self, logits: torch.Tensor) -> DirichletDistribution:
        """Take û, shape ``(n, m)``, and return itself."""
        alpha = 1.0 + self.concentration / math.log(2.0) * nn.functional.softplus(logits)
        self.distribution = torch.distributions.Dirichlet(alpha)
        return self

    def log_prob(self, actions: torch.Tensor) -> torch.Tensor:
        """Return the log-density ``(n,)`` of splits ``(n, m)``, floored and renormalised as :meth:`sample` does."""
        log_prob: torch.Tensor = self.distribution.log_prob(onto_simplex(actions))
        return log_prob

    def entropy(self) -> torch.Tensor:
        """Return the differential entropy ``(n,)``: 0 for the flat distribution of two modalities, else negative."""
        entropy: torch.Tensor = self.distribution.entropy()
        return entropy

    def sample(self) -> torch.Tensor:
        """Return splits ``(n, m)``, no share below the floor."""
        return onto_simplex(self.distribution.sample())

    def mode(self) -> torch.Tensor:
        """Return the mean, shape ``(n, m)``: the mode jumps to a wall where a concentration comes near 1."""
        mean: torch.Tensor = self.distribution.mean
        return mean

    def actions_from_params(self, logits: torch.Tensor, deterministic: bool = False) -> torch.Tensor:
        """Return splits ``(n, m)`` under û ``(n, m)``."""
        return self.proba_distribution(logits).get_actions(deterministic=deterministic)

    def log_prob_from_params(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return splits ``(n, m)`` drawn under û ``(n, m)``, and their log-densities ``(n,)``."""
        actions = self.actions_from_params(logits)
        return actions, self.log_prob(actions)


class DirichletPolicy(ActorCriticPolicy):
    """SB3's actor-critic network with a Dirichlet on the simplex: ``PPO(DirichletPolicy, env)``.

    Args:
        observation_space: any that SB3 handles.
        action_space: ``Box(0, 1, (m,))``, shares.
        lr_schedule: SB3's.
        concentration: κ of :class:`DirichletDistribution`; through SB3 as ``policy_kwargs={"concentration": 5.0}``.
        kwargs: every other argument of SB3's ``ActorCriticPolicy``.

    Raises:
        ConfigError: for another action space, or a concentration that is not positive.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        concentration: float = 10.0,
        **kwargs: Any,
    ) -> None:
        if not concentration > 0.0:
            raise ConfigError(f"concentration={concentration!r} is not allowed; it must be positive.")
        if not isinstance(action_space, spaces.Box) or action_space.low.any() or (action_space.high != 1).any():
            raise ConfigError(
                f"action_space={action_space} is not allowed; DirichletPolicy acts in shares, Box(0, 1, (m,)): "
                "leave the environment unwrapped, or use MlpPolicy."
            )
        self.concentration = concentration
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"concentration": self.concentration}

    def _build(self, lr_schedule: Schedule) -> None:
        # SB3 builds for a Gaussian the layers that a Dirichlet needs, and a vector of deviations that it doesn't.
        super()._build(lr_schedule)
        del self.log_std
        self.action_dist = DirichletDistribution(spaces.flatdim(self.action_space), self.concentration)
        rate: dict[str, Any] = {"lr": lr_schedule(1)}
        self.optimizer = self.optimizer_class(self.parameters(), **rate, **self.optimizer_kwargs)

    def _get_action_dist_from_latent(self, latent_pi: torch.Tensor) -> Distribution:
        return self.action_dist.proba_distribution(self.action_net(latent_pi))
