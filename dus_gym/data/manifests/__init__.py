"""What each data set that can be fetched consists of: one JSON file a data set, with a checksum for every file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from dus_gym.errors import unknown_name


@dataclass(frozen=True)
class Entry:
    """One file of a data set."""

    path: str
    """Where it goes, relative to the data root, with slashes."""
    url: str
    """Pinned to a commit."""
    remote: str
    """Its path in the repository it comes from; archives and clones hold it under this name."""
    size: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True)
class Archive:
    """One download that holds many entries. Hosts make such archives on demand, so their bytes have no checksum."""

    url: str
    most: int
    """Bytes it may have at most."""


@dataclass(frozen=True)
class Manifest:
    """A data set that can be fetched."""

    name: str
    title: str
    licence: str
    homepage: str
    entries: tuple[Entry, ...]
    archive: Archive | None = None

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return sum(entry.size for entry in self.entries)


def manifest_names() -> list[str]:
    """The data sets that can be fetched, sorted."""
    return sorted(f.name.removesuffix(".json") for f in files(__name__).iterdir() if f.name.endswith(".json"))


@cache
def read_manifest(name: str) -> Manifest:
    """The manifest of a data set.

    Raises:
        ConfigError: for a name without one; the message has the nearest.
    """
    names = manifest_names()
    if name not in names:
        raise unknown_name("data set to fetch", name, names)
    found = json.loads(files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8"))
    entries = tuple(
        Entry(
            path=path,
            url=part["base"] + part["folder"] + remote,
            remote=part["folder"] + remote,
            size=size,
            sha256=sha256,
        )
        for part in found["sources"]
        for path, remote, size, sha256 in part["files"]
    )
    archive = found.get("archive")
    return Manifest(
        name=name,
        title=found["title"],
        licence=found["licence"],
        homepage=found["homepage"],
        entries=entries,
        archive=None if archive is None else Archive(archive["url"], archive["most"]),
    )
