"""DUS in anybody's own training loop, without Gymnasium: the paper's "plug-in"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dus_gym.agents import AGENTS, RECOMMENDED, make_agent
from dus_gym.agents.adapters import as_agent
from dus_gym.agents.base import Agent
from dus_gym.agents.policy_files import agent_from_policy, shipped_policies
from dus_gym.allocation import Allocation
from dus_gym.curves import ModalityCurves, draw_curves
from dus_gym.discrepancy import CumulativeScore
from dus_gym.errors import ConfigError, check_at_least
from dus_gym.hub import is_address
from dus_gym.rewards import paper_reward
from dus_gym.state import restoring

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dus_gym.agents.loaders import ModalityLoaders


class DUS:
    """Says how many samples of each modality to draw, and learns from how sure each modality is.

        dus = DUS(["audio", "video"], batch_size=64, epochs=100)
        for epoch in range(100):
            sizes = dus.next_sizes()                     # {"audio": 64, "video": 64} at first
            for batch in my_batches(sizes):
                dus.observe(my_training_step(batch))     # {"audio": p(true class), "video": ...}
            dus.observe_validation(my_validation())      # the same on samples that are not trained on

    :meth:`loaders` makes such batches by DataLoaders; ``history`` and :meth:`plot` show the run (``docs/plugin.md``).

    Args:
        modalities: names, in any order.
        batch_size: B, the batch size of one modality in ordinary training; m modalities share m times as many, the
            samples per iteration (N_B).
        epochs: decisions of the run, E of the heuristic: its epochs, or its intervals under ``interval``.
        agent: a name of the agent table, a policy file, the name of a shipped policy or the address of one on the hub,
            or anything that :func:`dus_gym.as_agent` takes; the recommended agent if not given, ``"reinforce"`` is the
            paper's.
        options: the agent's options by name, as for :func:`dus_gym.make_agent`.
        interval: iterations between two calls of :meth:`next_sizes`; None: one epoch. An agent that decides more
            often than once per epoch (``reinforce`` with ``preset="tuned"``: every 5 iterations) wants to be asked as
            often, and is refused under another interval.
        min_samples: the fewest samples a modality may get.
        min_fraction: the same as a fraction of ``batch_size``; 0 sets no floor (the paper), 0.25 is recommended.
        cumulative: see :class:`dus_gym.discrepancy.CumulativeScore`.
        size_step: sizes are a multiple of this away from ``batch_size``; 1: any size (the paper). One that leaves no
            choice of sizes is refused.
        lever: ``"samples"``: :meth:`next_sizes` says how many samples to draw; ``"rates"``: batches are equal, and
            :meth:`next_rates` says what to multiply each modality's learning rates by.
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
        agent: Any = RECOMMENDED,
        options: Mapping[str, Any] | None = None,
        interval: int | None = None,
        min_samples: int = 2,
        min_fraction: float = 0.0,
        size_step: int = 1,
        cumulative: str = "run",
        lever: str = "samples",
        seed: int = 0,
    ) -> None:
        if isinstance(modalities, str) or not all(isinstance(name, str) for name in modalities):
            raise ConfigError(f'modalities={modalities!r} is not allowed; give a list of names: ["audio", "video"].')
        self.modalities = tuple(modalities)
        m = len(self.modalities)
        if len(set(self.modalities)) != m or m < 2:
            raise ConfigError(f"modalities={list(modalities)} is not allowed; give two or more different names.")
        check_at_least("epochs", epochs, 1)
        self.agent = _agent_of(agent, m, seed, options)
        if interval is not None:
            check_at_least("interval", interval, 1)
        if self.agent.interval not in (None, interval):
            raise ConfigError(
                f"interval={interval} is not allowed with agent={self.agent.name!r}, which decides every "
                f"{self.agent.interval} iterations; say interval={self.agent.interval}, call next_sizes() that often, "
                "and count these calls in epochs=."
            )
        self.interval = interval
        self.allocation = Allocation(
            m, m * batch_size, self.agent.action_mode, min_samples, min_fraction, lever, size_step
        )
        if self.agent.policy_lever not in (None, lever):
            raise ConfigError(
                f"lever={lever!r} is not allowed with this policy, which was learned under "
                f"{self.agent.policy_lever!r}; say lever={self.agent.policy_lever!r}, or take another."
            )
        if self.agent.learns:
            self.agent.policy_lever = lever
        self.epochs = epochs
        self.seed = seed
        self.epoch = self.iterations = 0
        self.history: list[dict[str, Any]] = []
        """Each decision: its ``epoch``, from 1, the ``sizes``, under the other lever the ``rates``, the ``iterations``
        observed so far, and by modality the ``scores`` ŝ_t after them, the ``train_scores`` of this epoch (or
        interval) alone, and the ``val_scores`` if there are any."""
        self._score = CumulativeScore(m, cumulative)
        # Controllers read the last epoch's scores, whatever the state is made of.
        self._window = CumulativeScore(m, "epoch")
        self._validated: dict[str, float] = {}
        self._keys = [f"train_score/{name}" for name in self.modalities]
        self.agent.begin()

    def __repr__(self) -> str:
        last = ""
        if self.history:
            scores = {name: round(score, 3) for name, score in self.history[-1]["scores"].items()}
            last = f", sizes={self.history[-1]['sizes']}, scores={scores}"
        return f"DUS({list(self.modalities)}, agent={self.agent.name!r}, epoch={self.epoch} of {self.epochs}{last})"

    @property
    def scores(self) -> dict[str, float]:
        """Return ŝ_t, the cumulative score of each modality (Eq. 3)."""
        return dict(zip(self.modalities, self._score.value, strict=True))

    def next_sizes(self) -> dict[str, int]:
        """Return the batch sizes of the coming epoch (or interval); the first are equal (Algorithm 1, line 1).

        The agent is rewarded by Eq. 5 for the split it chooses on the state it sees, and updated.

        Raises:
            ConfigError: without an :meth:`observe` since the last call, after the last epoch, if the agent reads
                validation scores and has none, or under ``lever="rates"``.
        """
        self._check_lever("samples", "next_sizes")
        return dict(self._decide()["sizes"])

    def next_rates(self) -> dict[str, float]:
        """Return the factors on each modality's learning rates in the coming epoch (or interval).

        They are for its encoder and head, are m times the agent's shares, sum to m, and are 1 at first. Every batch has
        ``batch_size`` samples of each modality. Otherwise as :meth:`next_sizes`.

        Raises:
            ConfigError: as :meth:`next_sizes`; or under ``lever="samples"``.
        """
        self._check_lever("rates", "next_rates")
        return dict(self._decide()["rates"])

    def _check_lever(self, lever: str, call: str) -> None:
        if self.allocation.lever != lever:
            raise ConfigError(
                f"{call}() is not for lever={self.allocation.lever!r}; make DUS(..., lever={lever!r}), or call "
                f"{'next_rates' if lever == 'samples' else 'next_sizes'}()."
            )

    def _decide(self) -> dict[str, Any]:
        """Begin the coming epoch (or interval) and return its entry of the history."""
        if self.epoch >= self.epochs:
            raise ConfigError(f"epochs={self.epochs} are over; make DUS(..., epochs=N) for a run of N.")
        if self.history and not self.history[-1]["scores"]:
            raise ConfigError(
                f"{'next_sizes' if self.allocation.lever == 'samples' else 'next_rates'}() was called twice without "
                "observe() in between; call observe() after each training step."
            )
        if not self.history:
            shares, sizes = self.allocation(self.agent.uniform_action())
        else:
            state = np.array(self._score.value, dtype=np.float32)
            window = dict(zip(self._keys, self._window.value, strict=True)) | self._validated
            if self.agent.needs_validation and not self._validated:
                raise ConfigError(
                    f"agent={self.agent.name!r} reads validation scores; call observe_validation() once per epoch, or "
                    "choose an agent that needs none, such as agent='reinforce' (the paper's)."
                )
            moved = {f"rate/{name}": rate for name, rate in self.history[-1].get("rates", {}).items()}
            clock = {"epoch": self.epoch, "epochs": self.epochs, "iterations": self.iterations}
            action = self.agent.act(state, clock | window | moved)
            shares, sizes = self.allocation(action)
            self.agent.learn(paper_reward(self._score.value, shares))
        self.epoch += 1
        self._score.start_step()
        self._window.start_step()
        entry: dict[str, Any] = {"epoch": self.epoch, "sizes": dict(zip(self.modalities, sizes, strict=True))}
        if (rates := self.allocation.rates(shares)) is not None:
            entry["rates"] = dict(zip(self.modalities, rates, strict=True))
        self.history.append(entry | {"iterations": self.iterations, "scores": {}, "train_scores": {}, "val_scores": {}})
        return self.history[-1]

    def loaders(
        self,
        datasets: Mapping[str, Any],
        labels: Sequence[Any] | None = None,
        *,
        iterations: int | None = None,
        paired: bool = True,
        **settings: Any,
    ) -> ModalityLoaders:
        """Return PyTorch DataLoaders that draw as many samples of each modality as :meth:`next_sizes` said last.

        Args:
            datasets: by modality, whatever has a length and rows by number: a Dataset, a tensor, a list.
            labels: of the samples, in order, for datasets without them.
            iterations: batches between two decisions; by default ``interval``, else a pass over the longest dataset.
            paired: True: the first rows of all modalities are the same samples, as many as the smallest batch has.
            settings: of DataLoader: ``num_workers``, ``pin_memory``, …; for all modalities, or a dict by modality.

        Raises:
            ConfigError: for datasets, labels or settings that don't fit.
        """
        from dus_gym.agents.loaders import ModalityLoaders

        return ModalityLoaders(self, datasets, labels, iterations=iterations, paired=paired, **settings)

    def plot(self, path: str | Path | None = None) -> Figure:
        """Return the picture of the run so far: scores above, batch sizes (or rates) below.

        Above, the thick lines are ŝ_t, the thin ones each epoch's own training scores, the dashed ones validation.

        Args:
            path: where to write it too, such as ``"dus.png"``.

        Raises:
            ConfigError: before the first :meth:`observe`.
        """
        entries = [entry for entry in self.history if entry["scores"]]
        if not entries:
            raise ConfigError("plot() was called before observe(), and there is nothing to show yet; train first.")
        rates = "rates" in entries[0]
        kind, given = ("rates", "factors on learning rates") if rates else ("sizes", "samples per iteration")
        curves = [
            ModalityCurves(
                name,
                cumulative=[entry["scores"][name] for entry in entries],
                own=[entry["train_scores"][name] for entry in entries],
                validation=[entry["val_scores"].get(name, float("nan")) for entry in entries],
                given=[entry[kind][name] for entry in entries],
            )
            for name in self.modalities
        ]
        figure = draw_curves(
            f"DUS in a loop of one's own, agent {self.agent.name}",
            [entry["epoch"] for entry in entries],
            curves,
            given,
            "epoch" if self.interval is None else f"decision, every {self.interval} iterations",
        )
        if path is not None:
            figure.savefig(path)
        return figure

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed loop needs; ``torch.save`` writes it, and ``torch.load`` reads it as it is."""
        state = {
            "lever": self.allocation.lever,
            "epoch": self.epoch,
            "iterations": self.iterations,
            "history": self.history,
            "score": self._score.state_dict(),
            "window": self._window.state_dict(),
            "validated": self._validated,
            "agent": self.agent.state_dict(),
        }
        found: dict[str, Any] = with_tensors(state)
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned.

        Raises:
            CheckpointError: for the state of something else.
        """
        with restoring(f"this state, put into DUS({list(self.modalities)}, agent={self.agent.name!r}),"):
            read = with_arrays(state)
            if read["lever"] != self.allocation.lever:
                raise ValueError(f"it is of lever={read['lever']!r}, not {self.allocation.lever!r}")
            epoch, iterations = int(read["epoch"]), int(read["iterations"])
            history, validated = list(read["history"]), dict(read["validated"])
            # First what another agent's state fails at: then nothing has changed.
            self.agent.load_state_dict(read["agent"])
            self._score.load_state_dict(read["score"])
            self._window.load_state_dict(read["window"])
        self.epoch, self.iterations = epoch, iterations
        self.history, self._validated = history, validated

    def observe(self, true_class_probability: Mapping[str, npt.ArrayLike]) -> None:
        """Take one iteration's outputs.

        Args:
            true_class_probability: for each modality, the probability its own prediction gave the true
                class of each sample it drew, any shape; arrays, lists, or tensors on any device.

        Raises:
            ConfigError: if a modality is missing or unknown, a value is no probability, or before the first
                :meth:`next_sizes`.
        """
        means = self._means(true_class_probability)
        if not self.history:
            call = "next_sizes" if self.allocation.lever == "samples" else "next_rates"
            raise ConfigError(f"observe() was called before {call}(), which says what to train on; call that first.")
        self.iterations += 1
        self._score.add(means)
        self._window.add(means)
        window = dict(zip(self.modalities, self._window.value, strict=True))
        self.history[-1] |= {"iterations": self.iterations, "scores": self.scores, "train_scores": window}

    def observe_validation(self, true_class_probability: Mapping[str, npt.ArrayLike]) -> None:
        """Take an epoch's outputs on validation samples, for agents that compare (``steady``, ``holdout``).

        Args:
            true_class_probability: as in :meth:`observe`, from samples that are not trained on.

        Raises:
            ConfigError: see :meth:`observe`.
        """
        means = self._means(true_class_probability)
        found = dict(zip(self.modalities, means, strict=True))
        self._validated = {f"val_score/{name}": mean for name, mean in found.items()}
        if self.history:
            self.history[-1]["val_scores"] = found

    def _means(self, true_class_probability: Mapping[str, npt.ArrayLike]) -> list[float]:
        """Return the mean of each modality, in order."""
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


