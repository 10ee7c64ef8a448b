"""The single-file PPO learns on copies of the fake environment."""

import pytest
import torch

from dus_gym.benchmarks import cleanrl_ppo


def test_it_beats_the_uniform_split_by_a_quarter_of_its_return():
    """Twelve updates on short runs; seeds 0 to 4 gained 5.9 to 7.8 over uniform's -17.3."""
    words = ["--updates=12", "--num-envs=32", "--epochs=50", "--compare-envs=32", "--seed=0"]
    learned, uniform = cleanrl_ppo.main(words)
    assert uniform == pytest.approx(50 * 0.5 * torch.tensor(0.5).log().item(), abs=0.1)
    assert learned > 0.75 * uniform


def test_the_same_seed_learns_the_same_policy(capsys):
    words = ["--updates=2", "--num-envs=4", "--epochs=10", "--compare-envs=4"]
    printed = []
    for seed in (1, 1, 2):
        cleanrl_ppo.main([*words, f"--seed={seed}"])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert printed[0] != printed[2]


def test_advantages_are_what_the_definition_sums_to():
    torch.manual_seed(0)
    rewards, values = torch.randn(2, 6, 3)
    found = cleanrl_ppo.advantages(rewards, values, gamma=0.9, gae_lambda=0.8)
    following = torch.cat([values[1:], torch.zeros(1, 3)])
    errors = rewards + 0.9 * following - values
    for t in range(6):
        expected = sum((0.9 * 0.8) ** (k - t) * errors[k] for k in range(t, 6))
        torch.testing.assert_close(found[t], expected)
