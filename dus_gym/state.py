"""Nested state to one safetensors file and back. Loading never runs code.

Tensors and arrays go into the file's tensor table, everything else into JSON in its header, so one atomic
rename replaces a checkpoint whole. A checksum over all of it stands in the header and is checked at load.
"""

from __future__ import annotations

import contextlib
import glob
import json
import mmap
import os
import reprlib
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dus_gym.ambient import isolated_torch_modes
from dus_gym.errors import CheckpointError, first_line
from dus_gym.lock import STALE_SECONDS, is_alive

if TYPE_CHECKING:
    import torch

FORMAT = 1
CHECKSUM = "crc32"
"""The entry of the header that holds the checksum: memory and disks flip bits, and a run that goes on from one comes to
another result."""
_TENSOR, _ARRAY, _TEXT = "tensor:", "array:", "text:"
"""What a string in the JSON part begins with if it refers to the tensor table; text that begins so is marked."""


def _pack(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    # Imported here: run folders are listed and read without it.
    import torch

    if isinstance(value, torch.Tensor | np.ndarray):
        # The number makes a name unique, the path makes it readable.
        name = f"{len(tensors)}{path}"
        if isinstance(value, np.ndarray):
            tensors[name] = torch.from_numpy(np.array(value, order="C"))
            return _ARRAY + name
        tensors[name] = value.detach().contiguous().cpu()
        return _TENSOR + name
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"state keys must be strings; {path or 'the top level'} has {key!r}.")
        return {key: _pack(child, f"{path}/{key}", tensors) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_pack(child, f"{path}/{i}", tensors) for i, child in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str) and value.startswith((_TENSOR, _ARRAY, _TEXT)):
        return _TEXT + value
    return value


def _unpack(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, dict):
        return {key: _unpack(child, tensors) for key, child in value.items()}
    if isinstance(value, list):
        return [_unpack(child, tensors) for child in value]
    if isinstance(value, str):
        if value.startswith(_TENSOR):
            return tensors[value.removeprefix(_TENSOR)]
        if value.startswith(_ARRAY):
            return tensors[value.removeprefix(_ARRAY)].numpy()
        return value.removeprefix(_TEXT)
    return value


def _is_pickle(start: bytes) -> bool:
    """Return whether a file begins like a pickle, or like the ZIP archive that PyTorch puts one into."""
    # A safetensors file may begin with any byte, the lowest of its header's length; the header follows it.
    return start[8:9] != b"{" and (start[:1] == b"\x80" or start[:4] == b"PK\x03\x04")


def _text(header: Mapping[str, Any]) -> bytes:
    """A header in one form only."""
    return json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _checksum(header: Mapping[str, Any], tensors: memoryview | bytes) -> str:
    """Of everything in a file but the checksum itself: names, shapes, state and the bytes of the tensors."""
    metadata = {key: value for key, value in header["__metadata__"].items() if key != CHECKSUM}
    return f"{zlib.crc32(tensors, zlib.crc32(_text({**header, '__metadata__': metadata}))):08x}"


def _sealed(data: bytes) -> bytes:
    """A safetensors file with its checksum and its header's entries sorted: the library writes them in any order."""
    length = int.from_bytes(data[:8], "little")
    header, tensors = json.loads(data[8 : 8 + length]), memoryview(data)[8 + length :]
    header["__metadata__"][CHECKSUM] = _checksum(header, tensors)
    text = _text(header)
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, tensors))


