"""One folder a run: its settings, one line a step, a checkpoint, a summary. The folder is the truth.

config.json             what was asked for; decides whether a run may be resumed here
steps.jsonl             one JSON object a step, in order
checkpoint.safetensors  everything a continuation needs; replaced whole
together.safetensors    in its place for runs that train as one computation: in the folder of the first, of all of them
model.safetensors       the evaluated model's weights, and its method's state
summary.json            written last: a folder with one is finished
policy.safetensors      what the agent has learned, if it learns; policy.zip of stable-baselines3
curves.png              scores and batch sizes over time
probe.json              written by ``dus probe``
report.html             written by ``dus report``
tensorboard/, wandb/    written by ``--log``
.lock                   there while a process writes the run
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dus_gym.errors import CheckpointError, RunFolderError, RunWriteError
from dus_gym.experiments.results import FORMAT, Result, RunHead, StepHead
from dus_gym.experiments.serialize import from_json
from dus_gym.json_text import read_json
from dus_gym.lock import FileLock, LockHeldError
from dus_gym.state import load_state, save_state, write_atomically

LOCK = ".lock"
"""There while a process writes the folder."""
CONFIG, STEPS, SUMMARY = "config.json", "steps.jsonl", "summary.json"
CHECKPOINT, MODEL, PICTURE = "checkpoint.safetensors", "model.safetensors", "curves.png"
COMPARISON = "comparison.json"
"""The result of a comparison, beside the config that names its runs; they lie beneath, AGENT/seedN."""
POLICY = "policy"
"""Stem of what a learner leaves: ``policy.safetensors``, or ``policy.zip`` of stable-baselines3."""
PROBE, REPORT, TENSORBOARD, WANDB = "probe.json", "report.html", "tensorboard", "wandb"
TOGETHER = "together.safetensors"
"""The checkpoint of runs that train as one computation, in the folder of the first."""
SEARCH, CEILING, CEILING_PICTURE = "search.json", "ceiling.json", "ceiling.png"
"""A ceiling's search after each generation, its outcome, and its picture; the comparison lies in ``compare/``."""
_OURS = {CONFIG, STEPS, SUMMARY, CHECKPOINT, TOGETHER, MODEL, PICTURE, COMPARISON, PROBE, REPORT, TENSORBOARD}
_OURS |= {WANDB, SEARCH, CEILING, CEILING_PICTURE, f"{POLICY}.safetensors", f"{POLICY}.zip"}
LONGEST_NAME = 100
"""Characters of a folder's name that are an agent's name and options, or that of own data."""
NOT_REPRODUCIBLE = ("seconds", "agent_seconds", "peak_memory_mib", "peak_device_memory_mib", "graphs")
"""Of a summary: what a second run of the same settings may say otherwise. All else is the same to the bit."""


def as_json(value: Any) -> bytes:
    """Readable JSON with a final newline; NaN and infinity are refused."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


MARK = {"written_by": "dus-gym", "format": FORMAT}
"""What tells our config.json from anybody else's: only a folder that has it is ever replaced."""
MAY_DIFFER = frozenset({"data_root", "data_name", "policy", "run.device", "run.checkpointing", "run.graphs", "format"})
"""Settings that may differ between a run and its resumption: places of files, the device, memory, an older format."""
MEND = "delete that run (dus runs rm) and run it again."
"""The way out of a damaged run."""
SET = "settings."
"""Prefix of the settings that were set; ``run`` has all of them, and one set to its default is the same run."""


_TEMPORARY = re.compile(rf"\.(?P<name>{'|'.join(map(re.escape, sorted(_OURS | {LOCK})))})\.[\w-]+")
"""A file that was to be renamed when it was whole; ``.lock``'s are made while it is taken."""


def lock(path: Path) -> FileLock:
    """Hold a folder, so that no second process writes to it, and delete what killed writers left half-written.

    Release it when done.

    Raises:
        RunFolderError: if a living process holds it; the message names the process.
    """
    try:
        held = FileLock(path / LOCK).take()
    except LockHeldError as error:
        raise held_by(path, str(error)) from error
    for entry in path.iterdir():
        found = _TEMPORARY.fullmatch(entry.name)
        # Reports and probes are written without the lock, and the lock's own files by those who wait for it.
        if found is not None and found["name"] not in (REPORT, PROBE, LOCK):
            entry.unlink(missing_ok=True)
    return held


