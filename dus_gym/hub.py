"""Files on the Hugging Face hub: their addresses, and the way there and back.

``hf://OWNER/NAME/FILE`` is a file of a model repository, ``hf://OWNER/NAME@REVISION/FILE`` one at a branch, tag or
commit, ``hf://datasets/OWNER/NAME/FILE`` one of a dataset repository: the addresses of ``huggingface_hub``'s own
``HfFileSystem``. ``HF_ENDPOINT``, ``HF_HOME``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` mean what they mean to that library.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from dus_gym.errors import ConfigError, FetchError, NotOnHubError, check_choice, first_line

SCHEME = "hf://"
KINDS = ("model", "dataset")
"""Kinds of repositories."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_address(word: object) -> bool:
    """Return whether a word is the address of a file on the hub."""
    return isinstance(word, str) and word.startswith(SCHEME)


@dataclass(frozen=True)
class HubFile:
    """A file on the hub.

    Args:
        repo_id: ``OWNER/NAME``.
        filename: its path in the repository.
        revision: a branch, a tag or a commit; None: the newest commit of ``main``.
        kind: of the repository, one of :data:`KINDS`.

    Raises:
        ConfigError: for a repository or a path that can't be.
    """

    repo_id: str
    filename: str
    revision: str | None = None
    kind: str = "model"

    def __post_init__(self) -> None:
        check_repo(self.repo_id)
        check_choice("kind", self.kind, KINDS)
        if not isinstance(self.filename, str) or not {"", ".", ".."}.isdisjoint(self.filename.split("/")):
            raise ConfigError(f"filename={self.filename!r} is not allowed; give a path in the repository.")
        if self.revision is not None and not (isinstance(self.revision, str) and self.revision):
            raise ConfigError(f"revision={self.revision!r} is not allowed; give a branch, a tag or a commit.")

    @classmethod
    def of(cls, address: str, filename: str) -> HubFile:
        """Read an address.

        Args:
            address: see the module. A slash in a revision is written ``%2F``.
            filename: the file where the address names a repository only.

        Raises:
            ConfigError: for an address of another form.
        """
        path = address.removeprefix(SCHEME)
        kind = "dataset" if path.startswith("datasets/") else "model"
        owner, _, rest = path.removeprefix("datasets/").partition("/")
        name, _, inside = rest.partition("/")
        name, at, revision = name.partition("@")
        try:
            return cls(f"{owner}/{name}", inside or filename, unquote(revision) if at else None, kind)
        except ConfigError as error:
            raise ConfigError(f"{address!r} is no address on the hub ({error}) Write {SCHEME}OWNER/NAME/FILE or "
                              f"{SCHEME}OWNER/NAME@REVISION/FILE.") from None  # fmt: skip

    def __str__(self) -> str:
        """The address."""
        at = "" if self.revision is None else f"@{quote(self.revision, safe='')}"
        return f"{SCHEME}{'datasets/' if self.kind == 'dataset' else ''}{self.repo_id}{at}/{self.filename}"


def check_repo(repo_id: str) -> None:
    """Raise ConfigError unless ``repo_id`` has the form ``OWNER/NAME``."""
    if not isinstance(repo_id, str) or not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise ConfigError(f"repo_id={repo_id!r} is not allowed; write OWNER/NAME.")


@dataclass(frozen=True)
class Fetched:
    """A copy of a file on the hub."""

    path: Path
    """Where the copy lies, in the library's cache."""
    commit: str
    """The commit that it is of, 40 hexadecimal digits."""


_fetched: dict[tuple[HubFile, str | None], Fetched] = {}
"""What this process has fetched: a run asks for its policy several times, and is to get the same one each time."""


def fetch(file: HubFile, most_bytes: int, *, again: bool = False) -> Fetched:
    """Return a copy of a file; where the hub can't be reached, the copy of an earlier call.

    Args:
        file: which.
        most_bytes: a larger file is refused before it is fetched.
        again: ask the hub although this process has fetched the file already.

    Raises:
        NotOnHubError: if there is no such repository, revision or file, or none for whoever asks.
        ConfigError: if the file is too large, or ``huggingface_hub`` is not installed.
        FetchError: if the hub can't be reached and there is no earlier copy, or the hub says no.
    """
    key = (file, _endpoint())
    if again or key not in _fetched:
        _fetched[key] = _fetch(file, most_bytes)
    return _fetched[key]


def _fetch(file: HubFile, most_bytes: int) -> Fetched:
    hub = _library()
    place: dict[str, Any] = {"repo_id": file.repo_id, "filename": file.filename, "repo_type": file.kind}
    place["revision"] = file.revision
    kept = isinstance(hub.try_to_load_from_cache(**place), str) if _is_commit(file.revision) else False
    unreachable: Exception | None = None
    with _as_ours(str(file), hub):
        if not kept:
            try:
                url = hub.hf_hub_url(**place, endpoint=_endpoint())
                _check_size(file, hub.get_hf_file_metadata(url).size, most_bytes)
            except (hub.errors.EntryNotFoundError, hub.errors.RevisionNotFoundError, ConfigError):
                raise
            # Which errors stand for a hub that is away depends on the library below the library.
            except Exception as error:
                if _status(error) in (401, 403, 404):
                    raise
                unreachable = error
        try:
            path = Path(hub.hf_hub_download(**place, endpoint=_endpoint(), local_files_only=bool(kept or unreachable)))
        except hub.errors.LocalEntryNotFoundError as error:
            raise FetchError(
                f"{file} can't be fetched: {_where()} is not reachable ({first_line(unreachable or error)}), and there "
                "is no copy from an earlier time; check the connection, HF_ENDPOINT and HF_HUB_OFFLINE."
            ) from error
    # Not every server says how large a file is.
    _check_size(file, path.stat().st_size, most_bytes)
    return Fetched(path, _commit_of(path, file.filename))


