"""``dus train``: one run under an agent."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dus_gym.cli.arguments import parse
from dus_gym.cli.console import open_console
from dus_gym.cli.progress import live_run
from dus_gym.cli.run_options import AGENT, METHOD, OWN_AGENT, TASK, OutputOptions, TaskOptions, beneath, call_arguments
from dus_gym.cli.tables import print_command, print_data, print_prose, print_result, show_log
from dus_gym.config import RunConfig
from dus_gym.errors import ConfigError
from dus_gym.experiments.drivers import agent_names, learns_in_runs, name_agent
from dus_gym.experiments.loggers import LOGGERS, check_logger, open_logger
from dus_gym.experiments.spec import DEFAULT_AGENT, REFERENCE, RunSpec, make_spec
from dus_gym.experiments.storage.run_folder import PICTURE, RunFolder, latest, unused
from dus_gym.experiments.table import duration
from dus_gym.experiments.verdict import say_run

if TYPE_CHECKING:
    from rich.console import Console

    from dus_gym.envs.dus_env import DUSEnv
    from dus_gym.experiments.results import Result


BESIDE_SECONDS = 60.0
"""Uniform is trained beside an agent where that takes less, judged by the agent's own run."""


@dataclass(frozen=True)
class TrainOptions:
    """The agent and the run."""

    agent: str = field(
        default=DEFAULT_AGENT,
        metadata={"common": "Who decides the batch sizes; `dus agents` says more.", "choices": agent_names},
    )
    """Who decides the batch sizes; `dus agents` says more. Also the path of a policy file."""
    policy: str | None = field(
        default=None, metadata={"common": "A saved policy (a file or hf://OWNER/NAME) as the agent."}
    )
    """A saved policy, which then is the agent: a file of `dus meta-train` or of a run that learned, the name of one
    that comes with the package (gain, gap), or one on the Hugging Face hub (hf://OWNER/NAME)."""
    seed: int = field(default=0, metadata={"common": "Seed of everything: the same one gives the same run."})
    """Seed of everything: data split, initialisation, order, agent."""
    alone: bool = field(default=False, metadata={"common": "Do not also train uniform beside the agent."})
    """Do not also train uniform, which a run of less than a minute is otherwise set beside (never with --quiet)."""
    log: str | None = field(default=None, metadata={"choices": LOGGERS})
    """Also write every step to tensorboard (files in the run folder) or to wandb (Weights & Biases; offline unless
    WANDB_MODE says otherwise)."""


def main(words: list[str]) -> None:
    """Train, write the run folder and print the table."""
    parsed = parse(
        words,
        "train",
        "Train one run under an agent.",
        TrainOptions,
        TaskOptions,
        OutputOptions,
        RunConfig,
        groups={"agent": AGENT, "method": METHOD, "task": TASK},
        beneath=beneath,
        epilog=OWN_AGENT.format(flag="--agent"),
    )
    options, output = parsed.build(TrainOptions), parsed.build(OutputOptions)

    from dus_gym.experiments.run import execute

    call = call_arguments(parsed)
    agent_options = parsed.group("agent")
    runs = parsed.build(TaskOptions).agent_runs
    if options.policy is not None and "agent" in parsed.given(TrainOptions):
        found = name_agent(options.policy).name
        if options.agent != found:
            raise ConfigError(
                f"agent={options.agent!r} is not allowed: policy={options.policy!r} holds agent {found!r}; leave one "
                "out."
            )
    if runs is not None:
        if options.policy is not None or not learns_in_runs(name_agent(options.agent).name):
            why = (
                f"policy={options.policy!r} is trained already"
                if options.policy is not None
                else f"agent {options.agent!r} has no training runs before the one that counts"
            )
            raise ConfigError(f"agent_runs={runs} is not allowed: {why}; leave it out.")
        agent_options = {"runs": runs} | agent_options
    spec = make_spec(agent=options.agent, policy=options.policy, seed=options.seed, agent_options=agent_options, **call)
    check_logger(options.log)
    spec.check()
    console = open_console(quiet=output.quiet)
    show_log(console)
    print_data(console, spec)
    with _folder(spec, output) as folder:
        result = folder.result()
        if result is None:
            logger = open_logger(options.log, folder)
            with live_run(console, spec.task_name) as view, logger:

                def on_step(core: DUSEnv, record: Any) -> None:
                    view.step(core, record)
                    logger.step(record)

                result = execute(spec, folder, on_step=on_step, on_prior=view.prior, keep_model=True)
                logger.end(result)
    if not output.quiet:
        print_result(console, result)
        _conclude(console, spec, result, alone=options.alone)
        print_prose(console, f"written to {folder.path}, the picture of the run to {folder.path / PICTURE}")
        print_command(console, "next: ", spec.compare_command())
    if output.json:
        print(json.dumps(result.to_json(), allow_nan=False))


def _conclude(console: Console, spec: RunSpec, result: Result, *, alone: bool) -> None:
    """Print in one sentence what the run reached, beside uniform's run where that takes less than a minute.

    Uniform's run is made for this sentence alone: nothing of it is kept, in the run's folder or elsewhere.
    """
    word, uniform = spec.named_agent.word, None
    # What deciding took, and the runs made for it, uniform does not spend.
    seconds = result.seconds - result.agent_seconds
    beside = not alone and not spec.is_uniform and result.accuracy is not None
    if beside and seconds < BESIDE_SECONDS:
        from dus_gym.experiments.run import execute

        with live_run(console, f"{spec.task_name}, {REFERENCE} beside it") as view:
            uniform = execute(spec.under_uniform(), on_step=view.step)
    console.print()
    print_prose(console, say_run(word, result, uniform), style="bold")
    if beside and uniform is None:
        print_prose(
            console,
            f"{REFERENCE} was not trained beside it: that would take about {duration(seconds)}. The command below "
            "compares the two over seeds.",
        )


def _folder(spec: RunSpec, output: OutputOptions) -> RunFolder:
    """The run's folder: the one that is named, or one of its own below runs/."""
    config = {"command": "train"} | spec.as_config()
    agent = spec.agent if spec.policy is None else Path(spec.policy).stem
    default = Path("runs") / spec.task_name / f"{agent}-{spec.method}-seed{spec.seed}"
    if output.resume:
        return RunFolder.resume(output.out or latest(default), config)
    return RunFolder.create(output.out or unused(default), config, force=output.force)
