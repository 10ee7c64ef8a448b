"""stable-baselines3 by one call: PPO, A2C, SAC, TD3, DDPG and DQN with budgets that fit an environment of whole runs.

    model = make_sb3("sac", SoftmaxAction(env), horizon=100, seed=0)
    model.learn(20 * 100)
    agent = dus_gym.as_agent(model, 2)

``--agent ppo`` does both (:mod:`dus_gym.experiments.drivers.sb3_training`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from dus_gym.agents.adapters import LEVER, SCALE
from dus_gym.agents.dirichlet_policy import DirichletPolicy
from dus_gym.ambient import isolated_torch_modes
from dus_gym.errors import CheckpointError, ConfigError, check_at_least, check_choice, first_line

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "ppo": PPO,
    "a2c": A2C,
    "sac": SAC,
    "td3": TD3,
    "ddpg": DDPG,
    "dqn": DQN,
}
MINIBATCH = 64
REPLAY = 100_000
"""Steps the replay buffer holds; SB3's million is more than anyone's training runs have."""
NOISE = 0.5
"""Standard deviation of what TD3 and DDPG add to their logits in [-1, 1] to explore. SB3's default is to add nothing,
and with 0.2 TD3 ended near a corner of the simplex on two of four seeds of ``BestSplit``."""


def make_sb3(
    algorithm: str,
    env: gym.Env[Any, Any] | VecEnv | VectorEnv[Any, Any, Any],
    horizon: int,
    seed: int | None = 0,
    **kwargs: Any,
) -> BaseAlgorithm:
    """Make an SB3 model whose budget fits an environment in which every episode is a training run.

    SB3's own defaults spend 20 to 100 training runs before the first update (PPO) and never refresh DQN's target.
    Here PPO and A2C update after each run, or after all runs of a vectorised environment have made one, the others
    after each step from the second run on.

    | algorithm | actions | policy |
    |---|---|---|
    | ppo, a2c | shares, as they are; or those of either wrapper | ``DirichletPolicy``; ``MlpPolicy`` when wrapped |
    | sac, td3, ddpg | logits: wrap with ``SoftmaxAction`` | ``MlpPolicy`` |
    | dqn | one of a list: wrap with ``DiscreteShares`` | ``MlpPolicy`` |

    Args:
        algorithm: ppo, a2c, sac, td3, ddpg or dqn.
        env: one environment, a vectorised one of SB3, or one of Gymnasium (:class:`SB3Runs`): that of
            ``gym.make_vec("dus_gym:DUS-Digits-v0", num_envs=64, autoreset_mode="SameStep")`` trains 64 real runs as
            one computation.
        horizon: steps of one episode, ``env.unwrapped.horizon`` after a reset.
        seed: SB3 seeds the global generators of Python, NumPy and PyTorch with it.
        kwargs: go to SB3 and replace what is set here. The device is the CPU if none is given: networks this
            small are slower on a GPU.

    Raises:
        ConfigError: for an unknown algorithm, no step, or actions that the algorithm can't handle; the message
            names the wrapper to use.
    """
    check_choice("algorithm", algorithm, ALGORITHMS)
    check_at_least("horizon", horizon, 1)
    if isinstance(env, VectorEnv):
        env = SB3Runs(env)
    policy = kwargs.pop("policy", None) or _policy(algorithm, env)
    settings = {"seed": seed, "device": "cpu"} | _budget(algorithm, env, horizon) | kwargs
    model = ALGORITHMS[algorithm](policy, env, **settings)
    if algorithm in ("sac", "td3", "ddpg"):
        # SB3 writes its models' attributes into their files; without this one a reader would have to guess.
        setattr(model, SCALE, _scale(env))
        setattr(model.policy, SCALE, _scale(env))
    return model


def _policy(algorithm: str, env: gym.Env[Any, Any] | VecEnv) -> str | type[BasePolicy]:
    """Return the policy class, after a check that algorithm and actions fit."""
    space = env.action_space
    shares = isinstance(space, gym.spaces.Box) and not space.low.any()
    if algorithm == "dqn":
        if not isinstance(space, gym.spaces.Discrete):
            raise ConfigError(
                f"action_space={space} does not fit algorithm='dqn', which chooses from a list; wrap the environment: "
                "dus_gym.envs.wrappers.DiscreteShares(env)."
            )
    elif algorithm in ("sac", "td3", "ddpg"):
        if shares or not isinstance(space, gym.spaces.Box):
            raise ConfigError(
                f"action_space={space} does not fit algorithm={algorithm!r}, which needs a symmetric box; wrap the "
                "environment: dus_gym.envs.wrappers.SoftmaxAction(env)."
            )
    elif shares:
        for mode in _modes(env):
            if mode != "shares":
                raise ConfigError(f'action_mode={mode!r} is not allowed for {algorithm!r}; use action_mode="shares".')
        return DirichletPolicy
    return "MlpPolicy"


def _modes(env: gym.Env[Any, Any] | VecEnv) -> list[str]:
    """Return the kinds of action of all environments, where they have one."""
    if isinstance(env, VecEnv):
        return [rule.mode for rule in env.get_attr("allocation")] if env.has_attr("allocation") else []
    return [env.get_wrapper_attr("allocation").mode] if env.has_wrapper_attr("allocation") else []


def _scale(env: gym.Env[Any, Any] | VecEnv) -> float:
    """Return what a logit of 1 stands for in an environment under ``SoftmaxAction``; 1 under another wrapper."""
    if isinstance(env, VecEnv):
        return float(env.get_attr("scale")[0]) if env.has_attr("scale") else 1.0
    return float(env.get_wrapper_attr("scale")) if env.has_wrapper_attr("scale") else 1.0


def _budget(algorithm: str, env: gym.Env[Any, Any] | VecEnv, horizon: int) -> dict[str, Any]:
    """Return SB3's arguments that count steps."""
    count = env.num_envs if isinstance(env, VecEnv) else 1
    if algorithm in ("ppo", "a2c"):
        # A rollout of one step has no spread to normalise by.
        steps = max(2, horizon) if count == 1 else horizon
        if algorithm == "a2c":
            return {"n_steps": steps}
        return {"n_steps": steps, "batch_size": minibatch(steps * count)}
    settings: dict[str, Any] = {
        "buffer_size": REPLAY,
        "batch_size": MINIBATCH,
        "learning_starts": horizon * count,
        "train_freq": 1,
    }
    if algorithm == "dqn":
        return settings | {"target_update_interval": horizon, "exploration_fraction": 0.3}
    if algorithm in ("td3", "ddpg"):
        size = env.action_space.shape
        assert size is not None
        return settings | {"action_noise": NormalActionNoise(np.zeros(size), np.full(size, NOISE))}
    return settings


