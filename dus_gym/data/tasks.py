"""The registry of tasks: what each registered id trains, on what, for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dus_gym.data.source import DataOptions, DataSource
from dus_gym.errors import unknown_name
from dus_gym.options import build_options

if TYPE_CHECKING:
    from dus_gym.data.dataset import TaskData
    from dus_gym.seeding import RunSeeds
    from dus_gym.trainer import Recipe


@dataclass(frozen=True)
class Task:
    """One registered task. Plain values, so that listing the tasks imports no framework."""

    name: str
    """The id without ``DUS-`` and ``-v0``."""
    modalities: tuple[str, ...]
    num_classes: int
    encoders: tuple[str, ...]
    lr: float
    epochs: int
    batch: int
    """B, the ordinary batch of one modality."""
    summary: str
    """One line for ``dus envs``."""
    metric: str
    """The paper's second metric beside accuracy: ``map`` or ``macro_f1``."""
    source: str | DataSource
    """``module:OBJECT``, a :class:`~dus_gym.data.source.DataSource`; the object itself of a task that
    :func:`dus_gym.register_task` made."""
    options: DataOptions | None = None
    """Set by :meth:`configured`."""
    optimizer: str = "sgd"
    schedule: str = "step"
    train_size: int = 0
    """Training samples, for a fake run of a task whose data is not there."""
    regime: str = "Digits"
    """Whose learning curves the fake trainer follows."""

    def recipe(self) -> Recipe:
        """The part that the training loop reads."""
        from dus_gym.optim import OptimizerConfig
        from dus_gym.trainer import Recipe

        return Recipe(
            modalities=self.modalities,
            num_classes=self.num_classes,
            encoders=self.encoders,
            optimizer=OptimizerConfig(lr=self.lr, name=self.optimizer, schedule=self.schedule),
            epochs=self.epochs,
            batch=self.batch,
        )

    def data_source(self) -> DataSource:
        """Where the samples come from; imported when asked for."""
        if isinstance(self.source, DataSource):
            return self.source
        module, _, name = self.source.partition(":")
        found: DataSource = getattr(import_module(module), name)
        return found

    @property
    def options_type(self) -> type[DataOptions]:
        """The data set's options."""
        return self.data_source().options_type

    def configured(self, options: Mapping[str, Any] | None = None, data_root: str | Path | None = None) -> Task:
        """The task with options of its data set, which may change modalities, encoders and classes.

        Raises:
            ConfigError: for an option the data set does not have, or a bad value.
        """
        chosen = build_options(self.options_type, options, f"option of task {self.name!r}:")
        return self.data_source().configure(replace(self, options=chosen), chosen, _path(data_root))

    def data(self, seeds: RunSeeds, data_root: str | Path | None) -> TaskData:
        """One run's splits.

        Raises:
            DatasetNotFoundError: if the files are not there; says where they were looked for, how to get
                them and how to try the id without them.
        """
        source = self.data_source()
        options = self.options if self.options is not None else source.options_type()
        return source.build(self, options, seeds, _path(data_root))


def _path(root: str | Path | None) -> Path | None:
    return None if root is None else Path(root).expanduser()


def _digits(name: str, modalities: tuple[str, ...], epochs: int, train_size: int, regime: str, summary: str) -> Task:
    return Task(
        name=name,
        modalities=modalities,
        num_classes=10,
        encoders=("mlp",) * len(modalities),
        lr=0.03,
        epochs=epochs,
        batch=64,
        summary=summary,
        metric="map",
        source="dus_gym.data.embedded:EMBEDDED",
        train_size=train_size,
        regime=regime,
    )


def _small(
    name: str,
    modalities: tuple[str, ...],
    num_classes: int,
    encoder: str,
    epochs: int,
    train_size: int,
    source: str,
    regime: str,
    summary: str,
    metric: str = "map",
    *,
    adam: bool = False,
) -> Task:
    return Task(
        name=name,
        modalities=modalities,
        num_classes=num_classes,
        encoders=(encoder,) * len(modalities),
        lr=1e-3 if adam else 1e-2,
        optimizer="adam" if adam else "sgd",
        epochs=epochs,
        batch=64,
        summary=summary,
        metric=metric,
        source=source,
        train_size=train_size,
        regime=regime,
    )


def _paper(
    name: str,
    modalities: tuple[str, ...],
    num_classes: int,
    encoders: tuple[str, ...],
    train_size: int,
    metric: str,
    source: str,
    summary: str,
    *,
    batch: int = 64,
    adam: bool = False,
    regime: str = "Digits",
) -> Task:
    return Task(
        name=name,
        modalities=modalities,
        num_classes=num_classes,
        encoders=encoders,
        lr=1e-5 if adam else 1e-2,
        epochs=100,
        batch=batch,
        summary=summary,
        metric=metric,
        source=source,
        optimizer="adam" if adam else "sgd",
        schedule="plateau",
        train_size=train_size,
        regime=regime,
    )


