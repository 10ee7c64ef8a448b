"""stable-baselines3 as the alternative: PPO, A2C, SAC, TD3, DDPG and DQN, as agents and by one call.

As agents (``--agent ppo``) they first spend whole training runs of their own on learning; the run that counts
comes after them, under the learned deterministic policy, on the plain environment.

    model = make_sb3("sac", SoftmaxAction(env), horizon=100, seed=0)
    model.learn(20 * 100)
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv

from dus_gym.agents.base import Agent, AgentOptions, Array, Info, MakeEnv
from dus_gym.agents.dirichlet_policy import DirichletPolicy
from dus_gym.ambient import isolated_torch_modes
from dus_gym.envs.trivial import BestSplit
from dus_gym.envs.wrappers import DiscreteShares, SoftmaxAction, lattice, softmax_shares
from dus_gym.errors import CheckpointError, ConfigError, check_at_least, check_choice
from dus_gym.seeding import RunSeeds

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
log = logging.getLogger("dus_gym")


# -- one call ----------------------------------------------------------------------------------------


def make_sb3(
    algorithm: str, env: gym.Env[Any, Any] | VecEnv, horizon: int, seed: int | None = 0, **kwargs: Any
) -> BaseAlgorithm:
    """An SB3 model whose budget fits an environment in which every episode is a training run.

    SB3's own defaults spend 20 to 100 training runs before the first update (PPO) and never refresh DQN's target.
    Here PPO and A2C update after each run, the others after each step from the second run on.

    | algorithm | actions | policy |
    |---|---|---|
    | ppo, a2c | shares, as they are; or those of either wrapper | ``DirichletPolicy``; ``MlpPolicy`` when wrapped |
    | sac, td3, ddpg | logits: wrap with ``SoftmaxAction`` | ``MlpPolicy`` |
    | dqn | one of a list: wrap with ``DiscreteShares`` | ``MlpPolicy`` |

    Args:
        algorithm: ppo, a2c, sac, td3, ddpg or dqn.
        env: one environment, or a vectorised one of SB3.
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
    policy = kwargs.pop("policy", None) or _policy(algorithm, env)
    settings = {"seed": seed, "device": "cpu"} | _budget(algorithm, env, horizon) | kwargs
    return ALGORITHMS[algorithm](policy, env, **settings)


def _policy(algorithm: str, env: gym.Env[Any, Any] | VecEnv) -> str | type[BasePolicy]:
    """The policy class, after a check that algorithm and actions fit."""
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
    """The kinds of action of all environments, where they have one."""
    if isinstance(env, VecEnv):
        return [rule.mode for rule in env.get_attr("allocation")] if env.has_attr("allocation") else []
    return [env.get_wrapper_attr("allocation").mode] if env.has_wrapper_attr("allocation") else []


def _budget(algorithm: str, env: gym.Env[Any, Any] | VecEnv, horizon: int) -> dict[str, Any]:
    """SB3's arguments that count steps."""
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


def minibatch(rollout: int) -> int:
    """The largest divisor of a rollout's length up to 64; all of it if that would be less than 8."""
    best = max(size for size in range(1, min(rollout, MINIBATCH) + 1) if rollout % size == 0)
    return best if best >= 8 else rollout


def load_sb3(path: str | Path, algorithm: str, trust: bool = False) -> BaseAlgorithm:
    """A model that SB3's own ``model.save(path)`` wrote.

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
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give the path of a model that stable-baselines3 saved.")
    if not trust:
        raise CheckpointError(
            f"{path} is refused: a file of stable-baselines3 holds pickles, and loading it can run code. If you made "
            "it yourself or trust whoever did, pass trust=True; an agent saved with agent.save() needs no trust."
        )
    return ALGORITHMS[algorithm].load(path, device="cpu")


# -- agents ------------------------------------------------------------------------------------------


def training_seed(seed: int) -> int:
    """Seed of an agent's training runs: derived from that of the run that counts, and never below 2**31.

    The first training run is reset with it, the following ones draw theirs from the environment's own generator.
    So no training run shares its initialisation, order or data split with a run of any seed below 2**31.
    """
    return 2**31 + int(RunSeeds(seed).sequence("sb3 training runs").generate_state(1)[0] >> 1)


@contextmanager
def isolated_generators() -> Iterator[None]:
    """Puts the global generators of Python, NumPy and PyTorch back afterwards; SB3 seeds and uses them.

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


