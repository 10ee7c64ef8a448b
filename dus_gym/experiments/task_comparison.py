"""Agents on one task under one method: the figures of their runs, each agent beside the uniform split."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dus_gym.data.dataset import DataOverview
from dus_gym.errors import ConfigError, RunFolderError
from dus_gym.experiments.results import FORMAT, SELECTIONS, Result, name_task, said_settings
from dus_gym.experiments.serialize import to_json
from dus_gym.experiments.spec import REFERENCE
from dus_gym.experiments.table import Table
from dus_gym.options import with_said
from dus_gym.records import FUSED_PREDICTORS
from dus_gym.statistics import PairedTest, Spread, confidence_interval, mean_std, paired

HEADLINE = "method"
"""The predictor that is tested; the others are shown."""
CONTROLS = ("reversed", "random", "best-fixed", "lr-matched")
"""The agents that a gain must beat before it is one of choosing batch sizes while training: the wrong direction,
chance, a constant, learning rates."""
AGENTS_OWN = ("action_mode", "interval")
"""Settings that follow from the agent, so that they differ within one comparison."""
SAME_SAMPLES = 0.01
"""Agents whose samples per iteration are within this part of uniform's see as many."""
COLLAPSE = 10.0
"""A run this many points or more below uniform's run of the same seed has collapsed."""
GAINS, LOSES, HARM, UNCLEAR, TOO_FEW = "gains", "loses", "harm not excluded", "cannot be told", "too few seeds"
"""Outcomes of a comparison with uniform."""

Interval = tuple[float, float]
Column = tuple[float, ...] | None
"""One figure per seed; None where the method has no such head."""


@dataclass(frozen=True)
class FusedFigures:
    """One fused predictor on the test split, over seeds, as fractions."""

    accuracy: Spread
    map: Spread
    macro_f1: Spread


@dataclass(frozen=True)
class Against:
    """An agent's test accuracies beside uniform's on the same seeds."""

    vs_uniform: Mapping[str, PairedTest | None]
    """By predictor; None where the method has no such head. The p-values are not corrected."""
    interval: Mapping[str, Interval | None]
    """95 % interval of each difference taken alone, points; None with one seed."""
    p_corrected: float | None
    """Of the headline's predictor, corrected over all tests of the comparison."""
    interval_corrected: Interval | None
    """The interval that excludes 0 exactly where ``p_corrected`` is below the level."""
    outcome: str | None
    """``gains``, ``loses``, ``harm not excluded``, ``cannot be told`` or ``too few seeds``; None for uniform itself."""

    @property
    def test(self) -> PairedTest | None:
        """The headline's test."""
        return self.vs_uniform[HEADLINE]

    @property
    def alone(self) -> Interval | None:
        """The headline's interval taken alone."""
        return self.interval[HEADLINE]


@dataclass(frozen=True)
class EqualSamples(Against):
    """An agent beside uniform with as many samples in as many iterations as the agent drew."""

    total_batch: int
    """Samples per iteration of uniform's runs."""
    samples: float
    iterations: float
    by_seed: Mapping[str, Column]
    """Test accuracy of uniform's runs, by predictor."""


@dataclass(frozen=True)
class ModalityFigures:
    """One modality over seeds: means, and each seed's test accuracy."""

    accuracy: float
    """Of the modality's own prediction on the test split."""
    score: float
    """Training score of the last epoch."""
    val_score: float | None
    val_accuracy: float | None
    """Validation figures of the last epoch; None without a validation split."""
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class Costs:
    """Costs of one run beside samples and iterations.

    Seconds are medians: the first run of a process also loads libraries and data. Memory is the largest. The agent's
    share is that of deciding and learning, and of the whole runs that it makes to do so.
    """

    seconds: float
    agent_seconds: float
    agent_share: float
    peak_memory_mib: float | None
    peak_device_memory_mib: float | None


@dataclass(frozen=True)
class AgentFigures(Against):
    """One agent over seeds."""

    fused: Mapping[str, FusedFigures | None]
    """By predictor."""
    by_seed: Mapping[str, Column]
    """Test accuracy of every seed, by predictor."""
    gap: Spread
    score_rise: float | None
    """Mean of the runs' ``score_rise``; None for runs of one step."""
    samples: float
    iterations: float
    training_runs: float
    """Means of what one run drew, how long it was, and the whole runs that were spent before it."""
    diverged: int
    """Runs whose training loss was not finite."""
    collapsed: tuple[int, ...]
    """Seeds whose run diverged or ended more than :data:`COLLAPSE` points below uniform's."""
    modalities: Mapping[str, ModalityFigures]
    costs: Costs
    equal_samples: EqualSamples | None


