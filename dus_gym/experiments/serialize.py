"""To JSON and back: the one reader and the one writer of everything this project keeps as JSON.

A value is a dataclass, a mapping, a sequence, text, a number, a truth value or None. Reading checks every type against
the dataclass's annotations, so that a damaged or foreign file is one error that names the key, and never a traceback.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dus_gym.errors import RunFolderError

T = TypeVar("T")
LARGEST_INTEGER = 2**64
"""Bound of the size of a whole number that is read: seeds are the largest that are written."""
NOT_KEPT = "not kept"
"""Metadata of a dataclass field that JSON leaves out."""


def to_json(value: Any) -> Any:
    """Return a value as JSON has it: dataclasses as objects, tuples as lists, paths as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = [field.name for field in dataclasses.fields(value) if not field.metadata.get(NOT_KEPT)]
        return {name: to_json(getattr(value, name)) for name in kept}
    if isinstance(value, Mapping):
        return {key: to_json(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(child) for child in value]
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else value


def from_json(kind: type[T], found: Any, where: str) -> T:
    """Return the dataclass that :func:`to_json` wrote; keys that it has no field for are left out.

    Args:
        kind: the dataclass.
        found: the JSON object.
        where: what is read, for the message, such as the file.

    Raises:
        RunFolderError: for a key that is missing or a value of another type; the message names it.
    """
    value: T = read_value(kind, found, where, "")
    return value


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def read_value(hint: Any, found: Any, where: str, key: str) -> Any:
    """Return one value by its annotation.

    Args:
        hint: the annotation.
        found: the value as JSON has it.
        where: see :func:`from_json`.
        key: its dotted name, for messages.

    Raises:
        RunFolderError: for a value of another type.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if found is None and type(None) in inner:
            return None
        return read_value(next(kind for kind in inner if kind is not type(None)), found, where, key)
    if dataclasses.is_dataclass(hint):
        return _read_fields(hint, found, where, key)
    if origin in (dict, Mapping):
        if not isinstance(found, Mapping):
            raise _damaged(where, key, found, "an object")
        return {name: read_value(inner[1], child, where, f"{key}.{name}") for name, child in found.items()}
    if origin in (tuple, list, Sequence):
        if not isinstance(found, list | tuple):
            raise _damaged(where, key, found, "a list")
        if origin is tuple and inner[-1] is not Ellipsis:
            if len(found) != len(inner):
                raise _damaged(where, key, found, f"a list of {len(inner)}")
            return tuple(read_value(kind, child, where, key) for kind, child in zip(inner, found, strict=True))
        return tuple(read_value(inner[0], child, where, f"{key}[{i}]") for i, child in enumerate(found))
    if hint is float:
        if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < math.inf:
            raise _damaged(where, key, found, "a number")
        if isinstance(found, int) and abs(found) > LARGEST_INTEGER:
            raise _damaged(where, key, found, "a number of this size")
        return float(found)
    if hint is int and (isinstance(found, bool) or not isinstance(found, int) or abs(found) > LARGEST_INTEGER):
        raise _damaged(where, key, found, f"a whole number up to {LARGEST_INTEGER}")
    if hint in (str, bool) and not isinstance(found, hint):
        raise _damaged(where, key, found, "text" if hint is str else "true or false")
    return found


def _read_fields(kind: Any, found: Any, where: str, key: str) -> Any:
    """A dataclass from an object."""
    if not isinstance(found, Mapping):
        raise _damaged(where, key, found, "an object")
    hints, values = _hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.metadata.get(NOT_KEPT):
            continue
        if field.name in found:
            values[field.name] = read_value(hints[field.name], found[field.name], where, f"{key}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise RunFolderError(f"{where} is damaged ({f'{key}.{field.name}'.lstrip('.')} is missing).")
    return kind(**values)


def _damaged(where: str, key: str, found: Any, wanted: str) -> RunFolderError:
    said = reprlib.repr(found)
    said = said if len(said) <= 40 else said[:37] + "..."
    return RunFolderError(f"{where} is damaged ({key.lstrip('.') or 'it'} is {said}, not {wanted}).")
