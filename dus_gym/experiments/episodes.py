"""R runs under R agents, step by step: what :func:`dus_gym.agents.loop.run_episode` is for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding

from dus_gym.agents.base import Agent
from dus_gym.allocation import read_action
from dus_gym.costs import Stopwatch
from dus_gym.envs.dus_env import DUSEnv
from dus_gym.envs.run_group import allocate, read_actions
from dus_gym.envs.vector_env import RealRuns, kind_of_runs
from dus_gym.errors import DusError
from dus_gym.experiments.drivers.driver import Driver

Columns = Mapping[str, list[Any]]
"""Figures of all runs by key, an entry a run."""
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class RunStep:
    """One run's part of a step."""

    run: int
    """Its place among the runs."""
    observation: Array
    reward: float
    info: dict[str, Any]
    ended: bool


class Episodes:
    """R runs under R agents. A run that diverges, or whose agent fails, ends there; the others go on.

    Args:
        core: an environment of the runs' settings.
        agents: one per run.
        seeds: of the runs, as for the reset of an environment.
        references: by run, a reward for each step that is subtracted from the one which the agent learns from; past
            its end nothing is.
    """

    def __init__(
        self,
        core: DUSEnv,
        agents: Sequence[Agent],
        seeds: Sequence[int],
        references: Sequence[Sequence[float]] = (),
    ) -> None:
        self.core, self.agents, self.references = core, agents, references
        self.steps = 0
        """Steps made."""
        self.group = kind_of_runs(core)(core, len(agents))
        # As the environment draws it at reset.
        self._run_seeds = [int(seeding.np_random(seed)[0].integers(2**63 - 1)) for seed in seeds]
        self.active = list(range(len(agents)))
        self.errors: dict[int, DusError] = {}
        self.watches = [Stopwatch() for _ in agents]
        self.last: tuple[Array, Columns] | None = None
        """Observations and figures of the last step; None before the first."""

    @property
    def real(self) -> RealRuns:
        """Return the group of runs that train real networks, which alone can be kept and scored on a test split."""
        assert isinstance(self.group, RealRuns)
        return self.group

    def begin(self) -> None:
        """Begin new runs."""
        for r, agent in enumerate(self.agents):
            self._asked(r, agent.begin)
        self.group.begin(self._run_seeds)

    def step(self) -> list[RunStep]:
        """Let each agent decide, train one step of all runs, and let each agent learn; return the runs' parts."""
        core, last = self.core, self.last
        decided = {} if last is None else self._decide(*last)
        if not self.active:
            return []
        # Algorithm 1, line 1: the first action is uniform whatever the agent, and is not learned from.
        actions = np.array([decided.get(r, agent.uniform_action()) for r, agent in enumerate(self.agents)], np.float64)
        entries = read_actions(actions, len(self.agents), len(core.modalities))
        shares, sizes = allocate(core.allocation, entries, core.method, core._needs_equal_sizes)
        observations, rewards, ended, infos = self.group.step(shares, sizes)
        columns = _columns(infos)
        self.last = observations, columns
        steps = []
        for r in list(self.active):
            reward = float(rewards[r])
            reference = self.references[r][self.steps : self.steps + 1] if self.references else ()
            if r in decided and not self._asked(r, partial(self.agents[r].learn, reward - sum(reference))):
                continue
            steps.append(
                RunStep(r, observations[r], reward, {key: of[r] for key, of in columns.items()}, bool(ended[r]))
            )
            if ended[r]:
                self.active.remove(r)
        self.steps += 1
        return steps

    def run(self) -> list[dict[str, Any]]:
        """Begin, go on to the end, and return each run's last figures.

        Raises:
            DusError: that of the first agent that failed.
        """
        self.begin()
        found: list[dict[str, Any]] = [{} for _ in self.agents]
        while self.active:
            for step in self.step():
                found[step.run] = step.info | {"observation": step.observation}
        for error in self.errors.values():
            raise error
        return found

    def snapshot(self) -> dict[str, Any]:
        """Return everything that a continuation depends on, taken between two steps."""
        return {
            "group": self.real.snapshot(),
            "agents": [agent.state_dict() for agent in self.agents],
            "active": list(self.active),
            "errors": {str(r): str(error) for r, error in self.errors.items()},
            "agent_seconds": [watch.seconds for watch in self.watches],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put a snapshot of the same runs back."""
        observations, infos = self.real.restore(self._run_seeds, state["group"])
        self.last = observations, _columns(infos)
        for agent, kept in zip(self.agents, state["agents"], strict=True):
            agent.load_state_dict(kept)
        self.active = [int(r) for r in state["active"]]
        self.errors = {int(r): DusError(str(said)) for r, said in state["errors"].items()}
        self.watches = [Stopwatch(float(seconds)) for seconds in state["agent_seconds"]]

    def _decide(self, observations: Array, columns: Columns) -> dict[int, list[float]]:
        """Return the actions of the runs that go on; an agent that fails ends its run."""
        m = len(self.core.modalities)
        first = self.agents[0]
        at_once = type(first).act_together if isinstance(first, Driver) else None
        found: dict[int, list[float]] = {}
        if at_once is not None:
            watch = Stopwatch()
            with watch:
                actions = at_once(self.agents, self.group, observations)
            for r in self.active:
                self.watches[r].seconds += watch.seconds / len(self.active)
                found[r] = read_action(actions[r], m)
            return found

        def decide(r: int) -> None:
            info = {key: of[r] for key, of in columns.items()}
            action = read_action(self.agents[r].act(observations[r], info), m)
            # What the rule refuses is this run's error and no other's.
            self.core.sizes_of(action)
            found[r] = action

        for r in list(self.active):
            self._asked(r, partial(decide, r))
        return found

    def _asked(self, r: int, what: Callable[[], None]) -> bool:
        """Ask something of one run's agent; return whether it could, and end the run if not."""
        try:
            with self.watches[r]:
                what()
        except DusError as error:
            self.errors[r] = error
            self.active.remove(r)
            return False
        return True


def _columns(infos: Mapping[str, Array]) -> Columns:
    return {key: values.tolist() for key, values in infos.items() if not key.startswith("_")}
