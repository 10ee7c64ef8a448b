"""The data source of ``DUS-Own-v0``: somebody's own data, its modalities and classes read from the data itself."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dus_gym.data.dataset import TaskData, TensorSplit
from dus_gym.data.media_source import CACHE, MediaOptions
from dus_gym.data.own.arrays import is_arrays, read_arrays
from dus_gym.data.own.folder import Folder, decoder_of, gathered, read_folder
from dus_gym.data.own.table import Array, Table
from dus_gym.data.record import SPLITS
from dus_gym.data.splits import stratified
from dus_gym.data.store import open_store, warn_of_bad
from dus_gym.data.task import DataOptions, DataSource
from dus_gym.encoders import encoder_options
from dus_gym.errors import (
    ConfigError,
    DatasetNotFoundError,
    check_at_least,
    check_choice,
    check_fraction,
    check_positive,
    unknown_name,
)
from dus_gym.optim import OPTIMIZERS
from dus_gym.seeding import RunSeeds

if TYPE_CHECKING:
    from dus_gym.data.task import Task

AUTO = "auto"
OF_IDS = ("bag", "bert", "clip-text")
"""Encoders that take token ids: their arrays stay as they are."""
CHANNELS = (1, 3, 4)
"""Numbers of channels that pictures and clips have; where one axis alone is so long, it tells their layout."""
LAYOUTS = {3: ("CHW", "HWC"), 4: ("CTHW", "THWC", "TCHW")}
"""By the number of a sample's axes, what these may be: channels, frames, height and width."""
SMALL = 32
"""Pictures up to this side go to the two convolutions of ``cnn``; larger ones get a third."""
LARGE_CNN = "cnn:channels=16,32,64"
REGIMES = {3: "Digits3"}
"""Whose learning curves the fake trainer follows, by the number of modalities; two are the default."""
CONSTANT = 1e-6
"""A feature whose deviation is below this part of its mean is rounding alone, and stays unscaled."""
HOW = (
    "Give a .npz file with one array per modality and 'labels' (numpy.savez), a folder of such .npy files, or a folder "
    "with one sub-folder of media a modality and labels.csv: dus train --data FILE, or "
    'gym.make("dus_gym:DUS-Own-v0", data_root="FILE").'
)