class SB3Runs(VecEnv):
    """A vector environment of Gymnasium as stable-baselines3 takes it.

    ``info`` of the step in which a run ends is that run's, and holds its last observation as ``terminal_observation``;
    the observation is the first of the next run.

    Args:
        env: with same-step autoreset.

    Raises:
        ConfigError: for another kind of autoreset, which stable-baselines3 would take for a step of the next run.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ConfigError(
                f"autoreset_mode={getattr(mode, 'value', mode)!r} is not allowed for stable-baselines3; make the "
                'environment with gym.make_vec(..., autoreset_mode="SameStep").'
            )
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> VecEnvObs:
        """Begin a new run in every copy, with the seeds of :meth:`seed` if it was called since the last reset."""
        # Gymnasium's vector environments take n seeds, whatever the type of the argument says.
        observations, infos = self.env.reset(seed=self._seeds)  # type: ignore[arg-type]
        self.reset_infos = _by_run(infos, self.num_envs)
        self._reset_seeds()
        return np.asarray(observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions ``(n, m)`` for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Return observations ``(n, m)``, rewards ``(n,)``, ends ``(n,)`` and each run's ``info``."""
        observations, rewards, terminated, truncated, infos = self.env.step(self._actions)
        ended = terminated | truncated
        last, last_observations = infos.pop("final_info", {}), infos.pop("final_obs", None)
        each = _by_run(infos, self.num_envs)
        if last_observations is not None:
            finished = _by_run(last, self.num_envs)
            for i in np.flatnonzero(ended):
                cut = bool(truncated[i] and not terminated[i])
                each[i] = finished[i] | {"terminal_observation": last_observations[i], "TimeLimit.truncated": cut}
        return np.asarray(observations), np.asarray(rewards, np.float32), ended, each

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the environment, or of the single one whose settings all runs have."""
        base = self.env.unwrapped
        holder = base if hasattr(base, attr_name) else getattr(base, "single", base)
        return [getattr(holder, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refuse: the runs have their settings in common.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{attr_name}={value!r} can't be set for single runs of one computation; make them with it.")

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Refuse: there are no single environments to call.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{method_name}() can't be called on single runs of one computation.")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Return False for each: wrappers of single environments do not apply."""
        return [False for _ in self._get_indices(indices)]


