"""The environment: one episode is one multimodal training run."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding

from dus_gym.allocation import Allocation
from dus_gym.ambient import isolated_torch_modes
from dus_gym.config import RunConfig
from dus_gym.data.registry import get_task
from dus_gym.discrepancy import CumulativeScore
from dus_gym.errors import CheckpointError, ConfigError, DusError, check_choice
from dus_gym.methods import make_method, method_class, unpaired_methods
from dus_gym.records import Evaluation, Figures, TrainingRun
from dus_gym.rewards import Transition, reward_function
from dus_gym.seeding import RunSeeds
from dus_gym.state import check_form, restoring

Array = npt.NDArray[np.float32]
TRAINERS = ("real", "fake")


def run_seed_of(seed: int) -> int:
    """Return the seed of the run that a reset by ``seed`` begins."""
    return _draw_run_seed(seeding.np_random(seed)[0])


def _draw_run_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**63 - 1))


class DUSEnv(gym.Env[Array, Array]):
    """A multimodal training run in which the agent sets each modality's batch size.

    ## Description
    Multimodal training suffers when one modality runs ahead of the others. Data-aware Unimodal Sampling
    (DUS, arXiv 2503.03792) balances by how many samples each modality gets. One episode trains one
    network from its initialisation to its last epoch; one step is one epoch (Algorithm 1), or ``interval``
    iterations.

    ## Action Space
    ``Box(0, 1, (m,), float32)``, one entry a modality.

    | action_mode | entry j | sizes |
    |---|---|---|
    | ``"shares"`` (default) | its share of N_B, renormalised; all zero: uniform | largest remainder, summing to N_B |
    | ``"fractions"`` | the fraction of its own batch B; all zero: all of it | rounded; the total may shrink |

    Under ``lever="rates"`` batches are equal, and the learning rates of modality j's encoder and head are multiplied by
    m × its share.

    No modality gets fewer than ``min_samples`` or ``min_fraction`` of the equal share, and under ``size_step=k`` sizes
    are a multiple of k away from equal ones. An action that is
    not finite, is negative or has another shape raises ``ConfigError`` (a ``ValueError``).

    ## Observation Space
    ``Box(0, 1, (m,), float32)``: ŝ_t, the cumulative discrepancy score of each modality (Eq. 3).

    | index | meaning | min | max |
    |---|---|---|---|
    | j | mean probability that modality j's own prediction gives the true class | 0 | 1 |

    ## Rewards
    ``"paper"`` (Eq. 5): ``(1/m) Σ_j 1[ŝ_j ≠ max ŝ] log(share_j)`` on the state the agent saw and the
    shares it chose, shares clamped at 1e-8. It lies in ``[(m-1)/m · log 1e-8, 0]`` = [-9.21, 0] for two
    and [-12.28, 0] for three modalities; uniform shares give -0.35 and -0.73. ``"gap"`` lies in [-1, 0],
    ``"gap-change"`` and ``"validation-gain"`` in [-1, 1]. ``"learning-progress"`` is how much the mean validation
    loss over modalities (without a validation split the training loss) fell, in nats: finite, not bounded.

    ## Starting State
    A fresh model, data order and (for tasks that draw one) data split, all from the seed. The first
    observation is a forward-only score on B training samples; it is shown and never averaged into Eq. 3.

    ## Episode End
    ``terminated`` after the last epoch, or when a training loss was not finite; then
    ``info["diverged"]`` is True. ``truncated`` is always False: limits from outside are a wrapper's.

    ## Information
    Flat, JSON-able, the same keys at reset and step. ``epoch``, ``epochs``, ``iterations``, ``loss``,
    ``gap``, ``diverged``, ``size_weighted`` (True where a modality's loss weighs as much as it has samples, as
    under ``loss_norm="fixed"``); by modality ``size/NAME``, ``samples/NAME``, ``coverage/NAME``,
    ``train_score/NAME``, ``train_accuracy/NAME``; where the run has a validation split, ``val_score/NAME``,
    ``val_accuracy/NAME``, ``val_loss/NAME`` and ``val_fused/PREDICTOR``, refreshed every ``eval_every``
    epochs (at reset: on B samples); ``rate/NAME`` under the lever ``"rates"``; ``train_fused`` where a fused
    head is trained; ``method/NAME`` for each figure the method reports. No test figure is
    ever in it: the test split is scored by ``env.unwrapped.evaluate()`` after the end.

    ## Arguments
    | argument | default | meaning |
    |---|---|---|
    | ``task`` | set by the id | a name of the task registry |
    | ``method`` | ``"baseline"`` | what is minimised |
    | ``method_options`` | ``None`` | the method's options by name |
    | ``trainer`` | ``"real"`` | ``"fake"``: fitted learning curves instead of training |
    | ``data_root`` | ``None`` | where the data set's files lie |
    | ``task_options`` | ``None`` | the data set's options by name |
    | ``render_mode`` | ``None`` | ``"ansi"`` or ``"rgb_array"`` |
    | others | | every field of :class:`dus_gym.config.RunConfig` |

    ## Version History
    * v0: first release.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 2}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self,
        task: str,
        *,
        method: str = "baseline",
        method_options: dict[str, Any] | None = None,
        trainer: str = "real",
        data_root: str | None = None,
        task_options: dict[str, Any] | None = None,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        self.task = get_task(task).configured(task_options, data_root)
        check_choice("trainer", trainer, TRAINERS)
        if render_mode is not None:
            check_choice("render_mode", render_mode, self.metadata["render_modes"])
        # What only the data can tell, such as whether there is a validation split, is checked at reset.
        make_method(method, method_options).check(len(self.task.modalities), has_validation=True)
        self.config = RunConfig.of(settings)
        self.method = method
        self.method_options = dict(method_options or {})
        self.trainer = trainer
        self.data_root = data_root
        self.task_options = dict(task_options or {})
        self.render_mode = render_mode
        self.modalities = self.task.modalities
        m = len(self.modalities)
        self.allocation = Allocation(
            num_modalities=m,
            total_batch=self.config.total_batch if self.config.total_batch is not None else m * self.task.batch,
            mode=self.config.action_mode,
            min_samples=self.config.min_samples,
            min_fraction=self.config.min_fraction,
            lever=self.config.lever,
            size_step=self.config.size_step,
        )
        self._needs_equal_sizes = not method_class(method).supports_unpaired
        total = self.allocation.total_batch
        if self._needs_equal_sizes and self.config.action_mode == "shares" and total % m:
            raise ConfigError(
                f"total_batch={total} can't be shared equally by {m} modalities, and method={method!r} needs every "
                f"sample in all of them; use total_batch={total + m - total % m}, or one of the methods "
                f"{', '.join(unpaired_methods())}."
            )
        self.observation_space = gym.spaces.Box(0.0, 1.0, (m,), np.float32)
        self.action_space = gym.spaces.Box(0.0, 1.0, (m,), np.float32)
        self._keys = ["epoch", "epochs", "iterations", "loss", "gap", "diverged", "size_weighted"] + [
            f"{kind}/{name}"
            for kind in ("size", "samples", "coverage", "train_score", "train_accuracy")
            for name in self.modalities
        ]
        self._rate_keys = [f"rate/{name}" for name in self.modalities] if self.config.lever == "rates" else []
        self._validation_keys = [
            f"{kind}/{name}" for kind in ("val_score", "val_accuracy", "val_loss") for name in self.modalities
        ]
        self._reward = reward_function(self.config.reward, self.config.reward_state)
        self._run: TrainingRun | None = None
        self._run_seed = 0
        self._ended = False
        self._rates: list[float] | None = None
        self._score = CumulativeScore(m, self.config.cumulative)
        self._observation = [0.0] * m
        self._info: dict[str, Any] = {}
        self._history: list[dict[str, Any]] = []

    # -- Gymnasium ---------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Starts a fresh run.

        Args:
            seed: as in Gymnasium. Without one, the run's seed is drawn from the generator that the last
                seed started, so a sequence of resets is reproducible too.
            options: ``{"snapshot": state}`` goes on from a snapshot instead of starting anew; the rest is not read.

        Returns:
            The probe's score and the run's figures before training.

        Raises:
            DatasetNotFoundError: if the task's files are not there.
            CheckpointError: for a snapshot of another seed, task, method or setting.
        """
        super().reset(seed=seed, options=options)
        self._run_seed = _draw_run_seed(self.np_random)
        if options is not None and "snapshot" in options:
            state = options["snapshot"]
            if seed is not None and isinstance(state, dict) and state.get("run_seed") != self._run_seed:
                raise CheckpointError(f"the snapshot is of another seed than seed={seed}; reset with its own.")
            return self.restore(state)
        run = self._run = self._build_run()
        self._ended = False
        self._rates = None
        self._score = CumulativeScore(len(self.modalities), self.config.cumulative)
        probe = run.probe()
        self._observation = [min(1.0, max(0.0, score)) for score in probe.train.scores]
        self._info = self._describe(
            [0] * len(self.modalities),
            probe.train.scores,
            probe.train.accuracies,
            sum(probe.train.losses),
            probe.train.fused["concat"] or 0.0,
            probe.validation,
            diverged=False,
        )
        self._history = []
        return self._observe(), dict(self._info)

    def step(self, action: npt.ArrayLike) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Trains one interval with the batch sizes that ``action`` gives.

        Raises:
            ResetNeeded: before the first reset.
            DusError: after the end.
            ConfigError: for a malformed action, or unequal sizes under a method that needs complete
                samples.
        """
        run = self._running()
        if self._ended:
            raise DusError("step() after the end of the run: every epoch is trained; call reset() for a new run.")
        shares, sizes = self.sizes_of(action)
        seen, before = self._observation, self._info
        iterations = self.config.interval or run.iterations_per_epoch
        interval = run.train(sizes, iterations, self.allocation.rates(shares))
        self._rates = interval.rates
        self._score.start_step()
        for scores, repeats in interval.iteration_scores:
            self._score.add(scores, repeats)
        self._observation = [min(1.0, max(0.0, score)) for score in self._score.value]
        info = self._info = self._describe(
            interval.sizes,
            interval.scores,
            interval.accuracies,
            interval.loss,
            interval.fused_accuracy or 0.0,
            run.validation,
            diverged=interval.diverged,
        )
        reward = self._reward(
            Transition(
                seen,
                self._observation,
                shares,
                before["gap"],
                info["gap"],
                before.get("val_fused/method", 0.0),
                info.get("val_fused/method", 0.0),
                self._loss(before),
                self._loss(info),
            )
        )
        self._ended = interval.diverged or run.progress.iterations >= run.epochs * run.iterations_per_epoch
        if self.render_mode is not None:
            self._history.append({"sizes": interval.sizes, "state": self._observation, "reward": reward})
        return self._observe(), reward, self._ended, False, dict(info)

    def sizes_of(self, action: npt.ArrayLike) -> tuple[list[float], list[int]]:
        """The shares and sizes that an action comes to (Eq. 4).

        Raises:
            ConfigError: for a malformed action, or unequal sizes under a method that needs complete samples.
        """
        shares, sizes = self.allocation(action)
        if self._needs_equal_sizes and min(sizes) != max(sizes):
            raise ConfigError(
                f"action={shares} gives unequal sizes {sizes}, and method={self.method!r} needs every sample in all "
                f"modalities; use a uniform action, or one of the methods {', '.join(unpaired_methods())}."
            )
        return shares, sizes

    def render(self) -> Any:
        """A text table (``"ansi"``) or a picture ``(height, width, 3)`` of uint8 (``"rgb_array"``)."""
        if self.render_mode is None:
            gym.logger.warn(
                'render() without a render_mode; make the environment with render_mode="ansi" or "rgb_array".'
            )
            return None
        from dus_gym.envs.rendering import draw, table

        render = table if self.render_mode == "ansi" else draw
        return render(self.modalities, self._history, self.allocation.total_batch)

    def close(self) -> None:
        """Drops the model and the data; may be called any number of times."""
        self._run = None
        self._ended = False

    # -- beyond Gymnasium --------------------------------------------------------------------------

    @property
    def run(self) -> TrainingRun:
        """The run under way.

        Raises:
            ResetNeeded: before the first reset.
        """
        return self._running()

    @property
    def run_seed(self) -> int:
        """The seed of the run under way, drawn at reset; it follows from the seed of the reset."""
        return self._run_seed

    @property
    def horizon(self) -> int:
        """Steps of one episode; known once the run is built.

        Raises:
            ResetNeeded: before the first reset.
        """
        run = self._running()
        return math.ceil(run.epochs * run.iterations_per_epoch / (self.config.interval or run.iterations_per_epoch))

    @property
    def diverged(self) -> bool:
        """True if the run ended because a training loss was not finite."""
        return bool(self._info.get("diverged", False))

    def evaluate(self) -> Evaluation:
        """The finished run's figures on the test split.

        Raises:
            DusError: before the end: the test split is scored once, after training.
        """
        run = self._running()
        if not self._ended:
            raise DusError("evaluate() before the end of the run: the test split is scored once, after training.")
        return run.evaluate()

    def fork(self) -> DUSEnv:
        """A second environment whose run has come the same way; given the same actions, both end in the same bits.

        The copy lives in memory and shares the data. It is unwrapped.

        Raises:
            ResetNeeded: before the first reset.
            ConfigError: if the method's state can't be copied.
        """
        twin = copy.copy(self)
        twin._run = self._running().fork()
        twin._np_random = copy.deepcopy(self.np_random)
        twin.action_space = copy.deepcopy(self.action_space)
        twin.observation_space = copy.deepcopy(self.observation_space)
        twin._score = copy.deepcopy(self._score)
        twin._observation, twin._info = list(self._observation), dict(self._info)
        twin._history = list(self._history)
        return twin

    def snapshot(self) -> dict[str, Any]:
        """Everything a continuation depends on; :func:`dus_gym.state.save_state` writes it.

        Nested dicts of tensors, arrays and JSON values, taken at a step boundary.
        """
        return {**self._outside_run(), "run": self._running().snapshot()}

    def _outside_run(self) -> dict[str, Any]:
        """A snapshot but for the run's own."""
        return {
            "identity": self._identity(),
            "run_seed": self._run_seed,
            "np_random": self.np_random.bit_generator.state,
            "score": self._score.state_dict(),
            "observation": list(self._observation),
            "info": dict(self._info),
            "history": copy.deepcopy(self._history),
            "ended": self._ended,
        }

    def restore(self, state: dict[str, Any]) -> tuple[Array, dict[str, Any]]:
        """Puts a snapshot back, bit for bit, in this environment or a fresh one of the same settings.

        Returns:
            The observation and info at which the snapshot was taken.

        Raises:
            CheckpointError: if the snapshot is of another task, method or setting.
        """
        mine = self._identity()
        theirs = state.get("identity") if isinstance(state, dict) else None
        if not isinstance(theirs, dict):
            raise CheckpointError("this is not a snapshot of an environment.")
        differing = {key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)}
        if differing:
            named = "; ".join(f"{k}: {theirs.get(k)!r} there, {mine.get(k)!r} here" for k in sorted(differing))
            raise CheckpointError(f"the snapshot belongs to another run: {named}.")
        previous = self._run_seed
        try:
            with restoring("the snapshot"):
                self._run_seed = int(state["run_seed"])
                run = self._build_run()
                form = run.snapshot()
                if run.kind == "real":
                    # Which parameters are trained, and have momentum, depends on the phase that the run is in.
                    form["trainable"], form["optimizer"]["state"] = [], {}
                check_form({**self._outside_run(), "run": form}, state, "the snapshot")
                run.restore(state["run"])
        except BaseException:
            self._run_seed = previous
            raise
        self._run = run
        self.np_random.bit_generator.state = state["np_random"]
        self._score.load_state_dict(state["score"])
        self._observation = [float(v) for v in state["observation"]]
        self._info = dict(state["info"])
        self._history = copy.deepcopy(state["history"])
        self._ended = bool(state["ended"])
        return self._observe(), dict(self._info)

    # -- inside ------------------------------------------------------------------------------------

    def _running(self) -> TrainingRun:
        if self._run is None:
            raise ResetNeeded("there is no run yet: call reset() first.")
        return self._run

    @isolated_torch_modes()
    def _build_run(self) -> TrainingRun:
        seeds = RunSeeds(self._run_seed)
        if self.trainer == "fake":
            from dus_gym.envs.fake import FakeTrainer

            return FakeTrainer(self.task, method_class(self.method), self.config, seeds)
        from dus_gym.trainer import Recipe, Trainer

        data = self.task.data(seeds, self.data_root)
        method = make_method(self.method, self.method_options)
        return Trainer(Recipe.of(self.task), data, method, self.config, seeds)

    def _identity(self) -> dict[str, Any]:
        config = asdict(self.config)
        config["lr_scale"] = None if self.config.lr_scale is None else list(self.config.lr_scale)
        # Where a run computes, and what it keeps meanwhile, does not make it another run.
        del config["device"], config["checkpointing"]
        return {
            "task": self.task.name,
            "trainer": self.trainer,
            "method": self.method,
            "method_options": self.method_options,
            "task_options": self.task_options,
        } | config

    def _loss(self, info: dict[str, Any]) -> float:
        """Mean validation loss over modalities; the training loss without a validation split."""
        if info["diverged"]:
            # The figures of a model that is not finite are zeros, which would look like a perfect one.
            return math.inf
        losses = [info[f"val_loss/{name}"] for name in self.modalities if f"val_loss/{name}" in info]
        return sum(losses) / len(losses) if losses else float(info["loss"])

    def _observe(self) -> Array:
        return np.array(self._observation, dtype=np.float32)

    def _describe(
        self,
        sizes: list[int],
        scores: list[float],
        accuracies: list[float],
        loss: float,
        fused_accuracy: float,
        validation: Figures | None,
        *,
        diverged: bool,
    ) -> dict[str, Any]:
        run = self._running()
        progress = run.progress
        values = [progress.epoch, run.epochs, progress.iterations, loss, max(scores) - min(scores), diverged]
        values.append(self.config.loss_norm == "fixed")
        values += sizes
        values += progress.samples
        values += progress.coverage
        values += scores
        values += accuracies
        info = dict(zip(self._keys, values, strict=True))
        if self._rate_keys:
            info |= zip(self._rate_keys, self._rates or [1.0] * len(self._rate_keys), strict=True)
        if run.trains_fused:
            info["train_fused"] = fused_accuracy
        for name, value in run.logged.items():
            info["method/" + name] = value
        if validation is not None:
            values = [*validation.scores, *validation.accuracies, *validation.losses]
            info.update(zip(self._validation_keys, values, strict=True))
            info.update(("val_fused/" + name, value) for name, value in validation.fused.items() if value is not None)
        elif run.has_validation:
            # Before the first evaluation of a run with eval_every > 1, the probe's figures stand.
            info |= {key: value for key, value in self._info.items() if key.startswith("val_")}
        return info
