"""PPO in one file, after CleanRL's habit: read it from top to bottom, then change it.

    python -m dus_gym.benchmarks.cleanrl_ppo --seed 0   # ten seconds: 1,920 whole runs, then 256 to compare

A Dirichlet policy splits the batch of ``DUS-Fake-v0``, all copies in NumPy at once. Nothing of ``dus_gym`` but the
environment is used. One update learns from one whole run of every copy: the copies begin and end together, so there
is no episode to cut and no value to guess at the end.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Dirichlet


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--task", default="Digits", help="whose learning curves, modalities and batch")
    parser.add_argument("--reward", default="paper", help="any reward of the environment")
    parser.add_argument("--epochs", type=int, default=100, help="of one run; one step of the environment each")
    parser.add_argument("--num-envs", type=int, default=64, help="copies")
    parser.add_argument("--updates", type=int, default=30, help="one run of every copy each")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--gamma", type=float, default=0.9, help="a step's discount; Eq. 5 pays at once")
    parser.add_argument("--gae-lambda", type=float, default=0.95)
    parser.add_argument("--passes", type=int, default=4, help="over the data of an update")
    parser.add_argument("--minibatches", type=int, default=8, help="of one pass")
    parser.add_argument("--clip", type=float, default=0.2, help="of the ratio of probabilities")
    parser.add_argument("--entropy", type=float, default=0.0, help="weight of the entropy bonus")
    parser.add_argument("--value", type=float, default=0.5, help="weight of the value loss")
    parser.add_argument("--max-grad-norm", type=float, default=0.5)
    parser.add_argument("--concentration", type=float, default=10.0, help="of the first policy around uniform")
    parser.add_argument("--compare-envs", type=int, default=128, help="runs of the comparison with uniform")
    return parser.parse_args(words)


class ActorCritic(nn.Module):
    """Scores ``(n, m)`` to a Dirichlet over splits and to a value ``(n,)``."""

    def __init__(self, num_modalities: int, concentration: float) -> None:
        super().__init__()
        self.concentration = concentration
        last = nn.Linear(64, num_modalities)
        self.actor = nn.Sequential(nn.Linear(num_modalities, 64), nn.Tanh(), last)
        self.critic = nn.Sequential(nn.Linear(num_modalities, 64), nn.Tanh(), nn.Linear(64, 1))
        # The first policy is the uniform split with noise, whatever the scores are.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def policy(self, observations: Tensor) -> Dirichlet:
        """Distributions over splits, one an observation."""
        # Concentrations above 1: below it the density at the walls is infinite, and so is a ratio.
        alpha = 1.0 + self.concentration / math.log(2.0) * nn.functional.softplus(self.actor(observations))
        return Dirichlet(alpha)

    def value(self, observations: Tensor) -> Tensor:
        """Discounted rewards to come, ``(n,)``."""
        values: Tensor = self.critic(observations).squeeze(-1)
        return values


def off_the_walls(shares: Tensor) -> Tensor:
    """A share of exactly 0 has no log-density."""
    lifted = shares.clamp(min=1e-6)
    return lifted / lifted.sum(-1, keepdim=True)


def advantages(rewards: Tensor, values: Tensor, gamma: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimates of whole episodes; all arrays are ``(steps, copies)``."""
    found, running = torch.zeros_like(rewards), torch.zeros_like(rewards[0])
    following = torch.zeros_like(rewards[0])  # nothing comes after the last epoch
    for t in reversed(range(len(rewards))):
        running = rewards[t] + gamma * following - values[t] + gamma * gae_lambda * running
        found[t], following = running, values[t]
    return found


def returns_of(
    envs: gym.vector.VectorEnv[Any, Any, Any], seed: int, epochs: int, choose: Callable[[Any], Any]
) -> tuple[Any, Any]:
    """Returns and last fused validation accuracies of one run of every copy, ``(copies,)`` each."""
    observations, _ = envs.reset(seed=seed)
    total: Any = 0.0
    for _ in range(epochs):
        observations, rewards, _, _, infos = envs.step(choose(observations))
        total = total + rewards
    return total, infos["val_fused/method"]