@dataclass(frozen=True)
class Correction:
    """The family of tests that were corrected together."""

    method: str
    tests: int
    predictor: str
    level: float


@dataclass(frozen=True)
class Statement:
    """One sentence of a verdict, with what it rests on."""

    kind: str
    """The rule of docs/compare.md that it follows."""
    text: str
    agents: tuple[str, ...] = ()
    points: float | None = None
    interval: Interval | None = None
    """The interval that the sentence quotes or rests on."""
    seeds: tuple[int, ...] = ()
    """Of the runs it is about."""
    needed: int | None = None
    """Seeds that would show the difference."""
    modality: str | None = None
    equal_samples: bool = False


@dataclass(frozen=True)
class TaskComparison:
    """Agents on one task under one method, over seeds."""

    format: int
    env: str
    method: str
    method_options: Mapping[str, Any]
    seeds: tuple[int, ...]
    trainer: str
    data_kind: str
    select: str
    settings: Mapping[str, Any]
    """Settings that were set, but for those that follow from the agent."""
    missing_controls: tuple[str, ...]
    left_out: Mapping[str, str]
    """Agents that can't run here, with the reason."""
    version: str
    agents: Mapping[str, AgentFigures]
    data: DataOverview | None = None
    """What the first seed's run of uniform was trained and tested on; None for a fake one."""
    data_name: str | None = None
    """The name of own data; None for every other task."""
    correction: Correction | None = None
    statements: tuple[Statement, ...] = ()
    """The sentences of the verdict."""
    warnings: tuple[str, ...] = ()

    def check(self, where: str) -> None:
        """Refuse a comparison that was read and can't be one.

        Raises:
            RunFolderError: if a part is missing or of another length; the message names it.
        """
        predictors, count = set(FUSED_PREDICTORS), len(self.seeds)
        if REFERENCE not in self.agents:
            raise RunFolderError(f"{where} is damaged (agents.{REFERENCE} is missing).")
        if self.select not in SELECTIONS or not self.seeds:
            raise RunFolderError(f"{where} is damaged (select is {self.select!r}, with {count} seeds).")
        for name, row in self.agents.items():
            tables: list[tuple[str, Mapping[str, Any]]] = [("fused", row.fused), ("by_seed", row.by_seed)]
            for against, prefix in ((row, ""), (row.equal_samples, "equal_samples.")):
                if against is not None:
                    tables += [(f"{prefix}{key}", getattr(against, key)) for key in ("vs_uniform", "interval")]
            tables += [] if row.equal_samples is None else [("equal_samples.by_seed", row.equal_samples.by_seed)]
            for key, table in tables:
                if set(table) != predictors:
                    raise RunFolderError(
                        f"{where} is damaged (agents.{name}.{key} has {', '.join(table) or 'nothing'})."
                    )
            columns = [column for key, table in tables if "by_seed" in key for column in table.values() if column]
            columns += [figures.by_seed for figures in row.modalities.values()]
            alike = row.modalities.keys() == self.uniform.modalities.keys()
            if not alike or any(len(column) != count for column in columns):
                raise RunFolderError(f"{where} is damaged (agents.{name}: not {count} seeds of the same modalities).")

    @property
    def uniform(self) -> AgentFigures:
        """The reference."""
        return self.agents[REFERENCE]

    @property
    def others(self) -> dict[str, AgentFigures]:
        """All agents but the reference."""
        return {name: row for name, row in self.agents.items() if name != REFERENCE}

    @property
    def task_name(self) -> str:
        """The id, and behind it the name of own data."""
        return name_task(self.env, self.data_name)

    @property
    def method_said(self) -> str:
        """The method with the options that were set."""
        return with_said(self.method, self.method_options)

    @property
    def title(self) -> str:
        """The comparison in a few words."""
        return f"{self.task_name}, {self.method_said}"

    @property
    def verdict(self) -> str:
        """The comparison in a few sentences."""
        return " ".join(statement.text for statement in self.statements)

    def to_json(self) -> dict[str, Any]:
        """Return what ``comparison.json`` holds."""
        found: dict[str, Any] = to_json(self)
        return found | {"verdict": self.verdict}

    def table(self, full: bool = False) -> Table:
        """Return the agents as a table.

        Args:
            full: also every predictor and modality, the gap, p-values and costs.
        """
        return self.table_of(full_columns(self) if full else short_columns(), self._caption())

    def table_of(self, columns: Mapping[str, Reader], caption: str) -> Table:
        """Return a table of columns that are read from each agent's figures and from its comparison at equal samples.

        Args:
            columns: by their heads; the first names the row.
            caption: of the table.
        """
        rows = []
        for name, row in self.agents.items():
            for equal in [None] if row.equal_samples is None else [None, row.equal_samples]:
                cells = [read(name, row, equal) for read in columns.values()]
                if any(cells[1:]):
                    rows.append(cells)
        return Table(list(columns), rows, caption)

    def _caption(self) -> str:
        n = len(self.seeds)
        tests = self.correction.tests if self.correction is not None else 0
        of_all = f", wider because {tests} differences are tested (Holm's correction)" if tests > 1 else ""
        intervals = f", with 95 % intervals{of_all}" if n > 1 else ""
        return (
            f"{self.title}, {n} seed{'s' if n > 1 else ''} (trainer {self.trainer}, data {self.data_kind}, "
            f"model: {SELECTIONS[self.select]}{said_settings(self.settings)}). "
            f"Test accuracy of the method's own prediction; differences to {REFERENCE} on the same seeds{intervals}."
        )


