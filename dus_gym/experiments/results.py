"""The result of one run: what ``summary.json`` and ``dus train --json`` hold, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dus_gym.data.dataset import DataOverview
from dus_gym.errors import RunFolderError
from dus_gym.experiments.serialize import LARGEST_INTEGER, NOT_KEPT, from_json, read_value, to_json
from dus_gym.experiments.table import Table, percent
from dus_gym.options import with_said
from dus_gym.records import FUSED_PREDICTORS, GraphsUsed, Scores

if TYPE_CHECKING:
    from dus_gym.experiments.probe_result import ProbeResult

FORMAT = 1
"""Of config and summary; raised when an older version could misread them."""
SELECTIONS = {
    "last": "last epoch",
    "validation": "best validation epoch",
    "best_test": "BEST TEST EPOCH, optimistic",
}
"""The choice of the evaluated model, in words."""
LEGEND = (
    "Fused, method: the method's own prediction, which comparisons are about. MAP: mean average precision over the "
    "classes. Score: mean probability of the true class over the training samples of the last epoch. Gap: largest "
    "minus smallest score, mean over epochs."
)
"""Explains the words of a run's figures."""
MOST_CLASSES = 20
"""Classes that a table of them has; of more, the most and the least frequent ones."""
LONGEST_CLASS = 40
"""Characters of a class's name in a table."""


def said_settings(settings: Mapping[str, Any], before: str = "") -> str:
    """Return settings, each after a comma, but for those that tables name in words of their own.

    Args:
        settings: by name.
        before: stands before the first.
    """
    named = ("select", "epochs", "total_batch", "action_mode")
    said = [f"{key} {value}" for key, value in settings.items() if key not in named]
    return f", {before}{', '.join(said)}" if said else ""


def name_task(env: str, data_name: str | None) -> str:
    """Return what a task goes by in lists, titles and paths: its id and, of own data, its name behind a slash."""
    return env if data_name is None else f"{env}/{data_name}"


def data_tables(title: str, data: DataOverview) -> list[Table]:
    """Return what a run trains and tests on as two tables: its modalities, and its classes with their samples.

    Args:
        title: of the task.
        data: of the run.
    """
    sizes = ", ".join(f"{size} {split}" for split, size in data.sizes.items())
    name, fraction = data.majority
    caption = (
        f"{title}: {len(data.shapes)} modalities, {len(data.classes)} classes, {sum(data.sizes.values())} samples "
        f"({sizes}). Always answering {on_one_line(name)!r}, the most frequent class of the test split, would be right "
        f"for {percent(fraction)} % of it."
    )
    rows = [
        [name, " × ".join(map(str, shape)) or "1", data.prepared.get(name, "")] for name, shape in data.shapes.items()
    ]
    modalities = Table(["modality", "one sample", "prepared"], rows, caption, words=True)
    order = list(range(len(data.classes)))
    said = "Samples of each class"
    if len(order) > MOST_CLASSES:
        order.sort(key=lambda one: -data.counts["test"][one])
        half = MOST_CLASSES // 2
        order = order[:half] + order[-half:]
        said = f"Samples of the {half} most and the {half} least frequent of {len(data.classes)} classes"
    counts = [[on_one_line(data.classes[i]), *(str(counts[i]) for counts in data.counts.values())] for i in order]
    return [modalities, Table(["class", *data.counts], counts, said)]


def on_one_line(name: str) -> str:
    """Return the name of a class on one line: own data may call it anything."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in name)
    return plain if len(plain) <= LONGEST_CLASS else f"{plain[:LONGEST_CLASS]}…"


@dataclass(frozen=True)
class RunHead:
    """The part of a run's config that lists, pages and titles show. Names need not be known on this machine."""

    env: str
    agent: str
    agent_options: Mapping[str, Any]
    method: str
    method_options: Mapping[str, Any]
    seed: int
    trainer: str | None
    data_name: str | None = None


@dataclass(frozen=True)
class StepHead:
    """The part of a step's record that every run has; beside it stand figures by modality and method."""

    step: int
    observation: tuple[float, ...]
    reward: float
    epoch: int
    epochs: int
    iterations: int
    loss: float
    gap: float
    diverged: bool

    @classmethod
    def check(cls, record: Any, where: str) -> list[str]:
        """Return the modalities of what is a record of a step.

        Raises:
            RunFolderError: for a key that is missing or a value of another type or out of range.
        """
        head = from_json(cls, record, where)
        names = [key.removeprefix("size/") for key in record if key.startswith("size/")]
        wanted: dict[str, type[Any]] = {}
        for name in names:
            wanted |= {f"size/{name}": int, f"samples/{name}": int, f"train_score/{name}": float}
        if len(names) != len(head.observation) or not names:
            raise RunFolderError(f"{where} is damaged ({len(head.observation)} scores, sizes of {len(names)}).")
        if min(head.step, head.epochs) < 1 or min(head.epoch, head.iterations) < 0 or head.epoch > head.epochs:
            raise RunFolderError(f"{where} is damaged (epoch {head.epoch} of {head.epochs}, step {head.step}).")
        for key, value in record.items():
            if key in wanted and isinstance(value, wanted[key] | int) and not isinstance(value, bool):
                if 0 <= value <= LARGEST_INTEGER:
                    del wanted[key]
            elif key.startswith(("val_", "train_", "coverage/", "method/")):
                read_value(float | None, value, where, key)
        if wanted:
            raise RunFolderError(f"{where} is damaged ({', '.join(wanted)} is missing or no count or score).")
        return names


