"""Train one run under the recommended agent and one under uniform, on the same seed.

python examples/train.py
"""

import dus_gym

TASK, SETTINGS = "DUS-Digits-v0", {"epochs": 10, "loss_norm": "fixed"}

for agent in (dus_gym.recommended_agent(), "uniform"):
    result = dus_gym.train(TASK, agent=agent, seed=0, **SETTINGS)
    accuracies = ", ".join(f"{name} {row.accuracy:.3f}" for name, row in result.fused.items() if row is not None)
    samples = ", ".join(f"{name} {row.samples}" for name, row in result.modalities.items())
    print(f"{result.title}\n  test accuracy: {accuracies}\n  samples drawn: {samples}")
