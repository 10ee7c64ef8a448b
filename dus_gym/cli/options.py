"""Options that commands share, made from the dataclasses they fill; and the way from words to objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from dus_gym.agents.base import Agent
from dus_gym.config import RunConfig
from dus_gym.data.registry import OWN_TASK, get_task
from dus_gym.data.task import Task
from dus_gym.envs.registration import ids
from dus_gym.errors import ConfigError, unknown_name
from dus_gym.experiments.drivers import agent_type, resolve_agent, split_word
from dus_gym.methods import make_method, method_class
from dus_gym.options import parse_pairs

T = TypeVar("T")
OWN_ID = f"DUS-{OWN_TASK}-v0"


@dataclass(frozen=True)
class CommonOptions:
    """What every command that trains takes."""

    env: tyro.conf.Positional[str] = ""
    """A registered id, such as DUS-Digits-v0; `dus envs` lists them. Not with --data."""
    data: Path | None = None
    """Data of your own instead of a registered id: a .npz file with an array a modality and labels, a folder of such
    .npy files, or a folder with labels.csv and a sub-folder of media a modality."""
    method: str = "baseline"
    """What is minimised."""
    trainer: str | None = None
    """real, or fake: fitted learning curves instead of training, in a fraction of a second; the id's own if not
    given: real, but for DUS-Fake-v0."""
    data_root: Path | None = None
    """Where the data set's files lie."""
    validation: str | None = None
    """How the validation split is chosen, where the task offers a choice."""
    encoder: str | None = None
    """Another set of encoders, where the task offers one."""
    out: Path | None = None
    """Output folder; made if it is not there."""
    resume: bool = False
    """Go on where a killed command stopped."""
    force: bool = False
    """Replace a run that is in the output folder."""
    json: bool = False
    """Print the result as one JSON object on the last line."""
    quiet: bool = False
    """Print nothing but errors and the --json line."""
    agent_runs: int | None = None
    """Training runs of an agent that learns before the run that counts (ppo, a2c, …); 20 if not given."""
    threads: int = 1
    """CPU threads of PyTorch. More help large networks only; another number may change the last bits."""


def check_env(env: str) -> Task:
    """The task behind an id.

    Raises:
        ConfigError: for an unknown id; the message has the nearest one.
    """
    known = ids()
    env = env.removeprefix("dus_gym:")
    if env not in known:
        raise unknown_name("environment", env, known)
    return get_task(known[env])


def env_and_root(options: Any) -> tuple[str, Path | None]:
    """The id and the data root that ``ENV``, ``--data`` and ``--data-root`` come to.

    Raises:
        ConfigError: for both of them, or neither.
    """
    if options.data is None:
        if not options.env:
            raise ConfigError("no environment was given; name a registered id (`dus envs` lists them) or --data FILE.")
        return options.env.removeprefix("dus_gym:"), options.data_root
    if options.env or options.data_root is not None:
        raise ConfigError(f"data={options.data} is an environment of its own; leave ENV and --data-root out.")
    if not options.data.expanduser().exists():
        raise ConfigError(f"data={options.data} is not there; give a .npz file or a folder.")
    return OWN_ID, options.data


def word_after(words: Sequence[str], flag: str, default: str) -> str:
    """The value of ``--flag value`` or ``--flag=value`` among unparsed words.

    Which options exist depends on the agent and the method, so these two are read first.
    """
    for i, word in enumerate(words):
        if word == flag and i + 1 < len(words):
            return words[i + 1]
        if word.startswith(flag + "="):
            return word.partition("=")[2]
    return default


