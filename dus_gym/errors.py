"""Every error a user can cause: each names the argument, the value, what is allowed and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MEDIA_PROBLEMS = ("missing", "empty", "truncated", "undecodable", "wrong-shape", "too-short", "not-finite")
"""What can be wrong with a file of a data set."""


class DusError(Exception):
    """Base class of every error this package raises on purpose."""


class ConfigError(DusError, ValueError):
    """A setting that can't be: its message names the argument, the value and what is allowed."""


class TooManyRunsError(ConfigError):
    """More runs as one computation than memory has room for.

    Args:
        message: with the figures.
        fits: how many would.
    """

    def __init__(self, message: str, fits: int) -> None:
        super().__init__(message)
        self.fits = fits


class MemoryRanOutError(DusError, MemoryError):
    """Memory of the machine or of an accelerator that ran out inside a run; what the run had saved is still there."""


ONE_BY_ONE = 'use parallel_runs=1, with workers=N for several at once (with gym.make_vec, vectorization_mode="sync")'
"""The advice where several runs can't train as one computation."""


class UnfitAgentError(ConfigError):
    """An agent that can't steer this task under this method, though others can."""


class AgentError(DusError, ValueError):
    """An action that can't be, from a policy that was handed over; the message names the agent and the action."""


class DatasetNotFoundError(DusError, FileNotFoundError):
    """The files of a data set are not where they were looked for."""


class PretrainedNotFoundError(DatasetNotFoundError):
    """Pretrained weights or a vocabulary that are neither on this machine nor to be had; the data may all be there."""


class AnnotationError(DusError, ValueError):
    """A line of an annotation file that can't be read: the message names file, line and what was expected."""


class MediaError(DusError, ValueError):
    """One sample's media that can't be turned into an array.

    Args:
        kind: what is wrong, in one of the words of :data:`MEDIA_PROBLEMS`.
        message: the file and what was expected of it.
    """

    def __init__(self, kind: str, message: str) -> None:
        check_choice("MediaError kind", kind, MEDIA_PROBLEMS)
        # Both go to the base class: exceptions come back from other processes by their args.
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class BadMediaError(DusError, ValueError):
    """More files of a data set are bad than the policy allows; the message lists the first of them."""


class StoreError(DusError, OSError):
    """A decode-once store that is damaged or can't be written."""


class FetchError(DusError, OSError):
    """What can't be fetched or sent as asked: the server, an archive or a checksum says no."""


class NotOnHubError(ConfigError):
    """A repository, a revision or a file that the Hugging Face hub has not, or not for whoever asks."""


class CheckpointError(DusError, ValueError):
    """A checkpoint that is damaged, belongs to something else, or could run code when loaded."""


class RunFolderError(DusError, FileExistsError):
    """An output folder that can't be used as asked."""


class RunWriteError(DusError, OSError):
    """A run's file that can't be written, such as on a full disk; what was there before is still there."""


class UnknownArgumentError(ConfigError, TypeError):
    """An argument by a name that there is none of.

    Also a TypeError in Python's own words: tools such as TorchRL try a keyword and drop it on exactly these.
    """


def unknown_name(kind: str, name: str, allowed: Iterable[str]) -> ConfigError:
    """The error for a name that is not in a table, with the nearest one that is.

    Args:
        kind: what the name should have named, such as ``"agent"``.
        name: the name that was given.
        allowed: every name the table holds.
    """
    names = sorted(allowed)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return ConfigError(f"unknown {kind} {name!r}.{hint} Allowed: {', '.join(names)}.")


def check_choice(argument: str, value: str, allowed: Iterable[str]) -> None:
    """Raises ConfigError unless ``value`` is one of ``allowed``."""
    names = tuple(allowed)
    if value not in names:
        nearest = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise ConfigError(f"{argument}={value!r} is not allowed; choose one of {', '.join(names)}.{hint}")


def check_at_least(argument: str, value: float, least: float) -> None:
    """Raises ConfigError unless ``value >= least`` (NaN fails too)."""
    if not value >= least:
        raise ConfigError(f"{argument}={value!r} is not allowed; it must be at least {least}.")


def first_line(error: BaseException) -> str:
    """Kind and first line of an error, for a message of our own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def check_fraction(argument: str, value: float, bounds: str = "[0, 1]") -> None:
    """Raises ConfigError unless ``value`` lies in the unit interval (NaN does not).

    Args:
        argument: what it is called.
        value: what was given.
        bounds: ``[`` and ``]`` where an end is allowed, ``(`` and ``)`` where it is not, such as ``"(0, 1]"``.
    """
    inside = 0.0 <= value <= 1.0
    if not inside or (value == 0.0 and bounds[0] == "(") or (value == 1.0 and bounds[-1] == ")"):
        raise ConfigError(f"{argument}={value!r} is not allowed; it must lie in {bounds}.")


def check_positive(argument: str, value: float) -> None:
    """Raises ConfigError unless ``value`` is above 0 and finite."""
    if not 0.0 < value < float("inf"):
        raise ConfigError(f"{argument}={value!r} is not allowed; it must be positive and finite.")
