"""The control that moves learning rates instead of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from dus_gym.agents.base import Agent, AgentOptions, Array, Info
from dus_gym.agents.loop import run_episode
from dus_gym.errors import ConfigError
from dus_gym.experiments.drivers.driver import Driver, MakeCore, MakeEnv


@dataclass(frozen=True)
class LRMatchedOptions(AgentOptions):
    """Options of lr-matched."""

    match: str = "score"
    """The agent whose mean split becomes a ratio of learning rates: a word, with its options behind slashes
    (score/rule=softmax), or a policy file. Where both could be meant, a word goes first and ./WORD is a file."""
    trust: bool = False
    """Allow a policy file of stable-baselines3, which holds pickles."""


class LRMatched(Driver):
    """Equal batches, and each modality's learning rate times m × the mean share another agent gave it on that seed.

    It is a constant split under the lever ``"rates"``. If it gains as much as that agent, the gain is not specific to
    sampling.
    """

    name: ClassVar[str] = "lr-matched"
    summary: ClassVar[str] = "equal batches with another agent's mean split as learning rates"
    options_type: ClassVar[type[AgentOptions]] = LRMatchedOptions
    options: LRMatchedOptions

    def __init__(self, num_modalities: int, seed: int = 0, options: AgentOptions | None = None) -> None:
        super().__init__(num_modalities, seed, options)
        self._spent = 0.0
        self.shares = super().uniform_action()
        # Of this object: it needs what the agent that is matched needs.
        self.needs_validation = self._matched(seed).needs_validation  # type: ignore[misc]

    @property
    def training_runs(self) -> float:
        """Return the cost of the matched agent: its run, and what it spent."""
        return self._spent

    def _matched(self, seed: int) -> Agent:
        from dus_gym.experiments.drivers import resolve_agent, split_word

        name, options = split_word(self.options.match, "/")
        if name == self.name:
            raise ConfigError("match='lr-matched' is not allowed; name an agent that splits batches.")
        return resolve_agent(name, self.num_modalities, seed, options, trust=self.options.trust)

    @property
    def equal_batches(self) -> bool:
        """True if the agent that is matched splits evenly: its own run must be possible."""
        return self._matched(0).equal_batches

    @property
    def together(self) -> bool:
        """True if runs of the agent that is matched can train as one computation."""
        matched = self._matched(0)
        return not isinstance(matched, Driver) or matched.together

    @property
    def planned_runs(self) -> int:
        """Return one, and those of the agent that is matched."""
        matched = self._matched(0)
        return 1 + (matched.planned_runs if isinstance(matched, Driver) else 0)

    def prepare(self, make_env: MakeEnv, seed: int) -> dict[str, Any]:
        """Run the agent that is matched.

        Returns:
            ``lever``: the mean share of each modality, over that run's samples, acts on learning rates.
        """
        matched = self._matched(seed)
        settings = _settings_of(matched)
        if isinstance(matched, Driver):
            settings |= matched.prepare(make_env, seed)
        env: gym.Env[Any, Any] = make_env(**settings)
        if isinstance(matched, Driver):
            matched.attach(env)
        info = run_episode(env, matched, seed=seed).info
        env.close()
        return self._matched_to(matched, info)

    @classmethod
    def prepare_together(
        cls, drivers: Sequence[LRMatched], make_core: MakeCore, seeds: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Run the agents that are matched, all seeds at once."""
        from dus_gym.experiments.episodes import Episodes

        matched = [driver._matched(seed) for driver, seed in zip(drivers, seeds, strict=True)]
        settings = _settings_of(matched[0])
        if isinstance(matched[0], Driver):
            settings |= type(matched[0]).prepare_together(matched, make_core, seeds)[0]
        infos = Episodes(make_core(drivers[0], **settings), matched, seeds).run()
        return [driver._matched_to(agent, info) for driver, agent, info in zip(drivers, matched, infos, strict=True)]

    def _matched_to(self, matched: Agent, info: Info) -> dict[str, Any]:
        """Take the mean share of each modality over a run's samples, and count what the run cost."""
        samples = np.array([value for key, value in info.items() if key.startswith("samples/")], dtype=np.float64)
        self._spent = 1.0 + (matched.training_runs if isinstance(matched, Driver) else 0.0)
        self.shares = (samples / samples.sum()).astype(np.float32)
        return {"lever": "rates"}

    def uniform_action(self) -> Array:
        """Return the matched split, which holds from the first step on."""
        return self.shares.copy()

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return the matched split, of learning rates."""
        return self.shares.copy()

    def state_dict(self) -> dict[str, Any]:
        """Return the split and what it cost."""
        return super().state_dict() | {"spent": self._spent, "shares": self.shares.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned."""
        super().load_state_dict(state)
        self._spent, self.shares = float(state["spent"]), np.array(state["shares"], dtype=np.float32)


def _settings_of(matched: Agent) -> dict[str, Any]:
    """Return the settings of the run that is matched."""
    settings: dict[str, Any] = {"action_mode": matched.action_mode, "lever": "samples"}
    if matched.interval is not None:
        settings["interval"] = matched.interval
    return settings
