"""The agents of stable-baselines3: each learns in whole training runs of its own.

The run that counts comes after them, under the learned deterministic policy, on the plain environment.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from dus_gym.agents.adapters import LEVER, as_agent
from dus_gym.agents.base import Agent, AgentOptions, Array, Info
from dus_gym.allocation import SOFTMAX_SCALE, lattice
from dus_gym.envs.trivial import BestSplit
from dus_gym.envs.wrappers import DiscreteShares, SoftmaxAction
from dus_gym.errors import ConfigError, check_at_least, check_fraction, check_positive
from dus_gym.experiments.drivers.driver import Driver, MakeEnv
from dus_gym.seeding import RunSeeds

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

log = logging.getLogger("dus_gym")


def training_seed(seed: int) -> int:
    """Return the seed of an agent's training runs: derived from that of the run that counts, and never below 2**31.

    The first training run is reset with it, the following ones draw theirs from the environment's own generator.
    So no training run shares its initialisation, order or data split with a run of any seed below 2**31.
    """
    return 2**31 + int(RunSeeds(seed).sequence("sb3 training runs").generate_state(1)[0] >> 1)


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
        check_fraction("gamma", self.gamma)
        if self.learning_rate is not None:
            check_positive("learning_rate", self.learning_rate)


@dataclass(frozen=True)
class DirichletOptions(SB3Options):
    """Options of PPO and A2C."""

    entropy: float = 0.0
    """Weight of the policy's entropy."""
    concentration: float = 10.0
    """Tightness of the Dirichlet around its mean at the start: each concentration begins at 1 + this."""
    together: int = 1
    """Training runs that are made at once, as one computation; the policy is updated after all of them. Divides
    runs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("together", self.together, 1)
        if self.runs % self.together:
            raise ConfigError(
                f"together={self.together} is not allowed with runs={self.runs}; runs must be a multiple of it."
            )
        check_at_least("entropy", self.entropy, 0.0)
        check_positive("concentration", self.concentration)


@dataclass(frozen=True)
class SoftmaxOptions(SB3Options):
    """Options of SAC, TD3 and DDPG."""

    scale: float = SOFTMAX_SCALE
    """The factor of a logit before the softmax; bounds the shares, to [.0025, .9975] for two modalities."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("scale", self.scale)


@dataclass(frozen=True)
class DiscreteOptions(SB3Options):
    """Options of DQN."""

    resolution: int | None = None
    """Parts that the splits to choose from distribute; 10 for two modalities (.1/.9 to .9/.1), 9 for three."""


