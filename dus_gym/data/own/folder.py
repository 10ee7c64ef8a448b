"""Own data in a folder of media: one sub-folder a modality, and ``labels.csv``."""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dus_gym.data.own.decoders import ARRAYS, PICTURES, SOUNDS, TEXTS, ArrayFile, Picture, Sound, Text, load_plain
from dus_gym.data.own.table import Array, Table, check_names, class_ids, split_names
from dus_gym.data.store import Decoder, Row, Store
from dus_gym.data.store.split import without_bad
from dus_gym.errors import ConfigError, MediaError
from dus_gym.json_text import read_json

LIST = "labels.csv"
KINDS = {"picture": PICTURES, "sound": SOUNDS, "array": ARRAYS, "text": TEXTS}


@dataclass(frozen=True, eq=False)
class Folder:
    """A media folder as its list and its names describe it; no media file was opened."""

    root: Path
    samples: tuple[str, ...]
    labels: Array
    """Shape ``(n,)``, from 0."""
    classes: tuple[str, ...]
    splits: tuple[str, ...] | None
    kinds: dict[str, str]
    """Modality to a key of :data:`KINDS`."""
    rows: dict[str, list[Row]]
    """Modality to one row per sample, in the order of the list; of a file that is missing, where it was expected."""

    @property
    def decoded(self) -> dict[str, str]:
        """Modalities whose decoder gives ``(channels, height, width)``."""
        return {name: "CHW" for name, kind in self.kinds.items() if kind in ("picture", "sound")}


def read_folder(root: Path) -> Folder:
    """Read the list and the files of a media folder.

    ``labels.csv`` has a header with ``sample,label`` and perhaps ``split``; the sample ``a7`` is the file ``a7.jpg``,
    ``a7.wav``, ``a7.npy`` or ``a7.txt`` of each sub-folder.

    Raises:
        ConfigError: for a list of another form, fewer than two modalities, or a sub-folder of mixed files.
    """
    path = root / LIST
    rows = _lines(path)
    samples = [row["sample"] for row in rows]
    if repeated := [sample for sample, count in Counter(samples).items() if count > 1]:
        raise ConfigError(f"{path} lists sample {repeated[0]!r} more than once; give each sample one line.")
    labels, classes = class_ids(np.array([row["label"] for row in rows]), f"column 'label' of {path}")
    splits = None
    if "split" in rows[0]:
        splits = split_names([row["split"] for row in rows], f"column 'split' of {path}")
    names = modality_folders(root)
    check_names(names, str(root))
    kinds, found = {}, {}
    for name in names:
        kinds[name], found[name] = _files(root / name, samples)
    return Folder(root, tuple(samples), labels, classes, splits, kinds, found)


def modality_folders(root: Path) -> list[str]:
    """Return the sub-folders of a media folder that may be modalities: neither hidden nor of runs."""
    return sorted(
        child.name
        for child in root.iterdir()
        if child.is_dir() and not child.name.startswith(".") and not _holds_runs(child)
    )


def _holds_runs(folder: Path) -> bool:
    """Return whether a folder is the output of our commands, such as ``runs`` when they are called in the data."""
    for depth in range(4):
        for config in folder.glob("*/" * depth + "config.json"):
            try:
                found = read_json(config.read_bytes())
            except (OSError, ValueError):
                continue
            if isinstance(found, dict) and found.get("written_by") == "dus-gym":
                return True
    # A run that was killed before it wrote anything is folders and a lock.
    inside = list(islice(folder.rglob("*"), 100))
    return len(inside) > 0 and all(path.is_dir() or path.name == ".lock" for path in inside)