OWN_TASK = "Own"
"""The task of ``--data``; its modalities stand in the data."""

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _digits(
            "Digits",
            ("pixels", "columns"),
            100,
            400,
            "Digits",
            "noisy pixels are memorised, column sums learn slowly: balancing helps",
        ),
        _digits(
            "DigitsControl",
            ("left", "right"),
            30,
            1020,
            "DigitsControl",
            "clean left half, noisy right half: balancing must not help",
        ),
        _digits(
            "Digits3", ("pixels", "rows", "columns"), 100, 400, "Digits3", "three views: pixels, row and column sums"
        ),
        _digits(
            "DigitsRowsCols",
            ("rows", "columns"),
            33,
            1020,
            "DigitsControl",
            "row sums and column sums: balancing costs a little",
        ),
        _digits(
            "DigitsHalves", ("left", "right"), 33, 1020, "DigitsControl", "two halves alike: balancing changes nothing"
        ),
        _small(
            "AVDigits",
            ("audio", "image"),
            10,
            "cnn",
            20,
            2000,
            "dus_gym.data.avdigits:SPEAKER_SPLIT",
            "Digits",
            "spoken digits by unknown speakers, noisy pictures: audio is memorised",
        ),
        _small(
            "AVDigitsOfficial",
            ("audio", "image"),
            10,
            "cnn",
            20,
            2300,
            "dus_gym.data.avdigits:OFFICIAL_SPLIT",
            "DigitsControl",
            "the same with known speakers: audio is simply better",
        ),
        _small(
            "CREMADRatings",
            ("voice", "face"),
            6,
            "mlp",
            30,
            6028,
            "dus_gym.data.cremad_ratings:SOURCE",
            "DigitsControl",
            "emotions from how people rated voice and face of CREMA-D's clips",
        ),
        _small(
            "MFeat",
            ("fou", "zer", "mor"),
            10,
            "mlp",
            30,
            900,
            "dus_gym.data.mfeat:SOURCE",
            "Digits3",
            "three of six views of handwritten numerals; others by --task.modalities",
        ),
        _small(
            "SarcasmTags",
            ("text", "words"),
            2,
            "bag",
            5,
            19816,
            "dus_gym.data.sarcasm_tags:SOURCE",
            "DigitsControl",
            "sarcastic tweets, their words and five words for the picture",
            "macro_f1",
            adam=True,
        ),
        _paper(
            "CREMAD",
            ("audio", "video"),
            6,
            ("resnet18", "resnet18"),
            6698,
            "map",
            "dus_gym.data.cremad:CREMAD",
            "CREMA-D, 6 acted emotions, voice and face",
        ),
        _paper(
            "KineticsSounds",
            ("audio", "video"),
            31,
            ("resnet18", "resnet18"),
            14799,
            "map",
            "dus_gym.data.kinetics_sounds:KINETICS_SOUNDS",
            "Kinetics-Sounds, 31 actions, sound and video",
        ),
        _paper(
            "Twitter2015",
            ("text", "image"),
            3,
            ("bert", "resnet50:weights=imagenet"),
            3179,
            "macro_f1",
            "dus_gym.data.twitter2015:TWITTER2015",
            "Twitter2015, sentiment towards a target, text and image",
            adam=True,
        ),
        _paper(
            "Sarcasm",
            ("text", "image"),
            2,
            ("bert", "resnet50:weights=imagenet"),
            19816,
            "macro_f1",
            "dus_gym.data.sarcasm:SARCASM",
            "Sarcasm, sarcastic tweets, text and image",
            adam=True,
        ),
        _paper(
            "NVGesture",
            ("rgb", "depth", "flow"),
            25,
            ("i3d", "i3d", "i3d"),
            1050,
            "macro_f1",
            "dus_gym.data.nvgesture:NVGESTURE",
            "NVGesture, 25 hand gestures, RGB, depth and optical flow",
            batch=6,
            regime="Digits3",
        ),
        Task(
            name=OWN_TASK,
            modalities=("one", "other"),
            num_classes=2,
            encoders=("mlp", "mlp"),
            lr=0.01,
            epochs=30,
            batch=64,
            summary="data of yours: modalities and classes are read from it",
            metric="map",
            source="dus_gym.data.own.source:OWN",
            train_size=1000,
        ),
    )
}


def get_task(name: str) -> Task:
    """The task called ``name``.

    Raises:
        ConfigError: for an unknown name; the message has the nearest one.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]
