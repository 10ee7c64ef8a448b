"""Many runs as one vector environment: real networks that train as one computation, or the fitted curves."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dus_gym.ambient import isolated_torch_modes
from dus_gym.costs import MIB, available_memory
from dus_gym.envs.dus_env import DUSEnv
from dus_gym.envs.fake_vector import FakeRuns
from dus_gym.envs.run_group import Array, Floats, Ints, Report, RunGroup, allocate, read_actions
from dus_gym.errors import ConfigError, DusError, TooManyRunsError, check_at_least
from dus_gym.methods import make_method
from dus_gym.methods.base import Method
from dus_gym.records import Evaluation, Figures
from dus_gym.seeding import RunSeeds
from dus_gym.trainer import Recipe, TrainingRuns


class DUSVectorEnv(VectorEnv[Array, Array, Array]):
    """n copies of :class:`~dus_gym.envs.dus_env.DUSEnv` that train as one computation.

    ``gym.make_vec("dus_gym:DUS-Digits-v0", num_envs=n)`` makes one, of real runs; ``DUS-Fake-v0`` one of fitted
    curves. Copy i reset with seed s is the run that the single environment trains under seed s and the same actions:
    the same data, order and starting point, equal sizes and counters, other figures within the rounding of float32
    sums in another order (fitted curves: within 1e-12). The same seeds and n give the same bits.

    Observations are ``(n, m)`` float32, rewards ``(n,)`` float64, ends ``(n,)`` bool; ``info`` holds one ``(n,)``
    array for each key of the single environment, and its mask ``_key``, always True. Autoreset is next-step: the call
    after a copy's last epoch, or after its loss was not finite, ignores its action, starts a new run in it and returns
    a reward of 0 for it. The copies that go on train in the same call. Or it is same-step: the call of a copy's last
    epoch starts its new run already, and what the old one ended with is in ``info["final_obs"]`` and
    ``info["final_info"]``, as Gymnasium has it; stable-baselines3 needs that
    (:class:`dus_gym.agents.sb3.SB3Runs`).

    Args:
        num_envs: n.
        task: a name of the task registry; the id sets it.
        trainer: ``"real"`` or ``"fake"``; the id sets it.
        render_mode: not supported.
        autoreset_mode: ``"NextStep"`` or ``"SameStep"``.
        settings: every other argument of ``DUSEnv``.

    Raises:
        ConfigError: for a bad setting, or one that only ``vectorization_mode="sync"`` supports. A method or network
            that can't train as one computation is refused at reset, where the network is built.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 - Gymnasium's form

    def __init__(
        self,
        num_envs: int,
        task: str,
        *,
        trainer: str = "real",
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **settings: Any,
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer):
            raise ConfigError(f"num_envs={num_envs!r} is not allowed; it must be a whole number.")
        check_at_least("num_envs", num_envs, 1)
        mode = autoreset_mode.value if isinstance(autoreset_mode, AutoresetMode) else autoreset_mode
        for name, value, supported in (
            ("render_mode", render_mode, render_mode is None),
            ("autoreset_mode", autoreset_mode, mode in ("NextStep", "SameStep")),
            ("max_episode_steps", settings.get("max_episode_steps"), "max_episode_steps" not in settings),
        ):
            if not supported:
                raise _unsupported(name, value)
        self.metadata = {**self.metadata, "autoreset_mode": AutoresetMode(mode)}
        # The single environment checks and completes the settings, so that both say the same of a bad one.
        self.single = single = DUSEnv(task, trainer=trainer, **settings)
        if trainer == "fake" and single.config.select != "last":
            raise _unsupported("select", single.config.select)
        self._kind = kind_of_runs(single)
        self._same_step = mode == "SameStep"
        self.num_envs = num_envs
        self.single_observation_space = single.observation_space
        self.single_action_space = single.action_space
        self.observation_space = batch_space(single.observation_space, num_envs)
        self.action_space = batch_space(single.action_space, num_envs)
        self._copies: list[np.random.Generator] = []
        self._groups: list[_Placed] = []
        self._over = np.zeros(num_envs, bool)

    # -- Gymnasium ---------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start a fresh run in every copy.

        Args:
            seed: one integer (copy i gets ``seed + i``), a sequence of n integers or Nones, or None: as in the single
                environment, each copy's generator goes on.
            options: nothing is read from it but ``reset_mask``, which must be True for every copy.

        Returns:
            The probes' scores ``(n, m)`` and the runs' figures before training.

        Raises:
            ConfigError: for seeds that are not n, or a reset of some copies only; for a method or network that can't
                train as one computation, or runs that differ in shape or don't fit into memory.
            DatasetNotFoundError: if the task's files are not there.
        """
        if self.closed:
            raise ClosedEnvironmentError("reset() after close(); make the environment again.")
        if not np.all((options or {}).get("reset_mask", True)):
            raise _unsupported("options['reset_mask']", "some copies only")
        # Text is a sequence, too, whatever its type says.
        given: Any = seed
        if seed is None:
            seeds: list[int | None] = [None] * self.num_envs
        elif isinstance(seed, int | np.integer):
            seeds = [int(seed) + i for i in range(self.num_envs)]
        elif isinstance(given, Sequence | np.ndarray) and not isinstance(given, str):
            seeds = [int(one) if isinstance(one, np.integer) else one for one in given]
        else:
            raise ConfigError(f"seed={seed!r} is not allowed; it must be one integer or {self.num_envs} of them.")
        if len(seeds) != self.num_envs:
            raise ConfigError(f"seed={seeds} is not allowed; it must be one integer or {self.num_envs} of them.")
        old = self._copies
        self._copies = [old[i] if old and s is None else seeding.np_random(s)[0] for i, s in enumerate(seeds)]
        self._groups = []
        return self._begin(np.arange(self.num_envs))

    def step(self, actions: npt.ArrayLike) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Train one interval in every copy, and start a new run in those that had ended.

        Args:
            actions: ``(n, m)``, a row per copy.

        Raises:
            ResetNeeded: before the first reset.
            ConfigError: for malformed actions; says which copy's.
        """
        if self.closed:
            raise ClosedEnvironmentError("step() after close(); make the environment again.")
        if not self._groups:
            raise ResetNeeded("there are no runs yet: call reset() first.")
        found = self._step(actions)
        return self._begin_ended(*found) if self._same_step else found

    def _step(self, actions: npt.ArrayLike) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        n, over = self.num_envs, self._over
        number = int(np.count_nonzero(over))
        if number == n:
            observations, infos = self._begin(np.arange(n))
            return observations, np.zeros(n), np.zeros(n, bool), np.zeros(n, bool), infos
        if number:
            # What these copies were told is not read, but the others' actions must be as many.
            actions = _replaced(actions, over, self.single.allocation.uniform())
        entries = read_actions(actions, n, len(self.single.modalities))
        shares, sizes = allocate(self.single.allocation, entries, self.single.method, self.single._needs_equal_sizes)
        if not number and len(self._groups) == 1:
            observations, rewards, ended, infos = self._groups[0].group.step(shares, sizes)
            self._over = ended
            return observations, rewards, ended.copy(), np.zeros(n, bool), infos
        return self._step_groups(shares, sizes, over.copy())

    def _step_groups(
        self, shares: Floats, sizes: Ints, over: npt.NDArray[np.bool_]
    ) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Step groups of different clocks, and begin one of the copies that had ended."""
        n = self.num_envs
        observations: Array = np.empty((n, len(self.single.modalities)), np.float32)
        rewards: Array = np.zeros(n)
        infos: dict[str, Any] = {}

        def place(rows: Ints, columns: Ints, found: Array, info: dict[str, Any]) -> None:
            observations[rows] = found[columns]
            for key, values in info.items():
                infos.setdefault(key, np.empty(n, values.dtype))[rows] = values[columns]

        for placed in self._groups:
            columns = np.flatnonzero(placed.going & ~over[placed.rows])
            if not len(columns):
                continue
            rows = placed.rows[columns]
            found, rewarded, ended, info = placed.group.step(shares[:, placed.rows], sizes[:, placed.rows])
            place(rows, columns, found, info)
            rewards[rows], self._over[rows] = rewarded[columns], ended[columns]
        new = np.flatnonzero(over)
        if len(new):
            begun, info = self._begin(new)
            place(new, np.arange(len(new)), begun, info)
        return observations, rewards, self._over.copy(), np.zeros(n, bool), infos

    def _begin_ended(
        self, observations: Array, rewards: Array, ended: Array, truncated: Array, infos: dict[str, Any]
    ) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Begin a new run where one has just ended, and keep what the old one ended with."""
        new = np.flatnonzero(ended)
        if not len(new):
            return observations, rewards, ended, truncated, infos
        last = {key: ended.copy() if key.startswith("_") else values.copy() for key, values in infos.items()}
        infos |= {"final_obs": observations.copy(), "final_info": last}
        infos |= {"_final_obs": ended.copy(), "_final_info": ended.copy()}
        begun, info = self._begin(new)
        observations[new] = begun
        for key, values in info.items():
            infos[key][new] = values
        return observations, rewards, ended, truncated, infos

    def close_extras(self, **_: Any) -> None:
        """Drop the runs; called once, by ``close()``."""
        self._copies, self._groups = [], []

    # -- beyond Gymnasium --------------------------------------------------------------------------

    @property
    def horizon(self) -> int:
        """Return the steps of one episode; of real runs known once they are built.

        Raises:
            ResetNeeded: before the first reset.
        """
        if self._kind is FakeRuns and not self._groups:
            return FakeRuns(self.single, 1).horizon
        if not self._groups:
            raise ResetNeeded("there are no runs yet: call reset() first.")
        return self._groups[0].group.horizon

    def evaluate(self) -> list[Evaluation | None]:
        """Return the finished runs' figures on the test split, one per copy; None for a run under way.

        Raises:
            ConfigError: on the fake trainer, whose single environment has them, and under same-step autoreset, which
                leaves no finished run.
            DusError: before the end of any run: the test split is scored once, after training.
        """
        if self._kind is FakeRuns:
            raise _unsupported("trainer", "fake")
        if self._same_step:
            raise ConfigError(
                "autoreset_mode='SameStep' is not allowed for evaluate(): no finished run is left to score; make the "
                "environment with the default, NextStep."
            )
        if not self._groups or not self._over.any():
            raise DusError("evaluate() before the end of any run: the test split is scored once, after training.")
        found: dict[int, Evaluation] = {}
        for placed in self._groups:
            assert isinstance(placed.group, RealRuns)
            ended = np.flatnonzero(placed.going & self._over[placed.rows])
            if len(ended):
                every = placed.group.runs.evaluate_all()
                found |= {int(placed.rows[r]): every[r] for r in ended}
        return [found.get(i) for i in range(self.num_envs)]

    def _begin(self, rows: Ints) -> tuple[Array, dict[str, Any]]:
        """Begin new runs in some copies, which leave the groups they were in."""
        for placed in self._groups:
            placed.going &= ~np.isin(placed.rows, rows)
        kept = [placed for placed in self._groups if placed.going.any()]
        seeds = [int(self._copies[i].integers(2**63 - 1)) for i in rows]
        if len(rows) == self.num_envs and len(self._groups) == 1 and len(self._groups[0].rows) == self.num_envs:
            group = self._groups[0].group
        else:
            group = self._kind(self.single, len(rows))
        self._groups = kept
        found = group.begin(seeds)
        self._groups = [*kept, _Placed(rows, group, np.ones(len(rows), bool))]
        self._over[rows] = False
        return found


