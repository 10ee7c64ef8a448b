"""Options by name to a dataclass: unknown names, wrong types and numbers that are not finite are refused here."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from itertools import pairwise
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from dus_gym.errors import ConfigError, UnknownArgumentError, unknown_name

T = TypeVar("T")
LARGEST: Any = sys.float_info.max
"""Of any number; ``Any``, since a Real of the standard library can be compared with nothing that has a type."""


def build_options(options: type[T], given: Mapping[str, Any] | None, what: str) -> T:
    """An options dataclass with some fields set.

    Args:
        options: the dataclass; fields are bool, int, float, str, paths, tuples of these, and optional ones.
        given: field name to value; NumPy numbers and lists are taken too.
        what: what an unknown name should have been, such as ``"setting"``.

    Raises:
        ConfigError: for a name that is no field (with the nearest that is) or a value of another type.
    """
    fields = {field.name for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(options)
    checked: dict[str, Any] = {}
    for name, value in (given or {}).items():
        if name not in fields:
            message = unknown_name(what, name, fields or {"(it has none)"})
            raise UnknownArgumentError(f"{message} (unexpected keyword argument {name!r})")
        checked[name] = _checked(name, value, hints[name])
    return options(**checked)


def option_table(options: type[Any]) -> list[dict[str, Any]]:
    """Return what an options dataclass offers: name, type, default and the docstring under each field.

    Fields of a base class come first, as in the dataclass.
    """
    docs: dict[str, str] = {}
    for kind in reversed(options.__mro__):
        if not dataclasses.is_dataclass(kind):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in pairwise(body.body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                docs[ast.unparse(field.target)] = inspect.cleandoc(str(below.value.value)).replace("\n", " ")
    return [
        {
            "name": field.name,
            "type": field.type.__name__ if isinstance(field.type, type) else str(field.type),
            "default": field.default,
            "doc": docs.get(field.name, ""),
        }
        for field in dataclasses.fields(options)
    ]


def parse_pairs(pairs: Sequence[str], word: str) -> dict[str, Any]:
    """``option=value`` texts to options by name; a value that is no Python literal is text.

    Args:
        pairs: such as ``["rule=softmax", "temperature=0.2"]``.
        word: what they were part of, for the message.

    Raises:
        ConfigError: for a text of another form.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is not allowed: {pair!r} must be option=value.")
        try:
            options[key.replace("-", "_")] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[key.replace("-", "_")] = text
    return options


def with_said(name: str, options: Mapping[str, Any]) -> str:
    """A name with the options that were set."""
    return ":".join([name, *(f"{key}={value}" for key, value in options.items())])


def _checked(name: str, value: Any, hint: Any) -> Any:
    """The value as the field's type, or ConfigError."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        if value is None and len(kinds) < len(typing.get_args(hint)):
            return None
        return _checked(name, value, kinds[0])
    if typing.get_origin(hint) is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ConfigError(f"{name}={value!r} is not allowed; give a sequence, such as a list.")
        return tuple(_checked(name, entry, typing.get_args(hint)[0]) for entry in value)
    if hint is bool and not isinstance(value, bool):
        raise ConfigError(f"{name}={value!r} is not allowed; it must be True or False.")
    if hint is int:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ConfigError(f"{name}={value!r} is not allowed; it must be a whole number.")
        return int(value)
    if hint is float:
        # Compared, not converted: a whole number may be larger than any float, and NumPy has precisions of its own.
        plain = value.item() if isinstance(value, Real) and hasattr(value, "item") else value
        if isinstance(value, bool) or not isinstance(value, Real) or not -LARGEST <= plain <= LARGEST:
            raise ConfigError(f"{name}={value!r} is not allowed; it must be a finite number.")
        return float(value)
    if hint is Path and isinstance(value, str | Path) and str(value):
        return Path(value)
    if hint is Path:
        raise ConfigError(f"{name}={value!r} is not allowed; it must be a path.")
    if hint is str and not isinstance(value, str):
        raise ConfigError(f"{name}={value!r} is not allowed; it must be text.")
    return value
