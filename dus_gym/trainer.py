"""THE training loop: the only one in the repository. Methods say what is minimised, sizes say on how much."""

from __future__ import annotations

import copy
import logging
import math
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache, partial, wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dus_gym.ambient import isolated_torch_modes
from dus_gym.batch import Batch, BatchSampler, Indices, to_device
from dus_gym.config import RunConfig
from dus_gym.context import Context, Phase
from dus_gym.costs import is_memory_error
from dus_gym.data.dataset import DataOverview, Split, StackedSplit, TaskData, TensorSplit
from dus_gym.data.prefetch import Ahead, PreparedSplit, StackedPreparedSplit, in_order
from dus_gym.data.task import Task
from dus_gym.encoders import build_encoder, can_checkpoint, check_checkpointing
from dus_gym.errors import ONE_BY_ONE, ConfigError, DusError, MemoryRanOutError, check_at_least, first_line
from dus_gym.evaluation import EVALUATION_BATCH, Evaluator
from dus_gym.graphs import CapturedSteps, Train, graphs_of
from dus_gym.methods import independent_methods
from dus_gym.methods.base import Method
from dus_gym.model import MultimodalModel, initialised, stacked
from dus_gym.optim import ByRun, GroupedOptimizer, OptimizerConfig, Schedule
from dus_gym.precision import autocast, find_precision
from dus_gym.recorder import Recorded, Recorder
from dus_gym.records import Evaluation, Figures, GraphsUsed, Interval, Probe, Progress
from dus_gym.seeding import RunSeeds, fresh_torch_state, isolated_torch_rng

_log = logging.getLogger(__name__)
Substeps = Callable[[Context], Iterator[Tensor]]
P = ParamSpec("P")
Found = TypeVar("Found")
_Work = Callable[Concatenate[Any, P], Found]
"""A method of :class:`TrainingRuns`."""


@dataclass(frozen=True)
class Recipe:
    """The settings of a training that a task fixes."""

    modalities: tuple[str, ...]
    """Names, in order."""
    num_classes: int
    encoders: tuple[str, ...]
    """One encoder name per modality."""
    optimizer: OptimizerConfig
    epochs: int
    batch: int
    """B, the batch size of one modality in ordinary training."""
    task: str = ""
    """The id of the task, for messages."""

    @classmethod
    def of(cls, task: Task) -> Recipe:
        """Return the part of a task that the training loop reads."""
        return cls(
            modalities=task.modalities,
            num_classes=task.num_classes,
            encoders=task.encoders,
            optimizer=OptimizerConfig(lr=task.lr, name=task.optimizer, schedule=task.schedule),
            epochs=task.epochs,
            batch=task.batch,
            task=f"DUS-{task.name}-v0",
        )


@dataclass
class _Tally:
    """Sums over a stretch of iterations, one entry per modality."""

    score_sums: list[float]
    hits: list[float]
    samples: list[int]
    cross_entropies: list[float]
    fused_hits: float = 0.0
    fused_samples: int = 0
    fused_cross_entropy: float = 0.0
    loss_sum: float = 0.0
    finite_losses: int = 0
    iterations: int = 0

    @classmethod
    def empty(cls, m: int) -> _Tally:
        return cls([0.0] * m, [0.0] * m, [0] * m, [0.0] * m)

    def add(self, recorded: Recorded) -> None:
        for j, samples in enumerate(recorded.samples):
            self.score_sums[j] += recorded.score_sums[j]
            self.hits[j] += recorded.hits[j]
            self.samples[j] += samples
            self.cross_entropies[j] += recorded.cross_entropies[j]
        self.fused_hits += recorded.fused_hits
        self.fused_samples += recorded.fused_samples
        self.fused_cross_entropy += recorded.fused_cross_entropy
        finite = [loss for loss in recorded.losses if math.isfinite(loss)]
        self.loss_sum += sum(finite)
        self.finite_losses += len(finite)
        self.iterations += len(recorded.losses)

    def scores(self) -> list[float]:
        return [s / n for s, n in zip(self.score_sums, self.samples, strict=True)]

    def mean_loss(self) -> float:
        return self.loss_sum / max(1, self.finite_losses)

    def cross_entropy(self) -> float:
        """Return the loss a schedule watches, nats: of the fused logits if there are any, else the modalities' mean."""
        if self.fused_samples:
            return self.fused_cross_entropy / self.fused_samples
        own = [loss / n for loss, n in zip(self.cross_entropies, self.samples, strict=True)]
        return sum(own) / len(own)

    def accuracies(self) -> list[float]:
        return [h / n for h, n in zip(self.hits, self.samples, strict=True)]


def _naming_memory(doing: str) -> Callable[[_Work[P, Found]], _Work[P, Found]]:
    """Say in one line what was tried where memory runs out inside a method of :class:`TrainingRuns`.

    Args:
        doing: what the method does, behind "while".

    Raises:
        MemoryRanOutError: in place of the error of whoever asked for the memory.
    """

    def around(work: _Work[P, Found]) -> _Work[P, Found]:
        @wraps(work)
        def named(self: Any, /, *given: P.args, **options: P.kwargs) -> Found:
            try:
                return work(self, *given, **options)
            except Exception as error:
                if isinstance(error, DusError) or not is_memory_error(error):
                    raise
                said = first_line(error)
                # The tensors of the iteration would live as long as anybody looks at the error.
                traceback.clear_frames(error.__traceback__)
            raise MemoryRanOutError(self._memory_message(doing, said))

        return named

    return around


def _in_own_modes(doing: str) -> Callable[[_Work[P, Found]], _Work[P, Found]]:
    """Run a method of :class:`TrainingRuns` under PyTorch's own modes and what the settings of the runs ask of them.

    Args:
        doing: as of :func:`_naming_memory`, which is around it.
    """

    def around(work: _Work[P, Found]) -> _Work[P, Found]:
        @_naming_memory(doing)
        @wraps(work)
        def run(self: Any, /, *given: P.args, **options: P.kwargs) -> Found:
            with isolated_torch_modes(tf32=self.precision == "tf32", cudnn_benchmark=self.config.cudnn_benchmark):
                return work(self, *given, **options)

        return run

    return around


