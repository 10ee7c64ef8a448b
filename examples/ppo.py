"""Train PPO of stable-baselines3 on fitted curves, then let it steer a run it has not seen.

python examples/ppo.py

``DUS-Fake-v0`` follows learning curves fitted to real runs, so that ten whole runs take a second. Put the id of a real
task in its place, and nothing else changes.
"""

import gymnasium as gym
from stable_baselines3 import PPO

import dus_gym

EPOCHS, RUNS = 50, 10

env = gym.make("dus_gym:DUS-Fake-v0", epochs=EPOCHS)
model = PPO("MlpPolicy", env, n_steps=EPOCHS, batch_size=25, device="cpu", seed=0)  # one update a run
model.learn(total_timesteps=RUNS * EPOCHS)

agents = {"ppo": dus_gym.as_agent(model, num_modalities=2), "uniform": dus_gym.make_agent("uniform", num_modalities=2)}
for name, agent in agents.items():
    episode = dus_gym.run_episode(env, agent, seed=1)
    accuracy = env.unwrapped.evaluate().fused["sum"].accuracy
    print(f"{name}: reward {episode.reward:.1f}, test accuracy of the fitted curves {accuracy:.3f}")
