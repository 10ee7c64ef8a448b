"""``dus train``: one run under an agent."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from dus_gym.agents.policy_files import read_policy
from dus_gym.cli.options import CommonOptions, changed, env_among, env_and_root, parse, with_options, word_after
from dus_gym.cli.tables import live_run, run_table, show_log
from dus_gym.config import RunConfig
from dus_gym.envs.dus_env import DUSEnv
from dus_gym.errors import ConfigError, UnfitAgentError
from dus_gym.experiments.drivers import agent_type
from dus_gym.experiments.loggers import check_logger, open_logger
from dus_gym.experiments.run import RunRequest, execute
from dus_gym.experiments.storage.run_folder import RunFolder, latest, unused
from dus_gym.methods import method_class, unpaired_methods


@dataclass(frozen=True)
class TrainOptions(CommonOptions):
    """Options of ``dus train``."""

    agent: str = "reinforce"
    """Who decides the batch sizes."""
    policy: str | None = None
    """A saved policy, which then is the agent: a file of `dus meta-train` or of an agent's save(), or the name of
    one that comes with the package (gain, gap)."""
    seed: int = 0
    """Seed of everything: data split, initialisation, order, agent."""
    log: str | None = None
    """Also writes every step to tensorboard (files in the run folder) or to wandb (Weights & Biases; offline unless
    WANDB_MODE says otherwise)."""


def main(words: list[str]) -> None:
    """Trains, writes the run folder and prints the table."""
    agent = _agent_named(words)
    arguments = with_options(TrainOptions, word_after(words, "--method", "baseline"), agent, env_among(words))
    options: Any = parse(arguments, words, "train", "Train one multimodal run under an agent.")
    if options.agent_runs is not None and (options.policy or not learns_in_runs(agent)):
        raise ConfigError(
            f"agent_runs={options.agent_runs}: "
            + (
                f"policy={options.policy!r} is trained already"
                if options.policy
                else f"agent {agent!r} has no training"
            )
            + " runs before the one that counts; leave it out."
        )
    request = request_of(options, agent, _changed(options, "agent_options"), options.seed)
    request = dataclasses.replace(request, policy=options.policy)
    check(request)
    check_logger(options.log)
    default = Path("runs") / request.env / f"{request.agent}-{request.method}-seed{request.seed}"
    config = {"command": "train"} | request.as_config()
    if options.resume:
        folder = RunFolder.resume(options.out or latest(default), config)
    else:
        folder = RunFolder.create(options.out or unused(default), config, force=options.force)
    console = Console(quiet=options.quiet)
    show_log(console)
    with folder:
        summary = folder.summary()
        if summary is None:
            logger = open_logger(options.log, folder)
            with live_run(console, request.env) as show, logger:

                def on_step(core: DUSEnv, record: dict[str, Any]) -> None:
                    show(core, record)
                    logger.step(record)

                summary = execute(request, folder, on_step=on_step, keep_model=True)
                logger.end(summary)
    if not options.quiet:
        run_table(console, summary)
        console.print(f"written to {folder.path}", soft_wrap=True)
    if options.json:
        print(json.dumps(summary, allow_nan=False))


def _agent_named(words: list[str]) -> str:
    """The agent of ``--agent``, or the one that ``--policy`` holds."""
    policy, named = word_after(words, "--policy", ""), word_after(words, "--agent", "")
    if not policy:
        return named or TrainOptions.agent
    found: str = read_policy(policy)["agent"]
    if named and named != found:
        raise ConfigError(f"agent={named!r} is not allowed: policy={policy!r} holds agent {found!r}; leave one out.")
    return found


def request_of(options: Any, agent: str, agent_options: dict[str, Any], seed: int) -> RunRequest:
    """The run that parsed options ask for, under one agent and seed."""
    run: RunConfig = options.run
    env, root = env_and_root(options)
    if options.agent_runs is not None and learns_in_runs(agent):
        agent_options = {"runs": options.agent_runs} | agent_options
    return RunRequest(
        env=env,
        agent=agent,
        agent_options=agent_options,
        method=options.method,
        method_options=_changed(options, "method_options"),
        seed=seed,
        trainer=options.trainer,
        data_root=None if root is None else str(root),
        task_options=task_options(options),
        run=run,
        threads=options.threads,
    )


def task_options(options: Any) -> dict[str, Any]:
    """The data set's options that were set, ``--validation`` and ``--encoder`` among them."""
    named = {name: getattr(options, name) for name in ("validation", "encoder") if getattr(options, name) is not None}
    return _changed(options, "task_options") | named


def learns_in_runs(agent: str) -> bool:
    """Whether ``--agent-runs`` means something to an agent."""
    return any(field.name == "runs" for field in dataclasses.fields(agent_type(agent).options_type))


def check(request: RunRequest) -> None:
    """Everything that can be refused is refused here, before a folder is made.

    Raises:
        UnfitAgentError: if another agent could do it.
        DusError: for anything else that can't be.
    """
    agent = request.make_agent(len(request.task().modalities))
    if not (method_class(request.method).supports_unpaired or agent.equal_batches):
        raise UnfitAgentError(
            f"agent={request.agent!r} gives modalities unequal batches, and method={request.method!r} needs every "
            f"sample in all modalities; use agent 'uniform', or one of the methods {', '.join(unpaired_methods())}."
        )
    env = request.make_env(agent)
    # Missing data sets and impossible settings show at reset, which is cheap.
    env.reset(seed=request.seed)
    has_validation = env.get_wrapper_attr("run").has_validation
    env.close()
    if agent.needs_validation and not has_validation:
        raise UnfitAgentError(
            f"agent={request.agent!r} needs a validation split and {request.env} has none; choose one by --validation "
            "where the task offers it, or another agent."
        )


def _changed(options: Any, name: str) -> dict[str, Any]:
    """The options of the agent or method that were set; none if it has none."""
    return changed(getattr(options, name)) if hasattr(options, name) else {}
