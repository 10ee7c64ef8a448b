"""Diagnostics of a finished run, from its folder: what each modality knows, what it contributes, what it costs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dus_gym.ambient import isolated_torch_modes
from dus_gym.data.media_source import MediaSource
from dus_gym.data.surveys import surveys_kept
from dus_gym.discrepancy import unrounded
from dus_gym.errors import ConfigError, RunFolderError
from dus_gym.experiments.linear_probe import HELD_OUT, linear_probe
from dus_gym.experiments.probe_result import (
    MOST_MODALITIES,
    Contributions,
    Cost,
    LinearProbe,
    ModalityProbe,
    Predicted,
    PresentOnly,
    ProbeResult,
    classes_of,
    kept_probe,
    nothing_to_probe,
)
from dus_gym.experiments.results import Result
from dus_gym.experiments.run import OnStep, execute
from dus_gym.experiments.spec import RunSpec
from dus_gym.experiments.storage.run_folder import CONFIG, MODEL, PROBE, SUMMARY, as_json, read_run, writing
from dus_gym.methods.shapley import features_of_zeros
from dus_gym.seeding import RunSeeds
from dus_gym.state import load_state, restoring, write_atomically
from dus_gym.trainer import Trainer

if TYPE_CHECKING:
    from dus_gym.data.task import Task
    from dus_gym.envs.dus_env import DUSEnv
    from dus_gym.evaluation import Predictions

TIMED = 20
"""Training steps that are timed."""


@isolated_torch_modes()
def probe(
    run: str | Path,
    *,
    alone: bool = False,
    data_root: str | Path | None = None,
    device: str | None = None,
    out: str | Path | None = None,
    on_step: OnStep | None = None,
) -> ProbeResult:
    """Diagnose a finished run and keep the result beside it, as ``probe.json``; nothing else in its folder is changed.

        found = dus_gym.probe("runs/DUS-Digits-v0/steady-baseline-seed0")

    :meth:`Result.probe` reads what is kept.

    Args:
        run: a folder that ``dus train`` wrote, with the model's weights.
        alone: also train every modality's network by itself, with the run's settings. Without it, accuracies that an
            earlier probe of this run has kept stay.
        data_root: the data root, if the files have moved since the run.
        device: where to compute, if not where the run was trained.
        out: a JSON file to write the result to in place of the run's folder; it must not be there yet.
        on_step: called after each step of the training that ``alone`` asks for.

    Raises:
        RunFolderError: for a folder without a finished run, without weights, or of a run that diverged; the message
            says what to do.
        CheckpointError: for weights that are damaged or of another network.
        DusError: for what else can't be, such as data that is not there.
    """
    path, file = Path(run), None if out is None else Path(out)
    if file is not None and file.exists():
        raise RunFolderError(f"out={file} is there already; give another file, or delete it.")
    config, result = read_run(path)
    if result is None:
        raise RunFolderError(f"{path} is not finished; go on with --resume, then probe it.")
    before = kept_probe(path)
    with surveys_kept():
        spec = _spec(path, config, result, data_root, device)
        torch.set_num_threads(spec.threads)
        found = _diagnose(path, spec, result, alone, on_step)
    if before is not None:
        found = found.with_alone(before)
    file = file or path / PROBE
    with writing(file, "try again, or give another file with --out"):
        write_atomically(file, as_json(found.to_json()))
    return found


def _spec(
    path: Path, config: Mapping[str, Any], result: Result, data_root: str | Path | None, device: str | None
) -> RunSpec:
    """Return what the run was, with the data and the device of now.

    Raises:
        RunFolderError: for a run that has no network to probe.
    """
    spec = RunSpec.of(config, str(path / CONFIG))
    if (reason := nothing_to_probe(path, spec, result)) is not None:
        raise RunFolderError(reason)
    settings = dict(spec.settings) if device is None else {**spec.settings, "device": device}
    root = spec.data_root if data_root is None else str(data_root)
    spec = dataclasses.replace(spec, data_root=root, settings=settings)
    spec.run.check_device()
    return spec


def _diagnose(path: Path, spec: RunSpec, result: Result, alone: bool, on_step: OnStep | None) -> ProbeResult:
    """Build the run as it was, read its weights, and look."""
    core = _built(spec, result)
    trainer, names = core.run, core.modalities
    assert isinstance(trainer, Trainer)
    if len(names) > MOST_MODALITIES:
        raise ConfigError(
            f"{path} has {len(names)} modalities, and contributions take a prediction for each set of them; up to "
            f"{MOST_MODALITIES} are allowed."
        )
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    timing = _time_steps(trainer)
    with restoring(f"the weights {path / MODEL}"):
        trainer.load_weights(load_state(path / MODEL, "model"))
    features = {split: trainer.evaluator.features(of) for split, of in trainer.splits.items() if of is not None}
    labels = {split: of.labels for split, of in trainer.splits.items() if of is not None}
    for j, name in enumerate(names):
        if not all(bool(of[j].isfinite().all()) for of in features.values()):
            raise RunFolderError(
                f"{path}: encoder {name} gives features that are not finite (the run diverged), which nothing can be "
                "learned from; train it again with smaller rates, such as --lr-scale 0.1 for every modality."
            )
    predictions = trainer.evaluator.predict_from(features["test"], labels["test"])
    fused = Predicted.of(_own(predictions), predictions.labels)
    heads = [Predicted.of(logits, predictions.labels) for logits in predictions.unimodal]
    contributions = _contributions(trainer, names, features["test"], labels["test"])
    shares = contributions.exact()
    seeds = RunSeeds(core.run_seed)
    linear = [
        linear_probe(
            (features["train"][j], labels["train"]),
            (features["validation"][j], labels["validation"]) if "validation" in features else None,
            (features["test"][j], labels["test"]),
            core.task.num_classes,
            seeds.generator("linear probe"),
        )
        for j in range(len(names))
    ]
    by_itself = _train_alone(spec, on_step) if alone else {}
    return ProbeResult(
        run=str(path),
        title=result.title,
        data_kind=trainer.data_kind,
        chosen_on="validation" if trainer.has_validation else f"{100 * HELD_OUT:.0f} % of train: no validation split",
        classes=_class_names(core.task),
        fused=fused,
        modalities={
            name: ModalityProbe(heads[j], linear[j], by_itself.get(name), float(shares[name]))
            for j, name in enumerate(names)
        },
        contributions=contributions,
        cost=Cost(
            parameters={
                owner: sum(p.numel() for p in of) for owner, of in trainer.model.parameter_groups(names).items()
            },
            trainable=trainable,
            flops=_flops(trainer, names),
            device=spec.run.device,
            threads=spec.threads,
            batch=trainer.base_batch,
            **timing,
        ),
        warnings=tuple(
            _warnings(result, fused, dict(zip(names, heads, strict=True)), dict(zip(names, linear, strict=True)))
        ),
    )


def _built(spec: RunSpec, result: Result) -> DUSEnv:
    """Return the environment of the run before its first step: its data, its network, its method.

    Whoever decided, and with which policy, does not matter to it: what they set of the run is in its summary.
    """
    settings = {name: value for name, value in result.settings.items() if name not in ("action_mode", "device")}
    anybody = dataclasses.replace(spec.under_uniform(), settings={**settings, "device": spec.run.device})
    core = anybody.make_core(anybody.make_agent(len(anybody.task().modalities)))
    core.reset(seed=spec.seed)
    return core


def _time_steps(trainer: Trainer) -> dict[str, Any]:
    """Return the time of a training step; the run that is timed has just begun, and is not of use afterwards.

    The first and the last step of an epoch are not timed where there are others: around them lie validation and the
    method's hooks.
    """
    per_epoch, sizes = trainer.iterations_per_epoch, [trainer.base_batch] * len(trainer.modalities)
    ends = 1 if per_epoch >= 3 else 0
    phase, spent, timed = "", 0.0, 0
    while timed < TIMED and trainer.epoch < trainer.epochs:
        if ends:
            trainer.train(sizes, 1)
        count = min(TIMED - timed, per_epoch - 2 * ends)
        started = time.perf_counter()
        # It ends with a transfer to the host, so that nothing is left to compute on a device.
        trainer.train(sizes, count)
        seconds = time.perf_counter() - started
        phase = phase or trainer.phase.name
        if trainer.phase.name != phase:
            break
        spent, timed = spent + seconds, timed + count
        if ends and timed < TIMED:
            trainer.train(sizes, 1)
    return {"step_milliseconds": 1000.0 * spent / timed, "steps_timed": timed, "phase": phase}


def _contributions(
    trainer: Trainer, names: tuple[str, ...], features: Sequence[Tensor], labels: Tensor
) -> Contributions:
    """Predict from every set of modalities, the inputs of the others zeros, which stand for an absent modality.

    That is what BalanceBenchmark (``forward`` of its models, ``padding``), AGM and SMV put in its place.
    """
    split = trainer.splits["test"]
    assert split is not None
    first = torch.zeros_like(labels[:1])
    with torch.no_grad(), trainer.evaluator.autocast():
        zeros = [torch.zeros_like(split.fetch(j, first)) for j in range(len(names))]
        absent = [unrounded(of).expand(len(labels), -1) for of in features_of_zeros(trainer.model, zeros)]
    subsets = []
    for members in range(2 ** len(names)):
        chosen = [features[j] if members >> j & 1 else absent[j] for j in range(len(names))]
        found = trainer.evaluator.predict_from(chosen, labels)
        right = int((classes_of(_own(found)) == found.labels).sum())
        present = tuple(name for j, name in enumerate(names) if members >> j & 1)
        subsets.append(PresentOnly(present, right, right / len(labels)))
    return Contributions(len(labels), tuple(subsets), names)


def _train_alone(spec: RunSpec, on_step: OnStep | None) -> dict[str, float]:
    """Return the test accuracy of every modality's network trained by itself.

    Method ``unimodal`` trains m networks that never meet side by side, with equal batches and the run's seed, data,
    encoders and settings; what only a fused head has (``predict_with``) is left out.
    """
    uniform = spec.under_uniform()
    settings = {name: value for name, value in uniform.settings.items() if name not in ("lever", "predict_with")}
    single = dataclasses.replace(uniform, method="unimodal", method_options={}, trainer="real", settings=settings)
    single.check()
    return {name: row.accuracy for name, row in execute(single, on_step=on_step).modalities.items()}


def _flops(trainer: Trainer, names: Sequence[str]) -> dict[str, int]:
    """Count the operations of one test sample's forward pass."""
    split = trainer.splits["test"]
    assert split is not None
    first = torch.zeros_like(split.labels[:1])
    found: dict[str, int] = {}
    features = []
    trainer.model.eval()
    for j, name in enumerate(names):
        inputs = split.fetch(j, first)
        with _counted() as counter, trainer.evaluator.autocast():
            features.append(unrounded(trainer.model.encode(j, inputs)).detach())
        found[f"encoder/{name}"] = counter.get_total_flops()
    with _counted() as counter:
        trainer.evaluator.predict_from(features, split.labels[:1])
    return {**found, "heads": counter.get_total_flops()}


