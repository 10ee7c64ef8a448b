"""THE training loop: the only one in the repository. Methods say what is minimised, sizes say on how much."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dus_gym.ambient import isolated_torch_modes
from dus_gym.batch import Batch, BatchSampler, to_device
from dus_gym.config import RunConfig
from dus_gym.context import Context, Phase
from dus_gym.data.dataset import Split, TaskData
from dus_gym.data.prefetch import PreparedSplit, in_order
from dus_gym.data.task import Task
from dus_gym.encoders import build_encoder
from dus_gym.errors import ConfigError, check_at_least
from dus_gym.evaluation import Evaluator
from dus_gym.methods import independent_methods
from dus_gym.methods.base import Method
from dus_gym.model import MultimodalModel, initialised
from dus_gym.optim import GroupedOptimizer, OptimizerConfig, Schedule
from dus_gym.recorder import Recorded, Recorder
from dus_gym.records import Evaluation, Figures, Interval, Probe, Progress
from dus_gym.seeding import RunSeeds, fresh_torch_state, isolated_torch_rng

_log = logging.getLogger(__name__)
Substeps = Callable[[Context], Iterator[Tensor]]


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
    """B, the ordinary batch of one modality."""

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


class Trainer:
    """One multimodal training run on real data.

    Args:
        recipe: what the task fixes.
        data: its splits.
        method: what is minimised; used by this run alone.
        config: settings of the run.
        seeds: where every random number of the run comes from.

    Raises:
        ConfigError: for a method, setting and task that don't fit together.
    """

    kind = "real"

    @isolated_torch_modes()
    def __init__(self, recipe: Recipe, data: TaskData, method: Method, config: RunConfig, seeds: RunSeeds) -> None:
        m = len(recipe.modalities)
        method.check(m, data.validation is not None)
        _check(config, method, data, m)
        self.modalities = recipe.modalities
        self.data_kind = data.data_kind
        self.dropped: Mapping[str, int] = dict(data.dropped)
        self.has_validation = data.validation is not None
        self.epochs = config.epochs if config.epochs is not None else recipe.epochs
        self.method = method
        self.config = config
        self.device = torch.device(config.device)
        self.progress = Progress(samples=[0] * m, coverage=[0.0] * m)
        self.validation: Figures | None = None

        self.base_batch = recipe.batch if config.total_batch is None else max(1, config.total_batch // m)
        self._train_split: Split = data.train.to(self.device)
        self._validation_split = None if data.validation is None else data.validation.to(self.device)
        self._test_split: Split = data.test.to(self.device)
        num_train = len(self._train_split.labels)
        self.iterations_per_epoch = config.iterations or max(1, num_train // self.base_batch)
        if config.iterations is None and self.iterations_per_epoch == 1:
            _say_one_iteration(num_train, self.base_batch, m)

        def build() -> MultimodalModel:
            encoders = [build_encoder(e, s) for e, s in zip(recipe.encoders, data.input_shapes, strict=True)]
            return MultimodalModel(encoders, recipe.num_classes, method.heads, method.fused_hidden)

        self.model = initialised(build, seeds.integer("initialisation")).to(self.device)
        scale = dict(zip(recipe.modalities, config.lr_scale or (1.0,) * m, strict=True))
        self.optimizer = GroupedOptimizer(
            self.model.parameter_groups(recipe.modalities),
            recipe.optimizer,
            {f"{part}/{name}": factor for part in ("encoder", "head") for name, factor in scale.items()},
        )
        self._schedule = Schedule(recipe.optimizer, self.epochs)
        streams = 1 if config.pairing == "prefix" else m
        self._sampler = BatchSampler(
            num_train, m, config.pairing, [seeds.generator(f"order/{i}") for i in range(streams)]
        )
        self._seeds = seeds
        self._torch_rng = fresh_torch_state(seeds, "forward", config.device)
        self._epoch_tally = _Tally.empty(m)
        self.trains_fused = method.fuses and config.pairing == "prefix"
        self._evaluator = self._evaluator_of(self.model)
        self._phases = _phase_ends(method.phases(self.epochs, recipe.modalities), self.epochs)
        self._best: dict[str, Any] | None = None
        self._ctx = Context(
            modalities=recipe.modalities,
            model=self.model,
            optimizer=self.optimizer,
            train_split=self._train_split,
            base_batch=self.base_batch,
            loss_norm=config.loss_norm,
            update=config.update,
            epochs=self.epochs,
            iterations_per_epoch=self.iterations_per_epoch,
            rng=seeds.generator("method"),
            figures=self._figures,
            train_features=self._train_features,
            clone_and_fit=self._clone_and_fit,
            restart_plateau=self._schedule.restart_watch,
            logs=method.figures_of(recipe.modalities),
        )
        with isolated_torch_rng(self._torch_rng):
            method.on_fit_start(self._ctx)

    # -- what the environment calls ----------------------------------------------------------------

    @isolated_torch_modes()
    def probe(self) -> Probe:
        """Compute forward-only figures on B training samples and, if there are any, B validation samples."""

        def some(split: Split, name: str) -> Figures:
            n = len(split.labels)
            rows = self._seeds.generator(f"probe/{name}").permutation(n)[: self.base_batch]
            return self._evaluator.figures(split, to_device(rows, self.device))

        validation = self._validation_split
        return Probe(some(self._train_split, "train"), None if validation is None else some(validation, "validation"))

    @isolated_torch_modes()
    def train(self, sizes: Sequence[int], iterations: int) -> Interval:
        """Run ``iterations`` iterations, modality j with ``sizes[j]`` samples in each.

        Epochs begin and end inside as they fall, with their hooks, schedule and validation.

        Raises:
            ConfigError: after the last epoch, or for fewer than one iteration.
        """
        check_at_least("iterations", iterations, 1)
        m = len(self.modalities)
        tally = _Tally.empty(m)
        rows: list[list[float]] = []
        used = list(sizes)
        per_epoch = self.iterations_per_epoch
        left = min(iterations, self.epochs * per_epoch - self.progress.iterations)
        if left <= 0:
            raise ConfigError("this run has ended: all its epochs are trained; start a new one.")
        with isolated_torch_rng(self._torch_rng):
            while left > 0:
                phase = self._ctx.phase = self._phase()
                # Algorithm 1, line 2: epoch by epoch, or as much of one as the environment asks for.
                if self.progress.iterations % per_epoch == 0:
                    self._start_epoch()
                count = min(left, per_epoch - self.progress.iterations % per_epoch)
                used = list(sizes) if phase.sampling else [self.base_batch] * m
                recorded = self._iterate(used, count, self.method.substeps, self.method.after_backward)
                self._epoch_tally.add(recorded)
                tally.add(recorded)
                rows += recorded.rows
                self.progress.iterations += count
                self.progress.samples = [
                    total + n for total, n in zip(self.progress.samples, recorded.samples, strict=True)
                ]
                left -= count
                if self.progress.iterations % per_epoch == 0:
                    self._end_epoch()
        diverged = tally.finite_losses < tally.iterations
        if diverged and self.progress.iterations % per_epoch:
            # The run ends here, in the middle of an epoch, and is summarised all the same.
            self._close_tally()
        self.progress.coverage = self._sampler.coverage()
        return Interval(
            iteration_scores=[(row, 1) for row in rows],
            sizes=used,
            scores=tally.scores(),
            accuracies=tally.accuracies(),
            fused_accuracy=tally.fused_hits / tally.fused_samples if tally.fused_samples else None,
            loss=tally.mean_loss(),
            diverged=diverged,
        )

    @isolated_torch_modes()
    def validate(self) -> Figures | None:
        """Evaluate the validation split with the model as it is; None without one."""
        return self._figures("validation")

    @isolated_torch_modes()
    def evaluate(self) -> Evaluation:
        """Evaluate the test split with the selected model."""
        if self._best is None or self.config.select == "last":
            return self._evaluator.evaluate(self._test_split, self.modalities)
        last = self._weights()
        self._load_weights(self._best["weights"])
        found = self._evaluator.evaluate(self._test_split, self.modalities)
        self._load_weights(last)
        return found

    @property
    def logged(self) -> Mapping[str, float]:
        """The method's own figures, as it last reported them."""
        return {name: float(value) for name, value in self._ctx.logged.items()}

    @property
    def phase(self) -> Phase:
        """The method's phase of the iteration that was trained last."""
        return self._ctx.phase

    # -- the loop ----------------------------------------------------------------------------------

    def _iterate(
        self,
        sizes: Sequence[int],
        count: int,
        substeps: Substeps,
        after_backward: Callable[[Context], None] | None = None,
        *,
        wanted: bool = True,
    ) -> Recorded:
        """Run ``count`` iterations inside one epoch. No value leaves the device before the end.

        Args:
            sizes: a_j of each modality.
            count: iterations.
            substeps: gives the losses of an iteration.
            after_backward: the method's hook on gradients.
            wanted: whether the figures are needed; if not, nothing has to be recorded and nothing is computed.
        """
        sampler, split, ctx, device = self._sampler, self._train_split, self._ctx, self.device
        optimizer = self.optimizer
        m = len(sizes)
        prefix = self.config.pairing == "prefix"
        # Algorithm 1, line 5: a_j samples per modality from the shuffled training set, for all iterations at once.
        positions = sampler.draw(sizes, count)
        widest = max(range(m), key=lambda j: sizes[j])
        keep = sampler.keep_of(positions[widest]) if prefix else None
        keep_rows = None if keep is None else torch.from_numpy(keep).to(device)
        draws = None
        if split.augments:
            draws = sampler.draw_numbers(positions, shared=isinstance(split, PreparedSplit) and split.shared)
        samples = sampler.samples_of(positions)
        if prefix:
            shared = to_device(samples[widest], device)
            shared_labels = split.labels[shared]
            indices = [shared[:, :size].unbind(0) for size in sizes]
            labels = [shared_labels[:, :size].unbind(0) for size in sizes]
        else:
            drawn = [to_device(rows, device) for rows in samples]
            indices = [rows.unbind(0) for rows in drawn]
            labels = [split.labels[rows].unbind(0) for rows in drawn]
        paired = min(sizes) if prefix else 0
        recorder = Recorder(m)
        with closing(in_order(split, indices, samples, draws)) as batches:
            # Algorithm 1, lines 3 and 11: the iterations of an epoch.
            for i, inputs in enumerate(batches):
                targets = tuple(rows[i] for rows in labels)
                ctx.begin(Batch(inputs, targets, paired, None if keep_rows is None else keep_rows[i]), recorder)
                ctx.iteration = self.progress.iterations + i
                total: Tensor | None = None
                steps = substeps(ctx)
                # Algorithm 1, lines 4 and 10: the modalities in turn (alternating) or in one step (joint).
                while True:
                    # Algorithm 1, lines 6 and 7: forward (Eq. 1) and loss (Eq. 2), inside next(): a generator resumes
                    # after the step.
                    with self._autocast():
                        loss = next(steps, None)
                    if loss is None:
                        break
                    if loss.requires_grad:
                        optimizer.torch.zero_grad()
                        # Algorithm 1, line 8.
                        loss.backward()
                        if after_backward is not None:
                            after_backward(ctx)
                        # Algorithm 1, line 9.
                        optimizer.step()
                        ctx.forget_features()
                    total = loss.detach() if total is None else total + loss.detach()
                if total is None:
                    raise ConfigError(f"method={self.method.name!r} yielded no loss for an iteration.")
                recorder.end_iteration(total)
        return recorder.finish() if wanted else Recorded()

    def _start_epoch(self) -> None:
        epoch = self._ctx.epoch = self.progress.epoch
        self._ctx.iteration = self.progress.iterations
        self._epoch_tally = _Tally.empty(len(self.modalities))
        starts = [0, *(end for end, _ in self._phases[:-1])]
        if epoch in starts:
            phase = self._ctx.phase
            wanted, owners = phase.trainable, self.optimizer.names
            self._ctx.set_trainable(
                None if wanted is None else [o for o in owners if o in wanted or o.partition("/")[0] in wanted]
            )
            if phase.fresh:
                self.optimizer.start_anew()
            if phase.own_schedule:
                self._schedule.restart(epoch, next(end for end, _ in self._phases if epoch < end) - epoch)
            else:
                self._schedule.restart_watch()
        before = self._schedule.factor
        self._schedule.start_epoch(epoch)
        self._note_fall(before)
        self.method.on_epoch_start(self._ctx)
        # After the hook, so that a method's new multipliers count from this epoch on.
        self.optimizer.set_rates(self._schedule.factor)

    def _end_epoch(self) -> None:
        progress, config = self.progress, self.config
        progress.epoch += 1
        self._close_tally()
        before = self._schedule.factor
        self._schedule.end_epoch(self._epoch_tally.cross_entropy())
        self._note_fall(before)
        evaluated = progress.epoch % config.eval_every == 0 or progress.epoch == self.epochs
        figures = self.validate() if evaluated else None
        if figures is not None:
            self.validation = figures
        if evaluated and config.select != "last":
            criterion = figures if config.select == "validation" else self._evaluator.figures(self._test_split)
            value = None if criterion is None else criterion.fused["method"]
            if value is not None and (self._best is None or value > self._best["value"]):
                self._best = {"value": value, "epoch": progress.epoch, "weights": self._weights()}
        self._ctx.epoch, self._ctx.iteration = progress.epoch, progress.iterations
        self.method.on_epoch_end(self._ctx, figures)
        if (copies := self.method.expand(self._ctx)) is not None:
            self._sampler.expand(*copies)

    def _note_fall(self, before: float) -> None:
        if self._schedule.factor < before:
            self.progress.rate_falls.append(self.progress.epoch)

    def _close_tally(self) -> None:
        scores = self.progress.scores = self._epoch_tally.scores()
        self.progress.gaps.append(max(scores) - min(scores))

    def _phase(self) -> Phase:
        return next(phase for end, phase in self._phases if self.progress.epoch < end)

    def _clone_and_fit(self, loss: Callable[[Context], Tensor], epochs: int) -> MultimodalModel:
        before = self.snapshot()
        # In on_epoch_start the schedule has moved on already, the rates have not.
        self.optimizer.set_rates(self._schedule.factor)
        m = len(self.modalities)

        def substeps(ctx: Context) -> Iterator[Tensor]:
            yield loss(ctx)

        # Hooks run inside the run's own generators, which the copy must not move.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            for _ in range(epochs):
                self._iterate([self.base_batch] * m, self.iterations_per_epoch, substeps, wanted=False)
        fitted = copy.deepcopy(self.model)
        self.restore(before)
        return fitted

    def _evaluator_of(self, model: MultimodalModel) -> Evaluator:
        return Evaluator(model, self.method, self.config.predict_with, self.config.pairing == "prefix", self._autocast)

    def _figures(self, split: str, model: MultimodalModel | None = None) -> Figures | None:
        found = {"train": self._train_split, "validation": self._validation_split}[split]
        evaluator = self._evaluator if model is None else self._evaluator_of(model)
        return None if found is None else evaluator.figures(found)

    def _train_features(self) -> list[Tensor]:
        return self._evaluator.features(self._train_split)

    def _autocast(self) -> torch.autocast | nullcontext[None]:
        if self.config.amp:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    # -- state -------------------------------------------------------------------------------------

    def _weights(self) -> dict[str, Any]:
        model = {name: value.clone() for name, value in self.model.state_dict().items()}
        return {"model": model, "method": self.method.state_dict()}

    def _load_weights(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.method.load_state_dict(state["method"])

    @isolated_torch_modes()
    def fork(self) -> Trainer:
        """Copy the whole run in memory; the data, which nobody changes, is shared.

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
            return copy.deepcopy(self, memo)
        except (RuntimeError, TypeError) as error:
            raise ConfigError(
                f"method={self.method.name!r} keeps something that can't be copied ({error}), so its run can't be "
                "forked; keep detached tensors, arrays and numbers."
            ) from error

    @isolated_torch_modes()
    def snapshot(self) -> dict[str, Any]:
        """Return model, method, optimiser, schedule, data order, generators, counters and selection."""
        return {
            "weights": self._weights(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "sampler": self._sampler.state_dict(),
            "torch_rng": {device: state.clone() for device, state in self._torch_rng.items()},
            "method_rng": self._ctx.rng.bit_generator.state,
            "progress": asdict(self.progress),
            "epoch_tally": asdict(self._epoch_tally),
            "validation": None if self.validation is None else asdict(self.validation),
            "trainable": [name for name in self.optimizer.names if self.optimizer.parameters(name)[0].requires_grad],
            "best": self._best,
            "logged": dict(self.logged),
        }

    @isolated_torch_modes()
    def restore(self, state: dict[str, Any]) -> None:
        """Put a snapshot of the same task, method and settings back."""
        self._load_weights(state["weights"])
        self._ctx.set_trainable(state["trainable"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.optimizer.set_rates(self._schedule.factor)
        self._sampler.load_state_dict(state["sampler"])
        # In place, because a hook may be running inside these very generators; and only this run's devices,
        # because a run may go on on another machine.
        for device in self._torch_rng.keys() & state["torch_rng"].keys():
            self._torch_rng[device] = torch.as_tensor(state["torch_rng"][device]).clone()
        self._ctx.rng.bit_generator.state = state["method_rng"]
        self.progress = Progress(**copy.deepcopy(state["progress"]))
        self._epoch_tally = _Tally(**copy.deepcopy(state["epoch_tally"]))
        self.validation = None if state["validation"] is None else Figures(**copy.deepcopy(state["validation"]))
        self._best = state["best"]
        self._ctx.logged.update(state["logged"])
        self._ctx.epoch, self._ctx.iteration = self.progress.epoch, self.progress.iterations


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
        "An epoch is one iteration: %d training samples at B = %d. A smaller total_batch makes more, such as %d.",
        samples,
        batch,
        num_modalities * max(2, samples // 8),
    )
