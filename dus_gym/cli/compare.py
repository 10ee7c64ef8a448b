"""``dus compare``: agents side by side over seeds, each against the uniform split on the same seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from dus_gym.cli.experiment import RunRequest, execute
from dus_gym.cli.options import CommonOptions, env_among, parse, parse_agent, parse_seeds, with_options, word_after
from dus_gym.cli.tables import comparison_table, progress_over, show_log
from dus_gym.cli.train import check, request_of
from dus_gym.errors import RunFolderError
from dus_gym.lock import FileLock
from dus_gym.records import FUSED_PREDICTORS
from dus_gym.runs import (
    COMPARISON,
    CONFIG,
    FORMAT,
    MARK,
    RunFolder,
    as_json,
    clear,
    is_ours,
    latest,
    listing,
    lock,
    unused,
    writing,
)
from dus_gym.state import write_atomically
from dus_gym.statistics import mean_std, paired

REFERENCE = "uniform"
DEFAULT_AGENTS = "uniform,heuristic,score,reinforce"
METRICS = ("accuracy", "map", "macro_f1")
CONTROLS = ("random", "best-fixed", "lr-matched")
"""What a gain must beat before it is one of choosing batch sizes: chance, a constant, learning rates."""
AGENTS_OWN = ("action_mode", "interval")
"""Settings that follow from the agent, so that they differ within one comparison."""


@dataclass(frozen=True)
class CompareOptions(CommonOptions):
    """Options of ``dus compare``."""

    agents: str = DEFAULT_AGENTS
    """Agents, separated by commas; uniform is always added as the reference. Options of one agent go behind
    colons: reinforce:policy=literal."""
    seeds: str = "5"
    """A number of seeds (5 means 0 to 4), or the seeds themselves: 3,5,8 or 100-129."""


def main(words: list[str]) -> None:
    """Runs every agent on every seed and prints the table."""
    arguments = with_options(CompareOptions, word_after(words, "--method", "baseline"), env=env_among(words))
    options: Any = parse(arguments, words, "compare", "Compare agents over seeds, paired with uniform.")
    seeds = parse_seeds(options.seeds)
    names = list(dict.fromkeys([REFERENCE, *filter(None, options.agents.split(","))]))
    requests = {(name, seed): request_of(options, *parse_agent(name), seed) for name in names for seed in seeds}
    for name in names:
        check(requests[name, seeds[0]])
    first = requests[REFERENCE, seeds[0]]
    default = Path("runs") / first.env / f"compare-{first.method}"
    out = options.out or (latest(default) if options.resume else unused(default))
    settings = {"command": "compare", "agents": names, "seeds": seeds, "first": first.as_config()}
    console = Console(quiet=options.quiet)
    show_log(console)
    summaries: dict[tuple[str, int], dict[str, Any]] = {}
    held = _prepare(out, settings, resume=options.resume, force=options.force)
    try:
        with progress_over(console, first.env, len(requests)) as advance:
            for (name, seed), request in requests.items():
                path = out / re.sub(r"[^\w.=-]+", "-", name) / f"seed{seed}"
                summaries[name, seed] = _run(request, path, options.resume)
                advance(f"{name}, seed {seed}")
        result = compare(names, seeds, summaries)
        with writing(out / COMPARISON):
            write_atomically(out / COMPARISON, as_json(result))
    finally:
        held.release()
    if not options.quiet:
        comparison_table(console, result)
        console.print(f"written to {out}", soft_wrap=True)
    if options.json:
        print(json.dumps(result, allow_nan=False))


def _prepare(out: Path, settings: dict[str, Any], *, resume: bool, force: bool) -> FileLock:
    """Refuses a folder that holds something else; otherwise holds one without a result, ready for runs."""
    found = listing(out)
    if found:
        if not is_ours(out, "compare"):
            raise RunFolderError(f"out={out} is not empty and holds no comparison; give another folder.")
        if not (resume or force):
            raise RunFolderError(
                f"out={out} holds another comparison; give another folder, --resume to continue it, "
                "or --force to replace its runs."
            )
    elif resume:
        raise RunFolderError(f"out={out} holds no comparison to resume; leave out --resume to start one.")
    try:
        held = lock(out)
    except OSError as error:
        if isinstance(error, RunFolderError):
            raise
        raise RunFolderError(f"out={out} can't be used ({error}); give another folder.") from error
    try:
        # From here on the old result does not belong to the runs beside it.
        (out / COMPARISON).unlink(missing_ok=True)
        if found and force:
            for run in sorted(out.glob("*/seed*")):
                if is_ours(run):
                    clear(run)
                    if not listing(run):
                        run.rmdir()
                if not listing(run.parent):
                    run.parent.rmdir()
        write_atomically(out / CONFIG, as_json(MARK | settings))
    except BaseException:
        held.release()
        raise
    return held


def _run(request: RunRequest, path: Path, resume: bool) -> dict[str, Any]:
    """One run of the comparison; a finished one of the same settings is not run again."""
    config = {"command": "compare"} | request.as_config()
    resumed = resume and (path / CONFIG).is_file()
    with RunFolder.resume(path, config) if resumed else RunFolder.create(path, config, force=True) as folder:
        return folder.summary() or execute(request, folder)


def compare(
    names: Sequence[str], seeds: Sequence[int], summaries: dict[tuple[str, int], dict[str, Any]]
) -> dict[str, Any]:
    """Means, deviations and paired differences to uniform, from the runs' summaries."""

    def figures(name: str, predictor: str, metric: str) -> list[float] | None:
        rows = [summaries[name, seed]["fused"][predictor] for seed in seeds]
        return None if any(row is None for row in rows) else [row[metric] for row in rows]

    agents: dict[str, Any] = {}
    for name in names:
        runs = [summaries[name, seed] for seed in seeds]
        fused: dict[str, Any] = {}
        against: dict[str, Any] = {}
        for predictor in FUSED_PREDICTORS:
            columns = {metric: figures(name, predictor, metric) for metric in METRICS}
            reference = figures(REFERENCE, predictor, "accuracy")
            accuracy = columns["accuracy"]
            if accuracy is None or reference is None:
                fused[predictor] = against[predictor] = None
                continue
            fused[predictor] = {metric: mean_std(column) for metric, column in columns.items() if column is not None}
            against[predictor] = {"points": 0.0, "p": None} if name == REFERENCE else paired(accuracy, reference)
        agents[name] = {
            "fused": fused,
            "gap": mean_std([run["gap"] for run in runs]),
            "samples": sum(run["samples"] for run in runs) / len(runs),
            "iterations": sum(run["iterations"] for run in runs) / len(runs),
            "training_runs": sum(run["training_runs"] for run in runs) / len(runs),
            "diverged": sum(run["diverged"] for run in runs),
            "vs_uniform": against,
        }
    one = summaries[names[0], seeds[0]]
    return {
        "format": FORMAT,
        "env": one["env"],
        "method": one["method"],
        "method_options": one["method_options"],
        "seeds": list(seeds),
        "trainer": one["trainer"],
        "data_kind": one["data_kind"],
        "select": one["select"],
        "settings": {key: value for key, value in one["settings"].items() if key not in AGENTS_OWN},
        "missing_controls": [control for control in CONTROLS if not any(n.startswith(control) for n in names)],
        "version": one["version"],
        "agents": agents,
    }