class TrainingRuns:
    """R multimodal training runs on real data, which train as one computation.

    They share task, method, settings and clock. They differ in seed, and so in split, noise, order and initialisation,
    in batch sizes, and in what follows from those. What comes of one run does not depend on the others, but for the
    last bits of its sums. A run whose loss is not finite ends there, and the others go on.

    With R = 1 no tensor has an axis of runs: it is the loop of one run, with exact sizes. With more, every tensor
    leads with the axis, and smaller batches are filled up to the largest with rows that do not count.

    Args:
        recipe: what the task fixes.
        data: each run's splits.
        method: what is minimised; used by these runs alone.
        config: settings of the runs.
        seeds: where every random number of each run comes from.

    Raises:
        ConfigError: for a method, setting and task that don't fit together, and for several runs of what can't be
            trained as one computation.
    """

    kind = "real"

    @_naming_memory("building the run")
    @isolated_torch_modes()
    def __init__(
        self,
        recipe: Recipe,
        data: Sequence[TaskData],
        method: Method,
        config: RunConfig,
        seeds: Sequence[RunSeeds],
    ) -> None:
        m, one = len(recipe.modalities), data[0]
        self.num_runs = len(seeds)
        self.recipe, self.method, self.config = recipe, method, config
        self.epoch = 0
        self.base_batch = recipe.batch if config.total_batch is None else max(1, config.total_batch // m)
        self._sizes: Sequence[Sequence[int]] = [[self.base_batch] * m] * self.num_runs
        """Batch sizes that were asked for last, by run and modality."""
        method.check(m, one.validation is not None)
        _check(config, method, one, m)
        if config.checkpointing:
            check_checkpointing(recipe.encoders)
            if self.num_runs > 1:
                raise ConfigError(
                    f"checkpointing=True is for encoders of one run, so {self.num_runs} of them can't train as one "
                    f"computation; {ONE_BY_ONE}, or leave it out."
                )
        if self.num_runs > 1 and not method.maps_runs:
            raise ConfigError(
                f"method={method.name!r} is written for one run, so {self.num_runs} of them can't train as one "
                f"computation (its class says maps_runs = False); {ONE_BY_ONE}."
            )
        self.modalities = recipe.modalities
        self.data_kind = one.data_kind
        self.overviews = [found.overview(recipe.modalities, recipe.num_classes) for found in data]
        """Of each run the data that it trains and tests on, in numbers."""
        self.dropped: Mapping[str, int] = dict(one.dropped)
        self.has_validation = one.validation is not None
        self.epochs = config.epochs if config.epochs is not None else recipe.epochs
        self.device = torch.device(config.device)
        self.precision = find_precision(config.precision, config.device)
        """The number format of forward passes."""
        self.progresses = [Progress(samples=[0] * m, coverage=[0.0] * m) for _ in seeds]
        self.validations: list[Figures] | None = None
        """Validation figures of the last evaluation, one a run; None before the first."""
        self.ended = [False] * self.num_runs
        """Which runs have diverged; they are trained no further."""

        self._train_split = self._split([found.train for found in data])
        validations = [found.validation for found in data if found.validation is not None]
        self._validation_split = self._split(validations) if validations else None
        self._test_split = self._split([found.test for found in data])
        self._ahead = Ahead()
        num_train = self._train_split.labels.shape[-1]
        self.iterations_per_epoch = config.iterations or max(1, num_train // self.base_batch)
        if config.iterations is None and self.iterations_per_epoch == 1:
            _say_one_iteration(num_train, self.base_batch, m)

        def build() -> MultimodalModel:
            encoders = [
                build_encoder(word, shape, checkpointing=config.checkpointing)
                for word, shape in zip(recipe.encoders, one.input_shapes, strict=True)
            ]
            return MultimodalModel(encoders, recipe.num_classes, method.heads, method.fused_hidden)

        models = [initialised(build, seed.integer("initialisation")) for seed in seeds]
        self.model = (models[0] if self.num_runs == 1 else stacked(models)).to(self.device)
        if self.precision == "bfloat16" and self.num_runs == 1:
            # A card's bfloat16 convolutions want channels last; one whose weights lie so lays its output so, too.
            for parameter in self.model.parameters():
                if parameter.ndim == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.runs = self.model.runs
        """R, or None where tensors have no axis of runs."""
        self._captured: CapturedSteps | None = None
        self._why_not_captured: str | None = None
        if config.graphs != "off":
            self._start_graphs()
        scale = dict(zip(recipe.modalities, config.lr_scale or (1.0,) * m, strict=True))
        self.optimizer = GroupedOptimizer(
            self.model.parameter_groups(recipe.modalities),
            recipe.optimizer,
            {f"{part}/{name}": factor for part in ("encoder", "head") for name, factor in scale.items()},
            self.runs,
            capturable=self._captured is not None,
        )
        self._schedules = [Schedule(recipe.optimizer, self.epochs) for _ in seeds]
        streams = 1 if config.pairing == "prefix" else m
        self._samplers = [
            BatchSampler(num_train, m, config.pairing, [seed.generator(f"order/{i}") for i in range(streams)])
            for seed in seeds
        ]
        self._seeds = list(seeds)
        self._torch_rngs = [fresh_torch_state(seed, "forward", config.device) for seed in seeds]
        self.iterations = 0
        self._epoch_tallies = [_Tally.empty(m) for _ in seeds]
        self.trains_fused = method.fuses and config.pairing == "prefix"
        self._evaluator = self._evaluator_of(self.model)
        self._phases = _phase_ends(method.phases(self.epochs, recipe.modalities), self.epochs)
        self._best = _Best.empty(self.num_runs)
        self._ctx = Context(
            modalities=recipe.modalities,
            model=self.model,
            optimizer=self.optimizer,
            train_split=self._train_split,
            validation_split=self._validation_split,
            base_batch=self.base_batch,
            loss_norm=config.loss_norm,
            update=config.update,
            epochs=self.epochs,
            iterations_per_epoch=self.iterations_per_epoch,
            rngs=[seed.generator("method") for seed in seeds],
            figures=self._figures,
            train_features=self._train_features,
            validation_features=self._validation_features,
            clone_and_fit=self._clone_and_fit,
            restart_plateau=self._restart_watches,
            normal_like=self._normal_like,
            ended=self._ended_runs,
            logs=method.figures_of(recipe.modalities),
        )
        self._start_fit()

    def _start_graphs(self) -> None:
        """Make place for captured steps, or say why there are none."""
        graphs = graphs_of(self.device)
        if graphs is None:
            self._why_not_captured = f"device {self.config.device!r} has none"
        elif self.num_runs > 1:
            self._why_not_captured = f"{self.num_runs} runs train as one computation"
        elif self.config.checkpointing:
            self._why_not_captured = "checkpointing saves memory, which graphs spend"
        else:
            self._captured = CapturedSteps(graphs, self.method.name)

    @_in_own_modes("building the run")
    def _start_fit(self) -> None:
        with self._own_generators():
            self.method.on_fit_start(self._ctx)

    def _split(self, splits: Sequence[Split]) -> Split:
        """Return the runs' splits on the device as one."""
        moved = [split.to(self.device) for split in splits]
        if self.num_runs == 1:
            return moved[0]
        prepared = all(isinstance(split, PreparedSplit) for split in moved)
        return StackedPreparedSplit(moved) if prepared else StackedSplit(moved)

    # -- what the environments call ----------------------------------------------------------------

    @_in_own_modes("looking at the first samples")
    def probe_all(self) -> list[Probe]:
        """Compute forward-only figures on B training samples and, if there are any, B validation samples, by run."""

        def some(split: Split, name: str) -> list[Figures]:
            n = split.labels.shape[-1]
            rows = [seed.generator(f"probe/{name}").permutation(n)[: self.base_batch] for seed in self._seeds]
            chosen = rows[0] if self.runs is None else np.stack(rows)
            return self._evaluator.figures(split, to_device(chosen, self.device))

        train, split = some(self._train_split, "train"), self._validation_split
        validation = [None] * self.num_runs if split is None else some(split, "validation")
        return [Probe(*both) for both in zip(train, validation, strict=True)]

    @_in_own_modes("training")
    def train_all(
        self,
        sizes: Sequence[Sequence[int]],
        iterations: int,
        rates: Sequence[Sequence[float]] | None = None,
    ) -> list[Interval | None]:
        """Run ``iterations`` iterations, modality j of run r with ``sizes[r][j]`` samples in each.

        The learning rates of its encoder and head are multiplied by ``rates[r][j]``, by 1 if not given and in phases
        that the agent does not steer. Epochs begin and end inside as they fall, with their hooks, schedule and
        validation.

        Returns:
            One record a run; None for a run that has ended before.

        Raises:
            ConfigError: after the last epoch, or for fewer than one iteration.
        """
        check_at_least("iterations", iterations, 1)
        self._sizes = sizes
        m, going = len(self.modalities), [r for r in range(self.num_runs) if not self.ended[r]]
        tallies = [_Tally.empty(m) for _ in range(self.num_runs)]
        rows: list[list[list[float]]] = [[] for _ in range(self.num_runs)]
        per_epoch = self.iterations_per_epoch
        left = min(iterations, self.epochs * per_epoch - self.iterations)
        if left <= 0 or not going:
            raise ConfigError("this run has ended: all its epochs are trained; start a new one.")
        # The rows of an ended run are computed with the others' and thrown away.
        least = [min(sizes[r][j] for r in going) for j in range(m)]
        asked = [least if ended else list(of) for of, ended in zip(sizes, self.ended, strict=True)]
        used, factors = asked, rates
        with self._own_generators():
            while left > 0:
                phase = self._ctx.phase = self._phase()
                # Algorithm 1, line 2: epoch by epoch, or as much of one as the environment asks for.
                if self.iterations % per_epoch == 0:
                    self._start_epoch()
                count = min(left, per_epoch - self.iterations % per_epoch)
                used = asked if phase.sampling else [[self.base_batch] * m] * self.num_runs
                factors = rates if rates is None or phase.sampling else [[1.0] * m] * self.num_runs
                self.optimizer.set_levers({} if factors is None else self._by_owner(factors))
                found = self._iterate(used, count, self.method.substeps, self.method.after_backward)
                self.iterations += count
                for r in going:
                    recorded, progress = found[r], self.progresses[r]
                    self._epoch_tallies[r].add(recorded)
                    tallies[r].add(recorded)
                    rows[r] += recorded.rows
                    progress.iterations += count
                    progress.samples = [total + n for total, n in zip(progress.samples, recorded.samples, strict=True)]
                left -= count
                if self.iterations % per_epoch == 0:
                    self._end_epoch()
        intervals: list[Interval | None] = [None] * self.num_runs
        for r in going:
            tally = tallies[r]
            diverged = tally.finite_losses < tally.iterations
            if diverged and self.iterations % per_epoch:
                # The run ends here, in the middle of an epoch, and is summarised all the same.
                self._close_tally(r)
            self.ended[r] = diverged
            self.progresses[r].coverage = self._samplers[r].coverage()
            intervals[r] = Interval(
                iteration_scores=[(row, 1) for row in rows[r]],
                sizes=list(used[r]),
                scores=tally.scores(),
                accuracies=tally.accuracies(),
                fused_accuracy=tally.fused_hits / tally.fused_samples if tally.fused_samples else None,
                loss=tally.mean_loss(),
                diverged=diverged,
                rates=None if factors is None else list(factors[r]),
            )
        if self.runs is not None and any(self.ended[r] for r in going):
            self.optimizer.end([r for r in going if self.ended[r]])
        return intervals

    @_in_own_modes("evaluating")
    def validate_all(self) -> list[Figures] | None:
        """Evaluate the validation split with the models as they are, by run; None without one."""
        return self._figures("validation")

    @_in_own_modes("evaluating")
    def evaluate_all(self) -> list[Evaluation]:
        """Evaluate the test split with the selected model of each run."""
        if self.config.select == "last" or not any(self._best.phases):
            return self._evaluator.evaluate(self._test_split, self.modalities)
        last, best = self._weights(), self._best
        by_phase: dict[str, list[Evaluation]] = {}
        # A run without a best epoch is evaluated as it is.
        for phase in dict.fromkeys(best.phases):
            self._load_weights({"model": best.model, "method": best.methods[phase]} if phase else last)
            by_phase[phase] = self._evaluator.evaluate(self._test_split, self.modalities)
        self._load_weights(last)
        return [by_phase[phase][r] for r, phase in enumerate(best.phases)]

    @property
    def logged_all(self) -> list[Mapping[str, float]]:
        """The method's own figures, as it last reported them, by run."""
        columns = {name: v.tolist() if isinstance(v, Tensor) else v for name, v in self._ctx.logged.items()}
        return [
            {name: float(value[r] if isinstance(value, list) else value) for name, value in columns.items()}
            for r in range(self.num_runs)
        ]

    @property
    def phase(self) -> Phase:
        """The method's phase of the iteration that was trained last."""
        return self._ctx.phase

    @property
    def graphs(self) -> GraphsUsed | None:
        """CUDA graphs so far; None where they are off."""
        if self.config.graphs == "off":
            return None
        return GraphsUsed(why_not=self._why_not_captured) if self._captured is None else self._captured.used

    # -- the loop ----------------------------------------------------------------------------------

    def _iterate(
        self,
        sizes: Sequence[Sequence[int]],
        count: int,
        substeps: Substeps,
        after_backward: Callable[[Context], None] | None = None,
        *,
        wanted: bool = True,
    ) -> list[Recorded]:
        """Run ``count`` iterations inside one epoch. No value leaves the device before the end.

        Args:
            sizes: a_j of each modality, by run.
            count: iterations.
            substeps: gives the losses of an iteration.
            after_backward: the method's hook on gradients.
            wanted: whether the figures are needed; if not, nothing has to be recorded and nothing is computed.

        Returns:
            What was recorded, by run.
        """
        recorder = Recorder(len(self.modalities), self.runs)
        train = partial(self._train_one, substeps, after_backward)
        # What a method trains a copy on is not its own iteration.
        own = substeps == self.method.substeps
        with closing(self._batches(sizes, count)) as batches, self._stretch(train, count, own=own) as train_one:
            # Algorithm 1, lines 3 and 11: the iterations of an epoch.
            for i, batch in enumerate(batches):
                self._ctx.iteration = self.iterations + i
                train_one(batch, recorder)
        return recorder.finish() if wanted else [Recorded()] * self.num_runs

    def _train_one(
        self,
        substeps: Substeps,
        after_backward: Callable[[Context], None] | None,
        batch: Batch,
        recorder: Recorder,
    ) -> None:
        """Train one iteration. It may be captured, so nothing of it may wait for the device."""
        ctx, optimizer = self._ctx, self.optimizer
        ctx.begin(batch, recorder)
        total: Tensor | None = None
        steps = substeps(ctx)
        # Algorithm 1, lines 4 and 10: the modalities in turn (alternating) or in one step (joint).
        while True:
            # Algorithm 1, lines 6 and 7: forward (Eq. 1) and loss (Eq. 2), inside next(): a generator resumes after the
            # step.
            with self._autocast():
                loss = next(steps, None)
            if loss is None:
                break
            if loss.requires_grad:
                optimizer.torch.zero_grad()
                # Algorithm 1, line 8. No parameter is two runs', so the gradient of the sum is each run's own.
                (loss if self.runs is None else loss.sum()).backward()
                if after_backward is not None:
                    after_backward(ctx)
                # Algorithm 1, line 9.
                optimizer.step()
                ctx.forget_features()
            total = loss.detach() if total is None else total + loss.detach()
        if total is None:
            raise ConfigError(f"method={self.method.name!r} yielded no loss for an iteration.")
        recorder.end_iteration(total)

    def _stretch(self, train: Train, count: int, *, own: bool) -> AbstractContextManager[Train]:
        """Return what trains the iterations of a stretch one by one, captured where that can be and pays."""
        if self._captured is None or not own:
            return nullcontext(train)
        ctx = self._ctx
        key = self.method.capture_key(ctx)
        situation = None if key is None else (key, ctx.phase, self.optimizer.generation)
        return self._captured.stretch(train, ctx, situation, count)

    def _batches(self, sizes: Sequence[Sequence[int]], count: int) -> Generator[Batch, None, None]:
        """Yield the batches of ``count`` iterations, drawn at once."""
        split, device, m = self._train_split, self.device, len(self.modalities)
        prefix = self.config.pairing == "prefix"
        widths = [max(of[j] for of in sizes) for j in range(m)]
        # Algorithm 1, line 5: a_j samples per modality from the shuffled training set.
        drawn = [self._draw(r, sizes[r], count) for r in range(self.num_runs)]
        if prefix:
            # One stream: every modality has the first rows of the widest one's.
            widest = max(widths)
            shared = to_device(self._together([of.samples[of.widest] for of in drawn], widest), device)
            shared_labels = _rows_of(split.labels, shared)
            indices = [shared[..., :width].unbind(0) for width in widths]
            labels = [shared_labels[..., :width].unbind(0) for width in widths]
        else:
            blocks = [self._together([of.samples[j] for of in drawn], widths[j]) for j in range(m)]
            moved = [to_device(block, device) for block in blocks]
            indices = [rows.unbind(0) for rows in moved]
            labels = [_rows_of(split.labels, rows).unbind(0) for rows in moved]
        keeps = [of.keep for of in drawn if of.keep is not None]
        keep = torch.from_numpy(self._together(keeps, max(widths))).to(device) if keeps else None
        numbers = [of.numbers for of in drawn if of.numbers is not None]
        draws = [self._together([of[j] for of in numbers], widths[j]) for j in range(m)] if numbers else None
        counted: tuple[Tensor | None, ...] = ()
        smallest = [min(of) if prefix else 0 for of in sizes]
        paired_counted = None
        if self.runs is not None:
            counted = tuple(self._counted([of[j] for of in sizes]) for j in range(m))
            paired_counted = self._counted(smallest)
        samples = drawn[0].samples
        if self.runs is not None and isinstance(split, PreparedSplit):
            samples = [self._together([of.samples[j] for of in drawn], widths[j]) for j in range(m)]
        with closing(in_order(split, indices, samples, draws, ahead=self._ahead)) as inputs:
            for i, rows in enumerate(inputs):
                yield Batch(
                    inputs=rows,
                    labels=tuple(of[i] for of in labels),
                    paired=max(smallest),
                    keep=None if keep is None else keep[i],
                    counted=counted,
                    paired_counted=paired_counted,
                )

    def _draw(self, r: int, sizes: Sequence[int], count: int) -> _Drawn:
        """Draw the samples of one run for ``count`` iterations."""
        sampler, split = self._samplers[r], self._train_split
        widest = max(range(len(sizes)), key=lambda j: sizes[j])
        if self.ended[r]:
            nothing = [np.zeros((count, size), dtype=np.int64) for size in sizes]
            keep = None if sampler.keep_of(nothing[widest]) is None else np.ones((count, max(sizes), len(sizes)), bool)
            return _Drawn(nothing, widest, keep, nothing if split.augments else None)
        positions = sampler.draw(sizes, count)
        keep = sampler.keep_of(positions[widest]) if self.config.pairing == "prefix" else None
        numbers = None
        if split.augments:
            numbers = sampler.draw_numbers(positions, shared=getattr(split, "shared", False))
        return _Drawn(sampler.samples_of(positions), widest, keep, numbers)

    def _together(self, blocks: Sequence[npt.NDArray[Any]], width: int) -> npt.NDArray[Any]:
        """Return the runs' arrays ``(k, a, ...)`` as one ``(k, R, width, ...)``, filled up with zeros.

        Without the axis of runs the only one comes back as it is.
        """
        if self.runs is None:
            return blocks[0]
        k, _, *rest = blocks[0].shape
        whole = np.zeros((k, len(blocks), width, *rest), dtype=blocks[0].dtype)
        for r, block in enumerate(blocks):
            whole[:, r, : block.shape[1]] = block
        return whole

    def _counted(self, sizes: Sequence[int]) -> Tensor | None:
        """Return which of the rows of the largest size count, ``(R, width)``; None if all do."""
        if min(sizes) == max(sizes):
            return None
        width = torch.arange(max(sizes), device=self.device)
        return width < torch.tensor(sizes).to(self.device).unsqueeze(1)

    def _start_epoch(self) -> None:
        epoch = self._ctx.epoch = self.epoch
        self._ctx.iteration = self.iterations
        self._epoch_tallies = [_Tally.empty(len(self.modalities)) for _ in self._seeds]
        starts = [0, *(end for end, _ in self._phases[:-1])]
        if epoch in starts:
            phase = self._ctx.phase
            wanted, owners = phase.trainable, self.optimizer.names
            self._ctx.set_trainable(
                None if wanted is None else [o for o in owners if o in wanted or o.partition("/")[0] in wanted]
            )
            if phase.fresh:
                self.optimizer.start_anew()
            for schedule in self._schedules:
                if phase.own_schedule:
                    schedule.restart(epoch, next(end for end, _ in self._phases if epoch < end) - epoch)
                else:
                    schedule.restart_watch()
        for r, schedule in enumerate(self._schedules):
            before = schedule.factor
            schedule.start_epoch(epoch)
            self._note_fall(r, before)
        self.method.on_epoch_start(self._ctx)
        if (orders := self.method.order(self._ctx)) is not None:
            for sampler, order in zip(self._samplers, orders, strict=True):
                sampler.follow(order)
        # After the hook, so that a method's new multipliers count from this epoch on.
        self.optimizer.set_rates(self._factor())

    def _end_epoch(self) -> None:
        config = self.config
        self.epoch += 1
        for r, (progress, schedule) in enumerate(zip(self.progresses, self._schedules, strict=True)):
            if self.ended[r]:
                continue
            progress.epoch += 1
            self._close_tally(r)
            before = schedule.factor
            schedule.end_epoch(self._epoch_tallies[r].cross_entropy())
            self._note_fall(r, before)
        evaluated = self.epoch % config.eval_every == 0 or self.epoch == self.epochs
        figures = self.validate_all() if evaluated else None
        if figures is not None:
            self.validations = figures
        if evaluated and config.select != "last":
            criterion = figures if config.select == "validation" else self._evaluator.figures(self._test_split)
            assert criterion is not None, "select='validation' is checked when the run is made"
            self._select([found.fused["method"] for found in criterion])
        self._ctx.epoch, self._ctx.iteration = self.epoch, self.iterations
        self.method.on_epoch_end(self._ctx, figures)
        if (copies := self.method.expand(self._ctx)) is not None:
            for sampler, of in zip(self._samplers, copies, strict=True):
                sampler.expand(*of)

    def _select(self, values: Sequence[float | None]) -> None:
        """Keep the weights of the runs for which this epoch is the best so far."""
        best = self._best
        better = [
            r
            for r, (value, old) in enumerate(zip(values, best.values, strict=True))
            if value is not None and not self.ended[r] and (old is None or value > old)
        ]
        if not better:
            return
        now = self._weights()
        if self.runs is None or not best.model:
            best.model = now["model"]
        else:
            rows = torch.tensor(better, device=self.device)
            best.model = {name: kept.index_copy(0, rows, now["model"][name][rows]) for name, kept in best.model.items()}
        phase = self._ctx.phase.name
        best.methods[phase] = now["method"]
        for r in better:
            best.values[r], best.epochs[r], best.phases[r] = values[r], self.epoch, phase
        best.methods = {name: state for name, state in best.methods.items() if name in best.phases}

    def _note_fall(self, r: int, before: float) -> None:
        if self._schedules[r].factor < before and not self.ended[r]:
            self.progresses[r].rate_falls.append(self.progresses[r].epoch)

    def _close_tally(self, r: int) -> None:
        progress = self.progresses[r]
        scores = progress.scores = self._epoch_tallies[r].scores()
        progress.gaps.append(max(scores) - min(scores))

    def _phase(self) -> Phase:
        return next(phase for end, phase in self._phases if self.epoch < end)

    def _factor(self) -> ByRun:
        """Return the schedules' factor, one a run where they differ."""
        factors = [schedule.factor for schedule in self._schedules]
        return factors[0] if min(factors) == max(factors) else factors

    def _by_owner(self, rates: Sequence[Sequence[float]]) -> dict[str, ByRun]:
        """Return rates, by run and modality, by owner."""
        found: dict[str, ByRun] = {}
        for j, name in enumerate(self.modalities):
            column = [of[j] for of in rates]
            for owner in (f"encoder/{name}", f"head/{name}"):
                if owner in self.optimizer.names:
                    found[owner] = column[0] if self.runs is None else column
        return found

    def _restart_watches(self, runs: Iterable[int]) -> None:
        for r in runs:
            self._schedules[r].restart_watch()

    def _clone_and_fit(self, loss: Callable[[Context], Tensor], epochs: int) -> MultimodalModel:
        before = self.snapshot()
        # In on_epoch_start the schedule has moved on already, the rates have not; and the agent does not steer a copy.
        self.optimizer.set_levers({})
        self.optimizer.set_rates(self._factor())
        sizes = [[self.base_batch] * len(self.modalities)] * self.num_runs

        def substeps(ctx: Context) -> Iterator[Tensor]:
            yield loss(ctx)

        # Hooks run inside the run's own generators, which the copy must not move.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            for _ in range(epochs):
                self._iterate(sizes, self.iterations_per_epoch, substeps, wanted=False)
        fitted = copy.deepcopy(self.model)
        self.restore(before)
        return fitted

    def _evaluator_of(self, model: MultimodalModel) -> Evaluator:
        return Evaluator(model, self.method, self.config.predict_with, self.config.pairing == "prefix", self._autocast)

    def _figures(self, split: str, model: MultimodalModel | None = None) -> list[Figures] | None:
        found = {"train": self._train_split, "validation": self._validation_split}[split]
        evaluator = self._evaluator if model is None else self._evaluator_of(model)
        return None if found is None else evaluator.figures(found)

    def _ended_runs(self) -> list[bool]:
        return self.ended

    def _train_features(self) -> list[Tensor]:
        return self._evaluator.features(self._train_split)

    def _validation_features(self) -> list[Tensor]:
        assert self._validation_split is not None, "a method asks for them if it needs a validation split"
        return self._evaluator.features(self._validation_split)

    def _autocast(self) -> torch.autocast | nullcontext[None]:
        return autocast(self.precision, self.device)

    def _own_generators(self) -> AbstractContextManager[None]:
        """Let layers draw from the run's own generators; several runs have no layer that draws."""
        return isolated_torch_rng(self._torch_rngs[0]) if self.runs is None else nullcontext()

    def _normal_like(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        if self.runs is None:
            return [torch.randn_like(tensor) for tensor in tensors]
        drawn: list[list[Tensor]] = [[] for _ in tensors]
        generator, key = torch.Generator(self.device), "cpu" if self.device.type == "cpu" else self.config.device
        for states in self._torch_rngs:
            generator.set_state(states[key])
            for tensor, of in zip(tensors, drawn, strict=True):
                shape, kind = tensor.shape[1:], tensor.dtype
                of.append(torch.randn(shape, dtype=kind, device=self.device, generator=generator))
            states[key] = generator.get_state()
        return [torch.stack(of) for of in drawn]

    # -- memory ------------------------------------------------------------------------------------

    @_in_own_modes("measuring what a run takes")
    def bytes_of_a_run(self) -> int:
        """Return about how much memory one run takes among many of its kind, by training one iteration of this one.

        Its samples, twice while they are put together; parameters with gradient, momentum and two copies; what an
        iteration keeps for its backward pass, and half as much again; the logits of an epoch, seven times while
        figures are computed from them; and a third of the features of all training samples, where the method asks for
        them before its first epoch. Measured within 20 % (docs/run-axis.md).
        """
        parameters = sum(p.nbytes for p in self.model.parameters())
        own = {p.untyped_storage().data_ptr() for p in self.model.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        features: list[Tensor] = []

        def train_features() -> list[Tensor]:
            features[:] = self._train_features()
            return features

        self._ctx.phase = self._phase()
        self._ctx.train_features = train_features
        # Copies are trained and thrown away: they take time and no memory.
        self._ctx.clone_and_fit = lambda *_: self.model
        with self._own_generators(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            self._start_epoch()
            sizes = [[self.base_batch] * len(self.modalities)] * self.num_runs
            self._iterate(sizes, 1, self.method.substeps, self.method.after_backward)
        splits = (self._train_split, self._validation_split, self._test_split)
        samples = sum(
            x.nbytes for split in splits if isinstance(split, TensorSplit) for x in (*split.inputs, split.labels)
        )
        rows = (len(self.modalities) + 1) * self.base_batch * self.iterations_per_epoch
        logits = 4 * rows * self.model.num_classes
        of_features = sum(h.nbytes for h in features) // 3
        return 2 * samples + 5 * parameters + sum(kept.values()) * 3 // 2 + 7 * logits + of_features

    def _memory_message(self, doing: str, said: str) -> str:
        """Return what was tried and what takes less, in one line.

        Args:
            doing: as of :func:`_naming_memory`.
            said: the error of whoever asked for the memory.
        """
        recipe, config, runs = self.recipe, self.config, self.num_runs
        training, evaluating = doing == "training", doing == "evaluating"
        widest = [max(of[j] for of in self._sizes) for j in range(len(recipe.modalities))]
        samples = f"{' + '.join(map(str, widest))} samples per iteration"
        tried = [
            *([recipe.task] if recipe.task else []),
            f"method {self.method.name!r}",
            f"encoders {', '.join(recipe.encoders)}",
            f"{EVALUATION_BATCH} samples at once" if evaluating else samples,
            self.precision,
            *(["checkpointing"] if config.checkpointing else []),
            *([f"{runs} runs as one computation"] if runs > 1 else []),
        ]
        m, less = len(recipe.modalities), []
        if training and (half := self.base_batch // 2) >= config.min_samples:
            less.append(f"fewer samples per iteration (such as total_batch={m * half}, not {m * self.base_batch})")
        if training and runs == 1 and not config.checkpointing and any(map(can_checkpoint, recipe.encoders)):
            less.append("checkpointing=True (the same result)")
        if self.precision != "bfloat16":
            less.append("precision='bfloat16'")
        if self._captured is not None:
            less.append("fewer captured sizes (a larger size_step, or graphs='off')")
        if runs > 1:
            less.append(f"fewer runs as one computation (parallel_runs={runs // 2})")
        less.append("a device with more memory")
        where = f" epoch {self.epoch + 1}" if training else ""
        return (
            f"memory ran out on {config.device} while {doing}{where}: {', '.join(tried)} ({said}). What takes less: "
            f"{'; '.join(less)}. A run in a folder goes on from its last checkpoint with --resume, on another device "
            "and with checkpointing, too."
        )

    # -- state -------------------------------------------------------------------------------------

    def _weights(self) -> dict[str, Any]:
        model = {name: value.clone() for name, value in self.model.state_dict().items()}
        return {"model": model, "method": self.method.state_dict()}

    def _load_weights(self, state: Mapping[str, Any]) -> None:
        if self._captured is not None:
            # A method's own tensors are replaced.
            self._captured.drop()
        self.model.load_state_dict(state["model"])
        self.method.load_state_dict(state["method"])

    @_in_own_modes("copying the run")
    def fork(self) -> Self:
        """Copy the whole run, or all runs, in memory; the data, which nobody changes, is shared.

        Raises:
            ConfigError: if the method keeps something that can't be copied.
        """
        shared = [
            self._train_split,
            self._validation_split,
            self._test_split,
            self._best,
            self._ctx.__dict__.get("batch"),
        ]
        memo: dict[int, Any] = {id(thing): thing for thing in shared}
        try:
            twin = copy.deepcopy(self, memo)
        except (RuntimeError, TypeError) as error:
            if is_memory_error(error):
                raise
            raise ConfigError(
                f"method={self.method.name!r} keeps something that can't be copied ({error}), so its run can't be "
                "forked; keep detached tensors, arrays and numbers."
            ) from error
        # Its tensors are replaced when there are better ones, never changed.
        twin._best = self._best.copied()
        return twin

    @_in_own_modes("saving the run")
    def snapshot(self) -> dict[str, Any]:
        """Return model, method, optimiser, schedule, data order, generators, counters, selection; lists are by run."""
        validations = self.validations
        return {
            "weights": self._weights(),
            "optimizer": self.optimizer.state_dict(),
            "schedules": [schedule.state_dict() for schedule in self._schedules],
            "samplers": [sampler.state_dict() for sampler in self._samplers],
            "torch_rngs": [{device: state.clone() for device, state in states.items()} for states in self._torch_rngs],
            "method_rngs": [rng.bit_generator.state for rng in self._ctx.rngs],
            "epoch": self.epoch,
            "iterations": self.iterations,
            "ended": list(self.ended),
            "progress": [asdict(progress) for progress in self.progresses],
            "epoch_tallies": [asdict(tally) for tally in self._epoch_tallies],
            "validation": None if validations is None else [asdict(figures) for figures in validations],
            "trainable": [name for name in self.optimizer.names if self.optimizer.parameters(name)[0].requires_grad],
            "best": vars(self._best.copied()),
            "logged": [dict(figures) for figures in self.logged_all],
        }

    @_in_own_modes("restoring the run")
    def restore(self, state: dict[str, Any]) -> None:
        """Put a snapshot of the same task, method, settings and number of runs back."""
        self._load_weights(state["weights"])
        self._ctx.set_trainable(state["trainable"])
        self.optimizer.load_state_dict(state["optimizer"])
        for schedule, kept in zip(self._schedules, state["schedules"], strict=True):
            schedule.load_state_dict(kept)
        self.optimizer.set_rates(self._factor())
        for sampler, kept in zip(self._samplers, state["samplers"], strict=True):
            sampler.load_state_dict(kept)
        # In place, because a hook may be running inside these very generators; and only this run's devices,
        # because a run may go on on another machine.
        for states, kept in zip(self._torch_rngs, state["torch_rngs"], strict=True):
            for device in states.keys() & kept.keys():
                states[device] = torch.as_tensor(kept[device]).clone()
        for rng, kept in zip(self._ctx.rngs, state["method_rngs"], strict=True):
            rng.bit_generator.state = kept
        self.epoch, self.iterations = state["epoch"], state["iterations"]
        self.ended = list(state["ended"])
        self.progresses = [Progress(**kept) for kept in copy.deepcopy(state["progress"])]
        self._epoch_tallies = [_Tally(**kept) for kept in copy.deepcopy(state["epoch_tallies"])]
        validations = copy.deepcopy(state["validation"])
        self.validations = None if validations is None else [Figures(**kept) for kept in validations]
        self._best = _Best(**state["best"]).copied()
        by_run = state["logged"]
        for name in self._ctx.logged:
            values = [float(figures[name]) for figures in by_run]
            self._ctx.logged[name] = values[0] if self.runs is None else torch.tensor(values, dtype=torch.float64)
        self._ctx.epoch, self._ctx.iteration = self.epoch, self.iterations


class Trainer(TrainingRuns):
    """One multimodal training run on real data: :class:`TrainingRuns` with R = 1, without lists.

    Args:
        recipe: what the task fixes.
        data: its splits.
        method: what is minimised; used by this run alone.
        config: settings of the run.
        seeds: where every random number of the run comes from.

    Raises:
        ConfigError: for a method, setting and task that don't fit together.
    """

    def __init__(self, recipe: Recipe, data: TaskData, method: Method, config: RunConfig, seeds: RunSeeds) -> None:
        super().__init__(recipe, [data], method, config, [seeds])

    @property
    def overview(self) -> DataOverview:
        """The data that the run trains and tests on, in numbers."""
        return self.overviews[0]

    @property
    def progress(self) -> Progress:
        """State of the run so far."""
        return self.progresses[0]

    @property
    def validation(self) -> Figures | None:
        """Validation figures of the last evaluation; None before the first."""
        return None if self.validations is None else self.validations[0]

    @property
    def logged(self) -> Mapping[str, float]:
        """The method's own figures, as it last reported them."""
        return self.logged_all[0]

    @property
    def splits(self) -> dict[str, Split | None]:
        """Training, validation and test split on the run's device, by name; None where there is no validation split."""
        return {"train": self._train_split, "validation": self._validation_split, "test": self._test_split}

    @property
    def evaluator(self) -> Evaluator:
        """The predictor with the model and the method as they are."""
        return self._evaluator

    def evaluated_weights(self) -> dict[str, Any]:
        """Return the weights that :meth:`evaluate` scores, under ``model``, and the method's state with them."""
        best = self._best
        if self.config.select == "last" or not best.phases[0]:
            return self._weights()
        return {"model": dict(best.model), "method": best.methods[best.phases[0]]}

    def load_weights(self, state: Mapping[str, Any]) -> None:
        """Put what :meth:`evaluated_weights` returned into this run, whose evaluator then predicts with it."""
        self._load_weights(state)

    def probe(self) -> Probe:
        """Compute forward-only figures on B training samples and, if there are any, B validation samples."""
        return self.probe_all()[0]

    def train(self, sizes: Sequence[int], iterations: int, rates: Sequence[float] | None = None) -> Interval:
        """Run ``iterations`` iterations, modality j with ``sizes[j]`` samples in each; see :meth:`train_all`."""
        # A diverged run may go on: what ends is its episode.
        self.ended = [False]
        (interval,) = self.train_all([sizes], iterations, None if rates is None else [rates])
        assert interval is not None, "the run has not ended"
        return interval

    def validate(self) -> Figures | None:
        """Evaluate the validation split with the model as it is; None without one."""
        found = self.validate_all()
        return None if found is None else found[0]

    def evaluate(self) -> Evaluation:
        """Evaluate the test split with the selected model."""
        return self.evaluate_all()[0]


@dataclass
class _Drawn:
    """One run's samples of several iterations."""

    samples: Sequence[Indices]
    """By modality, ``(k, a_j)``."""
    widest: int
    """The modality with the most."""
    keep: npt.NDArray[np.bool_] | None
    """Which modalities the widest one's rows show, ``(k, max a_j, m)``."""
    numbers: Sequence[Indices] | None
    """Which draw of its sample each is, like ``samples``."""


@dataclass
class _Best:
    """The best epoch of each run so far."""

    values: list[float | None]
    """The accuracy that was the best, by run; None before the first."""
    epochs: list[int]
    phases: list[str]
    """The method's phase in that epoch, by run; empty before the first."""
    model: dict[str, Tensor]
    """The weights of that epoch, each run's of its own; empty before the first."""
    methods: dict[str, Any]
    """The method's state by phase; what a method predicts depends on its state through the phase alone."""

    @classmethod
    def empty(cls, runs: int) -> _Best:
        return cls([None] * runs, [0] * runs, [""] * runs, {}, {})

    def copied(self) -> _Best:
        """Return a copy that shares the tensors, which are replaced and never changed."""
        return _Best(list(self.values), list(self.epochs), list(self.phases), dict(self.model), dict(self.methods))


def _rows_of(labels: Tensor, rows: Tensor) -> Tensor:
    """Return labels ``(n,)`` of rows ``(k, a)``, or ``(R, n)`` of ``(k, R, a)``."""
    return labels[rows] if labels.ndim == 1 else labels.expand(len(rows), *labels.shape).gather(2, rows)


def _check(config: RunConfig, method: Method, data: TaskData, m: int) -> None:
    """Check the settings against the task and the method, which no setting can know alone."""
    if config.select == "validation" and data.validation is None:
        raise ConfigError("select='validation' needs a validation split and this task has none; use select='last'.")
    if config.reward == "validation-gain" and data.validation is None:
        raise ConfigError("reward='validation-gain' needs a validation split and this task has none; use 'paper'.")
    if config.pairing == "independent" and not method.supports_independent:
        raise ConfigError(
            f"pairing='independent' pairs nothing, and method={method.name!r} needs paired samples; use "
            f"pairing='prefix', or one of the methods {', '.join(independent_methods())}."
        )
    if config.predict_with in ("concat", "sum-all") and (
        "fused" not in method.heads or config.pairing == "independent"
    ):
        raise ConfigError(
            f"predict_with={config.predict_with!r}: method={method.name!r} trains no concat head here; use 'sum'."
        )
    if config.lr_scale is not None and len(config.lr_scale) != m:
        raise ConfigError(f"lr_scale={config.lr_scale} is not allowed; it needs {m} entries, one per modality.")
    config.check_device()


def _phase_ends(phases: Sequence[Phase], epochs: int) -> list[tuple[int, Phase]]:
    """Return the epoch each phase ends before; every phase has at least one epoch."""
    if epochs < len(phases):
        raise ConfigError(
            f"epochs={epochs} is not allowed; this method has {len(phases)} phases and needs at least one epoch each."
        )
    total = sum(phase.fraction for phase in phases)
    if abs(total - 1.0) > 1e-6 or any(phase.fraction <= 0.0 for phase in phases):
        raise ConfigError(f"a method's phases must have positive fractions that sum to 1; these sum to {total:g}.")
    ends: list[tuple[int, Phase]] = []
    done = 0.0
    for i, phase in enumerate(phases):
        done += phase.fraction
        least = ends[-1][0] + 1 if ends else 1
        most = epochs - (len(phases) - 1 - i)
        ends.append((max(least, min(most, round(done * epochs))), phase))
    return ends


@lru_cache
def _say_one_iteration(samples: int, batch: int, num_modalities: int) -> None:
    """Log, once for each size of data, that an epoch is a single iteration."""
    _log.warning(
        "An epoch is one iteration: %d training samples at a batch size of %d per modality. Fewer samples per "
        "iteration make more, such as total_batch=%d.",
        samples,
        batch,
        num_modalities * max(2, samples // 8),
    )