def _commit_of(path: Path, filename: str) -> str:
    """Return the commit of a copy: the library keeps one at ``snapshots/COMMIT/FILENAME``."""
    return path.parts[-1 - len(filename.split("/"))]


def _check_size(file: HubFile, size: int | None, most_bytes: int) -> None:
    if size is not None and size > most_bytes:
        raise ConfigError(
            f"{file} has {size:,} bytes, and at most {most_bytes:,} are read here; name another file, or fetch it "
            "yourself and give its path."
        )


def send(
    files: Mapping[str, bytes],
    repo_id: str,
    message: str,
    *,
    kind: str = "model",
    revision: str | None = None,
    private: bool = False,
    parent: str | None = None,
) -> str:
    """Put files into a repository as one commit; the repository and the branch are made if they are not there.

    Args:
        files: path in the repository to content; what was there is replaced.
        repo_id: ``OWNER/NAME``.
        message: of the commit.
        kind: of the repository, one of :data:`KINDS`.
        revision: the branch; None: ``main``.
        private: makes a new repository private; one that is there stays as it is.
        parent: the commit that the branch must still be at.

    Returns:
        The commit, 40 hexadecimal digits.

    Raises:
        ConfigError: for a repository that can't be, or if ``huggingface_hub`` is not installed.
        FetchError: if the hub can't be reached, or says no.
    """
    check_repo(repo_id)
    hub = _library()
    api = hub.HfApi(endpoint=_endpoint())
    with _as_ours(f"{SCHEME}{repo_id}", hub, sending=True):
        api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, repo_type=kind, exist_ok=True)
        operations = [hub.CommitOperationAdd(path, content) for path, content in files.items()]
        found = api.create_commit(
            repo_id, operations, commit_message=message, repo_type=kind, revision=revision, parent_commit=parent
        )
    _fetched.clear()
    return str(found.oid)


def _library() -> Any:
    """Import ``huggingface_hub``.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ModuleNotFoundError as error:
        raise ConfigError(
            'the Hugging Face hub needs huggingface_hub, which is not installed: pip install "dus-gym[hub]".'
        ) from error
    return huggingface_hub


def _endpoint() -> str | None:
    """Return the server, None for the library's own; the library reads the variable only when it is imported."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _where() -> str:
    return _endpoint() or "the Hugging Face hub"


def _is_commit(revision: str | None) -> bool:
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def _status(error: BaseException) -> int | None:
    """Return the status of a server's answer; None if there was none."""
    return getattr(getattr(error, "response", None), "status_code", None)


@contextmanager
def _as_ours(what: str, hub: Any, sending: bool = False) -> Iterator[None]:
    """Raise the library's errors as ours, in one line each, and show none of its progress bars."""
    bars = hub.utils.are_progress_bars_disabled()
    if not bars:
        hub.utils.disable_progress_bars()
    try:
        yield
    except (ConfigError, FetchError):
        raise
    except hub.errors.HFValidationError as error:
        raise ConfigError(f"{what} is no name of the hub ({first_line(error)}).") from error
    except Exception as error:
        raise _ours(what, error, hub, sending) from error
    finally:
        if not bars:
            hub.utils.enable_progress_bars()


def _ours(what: str, error: Exception, hub: Any, sending: bool) -> Exception:
    """Return our error for one of the library's or of what it is built on."""
    errors, status = hub.errors, _status(error)
    if not sending:
        if isinstance(error, errors.RevisionNotFoundError):
            return NotOnHubError(f"{what}: the repository has no such revision; name a branch, a tag or a full commit.")
        if isinstance(error, errors.EntryNotFoundError):
            return NotOnHubError(f"{what}: the repository has no such file at this revision; look for its name there.")
        if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404):
            return NotOnHubError(
                f"{what}: {_where()} has no such repository, or not for you; check OWNER/NAME, and log in where it is "
                "private or gated (hf auth login, or HF_TOKEN)."
            )
    elif status in (401, 403, 404):
        return FetchError(
            f"{what}: {_where()} lets you write nothing there (HTTP {status}); check OWNER/NAME, and log in by a token "
            "that may write (hf auth login, or HF_TOKEN)."
        )
    elif status in (409, 412):
        return FetchError(f"{what} was changed by somebody else in between (HTTP {status}); do it again.")
    does = "take files" if sending else "give the file"
    return FetchError(f"{what}: {_where()} did not {does} ({first_line(error)}); try again later.")
