"""A data set of media files: records, one stream per modality, and the way from them to a run's splits.

A subclass reads the lists and names the places of media. Validation, stores, splits and the settings of a data folder
are the same for all and stand here. PyTorch is imported when splits are built.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dus_gym.data.dataset import TaskData
from dus_gym.data.record import SPLITS, Record
from dus_gym.data.splits import VALIDATION_FRACTION, carve_stratified
from dus_gym.data.store import BadFile, Decoder, Row, Store, open_store, warn_of_bad
from dus_gym.data.store.builder import Progress
from dus_gym.data.store.key import survey
from dus_gym.data.store.opening import ON_ERROR
from dus_gym.data.surveys import surveyed
from dus_gym.data.task import DataOptions, DataSource, FolderDefaults, Task
from dus_gym.errors import ConfigError, DatasetNotFoundError, PretrainedNotFoundError, check_at_least, check_choice
from dus_gym.json_text import read_json
from dus_gym.options import build_options

if TYPE_CHECKING:
    from dus_gym.data.store.split import StoreSplit, Transform
    from dus_gym.seeding import RunSeeds

SETTINGS = "dus-data.json"
"""The file with the settings of a data folder; beside the lists."""
CACHE = ".dus-cache"
DATA_KINDS = ("real", "mock", "own")


@dataclass(frozen=True)
class MediaOptions(DataOptions):
    """Options of every data set of media files."""

    encoder: str = "paper"
    """``paper``, or another set of encoders where the data set has one."""
    on_error: str = "fail"
    """Treatment of a bad file: fail, skip (its sample is left out of all modalities) or substitute (zeros)."""
    max_bad: float = 0.005
    """The fraction of the samples that may be bad with skip and substitute."""
    cache: str | None = None
    """Folder of decoded media; ``.dus-cache`` in the data root if not given."""
    workers: int = 0
    """Processes that decode; 0: none but this one. Results do not depend on it."""

    def __post_init__(self) -> None:
        check_choice("on_error", self.on_error, ON_ERROR)
        check_at_least("workers", self.workers, 0)
        if not 0.0 <= self.max_bad <= 1.0:
            raise ConfigError(f"max_bad={self.max_bad!r} is not allowed; it is a fraction, from 0 to 1.")


@dataclass(frozen=True)
class Stream:
    """One modality under the options asked for: its decoder, its rows and its transform."""

    decoder: Decoder
    """Its ``name`` is the modality."""
    transform: Transform
    rows: tuple[Row, ...]
    """Every sample of the data set, whatever its split; row i is of record i."""
    shape: tuple[int, ...]
    """One sample as the encoder takes it."""


@dataclass(frozen=True)
class FolderSettings:
    """Settings in the ``dus-data.json`` of a data root; a folder without one is real data with the paper's encoders."""

    data_kind: str = "real"
    encoders: tuple[str, ...] | None = None
    """One word per modality. ``{root}`` in a word stands for the data root."""
    options: Mapping[str, Any] | None = None
    """Defaults of the data set's options; what the user sets goes before. ``{root}`` as above."""

    @classmethod
    def read(cls, root: Path | None) -> FolderSettings:
        """Return the settings of a data root.

        Raises:
            ConfigError: for a file that is no JSON object, or has a name or value that is not known.
        """
        if root is None or not (root / SETTINGS).is_file():
            return cls()
        path = root / SETTINGS
        try:
            found = read_json(path.read_bytes())
        except ValueError as error:
            raise ConfigError(f"{path} is no JSON ({error}); mend or remove it.") from error
        allowed = [field.name for field in fields(cls)]
        if not isinstance(found, dict) or not set(found) <= set(allowed):
            raise ConfigError(f"{path} must hold an object with {', '.join(allowed)} alone.")
        check_choice(f"data_kind in {path}", str(found.get("data_kind", "real")), DATA_KINDS)
        words, options = found.get("encoders"), found.get("options", {})
        if not (words is None or (isinstance(words, list) and all(isinstance(word, str) for word in words))):
            raise ConfigError(
                f"encoders={reprlib.repr(words)} in {path} is not allowed; give a list of words, one per modality."
            )
        if not isinstance(options, dict):
            raise ConfigError(
                f"options={reprlib.repr(options)} in {path} is not allowed; give an object, option to value."
            )
        return cls(
            found.get("data_kind", "real"),
            None if words is None else tuple(_at(root, word) for word in words),
            {name: _at(root, value) for name, value in options.items()},
        )


