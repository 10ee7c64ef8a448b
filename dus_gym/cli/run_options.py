"""Options of the commands that train, and the way from what a line says to the arguments of a Python call."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dus_gym.cli.arguments import Given, Group, Owner, Parsed, read_settings
from dus_gym.config import RunConfig
from dus_gym.data.registry import OWN_TASK
from dus_gym.data.task import DataOptions
from dus_gym.envs.registration import ids
from dus_gym.errors import ConfigError
from dus_gym.experiments.drivers import agent_names, agent_type, name_agent
from dus_gym.experiments.results import FORMAT
from dus_gym.experiments.spec import DEFAULT_AGENT, DEFAULT_METHOD, get_env_task, parse_word
from dus_gym.methods import METHODS, method_class

OWN_ID = f"DUS-{OWN_TASK}-v0"
TRAINERS = ("real", "fake")
NOT_ASKED = ("written_by", "command", "data", "data_name", "run", "agent_digest", "folder_settings")
"""Keys of a run's own ``config.json`` beside the settings that were asked for."""


@dataclass(frozen=True)
class TaskOptions:
    """Task, method and trainer."""

    env: str = field(
        default="",
        metadata={
            "common": "The task to train, such as DUS-Digits-v0; `dus envs` lists them.",
            "positional": True,
            "choices": ids,
        },
    )
    """A registered id, such as DUS-Digits-v0; `dus envs` lists them. Not with --data."""
    data: Path | None = field(
        default=None,
        metadata={
            "common": "Your own data in place of ENV: a folder, or an .npz with an array per modality and `labels`."
        },
    )
    """Data of your own instead of a registered id: an .npz file, a folder of such .npy files, or one with labels.csv
    and a sub-folder of media per modality. The .npz has one array per modality, (n, …) under any name, and `labels`
    (or `y`), one class per sample; perhaps also `split`, of train, validation or test; or, in their place, train_NAME
    and test_NAME of each, labels too."""
    method: str = field(
        default=DEFAULT_METHOD,
        metadata={"common": "How the network is trained; `dus methods` says more.", "choices": METHODS},
    )
    """What is minimised; `dus methods` says more."""
    trainer: str | None = field(
        default=None,
        metadata={"common": "real, or fake for made-up curves in a fraction of a second.", "choices": TRAINERS},
    )
    """real, or fake: fitted learning curves instead of training, in a fraction of a second; the id's own if not
    given: real, but for DUS-Fake-v0."""
    data_root: Path | None = None
    """Where the data set's files lie."""
    validation: str | None = None
    """How the validation split is chosen, where the task offers a choice."""
    encoder: str | None = None
    """Another set of encoders, where the task offers one."""
    agent_runs: int | None = None
    """Training runs of an agent that learns before the run that counts (ppo, a2c, …); 20 if not given."""
    trust: bool = False
    """Read policy files of stable-baselines3, which can run code: only files that you know the origin of."""
    threads: int = 1
    """CPU threads of PyTorch. More help large networks only; another number may change the last bits."""
    config: Path | None = field(
        default=None, metadata={"common": "A YAML or JSON file of settings, such as a run's config.json."}
    )
    """A YAML or JSON file of settings, such as a run's own config.json; options on the command line win."""


@dataclass(frozen=True)
class OutputOptions:
    """Output folder and printing."""

    out: Path | None = field(default=None, metadata={"common": True})
    """Output folder; made if it is not there."""
    resume: bool = field(default=False, metadata={"common": True})
    """Go on where a killed command stopped."""
    force: bool = False
    """Replace what is in the output folder."""
    json: bool = field(default=False, metadata={"common": True})
    """Print the result as one JSON object on the last line."""
    quiet: bool = False
    """Print nothing but errors and the --json line."""


OWN_AGENT = (
    'Your own agent: dus_gym.register_agent("mine", f) in mine.py, f(scores, info) giving shares, and --import mine; '
    'then "mine" is a name of {flag}.'
)
"""Help says so of the commands that take agents."""


def _agent_owner(given: Given) -> Owner | None:
    agent = name_agent(given.get("policy") or given.get("agent", DEFAULT_AGENT))
    if agent.name not in agent_names():
        return None
    return f"agent {agent.name!r}", agent_type(agent.name).options_type


def _method_owner(given: Given) -> Owner | None:
    word = given.get("method", DEFAULT_METHOD)
    if "," in word:
        return None
    name = parse_word(word)[0]
    return f"method {name!r}", method_class(name).options_type


def _task_owner(given: Given) -> Owner | None:
    name = OWN_ID if "data" in given else str(given.get("env", "")).removeprefix("dus_gym:")
    if not name:
        return None
    kinds = [get_env_task(one).options_type for one in name.split(",")]
    return (f"task of {name}", kinds[0]) if len(kinds) == 1 else ("every task", DataOptions)


AGENT = Group(("agent", "policy"), _agent_owner)
"""Options ``--agent.NAME`` of the agent that ``--agent`` or ``--policy`` names."""
METHOD = Group(("method",), _method_owner)
"""Options ``--method.NAME`` of the method that ``--method`` names; several have none in common."""
TASK = Group(("env", "data"), _task_owner)
"""Options ``--task.NAME`` of the task behind ``ENV`` or ``--data``; of several, those that every task has."""


def beneath(given: Given) -> dict[str, Any]:
    """Return the settings of the file that ``--config`` names, by option.

    Raises:
        ConfigError: for a file that can't be read.
    """
    if (path := given.get("config")) is None:
        return {}
    found = read_settings(Path(path), NOT_ASKED)
    written = found.pop("format", FORMAT)
    if type(written) is not int or written > FORMAT:
        raise ConfigError(f"config={path} has format {written!r}; this version reads up to {FORMAT}.")
    return found


def env_of(options: TaskOptions) -> tuple[str, str | None]:
    """Return the id and the data root that ``ENV``, ``--data`` and ``--data-root`` come to.

    Raises:
        ConfigError: for both of them, or neither.
    """
    if options.data is None:
        if not options.env:
            raise ConfigError("no environment was given; name a registered id (`dus envs` lists them) or --data FILE.")
        return options.env, None if options.data_root is None else str(options.data_root)
    if options.env or options.data_root is not None:
        raise ConfigError(f"data={options.data} is an environment of its own; leave ENV and --data-root out.")
    if not options.data.expanduser().exists():
        raise ConfigError(f"data={options.data} is not there; give a .npz file or a folder.")
    return OWN_ID, str(options.data)


def call_arguments(parsed: Parsed) -> dict[str, Any]:
    """Return what a line asks for as keyword arguments of :func:`dus_gym.train` and :func:`dus_gym.compare`.

    All but ``agent``, ``agents``, ``seed`` and ``seeds``.
    """
    options = parsed.build(TaskOptions)
    env, root = env_of(options)
    named = {name: value for name in ("validation", "encoder") if (value := getattr(options, name)) is not None}
    for name in named:
        for one in env.split(","):
            if name not in {field.name for field in fields(get_env_task(one).options_type)}:
                raise ConfigError(
                    f"{name}={named[name]!r} is not allowed: {one} has no choice of it; leave --{name} out."
                )
    found: dict[str, Any] = {
        "env": env,
        "method": options.method,
        "method_options": parsed.group("method"),
        "trainer": options.trainer,
        "data_root": root,
        "task_options": {**parsed.group("task"), **named},
        "threads": options.threads,
        "trust": options.trust,
    }
    return found | parsed.given(RunConfig)
