"""What every agent is: something that maps scores to an action, and may learn from the reward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from dus_gym.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    import gymnasium as gym

Array = npt.NDArray[np.float32]
Info = Mapping[str, Any]
MakeEnv = Callable[..., "gym.Env[Any, Any]"]


@dataclass(frozen=True)
class AgentOptions:
    """Options of an agent; each agent has its own subclass, whose fields become CLI options."""


class Agent:
    """Base of all agents.

    Args:
        num_modalities: m, the length of observations and actions.
        seed: where the agent's own random numbers come from.
        options: the agent's options; defaults if not given.
    """

    name: ClassVar[str]
    """The CLI's word."""
    summary: ClassVar[str]
    """One line for listings."""
    action_mode: ClassVar[str] = "shares"
    """The ``action_mode`` of the environment whose actions this agent speaks."""
    options_type: ClassVar[type[AgentOptions]] = AgentOptions
    needs_runs: ClassVar[bool] = False
    """Whether it must make runs of its own, before the one that counts or beside it (``prepare``, ``attach``)."""
    needs_validation: ClassVar[bool] = False
    """Whether it needs a run with a validation split: it reads ``val_score/NAME`` in the environment's info, or
    validates splits itself."""

    def __init__(self, num_modalities: int, seed: int = 0, options: AgentOptions | None = None) -> None:
        if num_modalities < 2:
            raise ConfigError(f"num_modalities={num_modalities} is not allowed; an agent balances at least 2.")
        self.num_modalities = num_modalities
        self.options = options if options is not None else self.options_type()
        self.rng = np.random.default_rng(np.random.SeedSequence([int(seed), num_modalities]))

    @property
    def interval(self) -> int | None:
        """Iterations between its decisions; None: one epoch."""
        return None

    @property
    def equal_batches(self) -> bool:
        """Whether every modality always gets the same number of samples, which some methods need."""
        return False

    # -- before and at the start of a run ----------------------------------------------------------

    def prepare(self, make_env: MakeEnv, seed: int) -> dict[str, Any]:
        """Whatever training runs the agent needs before the one that counts.

        Args:
            make_env: makes the environment of the run that counts; keyword arguments replace settings of
                :class:`dus_gym.config.RunConfig`.
            seed: the seed of the run that counts.

        Returns:
            Settings that the run that counts is to have, such as ``{"lr_scale": (0.5, 1.5)}``.
        """
        return {}

    @property
    def training_runs(self) -> float:
        """What was spent on deciding so far, in whole training runs, the one that counts not included."""
        return 0.0

    def attach(self, env: gym.Env[Any, Any]) -> None:
        """Called before each run with its environment, for agents that look further than the observation."""

    def uniform_action(self) -> Array:
        """The first action of every run (Algorithm 1, line 1): each modality its ordinary batch."""
        m = self.num_modalities
        return np.full(m, 1.0 if self.action_mode == "fractions" else 1.0 / m, dtype=np.float32)

    def begin(self) -> None:
        """Called when a new run starts; what was learned stays."""

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """The next action, shape ``(m,)``.

        Args:
            observation: ŝ_t, shape ``(m,)``.
            info: the environment's figures.
            deterministic: the policy's mean instead of a draw from it.
        """
        raise NotImplementedError

    def learn(self, reward: float) -> None:
        """Takes the reward of the last action of :meth:`act`. Rules ignore it."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that a continuation depends on."""
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`state_dict` returned."""
        self.rng.bit_generator.state = state["rng"]

    def save(self, path: str | Path) -> None:
        """Writes the agent to one safetensors file with a JSON header."""
        from dus_gym.state import save_state

        content = {
            "agent": self.name,
            "num_modalities": self.num_modalities,
            "options": asdict(self.options),
            "state": self.state_dict(),
        }
        save_state(Path(path), "policy", content)


def load_agent(path: str | Path) -> Agent:
    """The agent that :meth:`Agent.save` wrote.

    Raises:
        CheckpointError: if the file is damaged, of a newer format, no policy, or a pickle.
    """
    from dus_gym.agents import agent_class
    from dus_gym.state import load_state

    content = load_state(Path(path), "policy")
    try:
        found = agent_class(content["agent"])
        agent = found(content["num_modalities"], options=found.options_type(**content["options"]))
        agent.load_state_dict(content["state"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged or from another version ({error}); it can't be loaded.") from error
    return agent
