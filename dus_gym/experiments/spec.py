"""RunSpec: completely what a run is, and which of its settings were set by whoever asked.

Settings are merged in one place, :attr:`RunSpec.settings`, later ones before earlier ones:

1. the defaults of :class:`dus_gym.config.RunConfig` and of the agent's, method's and data set's options;
2. the task's own values, where a setting is None (epochs, total_batch, iterations, interval);
3. what the data folder says of itself (``dus-data.json``), for the data set's options;
4. what the agent asks for: its kind of action, its interval;
5. what whoever asked has set, also where it equals a default.

What came out is in the run's summary under ``settings``.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym

from dus_gym.agents import RECOMMENDED
from dus_gym.agents.base import Agent
from dus_gym.config import RunConfig
from dus_gym.data.dataset import DataOverview
from dus_gym.data.registry import OWN_TASK, get_task
from dus_gym.data.task import Task
from dus_gym.envs.dus_env import DUSEnv, run_seed_of
from dus_gym.envs.registration import FAKE_ID, ids
from dus_gym.errors import ConfigError, RunFolderError, UnfitAgentError, unknown_name
from dus_gym.experiments.drivers import NamedAgent, agent_type, name_agent
from dus_gym.experiments.executors.executor import IMPORTED
from dus_gym.experiments.results import FORMAT, name_task
from dus_gym.experiments.serialize import NOT_KEPT, from_json, to_json
from dus_gym.experiments.storage.run_folder import folder_of
from dus_gym.methods import make_method, method_class, unpaired_methods
from dus_gym.options import build_options, parse_pairs, with_said
from dus_gym.seeding import RunSeeds

OWN_ID = f"DUS-{OWN_TASK}-v0"
DEFAULT_AGENT, DEFAULT_METHOD = RECOMMENDED, "baseline"
REFERENCE = "uniform"
"""The agent that every other is compared with."""
MOST_THREADS = 1024


def get_env_task(env: str) -> Task:
    """Return the task behind a registered id, with or without ``dus_gym:`` before it.

    Raises:
        ConfigError: for an unknown id; the message has the nearest one.
    """
    known = ids()
    env = env.removeprefix("dus_gym:")
    if env not in known:
        raise unknown_name("environment", env, known)
    return get_task(known[env])


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's result. Mappings hold what was set, and nothing else."""

    env: str
    """A registered id."""
    agent: str = DEFAULT_AGENT
    """A name of the agents' or drivers' table, or the name that an object of ``policy`` goes by."""
    agent_options: Mapping[str, Any] = field(default_factory=dict)
    method: str = DEFAULT_METHOD
    method_options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    trainer: str | None = None
    """``real`` or ``fake``; None: the id's own."""
    data_root: str | None = None
    task_options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of :class:`dus_gym.config.RunConfig` that were set."""
    threads: int = 1
    policy: str | None = None
    """A policy file, the name of one that comes with the package, or the address of one on the hub: it then is the
    agent."""
    trust: bool = field(default=False, metadata={NOT_KEPT: True}, compare=False)
    """Whether a policy file may be one whose loading can run code (a ZIP file of stable-baselines3)."""
    agent_object: Any = field(default=None, metadata={NOT_KEPT: True}, compare=False, repr=False)
    """An agent, a model or a function that :func:`dus_gym.as_agent` takes, where the agent is no name."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "env", self.env.removeprefix("dus_gym:"))
        run = RunConfig.of(dict(self.settings))
        object.__setattr__(self, "settings", {name: to_json(getattr(run, name)) for name in self.settings})
        RunSeeds(self.seed)
        if type(self.threads) is not int or not 1 <= self.threads <= MOST_THREADS:
            raise ConfigError(f"threads={self.threads} is not allowed; it must lie in 1 … {MOST_THREADS}.")
        get_env_task(self.env)

    @property
    def run(self) -> RunConfig:
        """The run's settings, with defaults where none was set."""
        return RunConfig.of(dict(self.settings))

    @property
    def title(self) -> str:
        """The run in one line."""
        return (
            f"{self.task_name}, {with_said(self.method, self.method_options)} under {self.named_agent.word}, "
            f"seed {self.seed}"
        )

    @property
    def data_name(self) -> str | None:
        """The name of own data; None for every other task."""
        return None if self._own_data is None else name_data(self._own_data)

    @property
    def task_name(self) -> str:
        """The id, and behind it the name of own data; a part of paths, too."""
        return name_task(self.env, self.data_name)

    @property
    def is_fake(self) -> bool:
        """True if the run follows fitted curves instead of training."""
        return self.trainer == "fake" or (self.trainer is None and self.env == FAKE_ID)

    def task(self) -> Task:
        """Return the task with the options that were set."""
        return get_env_task(self.env).configured(self.task_options, self.data_root)

    def overview(self) -> DataOverview | None:
        """Return what the run trains and tests on, before it begins; builds its data. None for a fake run.

        Raises:
            DusError: for data that can't be used.
        """
        return None if self.is_fake else self.task().overview(RunSeeds(run_seed_of(self.seed)), self.data_root)

    @property
    def named_agent(self) -> NamedAgent:
        """Whoever decides."""
        return NamedAgent(self.agent, self.agent_options, self.policy, self.agent_object)

    def folder_settings(self) -> dict[str, Any]:
        """Return what the data root sets of the data set's options, and its encoders, where they were not set."""
        root = None if self.data_root is None else Path(self.data_root).expanduser()
        folder = get_env_task(self.env).data_source().folder_defaults(root)
        found = {name: value for name, value in folder.options.items() if name not in self.task_options}
        if folder.encoders is not None and "encoder" not in self.task_options:
            found["encoders"] = list(folder.encoders)
        return found

    def make_agent(self, num_modalities: int) -> Agent:
        """Return the agent or driver, seeded by the run's seed."""
        agent = self.named_agent.make(num_modalities, self.seed, trust=self.trust)
        # A driver learns later, and an agent of this run is used by no other.
        if agent.policy_lever is None:
            agent.policy_lever = self.run.lever
        return agent

    def make_env(self, agent: Agent, num_envs: int = 1, **replaced: Any) -> Any:
        """Return the environment with the kind of actions and the interval that the agent asks for.

        Args:
            agent: who will act in it.
            num_envs: more than one: a vector environment of as many runs, with same-step autoreset.
            replaced: settings of the run to be replaced, by a driver.

        Raises:
            ConfigError: for settings that do not go together, or not with the agent.
        """
        chosen: dict[str, Any] = {} if self.trainer is None else {"trainer": self.trainer}
        make: Any = gym.make
        if num_envs > 1:
            make = partial(gym.make_vec, num_envs=num_envs, autoreset_mode="SameStep")
        return make(
            f"dus_gym:{self.env}",
            method=self.method,
            method_options=dict(self.method_options),
            data_root=self.data_root,
            task_options=dict(self.task_options),
            **chosen | self.settings_under(agent) | replaced,
        )

    def make_core(self, agent: Agent, **replaced: Any) -> DUSEnv:
        """Return the environment of :meth:`make_env` without its wrappers."""
        core: DUSEnv = self.make_env(agent, **replaced).unwrapped
        return core

    def settings_under(self, agent: Agent) -> dict[str, Any]:
        """Return the run's settings that were set, and what the agent asks for where they were not.

        Raises:
            ConfigError: for a kind of action that the agent does not speak.
        """
        settings = dict(self.settings)
        if settings.get("action_mode", agent.action_mode) != agent.action_mode:
            raise ConfigError(
                f"action_mode={settings['action_mode']!r} does not fit agent {agent.name!r}, which speaks "
                f"{agent.action_mode!r}; leave it out: the agent sets it."
            )
        settings["action_mode"] = agent.action_mode
        if settings.get("interval") is None and agent.interval is not None:
            settings["interval"] = agent.interval
        return settings

    def check(self) -> None:
        """Refuse what can be refused by looking at settings and at the data's metadata; builds no data and no model.

        Raises:
            UnfitAgentError: if another agent could do it.
            DatasetNotFoundError: if the data set's files are not there.
            DusError: for anything else that can't be.
        """
        task = self.task()
        agent = self.make_agent(len(task.modalities))
        if agent.policy_lever not in (None, self.run.lever):
            raise UnfitAgentError(
                f"agent={self.named_agent.word!r} was learned under lever={agent.policy_lever!r} and this run has "
                f"lever={self.run.lever!r}; say --lever {agent.policy_lever} (lever={agent.policy_lever!r}), or take a "
                "policy that was learned under the other."
            )
        if self.run.lever == "rates" and agent.name == "lr-matched":
            raise UnfitAgentError(
                "agent='lr-matched' is itself lever='rates' with a constant split; compare it under lever='samples'."
            )
        if self.run.lever == "rates" and agent.action_mode != "shares":
            raise UnfitAgentError(
                f"agent={self.agent!r} says how many samples of its own batch each modality gets, and lever='rates' "
                "has equal batches; use an agent that splits, such as holdout or score."
            )
        equal = agent.equal_batches or self.run.lever == "rates"
        if not (method_class(self.method).supports_unpaired or equal):
            raise UnfitAgentError(
                f"agent={self.agent!r} gives modalities unequal batches, and method={self.method!r} needs every "
                f"sample in all modalities; use agent 'uniform', or one of the methods {', '.join(unpaired_methods())}."
            )
        env = self.make_env(agent)
        fake = env.get_wrapper_attr("trainer") == "fake"
        env.close()
        if self.agent_object is not None and not isinstance(self.agent_object, Agent):
            self._ask_once(agent)
        if not fake:
            self.run.check_device()
            if self.run.checkpointing:
                # Encoders load a framework.
                from dus_gym.encoders import check_checkpointing

                check_checkpointing(task.encoders)
        has_validation = True if fake else task.has_validation(self.data_root)
        make_method(self.method, self.method_options).check(len(task.modalities), has_validation=has_validation)
        if agent.needs_validation and not has_validation:
            raise UnfitAgentError(
                f"agent={self.agent!r} needs a validation split and {self.env} has none; choose one by --validation "
                "where the task offers it, or an agent that needs none, such as reinforce (the paper's) or score."
            )

    def _ask_once(self, agent: Agent) -> None:
        """Ask a policy that was handed over for one action, on made-up figures, before a run is spent on it.

        Raises:
            AgentError: if the action is none.
        """
        env = dataclasses.replace(self, trainer="fake").make_env(agent)
        agent.act(*env.reset(seed=self.seed))
        env.close()

    # -- as JSON, as words -------------------------------------------------------------------------

    def as_config(self) -> dict[str, Any]:
        """Return what a run folder's config says; two specs with the same value give the same result."""
        config: dict[str, Any] = to_json(self)
        config["run"] = to_json(dataclasses.asdict(self.run))
        if self.env == OWN_ID and self.data_root is not None:
            # Where the data lies is no part of a run, but what it is. Reading it takes libraries that most runs do not.
            from dus_gym.data.own.digest import digest_of

            config["data"] = digest_of(Path(self.data_root).expanduser())
            config["data_name"] = self.data_name
        if folder := self.folder_settings():
            config["folder_settings"] = folder
        if (digest := self.named_agent.digest) is not None:
            config["agent_digest"] = digest
        return config

    @classmethod
    def of(cls, config: Mapping[str, Any], where: str = "the run's config") -> RunSpec:
        """Return the spec that :meth:`as_config` was asked of; what else a run folder's config holds is left out.

        Raises:
            RunFolderError: for a key that is missing or a value of another type.
            ConfigError: for a setting that there is none of, or a value that can't be.
        """
        written = config.get("format", FORMAT)
        if type(written) is not int or written > FORMAT:
            raise RunFolderError(
                f"{where} has format {written!r}; this version reads up to {FORMAT}. Install a newer dus-gym."
            )
        return from_json(cls, config, where)

    def command(self) -> str:
        """Return the ``dus train`` command of this run."""
        words = ["train", *self._env_words()]
        if self.policy is not None:
            words += ["--policy", self.policy]
        elif self.agent != DEFAULT_AGENT:
            words += ["--agent", self.agent]
        words += option_words("agent.", self.agent_options) + setting_words(**self._call())
        return shlex.join(["dus", *words, *(["--seed", str(self.seed)] if self.seed else [])])

    def compare_command(self, agents: Sequence[str] | None = None, seeds: Sequence[int] | None = None) -> str:
        """Return the ``dus compare`` command with this run's settings, and the modules that this process imported.

        Args:
            agents: their words; this run's own if None, and for uniform, the reference of every comparison, those that
                a comparison has by itself.
            seeds: as many as the command takes by itself if None.
        """
        words = ["compare", *self._env_words()]
        named = agents if agents is not None else [] if self.is_uniform else [self.named_agent.word]
        words += ["--agents", ",".join(named)] if named else []
        words += [] if seeds is None else ["--seeds", said_seeds(seeds)]
        words += ["--trust"] if self.trust else []
        call = self._call()
        call.pop("action_mode", None)  # each agent of a comparison sets its own
        imports = [word for name in IMPORTED for word in ("--import", name)]
        return shlex.join(["dus", *words, *setting_words(**call), *imports])

    @property
    def is_uniform(self) -> bool:
        """True if whoever decides is the uniform split, the reference of every comparison."""
        return self.agent == REFERENCE and self.policy is None and self.agent_object is None

    def under_uniform(self) -> RunSpec:
        """Return the run of the same seed and settings under the uniform split."""
        settings = {name: value for name, value in self.settings.items() if name != "action_mode"}
        return dataclasses.replace(
            self, agent=REFERENCE, agent_options={}, policy=None, agent_object=None, settings=settings
        )

    @property
    def _own_data(self) -> str | None:
        """The data of one's own, which stands in the environment's place."""
        return self.data_root if self.env == OWN_ID else None

    def _env_words(self) -> list[str]:
        """The environment, as the first words of a command."""
        return [self.env] if self._own_data is None else ["--data", self._own_data]

    def _call(self) -> dict[str, Any]:
        """Everything that was set but environment, agent and seed."""
        return {
            "method": self.method,
            "method_options": self.method_options,
            "task_options": self.task_options,
            "trainer": self.trainer,
            "data_root": self.data_root if self._own_data is None else None,
            "threads": self.threads,
            **self.settings,
        }