def held_by(path: Path, who: str) -> RunFolderError:
    """The error for a folder that somebody else writes."""
    return RunFolderError(f"out={path} is being written by {who}; wait until it ends, or give another folder.")


def writer(path: Path) -> str | None:
    """The living process that writes to a folder, in words; None if there is none."""
    return FileLock(path / LOCK).holder()


def listing(path: Path) -> list[str]:
    """Names in a folder but for the lock's and those of files that a kill left half-written; none if it is not there.

    Raises:
        RunFolderError: if it is a file.
    """
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"out={path} is a file; give a folder.")
    names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    return [name for name in names if name != LOCK and not _TEMPORARY.fullmatch(name)]


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object that this tool wrote.

    Raises:
        RunFolderError: if it is damaged, or of a newer format.
    """
    found = _object(file)
    written = found.get("format", 1)
    if found.get("written_by", MARK["written_by"]) == MARK["written_by"] and (
        type(written) is not int or written != FORMAT
    ):
        if type(written) is not int or written < 1:
            raise RunFolderError(f"{file} is damaged (format {written!r}); {MEND}")
        raise RunFolderError(
            f"{file} has format {written}; this version reads up to {FORMAT}. Install a newer dus-gym, "
            "or give another folder."
        )
    return found


def _object(file: Path) -> dict[str, Any]:
    """A JSON object of any format."""
    try:
        found = read_json(file.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except IsADirectoryError as error:
        raise RunFolderError(f"{file} is a folder and should be a file; give another folder.") from error
    except ValueError as error:
        raise RunFolderError(f"{file} is damaged ({error}); {MEND}") from error
    return found


def is_ours(path: Path, command: str | None = None) -> bool:
    """Return whether a folder holds something this tool wrote (with ``command``, if it is given).

    A damaged config beside nothing but our own files counts: a kill may have left it.
    """
    try:
        config = _object(path / CONFIG)
    except OSError:
        # Missing, or damaged: RunFolderError is an OSError too.
        names = listing(path)
        return command is None and bool(names) and all(name in _OURS for name in names)
    return config.get("written_by") == MARK["written_by"] and command in (None, config.get("command"))


def holds_runs(config: Mapping[str, Any]) -> bool:
    """Return whether a folder's config is that of many runs below it, a comparison or a reproduction."""
    # A reproduction's runs name its command too, but each has its environment.
    return "agents" in config or (config.get("command") == "reproduce" and "env" not in config)


def holds_ceiling(path: Path) -> bool:
    """Return whether a folder is that of ``dus ceiling``, finished or not; the runs in it are a comparison's."""
    return (path / SEARCH).is_file() or (path / CEILING).is_file()


def clear(path: Path) -> None:
    """Deletes a run's files, its config last, so that a kill in between leaves a folder that is still ours."""
    for name in sorted(os.listdir(path), key=lambda name: (name == CONFIG, name != SUMMARY)):
        if name in _OURS or (name != LOCK and _TEMPORARY.fullmatch(name)):
            if (path / name).is_dir() and not (path / name).is_symlink():
                shutil.rmtree(path / name)
            else:
                (path / name).unlink()


@contextmanager
def writing(file: Path, then: str = "go on with --resume") -> Iterator[None]:
    """Say which file could not be written, that nothing is lost, and what to do ``then``.

    Raises:
        RunWriteError: for any trouble of the file system.
    """
    try:
        yield
    except OSError as error:
        raise RunWriteError(
            f"{file} can't be written ({error.strerror or error}); everything before it is still there: "
            f"make room, then {then}."
        ) from error


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