def _lines(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            # Spaces around a word are no part of it: "sad " is the class "sad".
            rows = [{key: _stripped(value) for key, value in row.items()} for row in reader]
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path} is not there; it lists the samples, with the header sample,label (and split if there are any). "
            "A folder of arrays holds labels.npy instead."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} is no csv file in UTF-8 ({error}).") from error
    if not rows:
        raise ConfigError(f"{path} lists no samples; give a line each below the header sample,label.")
    for number, row in enumerate(rows, start=2):
        for column in ("sample", "label"):
            if not row.get(column):
                raise ConfigError(
                    f"{path}, line {number}, has nothing in column {column!r}; its columns are "
                    f"{', '.join(map(repr, row))}, and sample and label are needed."
                )
        if None in row or None in row.values():
            raise ConfigError(f"{path}, line {number}, has not as many columns as the header.")
    return rows


def _stripped(value: Any) -> Any:
    """Return the text of a cell without the spaces around it; the list of cells beyond the header as it is."""
    return value.strip() if isinstance(value, str) else value


def _files(folder: Path, samples: Sequence[str]) -> tuple[str, list[Row]]:
    """Return what kind of media a sub-folder holds, and the file of each sample."""
    kind_of = {ending: kind for kind, endings in KINDS.items() for ending in endings}
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in kind_of:
            sample = _composed(path.relative_to(folder).with_suffix("").as_posix())
            if sample in found:
                raise ConfigError(f"{path} and {found[sample].name} are both sample {sample!r}; remove one.")
            found[sample] = path
    kinds = Counter(kind_of[path.suffix.lower()] for path in found.values())
    if len(kinds) != 1:
        endings = ", ".join(ending for endings in KINDS.values() for ending in endings)
        what = f"files of {len(kinds)} kinds ({', '.join(sorted(kinds))})" if kinds else "no file that can be read"
        raise ConfigError(f"{folder} holds {what}; a modality is a folder of files of one kind, among {endings}.")
    ending = next(iter(found.values())).suffix
    rows = [Row(sample, (found.get(_composed(sample), folder / f"{sample}{ending}"),)) for sample in samples]
    return next(iter(kinds)), rows


def _composed(name: str) -> str:
    """Return a name in one spelling: some systems store é as two characters, and lists have it as one."""
    return unicodedata.normalize("NFC", name)


def decoder_of(folder: Folder, name: str, picture_size: int, seconds: float) -> Decoder:
    """Return how the files of one modality are read.

    Raises:
        ConfigError: for arrays of which none can be read.
    """
    kind = folder.kinds[name]
    if kind == "picture":
        return Picture(name, picture_size)
    if kind == "sound":
        return Sound(name, seconds)
    return Text(name) if kind == "text" else ArrayFile(name, _first_shape(folder.rows[name], folder.root / name))


def _first_shape(rows: Sequence[Row], where: Path) -> tuple[int, ...]:
    """Return the shape of the first array that can be read: all others must have it too."""
    for row in rows:
        try:
            found = load_plain(row.paths[0])
        except MediaError:
            continue  # the store reports it, with all others, and does what on_error says
        return found.shape or (1,)
    raise ConfigError(f"{where} holds no .npy file of numbers that can be read.")


def gathered(folder: Folder, stores: dict[str, Store]) -> Table:
    """Return the samples that every store can deliver, in memory."""
    kept = without_bad(folder.samples, list(stores.values()))
    samples = [folder.samples[i] for i in kept]
    splits = None if folder.splits is None else tuple(folder.splits[i] for i in kept)
    dropped = Counter(
        "train" if folder.splits is None else folder.splits[i]
        for i in sorted(set(range(len(folder.samples))) - {*kept})
    )
    modalities: dict[str, Array] = {}
    for name, store in stores.items():
        arrays = store.gather(samples)
        if isinstance(arrays, list):
            # Objects, because text of one width would take the longest text's memory for each. Substitutes are zeros.
            texts = [bytes(array).decode("utf-8-sig").strip("\0") for array in arrays]
            modalities[name] = np.array(texts, dtype=object)
        else:
            modalities[name] = arrays
    return Table(modalities, folder.labels[kept], folder.classes, splits, dict(dropped), folder.decoded)
