"""Files a user already has, as a folder, a zip or a tar; nothing is ever unpacked to where a member says."""

from __future__ import annotations

import errno
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from dus_gym.errors import DatasetNotFoundError, DusError, FetchError, first_line

MOST_MEMBERS = 200_000
MOST_BYTES = 1 << 30
"""A member above a gibibyte belongs to no data set here; a small archive that holds one is a trap."""


class Files(Protocol):
    """Files that can be read by name."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Relative name with slashes to bytes."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """Open one file for reading."""
        ...


@dataclass(frozen=True)
class Folder:
    """A folder; links to other folders are not followed."""

    path: Path
    sizes: Mapping[str, int]

    def open(self, name: str) -> IO[bytes]:
        """Open one file for reading."""
        return (self.path / name).open("rb")


@dataclass(frozen=True)
class Zip:
    """A zip archive."""

    file: zipfile.ZipFile
    sizes: Mapping[str, int]

    def open(self, name: str) -> IO[bytes]:
        """Open one member for reading."""
        return self.file.open(name)


@dataclass(frozen=True)
class Tar:
    """A tar archive, compressed or not."""

    file: tarfile.TarFile
    sizes: Mapping[str, int]

    def open(self, name: str) -> IO[bytes]:
        """Open one member for reading."""
        found = self.file.extractfile(name)
        assert found is not None
        return found


@contextmanager
def open_files(path: Path) -> Iterator[Files]:
    """Open a folder or an archive as named files.

    Raises:
        DatasetNotFoundError: if nothing is there.
        FetchError: for a file that is no archive, and for an archive with a member that is absolute, leads out of
            it, is a link or a device, or is too large. Such an archive is refused whole.
    """
    if path.is_dir():
        yield Folder(path, dict(_walk(path)))
    elif not path.is_file():
        raise DatasetNotFoundError(f"source={path} is not there; give a folder, a .zip or a .tar that holds the files.")
    else:
        with _readable(path), ExitStack() as opened:
            if zipfile.is_zipfile(path):
                file = opened.enter_context(zipfile.ZipFile(path))
                yield Zip(file, _zip_sizes(path, file))
            elif tarfile.is_tarfile(path):
                tar = opened.enter_context(tarfile.open(path))
                yield Tar(tar, _tar_sizes(path, tar))
            else:
                raise FetchError(f"source={path} is neither a folder nor a zip or tar archive.")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except DusError:
        raise
    except Exception as error:
        # What the libraries raise over damaged archives is endless. An OSError with another number is the disk's:
        # a place before the file's beginning is an invalid argument.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise FetchError(f"source={path} can't be read ({first_line(error)}); get it again.") from error


def _walk(root: Path) -> Iterator[tuple[str, int]]:
    for folder, _, names in os.walk(root):
        for name in names:
            file = Path(folder, name)
            if file.is_file():
                yield file.relative_to(root).as_posix(), file.stat().st_size


def _zip_sizes(path: Path, file: zipfile.ZipFile) -> dict[str, int]:
    sizes = {}
    members = file.infolist()
    _check_count(path, len(members))
    for member in members:
        # The upper half of the attributes is the Unix mode, where there is one.
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(path, member.filename, "is a link or a device")
        _check_member(path, member.filename, member.file_size)
        if not member.is_dir():
            sizes[member.filename] = member.file_size
    return sizes


def _tar_sizes(path: Path, file: tarfile.TarFile) -> dict[str, int]:
    sizes = {}
    for count, member in enumerate(file, start=1):
        _check_count(path, count)
        if not (member.isfile() or member.isdir()):
            raise _refused(path, member.name, "is a link or a device")
        # Checked before the next header is looked for: getting there means unpacking this member.
        _check_member(path, member.name, member.size)
        if member.isfile():
            sizes[member.name] = member.size
    return sizes


def _check_count(path: Path, count: int) -> None:
    if count > MOST_MEMBERS:
        raise FetchError(f"source={path} is refused: it has more than {MOST_MEMBERS} members.")


def _check_member(path: Path, name: str, size: int) -> None:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ":" in parts[0] or "\0" in name:
        raise _refused(path, name, "is absolute")
    if ".." in parts:
        raise _refused(path, name, "leads out of the archive")
    if size > MOST_BYTES:
        raise _refused(path, name, f"has {size} bytes; at most {MOST_BYTES} are allowed")


def _refused(path: Path, name: str, why: str) -> FetchError:
    return FetchError(f"source={path} is refused: its member {name[:200]!r} {why}. Nothing was taken from it.")
