"""Agents × methods × tasks × seeds: each agent against the uniform split on the same seeds."""

from __future__ import annotations

import dataclasses
import shlex
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dus_gym.agents import RECOMMENDED
from dus_gym.data.surveys import surveys_kept
from dus_gym.errors import ConfigError, UnfitAgentError
from dus_gym.experiments.comparison import REFERENCE, Comparison, compare_results, conclude, equal_total
from dus_gym.experiments.drivers import agent_names, learns_in_runs, name_agent
from dus_gym.experiments.executors.executor import Executor, ScaleOptions, open_executor
from dus_gym.experiments.results import Result
from dus_gym.experiments.run_many import PlannedRun, finished, run_all, told
from dus_gym.experiments.spec import DEFAULT_METHOD, RunSpec, make_spec, parse_seeds, setting_words
from dus_gym.experiments.storage.comparison_folder import hold_folder, write_comparison
from dus_gym.experiments.storage.run_folder import COMPARISON, folder_of, listing
from dus_gym.options import with_said

DEFAULT_AGENTS = ("heuristic", "score", "reinforce", RECOMMENDED, "reversed", "random", "best-fixed", "lr-matched")
"""What users ask about, and every control; uniform is always there."""
EQUAL_SAMPLES = "uniform-at-equal-samples"
"""Beside an agent's runs: uniform's, at as many samples."""

Progress = Callable[[str, int], AbstractContextManager[Callable[..., Any]]]
"""Makes a bar from a label and a number of runs; what it yields is called after each run with a text and, where it was
finished before, True."""


