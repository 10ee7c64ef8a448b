"""Surveys of data folders, made once for as long as a command takes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
_made: ContextVar[dict[Hashable, Any] | None] = ContextVar("surveys", default=None)


@contextmanager
def surveys_kept() -> Iterator[None]:
    """Keep every survey for as long as the block takes: a folder is not looked through again for each run.

    Outside such a block nothing is kept, since files may come and go between two calls.
    """
    if _made.get() is not None:
        yield
        return
    token = _made.set({})
    try:
        yield
    finally:
        _made.reset(token)


def surveyed(key: Hashable, look: Callable[[], T]) -> T:
    """Return what ``look`` returns, or returned before for the same key."""
    made = _made.get()
    if made is None:
        return look()
    if key not in made:
        made[key] = look()
    found: T = made[key]
    return found
