"""Keys: the digest of decoder and files, which names the folder of a store."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dus_gym.data.store.decoder import Decoder, Row
from dus_gym.errors import ConfigError

FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class SurveyedRow:
    """A row with the sizes and times of its files, which are not read."""

    row: Row
    files: tuple[tuple[str, Path], ...]
    """Every file of the row, folders opened: how it is told apart within the row, and where it is."""
    digest: bytes
    """Of sample, payload and each file's relative path, size and time; 16 bytes."""
    shown: str
    """The first path, relative to the cache, for reports."""
    problem: tuple[str, str] | None
    """Kind and message where a file is missing or empty."""


def canonical(value: Any) -> bytes:
    """Return JSON in one form only: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def survey(rows: Iterable[Row], root: Path) -> list[SurveyedRow]:
    """Return the rows with their files' sizes and times, sorted by sample, so that no order of a list matters.

    Args:
        rows: of one modality.
        root: what paths are made relative to, so that a data set and its cache can move together.

    Raises:
        ConfigError: for a sample without a name, or one that comes twice.
    """
    ordered = sorted(rows, key=lambda row: row.sample)
    previous = ""
    for row in ordered:
        if not row.sample or "\0" in row.sample:
            raise ConfigError(f"sample={row.sample!r} is not allowed; a sample's id is a text that is not empty.")
        if row.sample == previous:
            raise ConfigError(f"sample {row.sample!r} is listed more than once; ids must be unique in a data set.")
        previous = row.sample
    base = os.path.abspath(root)
    return [_surveyed(row, base) for row in ordered]


def _surveyed(row: Row, base: str) -> SurveyedRow:
    files: list[tuple[str, Path]] = []
    facts: list[list[Any]] = []
    problem: tuple[str, str] | None = None
    relatives = [os.path.relpath(os.path.abspath(path), base) for path in row.paths]
    for path, relative in zip(row.paths, relatives, strict=True):
        if path.is_dir():
            inside = sorted(child for child in path.rglob("*") if child.is_file())
            if not inside:
                problem = problem or ("empty", f"{path} is a folder without files")
            found = [(child.relative_to(path).as_posix(), child) for child in inside]
        else:
            # A name of its own does not make a file another one, its type may.
            found = [(path.suffix.lower(), path)]
        for name, file in found:
            where = relative if file is path else f"{relative}/{name}"
            try:
                status = file.stat()
            except OSError as error:
                problem = problem or ("missing", f"{file} is not there ({error.strerror})")
                facts.append([where, None, None])
                continue
            if status.st_size == 0:
                problem = problem or ("empty", f"{file} has no bytes")
            facts.append([where, status.st_size, status.st_mtime_ns])
        files += found
    digest = hashlib.sha256(canonical([row.sample, row.payload, facts])).digest()[:16]
    return SurveyedRow(row, tuple(files), digest, Path(relatives[0]).as_posix() if relatives else "", problem)


def content_of(source: SurveyedRow) -> bytes:
    """Return the SHA-256 of what the row's files hold, with the payload; rows alike in it share one array."""
    whole = hashlib.sha256(canonical([source.row.payload, len(source.files)]))
    for name, file in source.files:
        inner = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                inner.update(block)
        whole.update(canonical([name, inner.hexdigest()]))
    return whole.digest()


def recipe_of(dataset: str, decoder: Decoder) -> dict[str, Any]:
    """Return everything but the files that decides what is in a store.

    Raises:
        ConfigError: for names that can't name folders, parameters that are no JSON, libraries not installed.
    """
    for argument, name in (("dataset", dataset), ("decoder.name", decoder.name)):
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{argument}={name!r} is not allowed; letters, digits, '.', '_' and '-' name a folder.")
    try:
        parameters = json.loads(canonical(dict(decoder.parameters)))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"parameters of decoder {decoder.name!r} must be JSON values: {error}.") from error
    try:
        libraries = {name: version(name) for name in decoder.libraries}
    except PackageNotFoundError as error:
        raise ConfigError(f"decoder {decoder.name!r} needs {error.name}; pip install {error.name}") from error
    return {
        "format": FORMAT,
        "dataset": dataset,
        "decoder": decoder.name,
        "parameters": parameters,
        "libraries": libraries,
        "dtype": decoder.dtype,
        "fixed_shape": None if decoder.fixed_shape is None else list(decoder.fixed_shape),
    }


def key_of(recipe: dict[str, Any], sources: Iterable[SurveyedRow]) -> str:
    """Return the SHA-256 of recipe and files, in hex."""
    files = hashlib.sha256()
    for source in sources:
        files.update(source.digest)
    return hashlib.sha256(canonical({"recipe": recipe, "sources": files.hexdigest()})).hexdigest()