def _at(root: Path, value: Any) -> Any:
    return value.replace("{root}", str(root)) if isinstance(value, str) else value


class MediaSource(DataSource):
    """Base of the data sets of media files."""

    options_type: ClassVar[type[MediaOptions]] = MediaOptions
    class_names: ClassVar[tuple[str, ...]]
    """In the order of the class ids."""
    crops_alike: ClassVar[bool] = False
    """True: the modalities of one sample are augmented alike."""

    # -- of one data set ---------------------------------------------------------------------------

    def records(self, options: Any, root: Path) -> list[Record]:
        """Return every sample of the official lists, in their order.

        Raises:
            DatasetNotFoundError: if the lists are not there.
            AnnotationError: for a line of another form.
        """
        raise NotImplementedError

    def streams(self, task: Task, options: Any, root: Path, records: Sequence[Record]) -> list[Stream]:
        """Return one stream per modality of the task, in order. Touches no media file: a row of one that is missing
        names the path where it was expected.

        Raises:
            DatasetNotFoundError: if there are no media of a modality at all, in any known layout.
        """
        raise NotImplementedError

    def names(self, options: Any) -> tuple[str, ...]:
        """Return class names in the order of the class ids that these options give."""
        return self.class_names

    def carve(self, records: Sequence[Record], options: Any, rng: np.random.Generator) -> list[Record]:
        """Return the records with a validation split; by default a stratified tenth of train where there is none."""
        if any(record.split == "validation" for record in records):
            return list(records)
        return carve_stratified(records, rng, VALIDATION_FRACTION)

    def encoders(self, task: Task, options: Any) -> tuple[str, ...]:
        """Return one encoder word per modality, for ``options.encoder``.

        Raises:
            ConfigError: for a set this data set does not have.
        """
        check_choice("encoder", options.encoder, ("paper",))
        return task.encoders

    # -- of all of them ----------------------------------------------------------------------------

    def configure(self, task: Task, options: DataOptions, root: Path | None) -> Task:
        """Return the task with the encoders asked for."""
        return replace(task, encoders=self.encoders(task, options))

    def folder_defaults(self, root: Path | None) -> FolderDefaults:
        """Return the options and encoders of the data root's settings.

        Raises:
            ConfigError: for an option the data set does not have, or a value of another type.
        """
        found = FolderSettings.read(root)
        build_options(self.options_type, found.options, f"option in {root}/{SETTINGS}:")
        return FolderDefaults(found.options or {}, found.encoders)

    def root_of(self, task: Task, root: Path | None) -> Path:
        """Return the data root, if it is one.

        Raises:
            DatasetNotFoundError: with what to do.
        """
        if root is None or not root.is_dir():
            where = "no data_root was given" if root is None else f"data_root={root} is no folder"
            raise DatasetNotFoundError(f"DUS-{task.name}-v0 needs its data set and {where}. {self._help(task)}")
        return root

    def inventory(self, task: Task, options: Any, root: Path) -> tuple[list[Record], list[Stream]]:
        """Return every sample of the lists and where its media lie; made once per command.

        Raises:
            DatasetNotFoundError: if the lists, or all media of a modality, are not there; says how to get them.
            AnnotationError: for a line of another form.
        """

        def look() -> tuple[list[Record], list[Stream]]:
            try:
                records = self.records(options, root)
                return records, self.streams(task, options, root, records)
            except PretrainedNotFoundError:
                raise  # how to get the data is no answer to a vocabulary that is missing
            except DatasetNotFoundError as error:
                raise DatasetNotFoundError(f"{error} {self._help(task)}") from error

        return surveyed((task.name, task.encoders, options, root.absolute()), look)

    def has_validation(self, task: Task, options: DataOptions, root: Path | None) -> bool:
        """Tell from the lists whether these options have a validation split; raises as :meth:`inventory` does."""
        records, _ = self.inventory(task, options, self.root_of(task, root))
        carved = self.carve(records, options, np.random.default_rng(0))
        return any(record.split == "validation" for record in carved)

    def build(self, task: Task, options: DataOptions, seeds: RunSeeds, root: Path | None) -> TaskData:
        """Return one run's splits; decodes what no earlier run has."""
        import torch

        from dus_gym.data.store.split import StoredModality, StoreSplit, without_bad

        assert isinstance(options, MediaOptions)
        root = self.root_of(task, root)
        records, streams = self.inventory(task, options, root)
        stores = [self.store(stream, options, root) for stream in streams]
        for store in stores:
            warn_of_bad(store, self.dataset, len(records))
        records = self.carve(records, options, seeds.generator("data/split"))
        dropped: dict[str, int] = {}

        def part(split: str) -> StoreSplit | None:
            chosen = [record for record in records if record.split == split]
            kept = [chosen[i] for i in without_bad([record.sample for record in chosen], stores)] if chosen else []
            if len(kept) < len(chosen):
                dropped[split] = len(chosen) - len(kept)
            if not kept:
                if split == "validation":
                    return None
                raise DatasetNotFoundError(
                    f"DUS-{task.name}-v0 has no usable {split} sample under {root} ({len(chosen)} are listed). "
                    f"{self._help(task)}"
                )
            samples = [record.sample for record in kept]
            return StoreSplit(
                [
                    StoredModality.of(stream.decoder.name, store, samples, stream.transform)
                    for stream, store in zip(streams, stores, strict=True)
                ],
                torch.tensor([record.label for record in kept]),
                seed=seeds.integer("data/augmentation"),
                augments=split == "train",
                shared=self.crops_alike,
            )

        train, validation, test = (part(split) for split in SPLITS)
        assert train is not None
        assert test is not None
        kind = FolderSettings.read(root).data_kind
        shapes = [stream.shape for stream in streams]
        return TaskData(train, validation, test, shapes, kind, dropped, classes=self.names(options))

    def store(self, stream: Stream, options: MediaOptions, root: Path, **how: Any) -> Store:
        """Return the store of one modality, built where there is none; ``how`` goes to :func:`open_store`."""
        cache = root / CACHE if options.cache is None else Path(options.cache).expanduser()
        given: dict[str, Any] = {"on_error": options.on_error, "max_bad": options.max_bad, "workers": options.workers}
        return open_store(cache, self.dataset, stream.decoder, stream.rows, **given | how)

    def _help(self, task: Task) -> str:
        return (
            f"{self.how_to_get} `dus data scan {self.dataset} --root DIR` says what is missing. To try the id without "
            f"the data: `dus data mock {self.dataset} --root DIR --clips 60` writes a tiny copy of made-up media, and "
            f'trainer="fake" (dus train DUS-{task.name}-v0 --trainer fake) needs no files at all.'
        )


