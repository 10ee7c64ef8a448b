"""Own data in arrays: a .npz file, or a folder with one .npy file an array. Never a pickle."""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np

from dus_gym.data.media.reading import read_array
from dus_gym.data.own.table import (
    SPLIT_WORDS,
    Array,
    Table,
    check_names,
    check_samples,
    class_ids,
    plain_labels,
    split_names,
)
from dus_gym.errors import ConfigError, MediaError, first_line

LABELS = ("labels", "y")
SPLIT = "split"
MOST_SMALL, MOST_RATIO = 1 << 30, 100
"""A .npz file may unpack to a gibibyte, or to 100 times its own size: more is a trap, or nothing but zeros."""


def is_arrays(path: Path) -> bool:
    """Return whether a path is a file of arrays, or a folder of them."""
    return path.is_file() or any(path.glob("*.npy"))


def read_arrays(path: Path) -> Table:
    """Return the table of a .npz file or a folder of .npy files; kept until another is read or the files change.

    One array per modality, ``labels`` (or ``y``), and if there are splits either ``split`` or one set of arrays for
    each, named ``train_…``, ``test_…`` and perhaps ``validation_…``.

    Raises:
        ConfigError: naming the array that can't be used, and what to do.
    """
    files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
    return _read(path, tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=1)
def _read(path: Path, files: tuple[tuple[Path, int, int], ...]) -> Table:
    arrays = {file.stem: _load(file) for file, _, _ in files} if path.is_dir() else _load_npz(path)
    return _by_split(arrays, path) if _has_prefixes(arrays) else _whole(arrays, path)


def _load_npz(path: Path) -> dict[str, Array]:
    if path.suffix != ".npz":
        raise ConfigError(f"data={path} is not allowed; give a .npz file (numpy.savez), or a folder.")
    try:
        _check_members(path)
        with np.load(path, allow_pickle=False) as found:
            return {name: _array(found, name, path) for name in found.files}
    except ConfigError:
        raise
    except Exception as error:  # damaged archives make NumPy and zipfile raise all kinds of errors
        raise ConfigError(f"{path} is no .npz file ({first_line(error)}); write it with numpy.savez.") from error


def _check_members(path: Path) -> None:
    """Refuse an archive that unpacks to more than it may, and arrays of another length than their header says.

    Raises:
        ConfigError: naming the member.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        unpacked, most = sum(member.file_size for member in members), max(MOST_SMALL, MOST_RATIO * path.stat().st_size)
        if unpacked > most:
            raise ConfigError(
                f"{path} has {path.stat().st_size} bytes and unpacks to {unpacked}; at most {most} are unpacked. Save "
                "it with numpy.savez in place of numpy.savez_compressed, or as a folder of .npy files."
            )
        for name in [name for name, count in Counter(member.filename for member in members).items() if count > 1]:
            raise ConfigError(f"{path} holds {name!r} more than once; give each array a name of its own.")
        for member in members:
            name = member.filename.removesuffix(".npy")
            try:
                with archive.open(member) as stream:
                    length = _length(stream)
            except Exception as error:
                raise _not_plain(name, path, first_line(error)) from error
            if length not in (None, member.file_size):
                raise _not_plain(name, path, f"{length} bytes by its header, and {member.file_size} are there")


def _length(stream: IO[bytes]) -> int | None:
    """Return the bytes that a .npy file has by its header; None for one of objects, whose length it does not tell."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return None if dtype.hasobject else stream.tell() + math.prod(shape) * dtype.itemsize


def _array(found: Mapping[str, Array], name: str, path: Path) -> Array:
    try:
        return found[name]
    except Exception as error:
        raise _not_plain(name, path, first_line(error)) from error


def _load(file: Path) -> Array:
    try:
        return np.array(read_array(file))
    except MediaError as error:
        raise _not_plain(file.stem, file, error.message) from error


def _not_plain(name: str, path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"array {name!r} in {path} can't be read without running code of its own, or is damaged ({why}). Object "
        "arrays are refused: save numbers or text of one shape, such as numpy.asarray(x, numpy.float32), or "
        "x.toarray() of a sparse matrix."
    )


def _has_prefixes(arrays: Mapping[str, Array]) -> bool:
    return any(f"train_{name}" in arrays for name in LABELS)