def _agent_of(agent: Any, num_modalities: int, seed: int, options: Mapping[str, Any] | None) -> Agent:
    """Return the agent that a name, a policy file or an object stands for.

    Raises:
        ConfigError: for what is none of them, for a driver, and for options beside an object.
    """
    if isinstance(agent, str | Path):
        name = str(agent)
        if name not in AGENTS and (is_address(name) or name in shipped_policies() or Path(name).is_file()):
            return agent_from_policy(name, num_modalities, seed, options)
        return make_agent(name, num_modalities, seed, options)
    if options:
        raise ConfigError(f"options={dict(options)} go with an agent's name; this agent is made already.")
    return as_agent(agent, num_modalities, seed=seed)


_ARRAY = "numpy array"
"""The one key of the dict that stands for an array, so that an agent's own tensors stay tensors."""


def with_tensors(value: Any) -> Any:
    """Copy nested state with tensors for arrays: PyTorch's safe loader refuses NumPy's."""
    if isinstance(value, Mapping):
        return {key: with_tensors(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [with_tensors(child) for child in value]
    if isinstance(value, np.ndarray):
        import torch

        return {_ARRAY: torch.from_numpy(value.copy())}
    return value.item() if isinstance(value, np.generic) else value


def with_arrays(value: Any) -> Any:
    """Copy what :func:`with_tensors` made, with its arrays."""
    if isinstance(value, Mapping):
        if value.keys() == {_ARRAY}:
            return value[_ARRAY].cpu().numpy().copy()
        return {key: with_arrays(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [with_arrays(child) for child in value]
    return value