def name_data(root: str | Path) -> str:
    """Return what own data is called: the stem of its file or its folder's name, of letters that any path may hold.

    Two files may have one name; which of them a run was trained on is ``data_root`` in its settings.
    """
    path = Path(os.path.abspath(Path(root).expanduser()))
    # Neither hidden, nor an option of a command, nor "..".
    return folder_of(path.stem if path.suffix == ".npz" else path.name).strip(".=-") or "data"


def setting_words(
    *,
    method: str = DEFAULT_METHOD,
    method_options: Mapping[str, Any] | None = None,
    task_options: Mapping[str, Any] | None = None,
    trainer: str | None = None,
    data_root: str | Path | None = None,
    threads: int = 1,
    **settings: Any,
) -> list[str]:
    """Return keyword arguments of :func:`dus_gym.train` or :func:`dus_gym.compare` as words of a command."""
    words = ["--method", method] if method != DEFAULT_METHOD else []
    words += option_words("method.", method_options or {}) + option_words("task.", task_options or {})
    words += ["--trainer", trainer] if trainer is not None else []
    words += ["--data-root", str(data_root)] if data_root is not None else []
    words += ["--threads", str(threads)] if threads != 1 else []
    return words + option_words("", settings)


def option_words(prefix: str, options: Mapping[str, Any]) -> list[str]:
    """Return options as words of a command line, ``--PREFIXname value``."""
    words: list[str] = []
    for name, value in options.items():
        word = name.replace("_", "-")
        flag = f"--{prefix}{word}"
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--{prefix}no-{word}")
        else:
            words += [flag, *map(str, value if isinstance(value, list | tuple) else [value])]
    return words