@dataclass(frozen=True)
class ModalityResult(Scores):
    """One modality of a finished run: its own prediction on the test split, and what it drew."""

    samples: int
    """Samples drawn for training."""
    score: float
    """Mean true-class probability over the last epoch's training samples."""
    coverage: float
    """Fraction of the training split drawn at least once."""
    val_accuracy: float | None
    val_score: float | None
    """Validation figures that agents saw last; None without a validation split."""


@dataclass(frozen=True)
class Result:
    """A finished run: its settings, its figures on the test split, and what it cost."""

    format: int
    env: str
    agent: str
    agent_options: Mapping[str, Any]
    method: str
    method_options: Mapping[str, Any]
    task_options: Mapping[str, Any]
    seed: int
    trainer: str
    """``real`` or ``fake``."""
    data_kind: str
    dropped: Mapping[str, int]
    """By split, samples left out because a file of theirs is bad."""
    fused: Mapping[str, Scores | None]
    """By fused predictor; None where the method has no such head."""
    modalities: Mapping[str, ModalityResult]
    gap: float
    """Largest minus smallest modality score, mean over epochs."""
    score_rise: float | None
    """How much the mean training score rose from the last tenth of the steps but one to the last tenth; None for
    fewer than two steps."""
    rate_falls: tuple[int, ...]
    """Finished epochs at every fall of the learning rate to a tenth."""
    diverged: bool
    """True if a training loss was not finite."""
    settings: Mapping[str, Any]
    """Settings of the run that were set, by whoever asked or by the agent."""
    select: str
    """The model that was evaluated: ``last``, ``validation`` or ``best_test``."""
    epochs: int
    total_batch: int
    base_batch: int
    iterations: int
    samples: int
    """Samples drawn over all modalities."""
    version: str
    training_runs: float
    """Whole training runs spent on deciding, this one not included."""
    seconds: float
    agent_seconds: float
    """Seconds of deciding and learning, training runs of the agent's own included."""
    peak_memory_mib: float | None
    peak_device_memory_mib: float | None
    folder_settings: Mapping[str, Any] = field(default_factory=dict)
    """Options of the data set, and its encoders, that the data root sets."""
    policy: str | None = None
    """The policy file that was the agent; None: a name or an object."""
    data: DataOverview | None = None
    """What was trained and tested on; None for a fake run."""
    data_name: str | None = None
    """The name of own data; None for every other task."""
    together: tuple[int, ...] = ()
    """Seeds of the runs that trained as one computation, this one's among them, in order; none: this run alone."""
    precision: str | None = None
    """The number format of forward passes: ``float32``, ``tf32`` or ``bfloat16``; None for a fake run."""
    graphs: GraphsUsed | None = None
    """CUDA graphs of the process that ended the run; None where they were off."""
    folder: Path | None = field(default=None, metadata={NOT_KEPT: True}, compare=False)
    """Where the run is kept; None if it is not."""

    @property
    def accuracy(self) -> float | None:
        """Test accuracy of the method's own prediction; None where it has none."""
        own = self.fused["method"]
        return None if own is None else own.accuracy

    def probe(self, *, alone: bool = False) -> ProbeResult:
        """Return the run's diagnostics: those that are kept beside it, or else :func:`dus_gym.probe` makes them.

        Args:
            alone: also the accuracy of every modality's network trained by itself.

        Raises:
            RunFolderError: for a run that is not kept, or has nothing to probe.
            DusError: see :func:`dus_gym.probe`.
        """
        from dus_gym.experiments.probe_result import kept_probe

        if self.folder is None:
            raise RunFolderError("this run is not kept, so it can't be probed; train it with out=FOLDER.")
        kept = kept_probe(self.folder)
        if kept is not None and not (alone and any(row.alone is None for row in kept.modalities.values())):
            return kept
        from dus_gym.experiments.probe import probe

        return probe(self.folder, alone=alone)

    @property
    def title(self) -> str:
        """The run in one line."""
        return (
            f"{name_task(self.env, self.data_name)}, {with_said(self.method, self.method_options)} under "
            f"{with_said(self.policy or self.agent, self.agent_options)}, seed {self.seed}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return what ``summary.json`` holds."""
        found: dict[str, Any] = to_json(self)
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any], where: str = "the result", folder: Path | None = None) -> Result:
        """Return the result that :meth:`to_json` wrote.

        Raises:
            RunFolderError: for anything else; the message names the key.
        """
        result = from_json(cls, found, where)
        for wrong, said in (
            (result.select not in SELECTIONS, f"select is {result.select!r}"),
            (set(result.fused) != set(FUSED_PREDICTORS), f"fused has {', '.join(result.fused) or 'nothing'}"),
            (not any(result.fused.values()), "fused has no figures"),
            (not result.modalities, "modalities is empty"),
            (min(result.epochs, result.iterations, result.samples, result.total_batch) < 1, "a count is below 1"),
        ):
            if wrong:
                raise RunFolderError(f"{where} is damaged ({said}).")
        object.__setattr__(result, "folder", folder)
        return result

    def table(self, caption: str = "") -> Table:
        """Return the figures of every modality and way of fusing as a table; :data:`LEGEND` explains its words.

        Args:
            caption: the run's title if not given.
        """
        head = ["test split", "accuracy, %", "MAP, %", "macro-F1, %", "score, 0 to 1", "samples drawn"]
        rows = [[name, *_percents(row), f"{row.score:.3f}", str(row.samples)] for name, row in self.modalities.items()]
        rows += [[f"fused, {name}", *_percents(row), "", ""] for name, row in self.fused.items() if row is not None]
        return Table(head, rows, caption or self.title)

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        return f"{self.table().html()}<p>{LEGEND}</p>"


def _percents(row: Scores) -> list[str]:
    return [percent(value) for value in (row.accuracy, row.map, row.macro_f1)]
