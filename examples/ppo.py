"""Train PPO of stable-baselines3 on fitted curves, then let it steer a run it has not seen.

python examples/ppo.py

``DUS-Fake-v0`` follows learning curves fitted to real runs, so that ten whole runs take a second. Put the id of a real
task in its place, and nothing else changes. ``stable_baselines3.PPO("MlpPolicy", env)`` works too; ``make_sb3`` gives
it a policy on the simplex, which starts at the uniform split, and an update after every run.
"""

import gymnasium as gym

import dus_gym

EPOCHS, RUNS = 50, 10

env = gym.make("dus_gym:DUS-Fake-v0", epochs=EPOCHS)
model = dus_gym.make_sb3("ppo", env, horizon=EPOCHS, seed=0)  # a model of stable-baselines3
model.learn(total_timesteps=RUNS * EPOCHS)

agents = {"ppo": dus_gym.as_agent(model, num_modalities=2), "uniform": dus_gym.make_agent("uniform", num_modalities=2)}
for name, agent in agents.items():
    episode = dus_gym.run_episode(env, agent, seed=1)
    accuracy = env.unwrapped.evaluate().fused["sum"].accuracy
    print(f"{name}: reward {episode.reward:.1f}, test accuracy of the fitted curves {accuracy:.3f}")