@dataclass(frozen=True)
class BuiltModality:
    """One modality's store."""

    name: str
    rows: int
    bad: tuple[BadFile, ...]
    """Every file that can't be used."""
    store: str | None
    """Its folder; None where bad files were known before anything was decoded, and are not to be skipped."""


def build_stores(
    task: Task,
    source: MediaSource,
    root: Path,
    on_error: str = "fail",
    workers: int = 0,
    progress_of: Callable[[str], Progress] | None = None,
) -> list[BuiltModality]:
    """Decode all modalities of a task, and find every bad file: one of them does not end the build.

    Args:
        task: configured, see :meth:`~dus_gym.data.task.Task.configured`.
        source: its source.
        root: the data root.
        on_error: ``"fail"``: where files are missing or empty, nothing is decoded. ``"skip"``: the others are.
        workers: processes that decode; 0: none but this one.
        progress_of: by modality, what is called with the rows done and all rows.

    Raises:
        DatasetNotFoundError: if the lists are not there.
        StoreError: if the disk is full, or would be.
    """
    check_choice("on_error", on_error, ("fail", "skip"))
    options = task.options
    assert isinstance(options, MediaOptions)
    root = source.root_of(task, root)
    streams = source.streams(task, options, root, source.records(options, root))
    missing = {stream.decoder.name: _missing(stream, root / CACHE) for stream in streams}
    if on_error == "fail" and any(missing.values()):
        return [BuiltModality(s.decoder.name, len(s.rows), missing[s.decoder.name], None) for s in streams]
    built = []
    for stream in streams:
        name = stream.decoder.name
        # What a bad file means is decided by who reads the store: here all are wanted, by name.
        progress = None if progress_of is None else progress_of(name)
        store = source.store(stream, options, root, on_error="skip", max_bad=1.0, workers=workers, progress=progress)
        built.append(BuiltModality(name, len(stream.rows), tuple(store.bad), str(store.path)))
    return built


def _missing(stream: Stream, cache: Path) -> tuple[BadFile, ...]:
    """Return the files that are known to be bad without decoding."""
    return tuple(
        BadFile(found.row.sample, found.shown, stream.decoder.name, *found.problem)
        for found in survey(stream.rows, cache)
        if found.problem is not None
    )