# -- from runs ---------------------------------------------------------------------------------------


def base_name(agent: str) -> str:
    """Return an agent's name without its options."""
    return agent.partition(":")[0]


def is_control(agent: str) -> bool:
    """Return whether an agent is in a comparison as a control."""
    return base_name(agent) in CONTROLS


def compare_results(
    names: Sequence[str],
    seeds: Sequence[int],
    results: Mapping[tuple[str, int], Result],
    equal_samples: Mapping[str, Sequence[Result]] | None = None,
    left_out: Mapping[str, str] | None = None,
) -> TaskComparison:
    """Return means, deviations, paired differences to uniform and costs; tests are not yet corrected.

    Args:
        names: the agents, uniform among them.
        seeds: of the runs, one or more.
        results: by agent and seed.
        equal_samples: uniform's runs at as many samples as an agent that sees fewer, by that agent; one per seed.
        left_out: agents that can't run here, with the reason.

    Raises:
        ConfigError: without uniform or seeds.
    """
    if REFERENCE not in names:
        raise ConfigError(f"names={list(names)!r} is not allowed: {REFERENCE!r}, the reference, is missing; add it.")
    if not seeds:
        raise ConfigError("seeds=[] is not allowed: a comparison needs at least one; give a seed.")
    runs = {name: [results[name, seed] for seed in seeds] for name in names}
    agents = {
        name: _figures(name, seeds, runs[name], runs[REFERENCE], (equal_samples or {}).get(name)) for name in names
    }
    one = runs[REFERENCE][0]
    return TaskComparison(
        format=FORMAT,
        env=one.env,
        method=one.method,
        method_options=one.method_options,
        seeds=tuple(seeds),
        trainer=one.trainer,
        data_kind=one.data_kind,
        select=one.select,
        settings={key: value for key, value in one.settings.items() if key not in AGENTS_OWN},
        missing_controls=tuple(control for control in CONTROLS if control not in map(base_name, names)),
        left_out=dict(left_out or {}),
        version=one.version,
        agents=agents,
        data=one.data,
        data_name=one.data_name,
    )


def _figures(
    name: str,
    seeds: Sequence[int],
    runs: Sequence[Result],
    uniform: Sequence[Result],
    equal: Sequence[Result] | None,
) -> AgentFigures:
    """One agent's row."""
    columns, reference = _accuracies(runs), _accuracies(uniform)
    fused: dict[str, FusedFigures | None] = {}
    for predictor in FUSED_PREDICTORS:
        scores = [row for run in runs if (row := run.fused[predictor]) is not None]
        fused[predictor] = None if len(scores) < len(runs) else FusedFigures(
            mean_std([row.accuracy for row in scores]),
            mean_std([row.map for row in scores]),
            mean_std([row.macro_f1 for row in scores]),
        )  # fmt: skip
    rises = [run.score_rise for run in runs if run.score_rise is not None]
    mine, theirs = columns[HEADLINE], reference[HEADLINE]
    low = [False] * len(runs) if mine is None or theirs is None else [
        100.0 * (b - a) > COLLAPSE for a, b in zip(mine, theirs, strict=True)
    ]  # fmt: skip
    itself = name == REFERENCE
    return AgentFigures(
        **(_itself(columns) if itself else _against(columns, reference)),
        fused=fused,
        by_seed=columns,
        gap=mean_std([run.gap for run in runs]),
        score_rise=_mean(rises) if len(rises) == len(runs) else None,
        samples=_mean([run.samples for run in runs]),
        iterations=_mean([run.iterations for run in runs]),
        training_runs=_mean([run.training_runs for run in runs]),
        diverged=sum(run.diverged for run in runs),
        collapsed=tuple(seed for seed, run, below in zip(seeds, runs, low, strict=True) if run.diverged or below),
        modalities=_modalities(runs),
        costs=_costs(runs),
        equal_samples=None if not equal else EqualSamples(
            **_against(columns, _accuracies(equal)),
            total_batch=equal[0].total_batch,
            samples=_mean([run.samples for run in equal]),
            iterations=_mean([run.iterations for run in equal]),
            by_seed=_accuracies(equal),
        ),
    )  # fmt: skip