def _by_run(infos: dict[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """Return Gymnasium's dictionary of arrays as one dictionary per run, of the keys that the run has."""
    masks = {key: infos.get("_" + key) for key in infos if not key.startswith("_")}
    return [{key: infos[key][i] for key, mask in masks.items() if mask is None or mask[i]} for i in range(num_envs)]


def minibatch(rollout: int) -> int:
    """Return the largest divisor of a rollout's length up to 64; all of it if that would be less than 8."""
    best = max(size for size in range(1, min(rollout, MINIBATCH) + 1) if rollout % size == 0)
    return best if best >= 8 else rollout


def load_sb3(path: str | Path, algorithm: str, trust: bool = False) -> BaseAlgorithm:
    """Load a model that SB3's own ``model.save(path)`` wrote, to go on learning.

    Args:
        path: the ZIP file; SB3 adds ``.zip`` when it writes.
        algorithm: ppo, a2c, sac, td3, ddpg or dqn.
        trust: True says that you know where the file comes from. It holds pickles, and reading one can run
            any code. :func:`dus_gym.load_agent` reads files that can't.

    Raises:
        ConfigError: for an unknown algorithm.
        CheckpointError: without ``trust``, or if there is no such file.
    """
    check_choice("algorithm", algorithm, ALGORITHMS)
    path = Path(path)
    if not path.exists() and path.with_name(path.name + ".zip").exists():
        path = path.with_name(path.name + ".zip")
    _check_trust(path, trust)
    return ALGORITHMS[algorithm].load(path, device="cpu")


def load_sb3_policy(path: Path, trust: bool = False) -> BasePolicy:
    """Load the policy of a model that SB3 saved, of whichever algorithm; :func:`dus_gym.as_agent` takes it.

    Args:
        path: the ZIP file.
        trust: as in :func:`load_sb3`.

    Raises:
        CheckpointError: without ``trust``, if there is no such file, or if it is damaged.
    """
    _check_trust(path, trust)
    try:
        data, parameters, _ = load_from_zip_file(path, device="cpu")
        assert data is not None
        weights: Any = parameters["policy"]
        settings = dict(data["policy_kwargs"])
        if data.get("use_sde"):
            settings["use_sde"] = True
        with isolated_generators():
            policy: BasePolicy = data["policy_class"](
                data["observation_space"], data["action_space"], lambda _: 0.0, **settings
            )
        policy.load_state_dict(weights)
    # Unpickling a damaged file can raise anything.
    except Exception as error:
        raise CheckpointError(f"{path} is damaged or of another version ({first_line(error)}).") from error
    policy.set_training_mode(False)
    for name in (SCALE, LEVER):
        if name in data:
            setattr(policy, name, data[name])
    return policy


def _check_trust(path: Path, trust: bool) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give the path of a model that stable-baselines3 saved.")
    if not trust:
        raise CheckpointError(
            f"{path} is refused: a file of stable-baselines3 holds pickles, and loading it can run code. If you made "
            "it yourself or trust whoever did, say so: --trust on the command line, trust=True in Python. Our own "
            "policies, .safetensors, need no trust."
        )


@contextmanager
def isolated_generators() -> Iterator[None]:
    """Put the global generators of Python, NumPy and PyTorch back afterwards; SB3 seeds and uses them.

    It learns and acts under PyTorch's own modes, whatever the caller's are.
    """
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    # Reading the generators of an accelerator that nobody uses would start it up.
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        with isolated_torch_modes():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if gpus is not None:
            torch.cuda.set_rng_state_all(gpus)