def compare(
    env: str | Sequence[str],
    agents: str | Sequence[Any] | None = None,
    *,
    method: str | Sequence[str] = DEFAULT_METHOD,
    seeds: int | str | Sequence[int] = 5,
    out: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    scale: ScaleOptions | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Comparison:
    """Compare agents over seeds, paired with the uniform split.

        comparison = dus_gym.compare("DUS-Digits-v0", agents=["holdout", my_agent], seeds=10)
        print(comparison.verdict)

    Args:
        env: one or more registered ids.
        agents: names, ``NAME:option=value`` of them, policy files, or what :func:`dus_gym.as_agent` takes, one or
            several; uniform is always added. None: four agents and all controls.
        method: one or more, each ``NAME`` or ``NAME:option=value``.
        seeds: a number of seeds (5 means 0 to 4), or the seeds themselves.
        out: the folder that keeps the comparison and its runs; None: a temporary one, deleted with the comparison.
        resume: go on with the comparison that is in the folder.
        force: replace the comparison that is in the folder.
        scale: how many runs go on at once and where; one after another in this process if None.
        progress: shows how far it is.
        settings: as for :func:`dus_gym.train`.

    Raises:
        DusError: for what can't be, before anything is run and before a folder is touched.
    """
    with surveys_kept():
        plans = plan_comparison(env, agents, method=method, seeds=seeds, **settings)
        scratch = None
        if out is None:
            scratch = tempfile.TemporaryDirectory(prefix="dus-compare-")
            out = scratch.name
        path = Path(out)
        comparison = run_comparison(plans, lambda: path, resume=resume, force=force, scale=scale, progress=progress)
    return dataclasses.replace(comparison, scratch=scratch)


def run_comparison(
    plans: Sequence[TaskPlan],
    out: Callable[[], Path],
    *,
    resume: bool = False,
    force: bool = False,
    scale: ScaleOptions | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run what was planned; see :func:`compare`.

    Args:
        plans: of :func:`plan_comparison`.
        out: returns the folder. Asked once the executor is there: a cluster that does not answer leaves no folder.
        resume: see :func:`compare`, as the others.
        force: see there.
        scale: see there.
        progress: see there.
    """
    first = plans[0].first
    with (
        open_executor(scale or ScaleOptions(), threads=first.threads, device=first.run.device) as executor,
        ExitStack() as held,
    ):
        path = out()
        folders = hold_comparison(held, plans, path, resume=resume, force=force)
        parallel = (scale or ScaleOptions()).parallel_runs
        comparison = conclude(_run(plans, path, folders, executor, progress, parallel), path)
        if len(plans) > 1:
            for part, folder in zip(comparison.parts, folders, strict=True):
                write_comparison(folder, Comparison((part,)))
        write_comparison(path, comparison)
    return comparison


@dataclass(frozen=True)
class TaskPlan:
    """The runs of several agents on one task under one method."""

    specs: Mapping[tuple[str, int], RunSpec]
    """By agent's word and seed."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Agents that can't run here, with the reason."""

    @property
    def first(self) -> RunSpec:
        """One of the specs."""
        return next(iter(self.specs.values()))

    @property
    def agents(self) -> list[str]:
        """The agents' words."""
        return list(dict.fromkeys(name for name, _ in self.specs))

    @property
    def seeds(self) -> list[int]:
        """The seeds."""
        return list(dict.fromkeys(seed for _, seed in self.specs))

    @property
    def name(self) -> Path:
        """The folder below a comparison of several."""
        return Path(self.first.task_name) / folder_of(with_said(self.first.method, self.first.method_options))


def plan_comparison(
    env: str | Sequence[str],
    agents: str | Sequence[Any] | None = None,
    *,
    method: str | Sequence[str] = DEFAULT_METHOD,
    seeds: int | str | Sequence[int] = 5,
    agent_runs: int | None = None,
    **settings: Any,
) -> list[TaskPlan]:
    """Return every task under every method, checked; nothing is run.

    Where whoever asked named neither one method nor the agents, an agent that can't steer a method or task is left out
    there and the comparison says why; what was asked for by name is an error.

    Args:
        env: see :func:`compare`, as the others.
        agents: see there.
        method: see there.
        seeds: see there.
        agent_runs: training runs of agents that learn before the run that counts; 20 if None.
        settings: as for :func:`dus_gym.train`.

    Raises:
        ConfigError: for what can't be.
    """
    envs, method_words, numbers = _each("env", env), _each("method", method), parse_seeds(seeds)
    if "agent_options" in settings:
        raise ConfigError("agent_options are not allowed for several agents; write them behind one: NAME:option=value.")
    named = _named(agents)
    lenient = agents is None or len(envs) * len(method_words) > 1
    plans = []
    for one_env in envs:
        for one_method in method_words:
            specs: dict[tuple[str, int], RunSpec] = {}
            left_out: dict[str, str] = {}
            for word, agent in named.items():
                spec = make_spec(
                    one_env,
                    agent,
                    method=one_method,
                    seed=numbers[0],
                    agent_options=_with_runs(agent, agent_runs),
                    **settings,
                )
                try:
                    spec.check()
                except UnfitAgentError as error:
                    if not lenient:
                        raise
                    left_out[word] = str(error)
                else:
                    specs |= {(word, seed): dataclasses.replace(spec, seed=seed) for seed in numbers}
            if len(left_out) == len(named) - 1 > 0 and len(envs) * len(method_words) == 1:
                raise ConfigError(next(iter(left_out.values())))
            plans.append(TaskPlan(specs, left_out))
    return plans


def hold_comparison(
    held: ExitStack, plans: Sequence[TaskPlan], out: Path, *, resume: bool = False, force: bool = False
) -> list[Path]:
    """Hold the folder of a comparison, and those of its parts if there are several; return one a plan."""
    held.enter_context(hold_folder(out, _config(plans), resume=resume, force=force))
    if len(plans) == 1:
        return [out]
    folders = [out / plan.name for plan in plans]
    for plan, folder in zip(plans, folders, strict=True):
        held.enter_context(hold_folder(folder, _config([plan]), resume=bool(listing(folder))))
    return folders


def _run(
    plans: Sequence[TaskPlan],
    out: Path,
    folders: Sequence[Path],
    executor: Executor,
    progress: Progress | None,
    parallel_runs: str,
) -> list[Any]:
    """Run everything, then uniform at equal samples, and return what came out, one part a plan."""
    label = plans[0].first.task_name if len(plans) == 1 else f"{len(plans)} comparisons"

    def run(wanted: Sequence[PlannedRun], what: str) -> dict[Path, Result]:
        bar: Any = nullcontext(lambda *_: None) if progress is None else progress(what, len(wanted))
        with bar as advance:
            found = run_all(wanted, executor, lambda one, of, kept: advance(told(one, of), kept), parallel_runs)
        return dict(zip([one.folder for one in wanted], found, strict=True))

    planned = [
        {key: PlannedRun(spec, folder / folder_of(key[0]) / f"seed{key[1]}") for key, spec in plan.specs.items()}
        for plan, folder in zip(plans, folders, strict=True)
    ]
    # A run of other settings is refused before anything is touched.
    for of_plan in planned:
        for one in of_plan.values():
            finished(one)
    # From here on the old results do not belong to the runs beside them.
    for folder in {out, *folders}:
        (folder / COMPARISON).unlink(missing_ok=True)
    done = run([one for of_plan in planned for one in of_plan.values()], label)
    results = [{key: done[one.folder] for key, one in of_plan.items()} for of_plan in planned]
    references = [_at_equal_samples(*those) for those in zip(plans, folders, results, strict=True)]
    if extra := [one for by_name in references for ones in by_name.values() for one in ones]:
        done |= run(extra, f"{label}, uniform at equal samples")
    return [
        compare_results(
            plan.agents,
            plan.seeds,
            of_plan,
            {name: [done[one.folder] for one in ones] for name, ones in by_name.items()},
            plan.left_out,
        )
        for plan, of_plan, by_name in zip(plans, results, references, strict=True)
    ]


def _at_equal_samples(
    plan: TaskPlan, folder: Path, results: Mapping[tuple[str, int], Result]
) -> dict[str, list[PlannedRun]]:
    """Uniform's runs with so few samples per iteration that it sees as many as an agent that sees fewer, by agent."""
    found: dict[str, list[PlannedRun]] = {}
    for name in plan.agents:
        mine, uniform = ([results[agent, seed] for seed in plan.seeds] for agent in (name, REFERENCE))
        if (settings := equal_total(mine, uniform)) is None:
            continue
        total, iterations = settings
        found[name] = []
        for seed in plan.seeds:
            spec = plan.specs[REFERENCE, seed]
            same = {**spec.settings, "total_batch": total, "iterations": iterations}
            path = folder / folder_of(name) / EQUAL_SAMPLES / f"seed{seed}"
            found[name].append(PlannedRun(dataclasses.replace(spec, settings=same), path))
    return found


def _named(agents: str | Sequence[Any] | None) -> dict[str, Any]:
    """The agents by their words, uniform first; two objects that go by one name are told apart by a number."""
    asked = DEFAULT_AGENTS if agents is None else each_agent(agents)
    found: dict[str, Any] = {REFERENCE: REFERENCE}
    for agent in asked:
        if agent == "" or agent is None:
            continue
        named = name_agent(agent)
        word = named.word
        if named.agent_object is not None:
            # An object is never taken for an agent or a control of that name.
            number = 1
            while word in found or word in agent_names():
                number += 1
                word = f"{named.word}-{number}"
        found.setdefault(word, agent)
    return found


def each_agent(agents: Any) -> list[Any]:
    """Return agents one by one: of text between commas, of a sequence, or the only one."""
    if isinstance(agents, str):
        return agents.split(",")
    return list(agents) if isinstance(agents, Sequence) else [agents]


def _with_runs(agent: Any, runs: int | None) -> dict[str, Any] | None:
    """Options that ``agent_runs`` stands for, where the agent learns in runs of its own."""
    return None if runs is None or not learns_in_runs(name_agent(agent).name) else {"runs": runs}


def _each(argument: str, words: str | Iterable[str]) -> list[str]:
    """The words of a list, or between commas.

    Raises:
        ConfigError: for a repeat, or none at all.
    """
    parts = words.split(",") if isinstance(words, str) else list(words)
    parts = [part.removeprefix("dus_gym:") for part in parts]
    if not parts or len(set(parts)) != len(parts):
        raise ConfigError(f"{argument}={words!r} is not allowed; name at least one, each once.")
    return parts


def _config(plans: Sequence[TaskPlan]) -> dict[str, Any]:
    """Return what a comparison's config says; "agents" tells it from a run's."""
    settings: dict[str, Any] = {"command": "compare", "agents": plans[0].agents, "seeds": plans[0].seeds}
    if len(plans) == 1:
        return settings | {"first": plans[0].first.as_config()}
    return settings | {"comparisons": [plan.first.as_config() for plan in plans]}


def compare_command(
    env: str, agents: Sequence[str], *, seeds: int | str | Sequence[int] | None = None, **call: Any
) -> str:
    """Return the ``dus compare`` command of a call of :func:`compare`.

    Args:
        env: see there; any word, such as ``TASK``, where the command is a pattern.
        agents: their words.
        seeds: see there; as many as the command takes by itself if None.
        call: see there.
    """
    words = ["compare", env, "--agents", ",".join(agents)]
    if seeds is not None:
        many = isinstance(seeds, Sequence) and not isinstance(seeds, str)
        words += ["--seeds", ",".join(map(str, seeds)) + "," if many else str(seeds)]  # type: ignore[arg-type]
    return shlex.join(["dus", *words, *setting_words(**call)])