def _labels_of(arrays: Mapping[str, Array], path: Path, prefix: str = "") -> tuple[str, Array]:
    names = [prefix + name for name in LABELS if prefix + name in arrays]
    if len(names) != 1:
        raise ConfigError(
            f"{path} has {'both ' + ' and '.join(names) if names else 'no labels'}; one array must be called "
            f"{prefix + LABELS[0]!r}{'' if prefix else ' (or one set for each split: train_labels, test_labels)'}. "
            f"It holds {', '.join(sorted(arrays)) or 'nothing'}."
        )
    labels = arrays[names[0]]
    if labels.ndim != 1:
        raise ConfigError(
            f"array {names[0]!r} in {path} has shape {labels.shape}; labels are one class per sample, shape (n,). "
            f"{_label_advice(labels)}"
        )
    return names[0], plain_labels(labels, f"array {names[0]!r} in {path}")


def _label_advice(labels: Array) -> str:
    """Return what to save in the place of labels that are not ``(n,)``; works when it is followed."""
    if labels.ndim and labels.size and max(labels.shape) == labels.size:
        return "Save labels.ravel()."
    if labels.ndim == 2 and labels.dtype.kind in "biuf" and labels.size and np.isin(labels, (0, 1)).all():
        if (labels.sum(axis=1) == 1).all():
            return "These are one-hot rows: save labels.argmax(1)."
        return (
            "Rows with several ones, or none, are several classes per sample, which no task here has; choose one each."
        )
    return "Save one number or word per sample."


def _whole(arrays: Mapping[str, Array], path: Path) -> Table:
    """Return all samples in one set of arrays."""
    name, labels = _labels_of(arrays, path)
    ids, classes = class_ids(labels, f"array {name!r} in {path}")
    samples = {key: array for key, array in arrays.items() if key not in (name, SPLIT)}
    check_names(list(samples), str(path))
    for key, array in samples.items():
        check_samples(key, array, len(ids), str(path))
    splits = None
    if SPLIT in arrays:
        words = plain_labels(arrays[SPLIT], f"array 'split' in {path}")
        if words.shape != ids.shape:
            raise ConfigError(f"array 'split' in {path} has shape {words.shape} and the labels {ids.shape}; one each.")
        splits = split_names(words.tolist(), f"array 'split' in {path}")
    return Table(samples, ids, classes, splits)


def _by_split(arrays: Mapping[str, Array], path: Path) -> Table:
    """Return one set of arrays per split, told apart by the prefix of their names."""
    sets: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        prefix, _, rest = name.partition("_")
        if prefix not in SPLIT_WORDS or not rest:
            raise ConfigError(
                f"array {name!r} in {path} belongs to no split, and others do; name it train_{name} (and test_{name}), "
                "or give all samples in one set of arrays with an array 'split'."
            )
        sets.setdefault(SPLIT_WORDS[prefix], {})[rest] = array
    names = {split: sorted(set(found) - set(LABELS)) for split, found in sets.items()}
    for split, theirs in names.items():
        if theirs != names["train"]:
            raise ConfigError(
                f"{path} has the modalities {', '.join(names['train'])} to train and {', '.join(theirs) or 'none'} in "
                f"{split}; every split needs all of them."
            )
    check_names(names["train"], str(path))
    labels = {split: _labels_of(found, path)[1] for split, found in sets.items()}
    for split, found in sets.items():
        for name in names["train"]:
            check_samples(f"{split}_{name}", found[name], len(labels[split]), str(path))
            if found[name].shape[1:] != sets["train"][name].shape[1:]:
                raise ConfigError(
                    f"array '{split}_{name}' in {path} has samples of shape {found[name].shape[1:]}, and "
                    f"'train_{name}' of {sets['train'][name].shape[1:]}; they must be alike."
                )
    if len({found.dtype.kind for found in labels.values()}) > 1:
        kinds = ", ".join(f"{'text' if found.dtype.kind == 'U' else 'numbers'} in {s}" for s, found in labels.items())
        raise ConfigError(f"{path} has labels that are {kinds}; save all as text, or all as numbers.")
    ids, classes = class_ids(np.concatenate(list(labels.values())), f"the labels in {path}")
    words = [split for split, found in labels.items() for _ in range(len(found))]
    samples = {name: np.concatenate([found[name] for found in sets.values()]) for name in names["train"]}
    return Table(samples, ids, classes, split_names(words, str(path)))