class SB3Driver(Driver):
    """An algorithm of stable-baselines3 that learns in training runs of its own.

    It acts uniformly until :meth:`prepare` has run, and by the learned deterministic policy afterwards. Its own
    runs have other seeds than the run that counts (:func:`training_seed`) and no first uniform action.

    Args:
        num_modalities: m.
        seed: not used: the seed of the run that counts, which :meth:`prepare` gets, decides everything.
        options: see the class named in ``options_type``.
    """

    options: SB3Options
    file_suffix: ClassVar[str] = ".zip"

    def __init__(self, num_modalities: int, seed: int = 0, options: AgentOptions | None = None) -> None:
        super().__init__(num_modalities, seed, options)
        self._model: BaseAlgorithm | None = None
        self._policy: Agent | None = None
        """The model as an agent, None before it has learned."""
        self._spent = 0.0

    # -- what differs between the three kinds ------------------------------------------------------

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Return the environment with actions that the algorithm handles."""
        raise NotImplementedError

    def training_env(self, make_env: MakeEnv) -> Any:
        """Return the environment of the training runs, or the vector environment of several at once."""
        return self.wrap(make_env())

    def settings(self) -> dict[str, Any]:
        """Return arguments of :func:`dus_gym.agents.sb3.make_sb3` from the options."""
        rate = self.options.learning_rate
        return {"gamma": self.options.gamma} | ({} if rate is None else {"learning_rate": rate})

    # -- learning ----------------------------------------------------------------------------------

    @property
    def planned_runs(self) -> int:
        """Return the runs to learn from."""
        return self.options.runs

    def prepare(self, make_env: MakeEnv, seed: int) -> dict[str, Any]:
        """Learn from ``runs`` training runs, from scratch.

        Logs the planned number to the logger ``dus_gym`` at level INFO before the first.
        """
        from stable_baselines3.common.logger import Logger

        from dus_gym.agents.sb3 import isolated_generators, make_sb3

        env = self.training_env(make_env)
        own_seed = training_seed(seed)
        env.reset(seed=own_seed)
        horizon = int(env.unwrapped.horizon)
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
        self._spent = model.num_timesteps / horizon
        finite = all(weight.isfinite().all() for weight in model.policy.parameters())
        if not finite:
            log.warning("%s: learning diverged; the run that counts is uniform. Lower its learning_rate.", self.name)
        self._keep(model if finite else None)
        env.close()
        return {}

    def _keep(self, model: BaseAlgorithm | None) -> None:
        """Act by a model from now on; None: uniformly."""
        if model is not None:
            # Its environment holds a whole run's data and network.
            model.env = None
        self._model = model
        self._policy = None if model is None else as_agent(model, self.num_modalities, self.name)
        self.learns = model is not None

    @property
    def training_runs(self) -> float:
        """Return the steps learned from over the steps of one run."""
        return self._spent

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return the deterministic policy's split; the uniform one before learning."""
        if self._policy is None:
            return self.uniform_action()
        return self._policy.act(observation, info, deterministic=True)

    # -- state -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the policy's tensors (critics included) and what they cost; None before learning."""
        policy = None if self._model is None else dict(self._model.policy.state_dict())
        return super().state_dict() | {"policy": policy, "spent": self._spent}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned."""
        from dus_gym.agents.sb3 import isolated_generators, make_sb3

        super().load_state_dict(state)
        self._spent = float(state["spent"])
        model = None
        if state["policy"] is not None:
            with isolated_generators():
                stand_in = self.wrap(BestSplit(np.ones(self.num_modalities)))
                model = make_sb3(self.name, stand_in, stand_in.get_wrapper_attr("horizon"), **self.settings())
            model.policy.load_state_dict(state["policy"])
            model.policy.set_training_mode(False)
        self._keep(model)

    def save(self, path: str | Path) -> None:
        """Write the model as stable-baselines3 does: ``PPO.load(path)`` reads it.

        Raises:
            ConfigError: if nothing was learned, or learning diverged.
        """
        if self._model is None:
            raise ConfigError(f"agent {self.name!r} has no policy to save: it has not learned, or learning diverged.")
        setattr(self._model, LEVER, self.policy_lever)
        self._model.save(path)


class _ActsInShares(SB3Driver):
    """PPO and A2C, on the environment as it is."""

    options_type: ClassVar[type[AgentOptions]] = DirichletOptions
    options: DirichletOptions

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return env

    def training_env(self, make_env: MakeEnv) -> Any:
        together = self.options.together
        return super().training_env(make_env) if together == 1 else make_env(num_envs=together)

    def settings(self) -> dict[str, Any]:
        policy = {"concentration": self.options.concentration}
        return super().settings() | {"ent_coef": self.options.entropy, "policy_kwargs": policy}


class _ActsInLogits(SB3Driver):
    """SAC, TD3 and DDPG, through :class:`dus_gym.envs.wrappers.SoftmaxAction`."""

    options_type: ClassVar[type[AgentOptions]] = SoftmaxOptions
    options: SoftmaxOptions

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return SoftmaxAction(env, self.options.scale)


class PPODriver(_ActsInShares):
    """Proximal policy optimisation with a Dirichlet policy; an update after each training run."""

    name: ClassVar[str] = "ppo"
    summary: ClassVar[str] = "PPO of stable-baselines3 with a Dirichlet policy, trained on runs of its own"


class A2CDriver(_ActsInShares):
    """Advantage actor-critic with a Dirichlet policy; one gradient step after each training run."""

    name: ClassVar[str] = "a2c"
    summary: ClassVar[str] = "A2C of stable-baselines3 with a Dirichlet policy, trained on runs of its own"


class SACDriver(_ActsInLogits):
    """Soft actor-critic on logits."""

    name: ClassVar[str] = "sac"
    summary: ClassVar[str] = "SAC of stable-baselines3 on logits, trained on runs of its own"


class TD3Driver(_ActsInLogits):
    """Twin delayed deterministic policy gradient on logits."""

    name: ClassVar[str] = "td3"
    summary: ClassVar[str] = "TD3 of stable-baselines3 on logits, trained on runs of its own"


class DDPGDriver(_ActsInLogits):
    """Deep deterministic policy gradient on logits."""

    name: ClassVar[str] = "ddpg"
    summary: ClassVar[str] = "DDPG of stable-baselines3 on logits, trained on runs of its own"


class DQNDriver(SB3Driver):
    """Deep Q-learning over a list of splits."""

    name: ClassVar[str] = "dqn"
    summary: ClassVar[str] = "DQN of stable-baselines3 over a list of splits, trained on runs of its own"
    options_type: ClassVar[type[AgentOptions]] = DiscreteOptions
    options: DiscreteOptions

    def __init__(self, num_modalities: int, seed: int = 0, options: AgentOptions | None = None) -> None:
        super().__init__(num_modalities, seed, options)
        # Refuses a resolution that can't be before anything runs.
        lattice(num_modalities, self.options.resolution)

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Return the environment with a list of splits as actions."""
        return DiscreteShares(env, self.options.resolution)