def make_spec(
    env: str,
    agent: Any = DEFAULT_AGENT,
    *,
    agent_options: Mapping[str, Any] | None = None,
    method: str = DEFAULT_METHOD,
    method_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    trainer: str | None = None,
    data_root: str | Path | None = None,
    task_options: Mapping[str, Any] | None = None,
    threads: int = 1,
    policy: str | None = None,
    trust: bool = False,
    **settings: Any,
) -> RunSpec:
    """Return a spec whose names and options are known to exist.

    Args:
        env: a registered id.
        agent: a name, ``NAME:option=value`` of one, a policy file, or what :func:`dus_gym.as_agent` takes.
        agent_options: by name; those in ``agent`` go before.
        method: a name, or ``NAME:option=value``.
        method_options: by name; those in ``method`` go before.
        seed: of everything: data split, initialisation, order, agent.
        trainer: ``real`` or ``fake``; the id's own if None.
        data_root: where the data set's files lie.
        task_options: the data set's options by name.
        threads: CPU threads of PyTorch.
        policy: a policy file, the name of a shipped policy or the address of one on the hub, which then is the agent.
        trust: see :class:`RunSpec`.
        settings: fields of :class:`dus_gym.config.RunConfig`.

    Raises:
        ConfigError: for an unknown name, or a value of another type.
    """
    for argument, word in (("env", env), ("method", method)):
        if not isinstance(word, str):
            raise ConfigError(f"{argument}={word!r} is not allowed; it must be text.")
    for argument, given in (
        ("agent_options", agent_options),
        ("method_options", method_options),
        ("task_options", task_options),
    ):
        if given is not None and not isinstance(given, Mapping):
            raise ConfigError(f"{argument}={given!r} is not allowed; give options by name, such as {{'lr': 0.1}}.")
    method, said = parse_word(method)
    named = name_agent(policy if policy is not None else agent)
    if twice := [
        name for name in named.options if (agent_options or {}).get(name, named.options[name]) != named.options[name]
    ]:
        raise ConfigError(
            f"{twice[0]} of agent {named.name!r} is set twice, to {named.options[twice[0]]!r} behind its name and to "
            f"{(agent_options or {})[twice[0]]!r}; leave one out."
        )
    options = {**(agent_options or {}), **named.options}
    make_method(method, {**(method_options or {}), **said})
    spec = RunSpec(
        env=env,
        agent=named.name,
        agent_options=options,
        method=method,
        method_options={**(method_options or {}), **said},
        seed=seed,
        trainer=trainer,
        data_root=None if data_root is None else str(data_root),
        task_options=dict(task_options or {}),
        settings=settings,
        threads=threads,
        policy=named.policy,
        trust=trust,
        agent_object=named.agent_object,
    )
    build_options(get_env_task(env).options_type, spec.task_options, f"option of task {get_env_task(env).name!r}:")
    if named.policy is None and named.agent_object is None:
        build_options(agent_type(named.name).options_type, options, f"option of agent {named.name!r}:")
    return spec


