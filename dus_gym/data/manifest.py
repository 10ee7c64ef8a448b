"""The files that a data set is downloaded as, with a checksum for each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One file of a data set."""

    path: str
    """Its place relative to the data root, with slashes."""
    url: str
    """Pinned to a commit."""
    remote: str
    """Its path in the repository it comes from; archives and clones hold it under this name."""
    size: int
    """Bytes."""
    sha256: str

    @classmethod
    def of(cls, path: str, commit: str, remote: str, size: int, sha256: str) -> Entry:
        """Return the entry of the file ``remote`` below ``commit``, the URL of a repository at one commit."""
        return cls(path, commit + remote, remote, size, sha256)


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