class RunFolder:
    """A run folder that this process alone writes; use :meth:`create` or :meth:`resume`, then :meth:`close`.

    ``with RunFolder.create(...) as folder:`` closes it.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], held: FileLock) -> None:
        self.path = path
        self.config = dict(config)
        self._held = held
        self._steps: io.FileIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any], *, force: bool = False) -> RunFolder:
        """A new folder for a new run.

        Args:
            path: must not exist, or be empty, unless ``force``.
            config: JSON-able settings.
            force: deletes a run that is there. Anything that is not a run is never deleted.

        Raises:
            RunFolderError: if the folder holds something that may not be overwritten, or another process writes it.
        """
        try:
            if path.is_dir() and (who := writer(path)):
                raise held_by(path, who)
            _check_free(path, force)
            held = lock(path)
            try:
                # Again: another process may have begun a run here since.
                if _check_free(path, force):
                    clear(path)
                folder = cls(path, MARK | dict(config), held)
                write_atomically(path / CONFIG, as_json(folder.config))
            except BaseException:
                held.release()
                raise
        except (OSError, ValueError) as error:
            if isinstance(error, RunFolderError):
                raise
            raise RunFolderError(f"out={path} can't be used ({error}); give another folder.") from error
        return folder

    @classmethod
    def resume(cls, path: Path, config: Mapping[str, Any]) -> RunFolder:
        """The folder of a run that was begun with the same settings.

        Raises:
            RunFolderError: if there is no run, one of other settings (named), or one that another process writes.
        """
        if not (path / CONFIG).is_file():
            raise RunFolderError(f"out={path} holds no run to resume; leave out --resume to start one.")
        check_same(path, read_object(path / CONFIG), json.loads(as_json(MARK | dict(config))))
        return cls(path, MARK | dict(config), lock(path))

    # -- steps -------------------------------------------------------------------------------------

    def add_step(self, record: Mapping[str, Any]) -> None:
        """Appends one line to ``steps.jsonl``."""
        line = memoryview((json.dumps(record, allow_nan=False) + "\n").encode())
        with writing(self.path / STEPS):
            if self._steps is None:
                # Without a buffer: what a full disk refused must not be tried again when the file is closed.
                self._steps = io.FileIO(self.path / STEPS, "a")
            while line:
                line = line[self._steps.write(line) :]

    def steps(self) -> Iterator[dict[str, Any]]:
        """The whole lines of ``steps.jsonl``; a last line cut off by a kill is left out."""
        return read_steps(self.path)

    def keep_steps(self, count: int) -> None:
        """Drops the lines after the first ``count``: what a killed run wrote after its last checkpoint."""
        kept = [record for record, _ in zip(self.steps(), range(count), strict=False)]
        if len(kept) < count:
            raise CheckpointError(
                f"{self.path / STEPS} has {len(kept)} steps and the checkpoint is at step {count}; "
                f"the folder is damaged, {MEND}"
            )
        text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in kept)
        write_atomically(self.path / STEPS, text.encode())

    # -- checkpoint, model, summary ----------------------------------------------------------------

    def flush_steps(self) -> None:
        """Put the steps that were added on disk."""
        if self._steps is not None:
            with writing(self.path / STEPS):
                os.fsync(self._steps.fileno())

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Replaces the checkpoint; the steps it counts are on disk before it is."""
        self.flush_steps()
        with writing(self.path / CHECKPOINT):
            save_state(self.path / CHECKPOINT, "checkpoint", state)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, or None if the run was killed before its first.

        Raises:
            CheckpointError: if it is damaged or a pickle.
        """
        path = self.path / CHECKPOINT
        return load_state(path, "checkpoint") if path.exists() else None

    def save_result(self, result: Result) -> None:
        """Mark the run as finished."""
        with writing(self.path / SUMMARY):
            write_atomically(self.path / SUMMARY, as_json(result.to_json()))

    def result(self) -> Result | None:
        """Return the result of a finished run, else None."""
        return read_result(self.path)

    def close(self) -> None:
        """Closes ``steps.jsonl`` and lets other processes write here."""
        if self._steps is not None:
            self._steps.close()
            self._steps = None
        self._held.release()


def asked_for(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a config that decide what comes of a run, by dotted name."""
    return {key: value for key, value in flat(config).items() if key not in MAY_DIFFER and not key.startswith(SET)}