@dataclass
class _Placed:
    """A group and the copies whose runs it began."""

    rows: Ints
    group: RunGroup
    going: npt.NDArray[np.bool_]
    """Which of them have not begun another run since."""


def kind_of_runs(single: DUSEnv) -> type[RunGroup]:
    """Return the class of the runs of an environment: fitted curves or real networks."""
    return FakeRuns if single.trainer == "fake" else RealRuns


class RealRuns(RunGroup):
    """n runs of :class:`~dus_gym.trainer.TrainingRuns`.

    Args:
        single: the environment of one run, with the settings of all.
        num_runs: n.
    """

    runs: TrainingRuns
    """The runs under way."""

    @isolated_torch_modes()
    def _build(self, seeds: Sequence[int]) -> TrainingRuns:
        """Build data and networks."""
        single, recipe = self.single, Recipe.of(self.single.task)
        each = [RunSeeds(seed) for seed in seeds]
        # One at first: what it takes tells whether all would fit.
        data = [single.task.data(each[0], single.data_root)]
        if len(seeds) > 1:
            one = TrainingRuns(recipe, data, self._method(), single.config, each[:1])
            _check_memory(len(seeds), one.bytes_of_a_run(), single.config.device)
        data += [single.task.data(seed, single.data_root) for seed in each[1:]]
        self.runs = runs = TrainingRuns(recipe, data, self._method(), single.config, each)
        self.epochs, self.iterations_per_epoch = runs.epochs, runs.iterations_per_epoch
        self.trains_fused, self.figures = runs.trains_fused, list(runs.logged_all[0])
        return runs

    def _method(self) -> Method:
        return make_method(self.single.method, self.single.method_options)

    def _start(self, seeds: Sequence[int]) -> Report:
        """Build data and networks, and probe them."""
        m, probes = len(self.single.modalities), self._build(seeds).probe_all()
        train = [probe.train for probe in probes]
        self.predictors = [name for name, value in train[0].fused.items() if value is not None]
        self.samples = np.zeros((m, self.num_runs), np.int64)
        validations = [probe.validation for probe in probes if probe.validation is not None]
        self.validation = self._rows(validations) if validations else None
        self._last = Report(
            np.zeros((m, self.num_runs), np.int64),
            np.array([sum(figures.losses) for figures in train]),
            np.array([figures.scores for figures in train]).T,
            np.array([figures.accuracies for figures in train]).T,
            np.array([figures.fused["concat"] or 0.0 for figures in train]),
        )
        return self._last

    def _train(self, sizes: Ints, rates: Floats | None) -> Report:
        """Train; a run that has diverged keeps the figures of its end."""
        runs = self.runs
        by_run = None if rates is None else rates.T.tolist()
        intervals = runs.train_all(sizes.T.tolist(), self.iterations_per_step, by_run)
        going = [r for r, interval in enumerate(intervals) if interval is not None]
        found = [interval for interval in intervals if interval is not None]
        # Of all iterations (k, m, runs that went on); the others' scores stay what they are.
        rows = np.array([[row for row, _ in interval.iteration_scores] for interval in found]).transpose(1, 2, 0)
        for scores in rows:
            everyone = scores if len(going) == self.num_runs else _with_columns(self._score, going, scores)
            self._average(everyone, 1)
        report = Report(
            np.array([interval.sizes for interval in found]).T,
            np.array([interval.loss for interval in found]),
            np.array([interval.scores for interval in found]).T,
            np.array([interval.accuracies for interval in found]).T,
            np.array([interval.fused_accuracy or 0.0 for interval in found]),
        )
        if len(going) < self.num_runs:
            report = Report(*(_with_columns(old, going, new) for old, new in zip(self._last, report, strict=True)))
        if rates is not None:
            self._rates = _with_columns(rates, going, np.array([interval.rates for interval in found]).T)
        self._last = report
        self._count()
        if runs.validations is not None:
            self.validation = self._rows(runs.validations)
        return report

    def fork(self) -> RealRuns:
        """Return a second group whose runs have come the same way; the data is shared."""
        twin = copy.copy(self)
        twin.runs = self.runs.fork()
        return twin

    def snapshot(self) -> dict[str, Any]:
        """Return everything that a continuation depends on but the seeds, taken between two steps."""
        return {
            "runs": self.runs.snapshot(),
            "score": self._score.copy(),
            "averaged": self._averaged,
            "rates": None if self._rates is None else self._rates.copy(),
            "last": dict(self._last._asdict()),
            "validation": None if self.validation is None else self.validation.copy(),
            "predictors": list(self.predictors),
        }

    def restore(self, seeds: Sequence[int], state: dict[str, Any]) -> tuple[Array, dict[str, Any]]:
        """Put a snapshot of runs with these seeds and the same settings back, to the bit.

        Returns:
            Observations and ``info`` at which it was taken.
        """
        runs = self._build(seeds)
        runs.restore(state["runs"])
        self.predictors = list(state["predictors"])
        self._count()
        self.validation = None if state["validation"] is None else np.asarray(state["validation"])
        self._score, self._averaged = np.asarray(state["score"]), int(state["averaged"])
        self._rates = None if state["rates"] is None else np.asarray(state["rates"])
        self._last = Report(**{name: np.asarray(values) for name, values in state["last"].items()})
        self._name_the_info()
        infos = self._describe(self._last)
        return self._observe(), infos

    def _count(self) -> None:
        """Take over how far the runs are."""
        runs = self.runs
        self.epoch, self.iterations, self.diverged = runs.epoch, runs.iterations, np.array(runs.ended)
        self.samples = np.array([progress.samples for progress in runs.progresses]).T

    def _rows(self, figures: Sequence[Figures]) -> Floats:
        """Return validation figures as rows."""
        return np.array(
            [[*f.scores, *f.accuracies, *f.losses, *(f.fused[name] for name in self.predictors)] for f in figures],
            dtype=np.float64,
        ).T

    def _coverage(self) -> Floats:
        """Return the coverage that the runs count."""
        return np.array([progress.coverage for progress in self.runs.progresses]).T

    def _logged(self) -> Floats:
        """Return the method's figures."""
        return np.array([[logged[name] for logged in self.runs.logged_all] for name in self.figures])