@dataclass(frozen=True)
class OwnOptions(MediaOptions):
    """Options of own data."""

    encoder: str = AUTO
    """auto: mlp for vectors and texts, cnn for pictures, maps and sounds. One encoder for all modalities, or one by
    name each: audio=cnn:channels=8,16,text=mlp:hidden=32."""
    validation: str = AUTO
    """auto: the data's own validation split, or else a tenth of every class of train; none: no validation."""
    test_fraction: float = 0.2
    """Of every class, drawn by the run's seed, where the data has no splits."""
    layout: str = AUTO
    """Axes of pictures and clips in arrays, by name each: face=HWC,clip=TCHW; CHW, HWC, CTHW, THWC or TCHW. auto: the
    one axis that is 1, 3 or 4 long is that of the channels; where none or several are, this option is asked for."""
    standardise: bool = True
    """Every feature of a vector, and every channel of a picture or map, to mean 0 and deviation 1 in train."""
    optimizer: str = "sgd"
    """sgd or adam."""
    picture_size: int = 64
    """Side that picture files are resized to."""
    seconds: float = 3.0
    """Of a sound file, from its start; shorter ones are followed by silence."""
    words: int = 1000
    """A text file is counts of this many words, the most frequent ones of train."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("validation", self.validation, (AUTO, "none"))
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_at_least("picture_size", self.picture_size, 4)
        check_at_least("words", self.words, 1)
        check_positive("seconds", self.seconds)
        check_fraction("test_fraction", self.test_fraction, "(0, 1)")


class Own(DataSource):
    """Own data; the id's modalities and classes are placeholders until a data root says what they are."""

    options_type: ClassVar[type[OwnOptions]] = OwnOptions

    def configure(self, task: Task, options: DataOptions, root: Path | None) -> Task:
        """Return the task that the data makes.

        Raises:
            ConfigError: for data that can't be used; the message names the array, column or file.
        """
        assert isinstance(options, OwnOptions)
        if root is None or not root.exists():
            return task
        if is_arrays(root):
            table = read_arrays(root)
            names, classes, train_size = tuple(table.modalities), table.classes, len(table.labels)
            layouts = layouts_of(table.modalities, table.decoded, options.layout)
            suggested = [
                encoder_for_shape(_as_samples(array, name, layouts).shape[1:])
                for name, array in table.modalities.items()
            ]
            texts: set[str] = set()
        else:
            folder = read_folder(root)
            names, classes, train_size = tuple(folder.kinds), folder.classes, len(folder.samples)
            layouts = layouts_of(names, folder.decoded, options.layout)
            shapes = {name: self._shape(folder, name, options, layouts) for name in names}
            suggested = ["mlp" if shape is None else encoder_for_shape(shape) for shape in shapes.values()]
            texts = {name for name, kind in folder.kinds.items() if kind == "text"}
        words = chosen_encoders(options.encoder, names, suggested)
        for name, word in zip(names, words, strict=True):
            if name in texts and encoder_options(word)[0] != "mlp":
                raise ConfigError(
                    f"encoder={word!r} is not allowed for {name!r}: text files become counts of words, which 'mlp' "
                    "takes. For a text encoder, give token ids as a .npy file per sample."
                )
        return replace(
            task,
            modalities=names,
            num_classes=len(classes),
            encoders=words,
            optimizer=options.optimizer,
            train_size=train_size,
            regime=REGIMES.get(len(names), task.regime),
        )

    def has_validation(self, task: Task, options: DataOptions, root: Path | None) -> bool:
        """Tell from labels and splits whether these options have a validation split."""
        assert isinstance(options, OwnOptions)
        root = self._root_of(task, root)
        table: Table | Folder = read_arrays(root) if is_arrays(root) else read_folder(root)
        return len(split_rows(table, options, np.random.default_rng(0))["validation"]) > 0

    def _root_of(self, task: Task, root: Path | None) -> Path:
        """Return the data, if it is there."""
        if root is None or not root.exists():
            where = "no data was given" if root is None else f"data_root={root} is not there"
            raise DatasetNotFoundError(
                f"DUS-{task.name}-v0 trains on data of yours and {where}. {HOW} "
                f'Without any: trainer="fake", or dus train DUS-{task.name}-v0 --trainer fake.'
            )
        return root

    def build(self, task: Task, options: DataOptions, seeds: RunSeeds, root: Path | None) -> TaskData:
        """Return one run's splits: the data's own ones, or a draw that keeps the classes' proportions."""
        assert isinstance(options, OwnOptions)
        root = self._root_of(task, root)
        table = read_arrays(root) if is_arrays(root) else self._decoded(read_folder(root), options)
        layouts = layouts_of(table.modalities, table.decoded, options.layout)
        rows = split_rows(table, options, seeds.generator("data/split"))
        for split in ("train", "test"):
            if not len(rows[split]):
                raise ConfigError(f"{root} leaves no sample to {split!r}; give more samples, or splits of your own.")
        prepared = [
            _prepared(name, array, rows["train"], encoder_options(word)[0], options, layouts)
            for (name, array), word in zip(table.modalities.items(), task.encoders, strict=True)
        ]
        inputs = [samples for samples, _ in prepared]
        labels = torch.from_numpy(table.labels)

        def part(split: str) -> TensorSplit:
            index = torch.from_numpy(rows[split])
            return TensorSplit(tuple(x[index] for x in inputs), labels[index])

        return TaskData(
            part("train"),
            part("validation") if len(rows["validation"]) else None,
            part("test"),
            [tuple(x.shape[1:]) for x in inputs],
            "own",
            dict(table.dropped or {}),
            table.classes,
            {name: said for name, (_, said) in zip(table.modalities, prepared, strict=True)},
        )

    def _shape(
        self, folder: Folder, name: str, options: OwnOptions, layouts: Mapping[str, str]
    ) -> tuple[int, ...] | None:
        """Return the shape of one decoded sample; None for texts."""
        decoder = decoder_of(folder, name, options.picture_size, options.seconds)
        if decoder.fixed_shape is None:
            return None
        return _as_samples(np.empty((1, *decoder.fixed_shape), np.bool_), name, layouts).shape[1:]

    def _decoded(self, folder: Folder, options: OwnOptions) -> Table:
        """Return the media in memory; decoded once, whatever the number of runs."""
        cache = folder.root / CACHE if options.cache is None else Path(options.cache).expanduser()
        stores = {
            name: open_store(
                cache,
                "own",
                decoder_of(folder, name, options.picture_size, options.seconds),
                rows,
                on_error=options.on_error,
                max_bad=options.max_bad,
                workers=options.workers,
            )
            for name, rows in folder.rows.items()
        }
        for store in stores.values():
            warn_of_bad(store, "own", len(folder.samples))
        return gathered(folder, stores)