@contextmanager
def _counted() -> Iterator[FlopCounterMode]:
    """Count operations, with attention written out: fused kernels are one operation that the counter does not know."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _warnings(
    result: Result, fused: Predicted, heads: Mapping[str, Predicted], linear: Mapping[str, LinearProbe]
) -> Iterator[str]:
    """Say where these are not the summary's figures, and which fit did not converge."""
    pairs = [(name, row.accuracy, heads[name].accuracy) for name, row in result.modalities.items() if name in heads]
    if result.accuracy is not None:
        pairs.append(("the fused prediction", result.accuracy, fused.accuracy))
    for name, then, now in pairs:
        if abs(then - now) > 1e-9:
            yield (
                f"{SUMMARY} has {100.0 * then:.2f} % for {name}, and the weights give {100.0 * now:.2f} % here: the "
                "data or the weights have changed since, or this device rounds otherwise."
            )
    for name, row in linear.items():
        if not row.converged:
            yield f"The linear probe of {name} had not converged when it was stopped; its accuracy is a lower bound."


def _class_names(task: Task) -> tuple[str, ...]:
    """Return the classes' names, or their numbers where the data set has no names."""
    source = task.data_source()
    if isinstance(source, MediaSource) and task.options is not None:
        return source.names(task.options)
    return tuple(map(str, range(task.num_classes)))


def _own(predictions: Predictions) -> Tensor:
    """Return the method's own fused logits, ``(n, c)``."""
    logits = predictions.fused["method"]
    assert logits is not None, "every method predicts"
    return logits