def check_same(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse a folder whose config asks for something else.

    Args:
        path: the folder, for the message.
        before: its config.
        now: what is asked for, read from JSON like the config.

    Raises:
        RunFolderError: naming every setting that differs.
    """
    found, mine = asked_for(before), asked_for(now)
    differing = [key for key in sorted(mine.keys() | found.keys()) if mine.get(key) != found.get(key)]
    if differing:
        named = "; ".join(f"{key}: {found.get(key)!r} there, {mine.get(key)!r} asked" for key in differing)
        raise RunFolderError(f"out={path} holds a run of other settings ({named}); give another folder.")


def _check_free(path: Path, force: bool) -> bool:
    """Return whether there is a run that is to be cleared away.

    Raises:
        RunFolderError: if there is anything else, or a run without ``force``.
    """
    found = listing(path)
    if not found:
        return False
    if not is_ours(path):
        raise RunFolderError(f"out={path} is not empty and holds no run ({', '.join(found[:3])}); give another folder.")
    if not force:
        raise RunFolderError(
            f"out={path} holds another run; give another folder, --resume to continue it, or --force to replace it."
        )
    if (path / CONFIG).is_file() and _is_of_many(path / CONFIG):
        raise RunFolderError(
            f"out={path} holds a comparison or a reproduction with runs below it, which --force of one run does not "
            f"replace; give another folder, or delete them: dus runs rm {path} --yes"
        )
    return True


def _is_of_many(config: Path) -> bool:
    """Return whether a config is that of many runs; a damaged one tells nothing and is taken for a run's."""
    try:
        return holds_runs(_object(config))
    except RunFolderError:
        return False


def read_result(path: Path) -> Result | None:
    """Return the result of a finished run; None if it is not finished.

    Raises:
        RunFolderError: if its file is damaged.
    """
    file = path / SUMMARY
    return Result.from_json(read_object(file), str(file), path) if file.is_file() else None


def read_run(path: Path) -> tuple[dict[str, Any], Result | None]:
    """Return the config and, if it is finished, the result of a run folder.

    Raises:
        RunFolderError: if it is none, or damaged.
    """
    if holds_ceiling(path):
        raise RunFolderError(
            f"{path} holds a ceiling; give one of its runs (`dus runs list {path}` names them), or see the whole: "
            f"dus report {path}"
        )
    if not (path / CONFIG).is_file():
        raise RunFolderError(f"{path} holds no run; give a folder that `dus train` wrote, or see `dus runs list`.")
    config = read_object(path / CONFIG)
    if not is_ours(path):
        raise RunFolderError(f"{path} holds no run of dus-gym; its {CONFIG} is somebody else's.")
    if "agents" in config:
        raise RunFolderError(f"{path} holds a comparison; give one of its runs, such as {path}/uniform/seed0.")
    if holds_runs(config):
        raise RunFolderError(
            f"{path} holds a reproduction, whose pages are the .md files in it; give one of its runs: "
            f"`dus runs list {path}` names them."
        )
    from_json(RunHead, config, str(path / CONFIG))
    return config, read_result(path)


def read_steps(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a run's ``steps.jsonl``; a last line cut off by a kill is left out.

    Raises:
        RunFolderError: see :func:`parse_steps`.
    """
    file = path / STEPS
    if not file.is_file():
        return
    with file.open("rb") as lines:
        yield from parse_steps((line for line in lines if line.endswith(b"\n")), file)


def parse_steps(lines: Iterable[bytes], file: Path, before: int = 0) -> Iterator[dict[str, Any]]:
    """Return lines as records, of which each has the modalities of the first.

    Args:
        lines: in order.
        file: where they are from, for messages.
        before: lines of it before these.

    Raises:
        RunFolderError: for a line that is no record of a step; the message names it and the file.
    """
    modalities: list[str] | None = None
    for number, line in enumerate(lines, before + 1):
        where = f"{file}, line {number},"
        try:
            record = read_json(line)
        except ValueError as error:
            raise RunFolderError(f"{where} is damaged ({error}); {MEND}") from error
        names = StepHead.check(record, where)
        if names != (modalities := modalities or names):
            raise RunFolderError(f"{where} is damaged (its modalities are {', '.join(names)}); {MEND}")
        yield record


def unused(path: Path) -> Path:
    """Makes and returns ``path``, or the first of ``path-2``, ``path-3``, … that does not exist.

    Two processes that ask at once get two folders.

    Raises:
        RunFolderError: if it can't be made.
    """
    candidate, number = path, 1
    while True:
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            number += 1
            candidate = path.with_name(f"{path.name}-{number}")
        except OSError as error:
            raise RunFolderError(f"out={path} can't be used ({error}); give another folder.") from error
        else:
            return candidate


def latest(path: Path) -> Path:
    """The last of ``path``, ``path-2``, … that exists, else ``path`` itself."""
    candidate, number = path, 1
    while (following := path.with_name(f"{path.name}-{number + 1}")).exists():
        candidate, number = following, number + 1
    return candidate


def folder_of(agent: str) -> str:
    """The folder that a name becomes: of an agent with its options, below a comparison; of own data."""
    name = re.sub(r"[^\w.=-]+", "-", agent)
    if len(name) <= LONGEST_NAME:
        return name
    # No file system takes every name: what is cut off is told apart by a digest.
    return f"{name[:LONGEST_NAME]}-{hashlib.blake2b(agent.encode(), digest_size=6).hexdigest()}"
