"""The command line that makes runs of given settings again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from dus_gym.config import RunConfig
from dus_gym.experiments.serialize import to_json


def compare_command(config: Mapping[str, Any], agent: str, seeds: Sequence[int] | None = None) -> str:
    """Return the ``dus compare`` command that runs one agent with the settings of a run.

    Args:
        config: of the run's folder.
        agent: its name, options behind colons.
        seeds: None: as many as the command takes by itself.
    """
    words = ["dus", "compare", config["env"], "--agents", agent]
    words += [] if seeds is None else ["--seeds", ",".join(map(str, seeds)) + ","]
    words += ["--method", config["method"]]
    for prefix, options in (("method.", config["method_options"]), ("task.", config["task_options"])):
        words += _words({prefix + name: value for name, value in options.items()})
    words += [] if config["trainer"] is None else ["--trainer", config["trainer"]]
    words += [] if config["threads"] == 1 else ["--threads", str(config["threads"])]
    default = to_json(RunConfig())
    return shlex.join(
        [*words, *_words({name: value for name, value in config["run"].items() if value != default[name]})]
    )


def _words(options: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [flag, str(value)] if not value else [flag]
        else:
            words += [flag, *map(str, value if isinstance(value, list) else [value])]
    return words