OWN = Own()


def chosen_encoders(text: str, names: Sequence[str], suggested: Sequence[str]) -> tuple[str, ...]:
    """Return one encoder word per modality, from ``options.encoder`` and what the shapes suggest.

    Raises:
        ConfigError: for an encoder or a modality that is not there.
    """
    if text == AUTO:
        return tuple(suggested)
    # A comma may belong to a value (channels=8,16): it parts two modalities only where a name and '=' follow.
    parts = re.split(r",(?=[A-Za-z][\w.-]*=)", text)
    pairs = [re.match(r"([A-Za-z][\w.-]*)=(.+)", part) for part in parts]
    if pairs[0] is None:
        encoder_options(text)
        return (text,) * len(names)
    chosen = dict(zip(names, suggested, strict=True))
    for part, pair in zip(parts, pairs, strict=True):
        if pair is None or pair[1] not in chosen:
            raise unknown_name("modality in encoder", part.partition("=")[0], names)
        encoder_options(pair[2])
        chosen[pair[1]] = pair[2]
    return tuple(chosen.values())


def split_rows(
    table: Table | Folder, options: OwnOptions, rng: np.random.Generator
) -> Mapping[str, npt.NDArray[np.int64]]:
    """Return the rows of train, validation and test."""
    names = np.array(table.splits or ("train",) * len(table.labels), dtype="<U10")

    def move(split: str, fraction: float) -> None:
        train = np.flatnonzero(names == "train")
        names[train[stratified(table.labels[train].tolist(), fraction, rng)]] = split

    if table.splits is None:
        move("test", options.test_fraction)
    if options.validation == "none":
        names[names == "validation"] = "unused"
    elif "validation" not in names:
        move("validation", 0.1)
    return {split: np.flatnonzero(names == split) for split in SPLITS}


def layouts_of(names: Collection[str], decoded: Mapping[str, str], text: str) -> dict[str, str]:
    """Return layouts by modality, where ``options.layout`` (``text``) or a decoder says them.

    Raises:
        ConfigError: for a modality or a layout that is not there, and where both say one.
    """
    layouts = dict(decoded)
    allowed = [word for words in LAYOUTS.values() for word in words]
    for part in () if text == AUTO else text.split(","):
        name, _, word = (piece.strip() for piece in part.partition("="))
        if name not in names:
            raise unknown_name("modality in layout", name, names)
        if name in decoded:
            raise ConfigError(f"layout={text!r} is not allowed: {name!r} is made of files whose layout is known.")
        check_choice(f"layout of {name!r}", word.upper(), allowed)
        layouts[name] = word.upper()
    return layouts


