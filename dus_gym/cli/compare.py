"""``dus compare``: agents × methods × tasks × seeds, each agent against the uniform split on the same seeds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from dus_gym.cli.options import (
    CommonOptions,
    env_among,
    parse,
    parse_agent,
    parse_method,
    parse_seeds,
    with_options,
    word_after,
)
from dus_gym.cli.tables import print_comparison, progress_over, show_log
from dus_gym.cli.train import check, request_of
from dus_gym.errors import ConfigError, UnfitAgentError
from dus_gym.experiments.comparison import REFERENCE, Comparison, compare_results, conclude, equal_total
from dus_gym.experiments.executors.executor import Executor, ScaleOptions, open_executor
from dus_gym.experiments.results import Result
from dus_gym.experiments.run import RunRequest
from dus_gym.experiments.run_many import Run, run_all
from dus_gym.experiments.storage.comparison_folder import prepare, write_result
from dus_gym.experiments.storage.run_folder import folder_of, latest, listing, unused
from dus_gym.options import with_said

DEFAULT_AGENTS = "heuristic,score,reinforce,reversed,random,best-fixed,lr-matched"
"""What users ask about, and every control of DESIGN.md, section 5.4; uniform is always there."""
EQUAL_SAMPLES = "uniform-at-equal-samples"
"""Beside an agent's runs: uniform's, at as many samples."""


@dataclass(frozen=True)
class CompareOptions(ScaleOptions, CommonOptions):
    """Options of ``dus compare``."""

    agents: str | None = None
    """Agents, separated by commas; uniform is always added as the reference. Options of one agent go behind
    colons: reinforce:policy=literal. If not given: heuristic, score, reinforce and all controls."""
    full: bool = False
    """Print every column: each way of fusing and each modality, the gap, p-values and costs."""
    seeds: str = "5"
    """A number of seeds (5 means 0 to 4), or the seeds themselves: 3,5,8 or 100-129."""


@dataclass(frozen=True)
class Cell:
    """One task under one method: what one comparison is of."""

    env: str
    """The id."""
    method: str
    """The method's name."""
    requests: Mapping[tuple[str, int], RunRequest]
    """What to run, by agent and seed."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Agents that can't run here, with the reason."""

    @property
    def names(self) -> list[str]:
        """The agents."""
        return list(dict.fromkeys(name for name, _ in self.requests))

    @property
    def seeds(self) -> list[int]:
        """The seeds."""
        return list(dict.fromkeys(seed for _, seed in self.requests))


def main(words: list[str]) -> None:
    """Makes every run and prints the tables and what they say."""
    method = word_after(words, "--method", "baseline")
    several = "," in method or ":" in method
    arguments = with_options(CompareOptions, None if several else method, env=env_among(words))
    options: Any = parse(arguments, words, "compare", "Compare agents over seeds, paired with uniform.")
    seeds = parse_seeds(options.seeds)
    asked = DEFAULT_AGENTS if options.agents is None else options.agents
    names = list(dict.fromkeys([REFERENCE, *filter(None, asked.split(","))]))
    cells = cells_of(options, names, seeds)
    console = Console(quiet=options.quiet)
    show_log(console)
    device = options.run.device
    # Before any folder is touched: a cluster that does not answer costs nothing.
    with open_executor(options, threads=options.threads, device=device) as executor, ExitStack() as held:
        out = _folder(options, cells)
        held.enter_context(prepare(out, _settings(cells), resume=options.resume, force=options.force))
        folders = [out if len(cells) == 1 else out / cell.env / folder_of(_said(cell)) for cell in cells]
        if len(cells) > 1:
            for cell, folder in zip(cells, folders, strict=True):
                held.enter_context(prepare(folder, _settings([cell]), resume=bool(listing(folder))))
        comparison = run_cells(cells, folders, executor, console)
        for part, folder in zip(comparison.parts, folders, strict=True):
            write_result(folder, part.to_json())
        if len(cells) > 1:
            write_result(out, comparison.to_json())
    if not options.quiet:
        print_comparison(console, comparison, full=options.full)
        console.print(f"written to {out}", soft_wrap=True)
    if options.json:
        print(json.dumps(comparison.to_json(), allow_nan=False))


