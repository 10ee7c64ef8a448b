"""``register_task``: a task of your own data sets and networks, as a registered id."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dus_gym.data.own.datasets import Datasets, Reader
from dus_gym.data.own.source import CHANNELS, LAYOUTS, OF_IDS, REGIMES, encoder_for_shape
from dus_gym.data.own.table import check_names
from dus_gym.data.registry import MODULES, REGISTERED
from dus_gym.data.task import Task
from dus_gym.encoders import ENCODERS, Entry, encoder_options
from dus_gym.envs.registration import register_ids
from dus_gym.errors import ConfigError, check_at_least, check_choice
from dus_gym.optim import OPTIMIZERS, SCHEDULES

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")


@dataclass(frozen=True)
class NoOptions:
    """A network of the user's has no options."""


def register_task(
    name: str,
    *,
    train: Any,
    test: Any,
    validation: Any = None,
    modalities: Sequence[str],
    num_classes: int,
    encoders: Mapping[str, str | Callable[[], nn.Module]] | None = None,
    epochs: int = 30,
    batch: int = 64,
    lr: float = 0.01,
    optimizer: str = "sgd",
    schedule: str = "step",
    in_memory: bool = True,
    summary: str = "",
) -> str:
    """Registers ``DUS-<name>-v0``, in this process.

    Other processes must register it too: put the call into a module, and write
    ``gym.make("your_module:DUS-<name>-v0")``, or ``dus train --import your_module DUS-<name>-v0``. Registering a name
    again replaces what it was; the names that come with the package are refused.

    Args:
        name: letters and digits.
        train: a map-style PyTorch dataset whose items are ``{modality: x, …, "label": y}``, ``(x, …, y)`` or
            ``({modality: x, …}, y)``; or a mapping of tensors ``{modality: (n, ...), …, "labels": (n,)}``. Samples
            of a modality have one shape; floats are float32.
        test: likewise; scored once, after the end.
        validation: likewise; a tenth of every class of train, drawn by the run's seed, if not given.
        modalities: two or more names; their order is that of actions and observations.
        num_classes: labels are 0 to num_classes - 1.
        encoders: by modality an encoder's word (``"mlp:hidden=32"``), or a function without arguments that makes a
            new ``nn.Module`` from ``(n, ...)`` to ``(n, d)``, such as its class. Those not named are chosen by shape.
        epochs: of a run, unless ``epochs=`` of the environment says otherwise.
        batch: B, the batch size of one modality in ordinary training.
        lr: learning rate.
        optimizer: ``"sgd"`` or ``"adam"``.
        schedule: ``"step"`` (a tenth after 70 % of the epochs) or ``"plateau"``.
        in_memory: read every item once and keep it. False: read items when they are needed, a thread per modality;
            for data that does not fit, and datasets that augment.
        summary: one line for ``dus envs``.

    Returns:
        The id.

    Raises:
        ConfigError: for what can't be; the first item of each data set is looked at.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"name={name!r} is not allowed; give letters and digits: the id is DUS-<name>-v0.")
    if name in MODULES:
        raise ConfigError(f"name={name!r} is a task of the package; give another name.")
    names = tuple(modalities)
    check_names(names, "modalities")
    if len(set(names)) < len(names):
        raise ConfigError(f"modalities={names} is not allowed; it repeats a name.")
    check_choice("optimizer", optimizer, OPTIMIZERS)
    check_choice("schedule", schedule, SCHEDULES)
    for argument, value, least in (("num_classes", num_classes, 2), ("epochs", epochs, 1), ("batch", batch, 1)):
        check_at_least(argument, value, least)
    if not 0.0 < lr < float("inf"):
        raise ConfigError(f"lr={lr!r} is not allowed; it must be above 0.")
    if unknown := set(encoders or {}) - set(names):
        raise ConfigError(f"encoders names {sorted(unknown)}, which are no modalities; these are {', '.join(names)}.")
    given = {"train": train, "validation": validation, "test": test}
    readers = {split: Reader(data, names, split) for split, data in given.items() if data is not None}
    for needed in ("train", "test"):
        if needed not in readers:
            raise ConfigError(f"{needed}=None is not allowed; give a data set.")
    samples, _ = readers["train"].item(0)
    for split in ("validation", "test"):
        if split in readers:
            _check_alike(samples, readers[split].item(0)[0], names, split)
    words = tuple(
        _encoder_word(name, modality, (encoders or {}).get(modality), sample)
        for modality, sample in zip(names, samples, strict=True)
    )
    REGISTERED[name] = Task(
        name=name,
        modalities=names,
        num_classes=num_classes,
        encoders=words,
        lr=lr,
        epochs=epochs,
        batch=batch,
        summary=summary or f"registered: {', '.join(names)}, {num_classes} classes",
        metric="map",
        source=Datasets(readers["train"], readers.get("validation"), readers["test"], in_memory),
        optimizer=optimizer,
        schedule=schedule,
        train_size=len(readers["train"]),
        regime=REGIMES.get(len(names), "Digits"),
    )
    register_ids()
    return f"DUS-{name}-v0"


def _check_alike(train: Sequence[Tensor], other: Sequence[Tensor], names: Sequence[str], split: str) -> None:
    for name, mine, theirs in zip(names, train, other, strict=True):
        if (mine.shape, mine.dtype) != (theirs.shape, theirs.dtype):
            raise ConfigError(
                f"modality {name!r} has samples of shape {tuple(mine.shape)} and type {mine.dtype} in train, and of "
                f"{tuple(theirs.shape)} and {theirs.dtype} in {split}; they must be alike."
            )


def _encoder_word(task: str, modality: str, given: object, sample: Tensor) -> str:
    """The word of an encoder; a function that makes one gets a word of its own."""
    if given is None or isinstance(given, str):
        word = _word_for(modality, tuple(sample.shape)) if given is None else given
        name, _ = encoder_options(word)
        if (name in OF_IDS) == sample.is_floating_point():
            wanted = "token ids (torch.int64)" if name in OF_IDS else "floats: convert it in the dataset"
            raise ConfigError(f"modality {modality!r} is of type {sample.dtype}, and encoder {word!r} takes {wanted}.")
        return word
    if isinstance(given, nn.Module) or not callable(given):
        raise ConfigError(
            f"encoders[{modality!r}] is a {type(given).__name__}; give a word, or a function that makes a new module "
            "(lambda: MyNet(…)): every run starts from its own weights."
        )
    word = f"{task}.{modality}"
    ENCODERS[word] = Entry(NoOptions, lambda *_: _with_width(given(), sample, word))
    return word


def _word_for(modality: str, shape: tuple[int, ...]) -> str:
    """An encoder for samples of a shape, channels first.

    Raises:
        ConfigError: for a shape that looks as if the channels were elsewhere.
    """
    elsewhere = [word for word in LAYOUTS.get(len(shape), ())[1:] if shape[word.index("C")] in CHANNELS]
    if elsewhere and shape[0] not in CHANNELS:
        first = LAYOUTS[len(shape)][0]
        raise ConfigError(
            f"modality {modality!r} has samples of shape {shape}, which look like {elsewhere[0]}; give them as {first} "
            f"(permute them in the dataset), or name the encoder that takes them, such as "
            f"encoders={{{modality!r}: {encoder_for_shape(shape)!r}}}."
        )
    return encoder_for_shape(shape)


def _with_width(module: nn.Module, sample: Tensor, word: str) -> nn.Module:
    """The module with ``out_features``, which it shows by encoding a sample if it does not say so itself.

    Raises:
        ConfigError: unless it is a module that returns ``(n, d)``.
    """
    if not isinstance(module, nn.Module):
        raise ConfigError(f"encoder {word!r}: its function returned a {type(module).__name__}, not an nn.Module.")
    if isinstance(getattr(module, "out_features", None), int):
        return module
    training = module.training
    module.eval()
    with torch.no_grad():
        features = module(sample.unsqueeze(0))
    module.train(training)
    if not isinstance(features, Tensor) or features.ndim != 2:
        found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ConfigError(f"encoder {word!r} returned {found} for one sample; it must return features (n, d).")
    module.out_features = features.shape[1]  # type: ignore[assignment]
    return module