def with_options(base: type[T], method: str | None, agent: str | None = None, env: str | None = None) -> type[T]:
    """``base`` plus the run's settings, and the options of the named method, agent and environment's task.

    Raises:
        ConfigError: for an unknown method, agent or environment.
    """
    prefixless = tyro.conf.arg(prefix_name=False, name="")
    fields: list[tuple[str, Any, Any]] = [
        ("run", Annotated[RunConfig, prefixless], dataclasses.field(default_factory=RunConfig))
    ]
    tables: dict[str, type[Any]] = {}
    if method is not None:
        tables["method"] = method_class(method).options_type
    if agent is not None:
        tables["agent"] = agent_type(agent).options_type
    if env is not None:
        tables["task"] = check_env(env).options_type
    for name, options in tables.items():
        if dataclasses.fields(options):
            named: Any = Annotated[options, tyro.conf.arg(name=name)]
            fields.append((f"{name}_options", named, dataclasses.field(default_factory=options)))
    return dataclasses.make_dataclass(base.__name__, fields, bases=(base,), frozen=True)


def env_among(words: Sequence[str]) -> str | None:
    """The first registered id among unparsed words, or that of own data; its task's options are offered."""
    if word_after(words, "--data", ""):
        return OWN_ID
    return next((word for word in words if word.removeprefix("dus_gym:") in ids()), None)


def parse(arguments: type[T], words: Sequence[str], command: str, description: str) -> T:
    """Words to a filled dataclass; ``--help`` and unknown options end the process (0 and 2)."""
    return tyro.cli(
        arguments,
        prog=f"dus {command}",
        description=description,
        args=list(words),
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def changed(options: Any) -> dict[str, Any]:
    """The fields of an options dataclass that differ from its defaults."""
    default = type(options)()
    return {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if getattr(options, field.name) != getattr(default, field.name)
    }


def run_settings(config: RunConfig, agent: Agent) -> dict[str, Any]:
    """Keyword arguments for ``gym.make``: what the user set, and what the agent asks for where he did not."""
    settings = changed(config)
    if settings.get("action_mode", agent.action_mode) != agent.action_mode:
        raise ConfigError(
            f"action_mode={config.action_mode!r} does not fit agent {agent.name!r}, which speaks "
            f"{agent.action_mode!r}; leave it out: the agent sets it."
        )
    settings["action_mode"] = agent.action_mode
    if config.interval is None and agent.interval is not None:
        settings["interval"] = agent.interval
    return settings


def parse_agent(word: str) -> tuple[str, dict[str, Any]]:
    """``NAME`` or ``NAME:option=value:option=value`` to a name and its options.

    Raises:
        ConfigError: for an unknown agent or option, or a word of another form.
    """
    name, options = split_word(word)
    if not Path(name).is_file():
        resolve_agent(name, 2, options=options)
    # A policy file may be for any number of modalities: it is read when the task is known.
    return name, options


def parse_method(word: str) -> tuple[str, dict[str, Any]]:
    """``NAME`` or ``NAME:option=value:option=value`` to a method's name and options.

    Raises:
        ConfigError: for an unknown method or option, or a word of another form.
    """
    name, *pairs = word.split(":")
    options = parse_pairs(pairs, word)
    make_method(name, options)
    return name, options


def parse_seeds(text: str) -> list[int]:
    """``N`` means 0 … N-1; ``a,b,c`` (or ``a-b``) lists seeds.

    Raises:
        ConfigError: for anything else, and for repeats.
    """
    try:
        if "," in text or "-" in text:
            seeds: list[int] = []
            for part in text.strip(",").split(","):
                first, dash, last = part.partition("-")
                seeds += range(int(first), int(last) + 1) if dash else [int(first)]
        else:
            seeds = list(range(int(text)))
    except ValueError:
        raise ConfigError(f"seeds={text!r} is not allowed; give a number of seeds, or seeds as 3,5,8 or 0-9.") from None
    if not seeds:
        raise ConfigError(f"seeds={text!r} is not allowed; it names no seed.")
    if len(set(seeds)) != len(seeds):
        raise ConfigError(f"seeds={text!r} is not allowed; a seed may be named once: a repeat adds no evidence.")
    return seeds


def jsonable(value: Any) -> Any:
    """Dataclasses, tuples and paths as JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return jsonable(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {key: jsonable(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(child) for child in value]
    return str(value) if isinstance(value, Path) else value
