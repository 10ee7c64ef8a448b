"""Write an agent, register it under a word, and compare it with uniform over seeds.

python examples/own_agent.py

Saved as ``my_agents.py`` without its last two lines, it serves the command line too:
``dus compare DUS-Digits-v0 --import my_agents --agents weaker``.
"""

import numpy as np

import dus_gym


class Weaker(dus_gym.Agent):
    """More samples for the modality that is less sure of the true class."""

    def act(self, observation, info, *, deterministic=False):
        """Return shares ``(m,)`` of scores ``(m,)``; the environment scales them to sum to 1."""
        return 1.0 - np.asarray(observation)


dus_gym.register_agent("weaker", Weaker, "more for the modality that is less sure")

comparison = dus_gym.compare("DUS-Fake-v0", agents=["weaker", "steady"], seeds=5, epochs=50)
print(comparison.verdict, comparison.table().text(), sep="\n")
