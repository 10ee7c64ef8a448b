"""A digest of whoever decides, where its name does not say it all: a run is resumed only under the same."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dus_gym.agents.base import Agent

MOST_NESTED = 12
"""Functions called by functions, and containers in containers, that are looked into."""


def digest_of(who: Any) -> str:
    """Return 32 hex digits of an agent, a model or a function: of its code, its constants and its weights.

    The same object of another process has the same digest. Two that differ in nothing but what their libraries keep
    outside attributes, state and code have the same one too.
    """
    whole = hashlib.blake2b(digest_size=16)
    _add(whole.update, who, 0)
    return whole.hexdigest()


def _add(update: Callable[[bytes], None], value: Any, depth: int) -> None:
    """Add one value and what it is made of."""
    update(type(value).__qualname__.encode() + b"(")
    if depth > MOST_NESTED:
        pass
    elif isinstance(value, str | int | float | bool | bytes | complex | type(None)):
        update(repr(value).encode())
    elif isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    elif hasattr(value, "detach") and hasattr(value, "cpu"):
        _add(update, value.detach().cpu().numpy(), depth + 1)
    elif isinstance(value, Mapping):
        for key in value:
            _add(update, key, depth + 1)
            _add(update, value[key], depth + 1)
    elif isinstance(value, list | tuple):
        for entry in value:
            _add(update, entry, depth + 1)
    elif isinstance(value, set | frozenset):
        for text in sorted(map(repr, value)):
            update(text.encode())
    elif isinstance(value, types.CodeType):
        update(value.co_code + repr((value.co_names, value.co_varnames)).encode())
        _add(update, value.co_consts, depth + 1)
    elif isinstance(value, types.FunctionType):
        _add_function(update, value, depth)
    elif isinstance(value, types.MethodType):
        _add(update, value.__func__, depth + 1)
        _add(update, value.__self__, depth + 1)
    elif isinstance(value, type):
        update(f"{value.__module__}.{value.__qualname__}".encode())
        for name, member in sorted(vars(value).items()):
            if isinstance(member, types.FunctionType):
                update(name.encode())
                _add(update, member, depth + 1)
    elif callable(getattr(value, "state_dict", None)):
        _add(update, value.state_dict(), depth + 1)
        _add(update, type(value) if isinstance(value, Agent) else type(value).__qualname__, depth + 1)
    elif callable(getattr(getattr(value, "policy", None), "state_dict", None)):
        _add(update, value.policy, depth + 1)
    elif isinstance(value, types.ModuleType):
        update(value.__name__.encode())
    elif hasattr(value, "__dict__"):
        _add(update, {name: vars(value)[name] for name in sorted(vars(value))}, depth + 1)
        _add(update, type(value), depth + 1)
    update(b")")


def _add_function(update: Callable[[bytes], None], function: types.FunctionType, depth: int) -> None:
    """Add a function: its code, its defaults, the values it closes over, and the functions and numbers it names."""
    _add(update, function.__code__, depth + 1)
    _add(update, (function.__defaults__, function.__kwdefaults__), depth + 1)
    for cell in function.__closure__ or ():
        _add(update, cell.cell_contents, depth + 1)
    for name in function.__code__.co_names:
        used = function.__globals__.get(name)
        if isinstance(used, str | int | float | bool) or (
            isinstance(used, types.FunctionType) and used is not function and used.__module__ == function.__module__
        ):
            _add(update, used, depth + 1)