def _check_memory(num_runs: int, each: int, device: str) -> None:
    """Refuse more runs than fit.

    Raises:
        TooManyRunsError: with the figures.
    """
    available = available_memory(device)
    if available is not None and num_runs * each > available:
        fits = max(1, available // each)
        raise TooManyRunsError(
            f"{num_runs} runs as one computation need about {num_runs * each / MIB:,.0f} MiB of memory and "
            f"{available / MIB:,.0f} MiB are free on {device}; {fits} would fit: use a smaller num_envs or "
            "parallel_runs.",
            fits,
        )


def _replaced(actions: npt.ArrayLike, rows: npt.NDArray[np.bool_], action: Array) -> npt.ArrayLike:
    """Return actions ``(n, m)`` with another in some rows; what has another shape comes back as it is."""
    try:
        given = np.array(actions, dtype=object)
    except ValueError:
        return actions
    if given.shape != (len(rows), len(action)):
        return actions
    given[rows] = action
    return given


def _with_columns(values: Array, columns: Sequence[int], new: Array) -> Array:
    """Return a copy with some columns, the last axis, replaced."""
    changed = values.copy()
    changed[..., list(columns)] = new
    return changed


def _unsupported(name: str, value: Any) -> ConfigError:
    return ConfigError(
        f"{name}={value!r} is not supported by the vector environment of all runs at once; make it with "
        'gym.make_vec(..., vectorization_mode="sync").'
    )