def main(words: list[str] | None = None) -> tuple[float, float]:
    """Trains and compares; returns the mean return of the learned policy and of the uniform split."""
    args = parse(words)
    torch.manual_seed(args.seed)
    settings = {"task": args.task, "reward": args.reward, "epochs": args.epochs}
    envs = gym.make_vec("dus_gym:DUS-Fake-v0", num_envs=args.num_envs, **settings)
    m = envs.single_action_space.shape[0]  # type: ignore[index]
    agent = ActorCritic(m, args.concentration)
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)

    steps, copies = args.epochs, args.num_envs
    observations, actions = torch.zeros(steps, copies, m), torch.zeros(steps, copies, m)
    log_probs, rewards, values = (torch.zeros(steps, copies) for _ in range(3))

    for update in range(args.updates):
        # One whole run of every copy. The first reset seeds them, the others go on from there.
        observed, _ = envs.reset(seed=args.seed if update == 0 else None)
        for t in range(steps):
            observations[t] = torch.as_tensor(observed)
            with torch.no_grad():
                policy = agent.policy(observations[t])
                actions[t] = off_the_walls(policy.sample())
                log_probs[t], values[t] = policy.log_prob(actions[t]), agent.value(observations[t])
            observed, reward, terminated, _, _ = envs.step(actions[t].numpy())
            rewards[t] = torch.as_tensor(reward)
        assert terminated.all(), "an episode is as long as the run has epochs"

        advantage = advantages(rewards, values, args.gamma, args.gae_lambda)
        targets = (advantage + values).flatten()
        advantage = ((advantage - advantage.mean()) / (advantage.std() + 1e-8)).flatten()
        batch, chosen, old = observations.flatten(0, 1), actions.flatten(0, 1), log_probs.flatten()

        for _ in range(args.passes):
            for rows in torch.randperm(steps * copies).chunk(args.minibatches):
                policy = agent.policy(batch[rows])
                ratio = (policy.log_prob(chosen[rows]) - old[rows]).exp()
                gain, clipped = ratio, ratio.clamp(1.0 - args.clip, 1.0 + args.clip)
                actor_loss = -torch.min(gain * advantage[rows], clipped * advantage[rows]).mean()
                value_loss = (agent.value(batch[rows]) - targets[rows]).square().mean()
                loss = actor_loss + args.value * value_loss - args.entropy * policy.entropy().mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                optimizer.step()
        print(f"update {update + 1:3d}  runs {copies * (update + 1):6d}  mean return {rewards.sum(0).mean():8.3f}")
    envs.close()

    # The mean of the policy and the uniform split, on the same runs, which the policy has not seen.
    n, unseen = args.compare_envs, args.seed + 1_000_000
    envs = gym.make_vec("dus_gym:DUS-Fake-v0", num_envs=n, **settings)
    with torch.no_grad():
        learned = returns_of(envs, unseen, steps, lambda seen: agent.policy(torch.as_tensor(seen)).mean.numpy())
    uniform = returns_of(envs, unseen, steps, lambda seen: np.full(seen.shape, 1.0 / m, dtype=np.float32))
    envs.close()
    print(f"\n| split | mean return over {n} runs | fused validation accuracy |\n|---|---|---|")
    for name, (found, accuracy) in (("PPO", learned), ("uniform", uniform)):
        print(f"| {name} | {found.mean():.2f} ± {found.std():.2f} | {accuracy.mean():.4f} |")
    print(f"| difference, paired | {(learned[0] - uniform[0]).mean():+.2f} | {(learned[1] - uniform[1]).mean():+.4f} |")
    return float(learned[0].mean()), float(uniform[0].mean())


if __name__ == "__main__":
    main()