def check_positive(argument: str, value: float) -> None:
    """Raises ConfigError unless ``value`` is positive and finite."""
    if not 0.0 < value < math.inf:
        raise ConfigError(f"{argument}={value!r} is not allowed; it must be positive and finite.")


@dataclass(frozen=True)
class SB3Options(AgentOptions):
    """Options that all six have."""

    runs: int = 20
    """Training runs that the agent learns from before the one that counts."""
    learning_rate: float | None = None
    """Learning rate of the policy; SB3's default if not given."""
    gamma: float = 0.0
    """Discount. Eq. 5 rewards the decision alone and not what comes of it, and 0 says so: 20 runs of PPO on
    DUS-Fake-v0 reach a return of -6 with it and -27 with SB3's 0.99 (uniform: -35). Set it for a reward that comes
    later, such as validation-gain."""

    def __post_init__(self) -> None:
        check_at_least("runs", self.runs, 1)
        if not 0.0 <= self.gamma <= 1.0:
            raise ConfigError(f"gamma={self.gamma!r} is not allowed; it must lie in [0, 1].")
        if self.learning_rate is not None:
            check_positive("learning_rate", self.learning_rate)


@dataclass(frozen=True)
class DirichletOptions(SB3Options):
    """Options of PPO and A2C."""

    entropy: float = 0.0
    """Weight of the policy's entropy."""
    concentration: float = 10.0
    """How tight the Dirichlet is around its mean at the start: each concentration begins at 1 + this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("entropy", self.entropy, 0.0)
        check_positive("concentration", self.concentration)


@dataclass(frozen=True)
class SoftmaxOptions(SB3Options):
    """Options of SAC, TD3 and DDPG."""

    scale: float = 3.0
    """What a logit of 1 stands for; bounds the shares, to [.0025, .9975] for two modalities."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("scale", self.scale)


@dataclass(frozen=True)
class DiscreteOptions(SB3Options):
    """Options of DQN."""

    resolution: int | None = None
    """Parts that the splits to choose from distribute; 10 for two modalities (.1/.9 to .9/.1), 9 for three."""