def cells_of(options: Any, names: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """Every task under every method, checked; nothing is run.

    Where the user named neither one method nor the agents, an agent that can't steer a method or task is left out
    there and the result says why; what was asked for by name is an error.

    Raises:
        ConfigError: for what can't be.
    """
    envs, methods = _parts("env", options.env), _parts("method", options.method)
    agents = {name: parse_agent(name) for name in names}
    lenient = options.agents is None or len(envs) * len(methods) > 1
    cells = []
    for env in envs:
        for word in methods:
            method, method_options = parse_method(word)
            one = dataclasses.replace(options, env=env, method=method)
            requests: dict[tuple[str, int], RunRequest] = {}
            left_out: dict[str, str] = {}
            for name in names:
                mine = {(name, seed): request_of(one, *agents[name], seed) for seed in seeds}
                if method_options:
                    mine = {k: dataclasses.replace(r, method_options=method_options) for k, r in mine.items()}
                try:
                    check(mine[name, seeds[0]])
                except UnfitAgentError as error:
                    if not lenient:
                        raise
                    left_out[name] = str(error)
                else:
                    requests |= mine
            if len(left_out) == len(names) - 1 > 0 and len(envs) * len(methods) == 1:
                raise ConfigError(next(iter(left_out.values())))
            first = requests[REFERENCE, seeds[0]]
            cells.append(Cell(first.env, method, requests, left_out))
    return cells


def run_cells(cells: Sequence[Cell], folders: Sequence[Path], executor: Executor, console: Console) -> Comparison:
    """Makes every run, then uniform's at equal samples, and says what came out; one part a cell."""
    label = cells[0].env if len(cells) == 1 else f"{len(cells)} comparisons"
    runs = [
        {key: Run(request, folder / folder_of(key[0]) / f"seed{key[1]}") for key, request in cell.requests.items()}
        for cell, folder in zip(cells, folders, strict=True)
    ]
    made = _make([run for of_cell in runs for run in of_cell.values()], label, executor, console)
    summaries = [{key: made[run.folder] for key, run in of_cell.items()} for of_cell in runs]
    references = _equal_samples(cells, folders, summaries)
    extra = [run for by_name in references for runs_of in by_name.values() for run in runs_of]
    if extra:
        made = _make(extra, f"{label}, uniform at equal samples", executor, console)
    parts = []
    for cell, of_cell, by_name in zip(cells, summaries, references, strict=True):
        equal = {name: [made[run.folder] for run in runs_of] for name, runs_of in by_name.items()}
        parts.append(compare_results(cell.names, cell.seeds, of_cell, equal, cell.left_out))
    return conclude(parts)


def _make(runs: Sequence[Run], label: str, executor: Executor, console: Console) -> dict[Path, Result]:
    """Makes the runs behind a bar; their results by folder."""
    with progress_over(console, label, len(runs)) as advance:
        summaries = run_all(runs, executor, lambda run: advance(str(run)))
    results = [
        Result.from_json(summary, str(run.folder), run.folder) for run, summary in zip(runs, summaries, strict=True)
    ]
    return dict(zip([run.folder for run in runs], results, strict=True))


def _equal_samples(
    cells: Sequence[Cell], folders: Sequence[Path], summaries: Sequence[Mapping[tuple[str, int], Result]]
) -> list[dict[str, list[Run]]]:
    """Uniform's runs with the N_B at which it sees as many samples as an agent that sees fewer, by that agent."""
    found: list[dict[str, list[Run]]] = []
    for cell, folder, of_cell in zip(cells, folders, summaries, strict=True):
        by_name: dict[str, list[Run]] = {}
        for name in cell.names:
            mine, uniform = ([of_cell[agent, seed] for seed in cell.seeds] for agent in (name, REFERENCE))
            if (settings := equal_total(mine, uniform)) is None:
                continue
            total, iterations = settings
            by_name[name] = []
            for seed in cell.seeds:
                request = cell.requests[REFERENCE, seed]
                run = dataclasses.replace(request.run, total_batch=total, iterations=iterations)
                place = folder / folder_of(name) / EQUAL_SAMPLES / f"seed{seed}"
                by_name[name].append(Run(dataclasses.replace(request, run=run), place))
        found.append(by_name)
    return found


def _parts(argument: str, words: str) -> list[str]:
    """The words between commas.

    Raises:
        ConfigError: for a repeat.
    """
    parts = [part.removeprefix("dus_gym:") for part in words.split(",")]
    if len(set(parts)) != len(parts):
        raise ConfigError(f"{argument}={words!r} is not allowed; name each once.")
    return parts


def _said(cell: Cell) -> str:
    request = next(iter(cell.requests.values()))
    return with_said(request.method, request.method_options)


def _folder(options: Any, cells: Sequence[Cell]) -> Path:
    if options.out is not None:
        return Path(options.out)
    first = cells[0]
    default = Path("runs") / (
        Path(first.env) / f"compare-{first.method}" if len(cells) == 1 else f"compare-{len(cells)}-comparisons"
    )
    return latest(default) if options.resume else unused(default)


def _settings(cells: Iterable[Cell]) -> dict[str, Any]:
    """What a comparison's config says; "agents" tells it from a run's."""
    requests = [next(iter(cell.requests.values())) for cell in cells]
    first = next(iter(cells))
    settings: dict[str, Any] = {"command": "compare", "agents": first.names, "seeds": first.seeds}
    if len(requests) == 1:
        return settings | {"first": requests[0].as_config()}
    return settings | {"comparisons": [request.as_config() for request in requests]}
