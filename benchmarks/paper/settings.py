"""The settings of each data set: a YAML file each in ``settings/``, read and checked here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

from dus_gym.errors import ConfigError, unknown_name

FILES = ("twitter2015", "sarcasm", "cremad", "kinetics-sounds", "nvgesture")
"""In the order of the printed tables."""


@dataclass(frozen=True)
class Standin:
    """A small real data set that stands in for one of the paper's."""

    env: str
    folder: str
    """Below the data root, and its word in ``dus data``."""
    modalities: Mapping[str, str]
    """The printed word to the stand-in's modality."""
    task: Mapping[str, Any] = field(default_factory=dict)
    """Options of the data set."""


@dataclass(frozen=True)
class Smoke:
    """How small a rehearsal on made-up media is."""

    clips: int
    run: Mapping[str, Any]
    """Settings of the run."""


@dataclass(frozen=True)
class Setting:
    """One data set of the paper."""

    name: str
    """As printed."""
    env: str
    folder: str
    """Below the data root, and its word in ``dus data``."""
    metric: str
    """The second metric of its tables: ``map`` or ``macro_f1``."""
    modalities: Mapping[str, str]
    """The printed word to ours."""
    recipe: Mapping[str, Any]
    """What the registered task must say; a test holds the two together."""
    task: Mapping[str, Any]
    """Options of the data set."""
    standin: Standin | None
    smoke: Smoke


@lru_cache(maxsize=1)
def settings() -> dict[str, Setting]:
    """Every data set of the paper, by its printed name.

    Raises:
        ConfigError: for a file with an unknown or missing name.
    """
    found = [_read(name) for name in FILES]
    return {setting.name: setting for setting in found}


def _read(name: str) -> Setting:
    values: dict[str, Any] = yaml.safe_load((files(__package__) / "settings" / f"{name}.yaml").read_text("utf-8"))
    try:
        if values["standin"] is not None:
            values["standin"] = Standin(**values["standin"])
        values["smoke"] = Smoke(**values["smoke"])
        return Setting(**values)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"benchmarks/paper/settings/{name}.yaml: {error}.") from error


def chosen(words: str | None, among: tuple[str, ...]) -> tuple[str, ...]:
    """The data sets that comma-separated words name, as printed or as in ``dus data``; all of ``among`` for None.

    Raises:
        ConfigError: for a word that names none of them.
    """
    if words is None:
        return among
    known = {name.lower(): name for name in among} | {settings()[name].folder: name for name in among}
    names = []
    for word in filter(None, map(str.strip, words.split(","))):
        if word.lower() not in known:
            raise unknown_name("data set", word, known)
        names.append(known[word.lower()])
    if not names:
        raise ConfigError(f"datasets={words!r} is not allowed; it names no data set. Choose from {', '.join(among)}.")
    return tuple(dict.fromkeys(names))