class SB3Agent(Agent):
    """An algorithm of stable-baselines3 that learns in training runs of its own.

    It acts uniformly until :meth:`prepare` has run, and by the learned deterministic policy afterwards. Its own
    runs have other seeds than the run that counts (:func:`training_seed`) and no first uniform action.

    Args:
        num_modalities: m.
        seed: not used: the seed of the run that counts, which :meth:`prepare` gets, decides everything.
        options: see the class named in ``options_type``.
    """

    options: SB3Options
    needs_runs: ClassVar[bool] = True

    def __init__(self, num_modalities: int, seed: int = 0, options: AgentOptions | None = None) -> None:
        super().__init__(num_modalities, seed, options)
        self.policy: BasePolicy | None = None
        """SB3's policy, None before it has learned."""
        self._spent = 0.0

    # -- what differs between the three kinds ------------------------------------------------------

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """The environment with actions that the algorithm handles."""
        raise NotImplementedError

    def shares(self, action: npt.NDArray[Any]) -> Array:
        """The split ``(m,)`` that an action of the algorithm stands for."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Arguments of :func:`make_sb3` from the options."""
        rate = self.options.learning_rate
        return {"gamma": self.options.gamma} | ({} if rate is None else {"learning_rate": rate})

    # -- learning ----------------------------------------------------------------------------------

    def prepare(self, make_env: MakeEnv, seed: int) -> dict[str, Any]:
        """Learns from ``runs`` training runs, from scratch.

        Logs the planned number to the logger ``dus_gym`` at level INFO before the first.
        """
        env = self.wrap(make_env())
        own_seed = training_seed(seed)
        env.reset(seed=own_seed)
        horizon = int(env.get_wrapper_attr("horizon"))
        runs = self.options.runs
        log.info(
            "%s: %d training runs of %d steps first, %d steps in all; the run that counts comes after them",
            *(self.name, runs, horizon, runs * horizon),
        )
        with isolated_generators():
            model = make_sb3(self.name, env, horizon, own_seed, **self.settings())
            # SB3's own would make a folder for a log that nobody asked for.
            model.set_logger(Logger(None, []))
            try:
                model.learn(runs * horizon)
            except ValueError as error:
                # torch.distributions refuses parameters that are not finite; anything else is a real error.
                if all(weight.isfinite().all() for weight in model.policy.parameters()):
                    raise
                log.debug("%s: %s", self.name, error)
        self.policy = model.policy
        if not all(weight.isfinite().all() for weight in self.policy.parameters()):
            log.warning("%s: learning diverged; the run that counts is uniform. Lower its learning_rate.", self.name)
            self.policy = None
        self._spent = model.num_timesteps / horizon
        env.close()
        return {}

    @property
    def training_runs(self) -> float:
        """Steps learned from over the steps of one run."""
        return self._spent

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """The deterministic policy's split; the uniform one before learning."""
        if self.policy is None:
            return self.uniform_action()
        with isolated_torch_modes():
            action, _ = self.policy.predict(np.asarray(observation, dtype=np.float32), deterministic=True)
        return self.shares(action)

    # -- state -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The policy's tensors (critics included) and what they cost; None before learning."""
        policy = None if self.policy is None else dict(self.policy.state_dict())
        return super().state_dict() | {"policy": policy, "spent": self._spent}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`state_dict` returned."""
        super().load_state_dict(state)
        self._spent = float(state["spent"])
        self.policy = None
        if state["policy"] is not None:
            with isolated_generators():
                stand_in = self.wrap(BestSplit(np.ones(self.num_modalities)))
                policy = make_sb3(self.name, stand_in, stand_in.get_wrapper_attr("horizon"), **self.settings()).policy
            policy.load_state_dict(state["policy"])
            policy.set_training_mode(False)
            self.policy = policy


class _ActsInShares(SB3Agent):
    """PPO and A2C, on the environment as it is."""

    options_type: ClassVar[type[AgentOptions]] = DirichletOptions
    options: DirichletOptions

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return env

    def shares(self, action: npt.NDArray[Any]) -> Array:
        return np.asarray(action, dtype=np.float32)

    def settings(self) -> dict[str, Any]:
        policy = {"concentration": self.options.concentration}
        return super().settings() | {"ent_coef": self.options.entropy, "policy_kwargs": policy}


class _ActsInLogits(SB3Agent):
    """SAC, TD3 and DDPG, through :class:`dus_gym.envs.wrappers.SoftmaxAction`."""

    options_type: ClassVar[type[AgentOptions]] = SoftmaxOptions
    options: SoftmaxOptions

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return SoftmaxAction(env, self.options.scale)

    def shares(self, action: npt.NDArray[Any]) -> Array:
        return softmax_shares(action, self.options.scale)


class PPOAgent(_ActsInShares):
    """Proximal policy optimisation with a Dirichlet policy; an update after each training run."""

    name: ClassVar[str] = "ppo"
    summary: ClassVar[str] = "PPO of stable-baselines3 with a Dirichlet policy, trained on runs of its own"


class A2CAgent(_ActsInShares):
    """Advantage actor-critic with a Dirichlet policy; one gradient step after each training run."""

    name: ClassVar[str] = "a2c"
    summary: ClassVar[str] = "A2C of stable-baselines3 with a Dirichlet policy, trained on runs of its own"


class SACAgent(_ActsInLogits):
    """Soft actor-critic on logits."""

    name: ClassVar[str] = "sac"
    summary: ClassVar[str] = "SAC of stable-baselines3 on logits, trained on runs of its own"


class TD3Agent(_ActsInLogits):
    """Twin delayed deterministic policy gradient on logits."""

    name: ClassVar[str] = "td3"
    summary: ClassVar[str] = "TD3 of stable-baselines3 on logits, trained on runs of its own"


class DDPGAgent(_ActsInLogits):
    """Deep deterministic policy gradient on logits."""

    name: ClassVar[str] = "ddpg"
    summary: ClassVar[str] = "DDPG of stable-baselines3 on logits, trained on runs of its own"


class DQNAgent(SB3Agent):
    """Deep Q-learning over a list of splits."""

    name: ClassVar[str] = "dqn"
    summary: ClassVar[str] = "DQN of stable-baselines3 over a list of splits, trained on runs of its own"
    options_type: ClassVar[type[AgentOptions]] = DiscreteOptions
    options: DiscreteOptions

    def __init__(self, num_modalities: int, seed: int = 0, options: AgentOptions | None = None) -> None:
        super().__init__(num_modalities, seed, options)
        self.splits = lattice(num_modalities, self.options.resolution)

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """The environment with a list of splits as actions."""
        return DiscreteShares(env, self.options.resolution)

    def shares(self, action: npt.NDArray[Any]) -> Array:
        """The chosen split ``(m,)``."""
        return np.array(self.splits[int(action)])