def parse_word(word: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of ``NAME`` or ``NAME:option=value:option=value``.

    Raises:
        ConfigError: for a word of another form.
    """
    name, *pairs = word.split(":")
    return name, parse_pairs(pairs, word)


def said_seeds(seeds: Sequence[int]) -> str:
    """Return seeds as :func:`parse_seeds` reads them, in as few words as that goes: ``5``, ``10-29``, ``3,5,8``."""
    first, last = seeds[0], seeds[-1]
    if list(seeds) != list(range(first, last + 1)):
        return ",".join(map(str, seeds))
    if len(seeds) == 1 and first > 0:
        return f"{first},"
    return str(last + 1) if first == 0 else f"{first}-{last}"


def parse_seeds(seeds: int | str | Sequence[int]) -> list[int]:
    """Return the seeds that are meant: ``N`` is 0 … N-1; text may list them, ``3,5,8`` or ``0-9``.

    Raises:
        ConfigError: for anything else, and for repeats: a repeat adds no evidence.
    """
    given = f"seeds={seeds!r} is not allowed; "
    try:
        if isinstance(seeds, str) and ("," in seeds or "-" in seeds):
            found: list[int] = []
            for part in seeds.strip(",").split(","):
                first, dash, last = part.partition("-")
                found += range(int(first), int(last) + 1) if dash else [int(first)]
        elif isinstance(seeds, int | str):
            found = list(range(int(seeds)))
        else:
            found = [int(seed) for seed in seeds]
    except (ValueError, TypeError):
        raise ConfigError(given + "give a number of seeds, or seeds as 3,5,8 or 0-9.") from None
    if not found:
        raise ConfigError(given + "it names no seed.")
    if len(set(found)) != len(found):
        raise ConfigError(given + "a seed may be named once: a repeat adds no evidence.")
    return found
