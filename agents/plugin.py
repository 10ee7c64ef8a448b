"""DUS in anybody's own training loop, without Gymnasium: the paper's "plug-in"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dus_gym.agents import agent_class, make_agent
from dus_gym.agents.base import Agent
from dus_gym.allocation import Allocation
from dus_gym.discrepancy import CumulativeScore
from dus_gym.errors import ConfigError, check_at_least
from dus_gym.rewards import paper_reward


class DUS:
    """Says how many samples of each modality to draw, and learns from how sure each modality is.

        dus = DUS(["audio", "video"], batch_size=64, epochs=100)
        for epoch in range(100):
            sizes = dus.next_sizes()                     # {"audio": 64, "video": 64} at first
            for batch in my_batches(sizes):
                dus.observe(my_training_step(batch))     # {"audio": p(true class), "video": ...}

    Args:
        modalities: names, in any order.
        batch_size: B, the ordinary batch of one modality; N_B is m times that.
        epochs: decisions of the run, E of the heuristic.
        agent: a name of the agent table, or an agent.
        agent_options: the agent's options by name.
        min_samples: the fewest samples a modality may get.
        min_fraction: the same as a fraction of the batch; 0 is the paper, 0.25 is recommended.
        cumulative: see :class:`dus_gym.discrepancy.CumulativeScore`.
        seed: of the agent's random numbers.

    Raises:
        ConfigError: for settings that don't fit together.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        batch_size: int = 64,
        epochs: int = 100,
        agent: str | Agent = "reinforce",
        agent_options: Mapping[str, Any] | None = None,
        min_samples: int = 2,
        min_fraction: float = 0.0,
        cumulative: str = "run",
        seed: int = 0,
    ) -> None:
        self.modalities = tuple(modalities)
        m = len(self.modalities)
        if len(set(self.modalities)) != m:
            raise ConfigError(f"modalities={list(modalities)} is not allowed; every name must be different.")
        check_at_least("epochs", epochs, 1)
        if isinstance(agent, Agent):
            if agent.num_modalities != m:
                raise ConfigError(
                    f"agent is for {agent.num_modalities} modalities; modalities={list(modalities)} are {m}."
                )
            if agent_options:
                raise ConfigError(
                    f"agent_options={dict(agent_options)} go with an agent's name; this agent is made already."
                )
        elif not isinstance(agent, str):
            raise ConfigError(f"agent={agent!r} is not allowed; give a name of the agent table, or an agent.")
        elif agent_class(agent).needs_runs:
            raise ConfigError(
                f"agent={agent!r} makes whole runs of its own, which a loop of yours can't give it; use dus train."
            )
        self.agent = agent if isinstance(agent, Agent) else make_agent(agent, m, seed, agent_options)
        self.allocation = Allocation(m, m * batch_size, self.agent.action_mode, min_samples, min_fraction)
        self.epochs = epochs
        self.epoch = 0
        self._score = CumulativeScore(m, cumulative)
        # Controllers read the last epoch's scores, whatever the state is made of.
        self._window = CumulativeScore(m, "epoch")
        self._validated: dict[str, float] = {}
        self._keys = [f"train_score/{name}" for name in self.modalities]
        self.agent.begin()

    @property
    def scores(self) -> dict[str, float]:
        """ŝ_t, the cumulative score of each modality (Eq. 3)."""
        return dict(zip(self.modalities, self._score.value, strict=True))

    def next_sizes(self) -> dict[str, int]:
        """The batch sizes of the coming epoch; the first are equal (Algorithm 1, line 1).

        The agent is rewarded by Eq. 5 for the split it chooses on the state it sees, and updated.
        """
        if self._score.iterations == 0:
            _, sizes = self.allocation(self.agent.uniform_action())
        else:
            state = np.array(self._score.value, dtype=np.float32)
            window = dict(zip(self._keys, self._window.value, strict=True)) | self._validated
            if self.agent.needs_validation and not self._validated:
                raise ConfigError(
                    f"agent={self.agent.name!r} reads validation scores; call observe_validation() once an epoch."
                )
            action = self.agent.act(state, {"epoch": self.epoch, "epochs": self.epochs} | window)
            shares, sizes = self.allocation(action)
            self.agent.learn(paper_reward(self._score.value, shares))
        self.epoch += 1
        self._score.start_step()
        self._window.start_step()
        return dict(zip(self.modalities, sizes, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed loop needs; :func:`dus_gym.state.save_state` writes it."""
        return {
            "epoch": self.epoch,
            "score": self._score.state_dict(),
            "window": self._window.state_dict(),
            "validated": dict(self._validated),
            "agent": self.agent.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what :meth:`state_dict` returned."""
        self.epoch = int(state["epoch"])
        self._score.load_state_dict(state["score"])
        self._window.load_state_dict(state["window"])
        self._validated = dict(state["validated"])
        self.agent.load_state_dict(state["agent"])

    def observe(self, true_class_probability: Mapping[str, npt.ArrayLike]) -> None:
        """Takes one iteration's outputs.

        Args:
            true_class_probability: for each modality, the probability its own prediction gave the true
                class of each sample it drew, any shape; arrays, lists, or tensors on any device.

        Raises:
            ConfigError: if a modality is missing or unknown, or a value is no probability.
        """
        means = self._means(true_class_probability)
        self._score.add(means)
        self._window.add(means)

    def observe_validation(self, true_class_probability: Mapping[str, npt.ArrayLike]) -> None:
        """Takes an epoch's outputs on validation samples, for agents that compare (``holdout``, ``overfit``).

        Args:
            true_class_probability: as in :meth:`observe`, from samples that are not trained on.

        Raises:
            ConfigError: see :meth:`observe`.
        """
        means = self._means(true_class_probability)
        self._validated = {f"val_score/{name}": mean for name, mean in zip(self.modalities, means, strict=True)}

    def _means(self, true_class_probability: Mapping[str, npt.ArrayLike]) -> list[float]:
        """The mean of each modality, in order."""
        if set(true_class_probability) != set(self.modalities):
            raise ConfigError(
                f"true_class_probability has {sorted(true_class_probability)}; it needs {sorted(self.modalities)}."
            )
        means = []
        for name in self.modalities:
            values: Any = true_class_probability[name]
            detached = values.detach().float().cpu() if hasattr(values, "detach") else values
            try:
                found = np.asarray(detached, dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise ConfigError(
                    f"true_class_probability[{name!r}] is not allowed; give an array of numbers."
                ) from error
            if not (found.size and found.min() >= 0.0 and found.max() <= 1.0 + 1e-6):
                worst = f"has values from {found.min()} to {found.max()}" if found.size else "is empty"
                raise ConfigError(f"true_class_probability[{name!r}] {worst}; probabilities lie in [0, 1].")
            means.append(float(found.mean()))
        return means