def _as_samples(array: Array, name: str, layouts: Mapping[str, str]) -> Array:
    """Return samples as encoders take them: vectors ``(n, d)``, maps ``(n, C, H, W)``, clips ``(n, C, T, H, W)``.

    Raises:
        ConfigError: where the layout is neither said nor to be seen, or not one of such samples.
    """
    if array.dtype == object:
        return array
    if array.ndim == 1:
        return array[:, None]
    shape = array.shape[1:]
    known, said = LAYOUTS.get(len(shape), ()), layouts.get(name)
    if said is not None and said not in known:
        raise ConfigError(
            f"layout {said} of {name!r} is not allowed: its samples have shape {shape}"
            + (f", which may be {' or '.join(known)}." if known else ", whose axes are no channels.")
        )
    if len(shape) == 2:
        return array[:, None]
    if len(shape) < 2:
        return array
    if not known:
        raise ConfigError(
            f"array {name!r} has samples of shape {shape}; give vectors (d,), maps (H, W), pictures (C, H, W) or "
            "(H, W, C), or clips (C, T, H, W), (T, H, W, C) or (T, C, H, W)."
        )
    fitting = [word for word in known if shape[word.index("C")] in CHANNELS] if said is None else [said]
    if len(fitting) != 1:
        raise ConfigError(
            f"modality {name!r} has samples of shape {shape}, which may be {' or '.join(fitting or known)} (channels, "
            f"frames, height, width); say which, by layout={f'{name}={(fitting or known)[-1]}'!r} for example "
            f"(--task.layout {name}={(fitting or known)[-1]})."
        )
    return np.moveaxis(array, 1 + fitting[0].index("C"), 1)


def encoder_for_shape(shape: tuple[int, ...]) -> str:
    """Return the word of a small encoder for samples of a shape."""
    if len(shape) < 3:
        return "mlp"
    return "cnn" if max(shape[-2:]) <= SMALL else LARGE_CNN


def _prepared(
    name: str,
    array: Array,
    train: npt.NDArray[np.int64],
    encoder: str,
    options: OwnOptions,
    layouts: Mapping[str, str],
) -> tuple[Tensor, str]:
    """Return one modality of all samples as its encoder takes it, and what was done to it, in words.

    Nothing is learnt from other rows than ``train``.
    """
    counted = ""
    if array.dtype == object:
        array = _word_counts(array, train, options.words, name)
        counted = f"counts of the {array.shape[1]} most frequent words of train, "
    if encoder in OF_IDS:
        return torch.from_numpy(array.astype(np.int64)), "token ids as they are"
    samples = torch.from_numpy(np.ascontiguousarray(_as_samples(array, name, layouts), np.float32))
    if not options.standardise:
        return samples, f"{counted}as they are"
    # Over the samples for a vector's features; over samples and places for the channels of a map.
    axes = (0, *range(2, samples.ndim))
    known = samples[torch.from_numpy(train)]
    mean, deviation = known.mean(axes, keepdim=True), known.std(axes, correction=0, keepdim=True)
    varies = deviation > CONSTANT * mean.abs()
    what = "feature" if samples.ndim == 2 else "channel"
    constant = int((~varies).sum())
    alone = f" ({constant} constant of {varies.numel()}: mean 0 only)" if constant else ""
    said = f"{counted}every {what} to mean 0, deviation 1 in train{alone}"
    return (samples - mean) / torch.where(varies, deviation, 1.0), said


def _word_counts(texts: Array, train: npt.NDArray[np.int64], words: int, name: str) -> Array:
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(max_features=words, dtype=np.float32, token_pattern=r"\S+")
    try:
        counter.fit(texts[train])
    except ValueError as error:
        raise ConfigError(f"the texts of {name!r} can't be counted: {error}.") from error
    counted: Array = counter.transform(texts).toarray()
    return counted
