"""The control that tries constant splits in whole runs before the one that counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dus_gym.agents.base import AgentOptions, Array, Info
from dus_gym.agents.controls import Fixed, FixedOptions
from dus_gym.agents.loop import run_episode
from dus_gym.errors import ConfigError
from dus_gym.experiments.drivers.driver import Driver, MakeCore, MakeEnv
from dus_gym.experiments.drivers.lookahead import best_of, line


@dataclass(frozen=True)
class BestFixedOptions(AgentOptions):
    """Options of best-fixed."""

    splits: int = 5
    """Splits tried; odd."""

    def __post_init__(self) -> None:
        if self.splits < 3 or self.splits % 2 == 0:
            raise ConfigError(f"splits={self.splits} is not allowed; give an odd number, 3 or more.")


class BestFixed(Driver):
    """The best of a grid of constant splits, chosen on the validation split of the same seed.

    What an agent gains over it is gained by moving the split about; what it doesn't gain, a constant would have had.
    """

    name: ClassVar[str] = "best-fixed"
    summary: ClassVar[str] = "the constant split that validates best in runs of its own"
    options_type: ClassVar[type[AgentOptions]] = BestFixedOptions
    options: BestFixedOptions
    needs_validation: ClassVar[bool] = True

    def __init__(self, num_modalities: int, seed: int = 0, options: AgentOptions | None = None) -> None:
        super().__init__(num_modalities, seed, options)
        self.shares = self.uniform_action()
        self._spent = 0

    @property
    def training_runs(self) -> float:
        """Return the number of runs of the grid."""
        return float(self._spent)

    @property
    def planned_runs(self) -> int:
        """Return the number of splits of the grid."""
        return self.options.splits

    def prepare(self, make_env: MakeEnv, seed: int) -> dict[str, Any]:
        """Run the grid."""
        self._spent = 0
        uniform, observation = self._validated(make_env, seed, self.uniform_action())
        splits = line(self.options.splits, self.num_modalities, int(np.argmax(observation)))
        middle = len(splits) // 2
        values = [uniform if i == middle else self._validated(make_env, seed, s)[0] for i, s in enumerate(splits)]
        self.shares = splits[best_of(values, splits)]
        return {}

    @property
    def together(self) -> bool:
        """True: runs of constant splits train as one computation."""
        return True

    @classmethod
    def prepare_together(
        cls, drivers: Sequence[BestFixed], make_core: MakeCore, seeds: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Run the grids of all seeds: first the uniform runs, which tell each grid's direction."""
        from dus_gym.experiments.episodes import Episodes

        m, count = drivers[0].num_modalities, drivers[0].options.splits
        uniform = drivers[0].uniform_action()

        def validated(splits: Sequence[Array], of_seeds: Sequence[int]) -> list[tuple[float, npt.NDArray[Any]]]:
            agents = [Fixed(m, options=FixedOptions("/".join(map(str, split.tolist())))) for split in splits]
            runs = Episodes(make_core(agents[0]), agents, of_seeds).run()
            return [(_accuracy(info), np.asarray(info["observation"])) for info in runs]

        middle = count // 2
        first = validated([uniform] * len(seeds), seeds)
        lines = [line(count, m, int(np.argmax(observation))) for _, observation in first]
        values = [[accuracy] * count for accuracy, _ in first]
        # One place of the lines after another, so that no more runs are in memory than of those that count.
        for i in (i for i in range(count) if i != middle):
            for of, (accuracy, _) in zip(values, validated([splits[i] for splits in lines], seeds), strict=True):
                of[i] = accuracy
        for driver, splits, found in zip(drivers, lines, values, strict=True):
            driver._spent = count
            driver.shares = splits[best_of(found, splits)]
        return [{} for _ in drivers]

    def _validated(self, make_env: MakeEnv, seed: int, split: Array) -> tuple[float, npt.NDArray[Any]]:
        """Return a whole run's last validation accuracy and observation."""
        env = make_env()
        env.reset(seed=seed)
        if not env.get_wrapper_attr("run").has_validation:
            raise ConfigError("agent='best-fixed' needs a validation split and this task has none.")
        agent = Fixed(self.num_modalities, options=FixedOptions("/".join(map(str, split.tolist()))))
        episode = run_episode(env, agent, seed=seed)
        self._spent += 1
        env.close()
        return _accuracy(episode.info), np.asarray(episode.observation)

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return the split that was chosen."""
        return self.shares.copy()

    def state_dict(self) -> dict[str, Any]:
        """Return the choice and what it cost."""
        return super().state_dict() | {"shares": self.shares.tolist(), "spent": self._spent}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned."""
        super().load_state_dict(state)
        self.shares, self._spent = np.array(state["shares"], dtype=np.float32), int(state["spent"])


def _accuracy(info: Mapping[str, Any]) -> float:
    """Return a whole run's last validation accuracy; below every accuracy if it diverged."""
    return -1.0 if info["diverged"] else float(info["val_fused/method"])