def _accuracies(runs: Sequence[Result]) -> dict[str, Column]:
    """Test accuracy by predictor, one per run."""
    found: dict[str, Column] = {}
    for predictor in FUSED_PREDICTORS:
        column = [row.accuracy for run in runs if (row := run.fused[predictor]) is not None]
        found[predictor] = tuple(column) if len(column) == len(runs) else None
    return found


def _against(mine: Mapping[str, Column], reference: Mapping[str, Column]) -> dict[str, Any]:
    """The fields of :class:`Against`; the corrected ones are filled in when the whole family of tests is known."""
    both = {name: (mine[name], reference[name]) for name in FUSED_PREDICTORS}
    return {
        "vs_uniform": {k: None if a is None or b is None else paired(a, b) for k, (a, b) in both.items()},
        "interval": {k: None if a is None or b is None else confidence_interval(a, b) for k, (a, b) in both.items()},
        "p_corrected": None,
        "interval_corrected": None,
        "outcome": None,
    }


def _itself(columns: Mapping[str, Column]) -> dict[str, Any]:
    """The same fields of the reference, which differs from itself by nothing."""
    return {
        "vs_uniform": {k: None if column is None else PairedTest(0.0, None) for k, column in columns.items()},
        "interval": dict.fromkeys(FUSED_PREDICTORS),
        "p_corrected": None,
        "interval_corrected": None,
        "outcome": None,
    }


def equal_total(runs: Sequence[Result], reference: Sequence[Result]) -> tuple[int, int] | None:
    """Return the samples per iteration at which uniform sees as many as an agent that draws fewer or more in all.

    Args:
        runs: the agent's, one per seed.
        reference: uniform's.

    Returns:
        Samples per iteration, a multiple of the number of modalities, and the iterations of an epoch; None for an agent
        that draws as many as uniform, or whose runs all diverged.
    """
    whole = [run for run in runs if not run.diverged]
    if not whole:
        return None
    drawn = sum(run.samples for run in whole) / sum(run.iterations for run in whole)
    if abs(drawn / reference[0].total_batch - 1.0) <= SAME_SAMPLES:
        return None
    m = len(whole[0].modalities)
    return m * max(1, round(drawn / m)), whole[0].iterations // whole[0].epochs


def _costs(runs: Sequence[Result]) -> Costs:
    return Costs(
        seconds=statistics.median(run.seconds for run in runs),
        agent_seconds=statistics.median(run.agent_seconds for run in runs),
        agent_share=statistics.median(run.agent_seconds / run.seconds for run in runs),
        peak_memory_mib=_of_all(max, [run.peak_memory_mib for run in runs]),
        peak_device_memory_mib=_of_all(max, [run.peak_device_memory_mib for run in runs]),
    )


def _modalities(runs: Sequence[Result]) -> dict[str, ModalityFigures]:
    found = {}
    for name in runs[0].modalities:
        rows = [run.modalities[name] for run in runs]
        found[name] = ModalityFigures(
            accuracy=_mean([row.accuracy for row in rows]),
            score=_mean([row.score for row in rows]),
            val_score=_of_all(_mean, [row.val_score for row in rows]),
            val_accuracy=_of_all(_mean, [row.val_accuracy for row in rows]),
            by_seed=tuple(row.accuracy for row in rows),
        )
    return found


def _of_all(figure: Callable[[list[float]], float], values: Sequence[float | None]) -> float | None:
    """A figure of values that are all known, else None."""
    known = [value for value in values if value is not None]
    return figure(known) if len(known) == len(values) else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# -- as a table --------------------------------------------------------------------------------------

Reader = Callable[[str, AgentFigures, EqualSamples | None], str]
"""Makes a cell from an agent, its figures and, in the row that compares at equal samples, those."""


def at_equal_samples(name: str) -> str:
    """Return the name of the row that compares an agent with uniform at as many samples."""
    return f"{name}, at equal samples"


def name_column() -> dict[str, Reader]:
    """Return the column that names a row."""
    return {"agent": lambda name, _, equal: name if equal is None else at_equal_samples(name)}


