"""The base class of every agent: it maps scores to an action, and may learn from the reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dus_gym.errors import ConfigError

Array = npt.NDArray[np.float32]
Info = Mapping[str, Any]


@dataclass(frozen=True)
class AgentOptions:
    """Options of an agent; each agent has its own subclass, whose fields become CLI options."""


class Agent:
    """Base of all agents; a subclass needs :meth:`act`.

    Args:
        num_modalities: m, the length of observations and actions.
        seed: of the agent's own random numbers, ``rng``.
        options: the agent's options; defaults if not given.

    Raises:
        ConfigError: for fewer than two modalities.
    """

    name: ClassVar[str]
    """The CLI's word; the class's name if a subclass does not say."""
    summary: ClassVar[str] = ""
    """One line for listings."""
    action_mode: ClassVar[str] = "shares"
    """The ``action_mode`` of the environment whose actions this agent speaks."""
    options_type: ClassVar[type[AgentOptions]] = AgentOptions
    needs_validation: ClassVar[bool] = False
    """True if it needs a run with a validation split: it reads ``val_score/NAME`` in the environment's info, or
    validates splits itself."""
    learns: bool = False
    """True if it has learned something that :func:`dus_gym.agents.policy_files.save_policy` should keep."""
    policy_lever: str | None = None
    """The lever under which it has learned what it knows, which is kept with its policy; None: nothing, or not said."""
    file_suffix: ClassVar[str] = ".safetensors"
    """The suffix of the file that :meth:`save` writes."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not hasattr(cls, "name"):
            cls.name = cls.__name__

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
        """True if every modality always gets the same number of samples, which some methods need."""
        return False

    def uniform_action(self) -> Array:
        """Return the first action of every run (Algorithm 1, line 1): each modality its ordinary batch."""
        m = self.num_modalities
        return np.full(m, 1.0 if self.action_mode == "fractions" else 1.0 / m, dtype=np.float32)

    def begin(self) -> None:
        """Start a new run; what was learned stays."""

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return the next action, shape ``(m,)``.

        Args:
            observation: ŝ_t, shape ``(m,)``.
            info: the environment's figures.
            deterministic: the policy's mean instead of a draw from it.
        """
        raise NotImplementedError

    def learn(self, reward: float) -> None:
        """Take the reward of the last action of :meth:`act`. Rules ignore it."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a continuation depends on: nested dicts and lists of arrays and JSON values."""
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned."""
        self.rng.bit_generator.state = state["rng"]

    def save(self, path: str | Path) -> None:
        """Write the agent to one safetensors file with a JSON header."""
        from dus_gym.state import save_state

        content = {
            "agent": self.name,
            "num_modalities": self.num_modalities,
            "options": asdict(self.options),
            "lever": self.policy_lever,
            "state": self.state_dict(),
        }
        save_state(Path(path), "policy", content)