def _is_whole(path: Path) -> bool:
    """Return whether a safetensors file still has the checksum that it was written with."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        with memoryview(content) as view, view[8 + length :] as tensors:
            return bool(header["__metadata__"].get(CHECKSUM) == _checksum(header, tensors))


def _sweep(path: Path) -> None:
    """Delete what killed processes left of this file. A process of another machine may have one of a like name: only
    files that nobody has touched for a minute are deleted.
    """
    for beside in path.parent.glob(f".{glob.escape(path.name)}.*"):
        number = beside.name.removeprefix(f".{path.name}.")
        with contextlib.suppress(FileNotFoundError):
            if (
                number.isdecimal()
                and not is_alive(int(number))
                and time.time() - beside.stat().st_mtime > STALE_SECONDS
            ):
                beside.unlink()


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file that is either the old one or the new one, whatever happens in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    # Not mkstemp: its files are readable by their owner alone, whatever the umask says.
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def save_state(path: Path, kind: str, state: Mapping[str, Any]) -> None:
    """Writes a state.

    Args:
        path: the file; replaced atomically.
        kind: what it is, such as ``"checkpoint"``; checked again when it is read.
        state: nested dicts and lists with string keys; leaves are tensors, arrays and JSON values.
    """
    import torch
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    skeleton = _pack(state, "", tensors)
    # Tensors may share memory (views of one another); safetensors wants each on its own.
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    header = {"format": str(FORMAT), "kind": kind, "state": json.dumps(skeleton, allow_nan=False)}
    write_atomically(path, _sealed(save(tensors, metadata=header)))


@isolated_torch_modes()
def load_state(path: Path, kind: str) -> dict[str, Any]:
    """Reads what :func:`save_state` wrote.

    Raises:
        CheckpointError: if the file is missing, truncated, changed in any bit since it was written, of another kind,
            of a newer format, or a pickle (which is refused, not read: a pickle can run code).
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give the path of a {kind} that this tool wrote.")
    with path.open("rb") as file:
        start = file.read(9)
    if _is_pickle(start):
        raise CheckpointError(
            f"{path} is a pickle and is refused, because loading one can run code; "
            f"give a {kind} in safetensors format that this tool wrote."
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            # A name of a state is not a path of the file system: any file can be asked for any name.
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        # The reader quotes what it met, which may hold characters that end a line.
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path} is damaged or not a {kind} ({reason}); it can't be loaded.") from error
    if header.get("kind") != kind:
        raise CheckpointError(f"{path} holds {header.get('kind', 'something else')!r}, not a {kind}.")
    if header.get("format", "").isdecimal() and int(header["format"]) > FORMAT:
        raise CheckpointError(
            f"{path} has format {header['format']}; this version reads up to {FORMAT}. Install a newer dus-gym."
        )
    if not _is_whole(path):
        raise CheckpointError(
            f"{path} is damaged: by its checksum, its content is not what was written; it can't be loaded. Take "
            "another copy, or make it again."
        )
    try:
        found = _unpack(json.loads(header["state"]), tensors)
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); it can't be loaded.") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is damaged (its state is no object); it can't be loaded.")
    return found


@contextlib.contextmanager
def restoring(what: str) -> Iterator[None]:
    """Raise CheckpointError for whatever a state of another form makes its reader raise.

    Args:
        what: the state, for the message.
    """
    try:
        yield
    except CheckpointError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointError(
            f"{what} is damaged, from another version or of something else ({first_line(error)}); it can't be loaded."
        ) from error


def check_form(fresh: Any, found: Any, where: str) -> None:
    """Refuse a state that was read and has another form than one that has just begun.

    A dict has at least its keys, a list entries like its own, a number is a number that a float can hold; None and what
    is empty says nothing.

    Args:
        fresh: the state of the object that is to take ``found``.
        found: what was read.
        where: its name, for the message.

    Raises:
        CheckpointError: naming the part.
    """
    if fresh is None:
        return
    number = isinstance(fresh, int | float) and not isinstance(fresh, bool)
    kind: Any = (int, float) if number else (list, tuple) if isinstance(fresh, list | tuple) else type(fresh)
    if not isinstance(found, kind) or (number and isinstance(found, bool)):
        raise CheckpointError(
            f"{where} is damaged or from another version (it is {reprlib.repr(found)}, not {type(fresh).__name__})."
        )
    # A whole number may be larger than any float, and what reckons with it fails far from here.
    if number and not -sys.float_info.max <= found <= sys.float_info.max:
        raise CheckpointError(f"{where} is damaged or from another version ({reprlib.repr(found)} is out of range).")
    if isinstance(fresh, Mapping):
        for key, part in fresh.items():
            if key not in found:
                raise CheckpointError(f"{where} is damaged or from another version ({key} is missing).")
            check_form(part, found[key], f"{where}/{key}")
    elif isinstance(fresh, list | tuple) and fresh:
        if len(found) < len(fresh):
            raise CheckpointError(f"{where} is damaged or from another version ({len(found)} of {len(fresh)} entries).")
        for i, part in enumerate(found):
            check_form(fresh[min(i, len(fresh) - 1)], part, f"{where}/{i}")