def short_columns() -> dict[str, Reader]:
    """Return the columns that a reader needs first, by their heads."""
    return name_column() | {
        "accuracy, % ± standard deviation": _of_agent(lambda row: spread_text(row, HEADLINE)),
        "difference, points [interval]": lambda name, row, equal: difference_text(name, equal or row),
        "outcome": lambda _, row, equal: (equal or row).outcome or "",
        "samples": lambda _, row, equal: thousands((equal or row).samples),
        "extra runs": _of_agent(lambda row: f"{row.training_runs:.3g}"),
    }


def figure_columns(part: TaskComparison) -> dict[str, Reader]:
    """Return the columns of the other predictors, of each modality and of the gap."""
    columns: dict[str, Reader] = {}
    for predictor in FUSED_PREDICTORS:
        if predictor != HEADLINE and part.uniform.fused[predictor] is not None:
            columns[f"{predictor}, %"] = _of_agent(lambda row, which=predictor: spread_text(row, which))
            columns[f"{predictor}, points to uniform"] = _points(predictor)
    for modality in part.uniform.modalities:
        columns[f"{modality} alone, %"] = _of_agent(lambda row, m=modality: f"{100 * row.modalities[m].accuracy:.1f}")
    columns["gap"] = _of_agent(lambda row: f"{row.gap.mean:.3f}")
    return columns


def cost_columns(part: TaskComparison) -> dict[str, Reader]:
    """Return the columns of what one run cost: iterations are means, seconds and shares medians, memory the largest."""
    columns: dict[str, Reader] = {
        "iterations": _of_agent(lambda row: f"{row.iterations:.0f}"),
        "diverged": _of_agent(lambda row: f"{row.diverged}"),
        "seconds": _of_agent(lambda row: f"{row.costs.seconds:.1f}"),
        "agent's share, %": _of_agent(lambda row: f"{100 * row.costs.agent_share:.1f}"),
        "peak memory, MiB": _of_agent(lambda row: mebibytes(row.costs.peak_memory_mib)),
    }
    if any(row.costs.peak_device_memory_mib is not None for row in part.agents.values()):
        columns["on the device, MiB"] = _of_agent(lambda row: mebibytes(row.costs.peak_device_memory_mib))
    return columns


def full_columns(part: TaskComparison) -> dict[str, Reader]:
    """Return every column."""
    tests: dict[str, Reader] = {"corrected p": lambda _, row, equal: p_text((equal or row).p_corrected)}
    return short_columns() | tests | figure_columns(part) | cost_columns(part)


def _of_agent(read: Callable[..., str]) -> Reader:
    """A column that says nothing in the row at equal samples: the figure is the row's above it."""
    return lambda _, row, equal: read(row) if equal is None else ""


def _points(predictor: str) -> Reader:
    """A column of differences without their tests: one predictor is tested."""

    def read(name: str, row: AgentFigures, equal: EqualSamples | None) -> str:
        test = (equal or row).vs_uniform[predictor]
        return "" if name == REFERENCE or test is None else signed(test.points)

    return read


def signed(points: float) -> str:
    """Return a difference with its sign, one decimal."""
    return f"{round(points, 1) + 0.0:+.1f}"


def interval_text(ends: Interval) -> str:
    """Return an interval of points."""
    return f"[{signed(ends[0])}, {signed(ends[1])}]"


def difference_text(name: str, row: Against) -> str:
    """Return the headline's difference to uniform with its corrected interval; nothing for uniform itself."""
    if name == REFERENCE or row.test is None:
        return ""
    ends = row.interval_corrected
    return signed(row.test.points) + ("" if ends is None else f" {interval_text(ends)}")


def spread_text(row: AgentFigures, predictor: str) -> str:
    """Return a predictor's test accuracy in per cent with its standard deviation."""
    figures = row.fused[predictor]
    if figures is None:
        return "–"
    mean, std = figures.accuracy.mean, figures.accuracy.std
    return f"{100.0 * mean:.1f}" + ("" if std is None else f" ± {100.0 * std:.1f}")


def p_text(p: float | None) -> str:
    """Return a p-value; those that three decimals cannot show are ``< .001``."""
    if p is None:
        return ""
    return "< .001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)


def thousands(count: float) -> str:
    """Return a count, in thousands from 1000 on."""
    return f"{count / 1000:.1f}k" if count >= 1000 else f"{count:.0f}"


def mebibytes(peak: float | None) -> str:
    """Return a peak of memory, or a dash where it is not known."""
    return "–" if peak is None else f"{peak:.0f}"
