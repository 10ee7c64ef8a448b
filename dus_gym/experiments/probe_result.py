"""The diagnostics of a finished run as values: typed, to and from JSON, and as tables."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import factorial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dus_gym.errors import RunFolderError
from dus_gym.experiments.serialize import from_json, to_json
from dus_gym.experiments.storage.run_folder import MODEL, PROBE
from dus_gym.experiments.table import Table, percent
from dus_gym.json_text import read_json

if TYPE_CHECKING:
    from torch import Tensor

    from dus_gym.experiments.results import Result
    from dus_gym.experiments.spec import RunSpec

MOST_MODALITIES = 12
"""Of which all sets are predicted from, 4096."""
MOST_COLUMNS = 16
"""Classes of a confusion matrix that is printed whole; of one with more, the most frequent confusions are."""
MOST_CONFUSIONS = 10


@dataclass(frozen=True)
class LinearProbe:
    """A linear probe of one encoder, as fractions."""

    accuracy: float
    """On the test split, scored once."""
    chosen_at: float
    """Accuracy on the samples that chose C."""
    strength: float
    """C."""
    converged: bool
    """False if L-BFGS ended before its gradient was small."""


@dataclass(frozen=True)
class Predicted:
    """One predictor on the test split."""

    accuracy: float
    per_class: tuple[float | None, ...]
    """Fraction of each class that is predicted right (recall); None for a class without a test sample."""
    confusion: tuple[tuple[int, ...], ...]
    """Samples by true class (row) and predicted class (column)."""

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor) -> Predicted:
        """Return the figures of logits ``(n, c)`` and labels ``(n,)``."""
        c = logits.shape[1]
        counts = (labels * c + classes_of(logits)).bincount(minlength=c * c).view(c, c).tolist()
        right = [row[k] for k, row in enumerate(counts)]
        return cls(
            accuracy=sum(right) / len(labels),
            per_class=tuple(hits / sum(row) if sum(row) else None for hits, row in zip(right, counts, strict=True)),
            confusion=tuple(map(tuple, counts)),
        )

    def fits(self, count: int) -> bool:
        """Return whether these are figures of so many classes."""
        return {len(self.per_class), len(self.confusion), *map(len, self.confusion)} == {count}


@dataclass(frozen=True)
class ModalityProbe:
    """One modality of the run."""

    head: Predicted
    """Its own prediction in the run, as the run's summary has it."""
    linear: LinearProbe
    """Of its frozen encoder."""
    alone: float | None
    """Test accuracy of its network trained by itself; None if that was not asked for."""
    shapley: float
    """Its contribution to the fused accuracy, a fraction; :meth:`Contributions.exact` has no rounding."""


@dataclass(frozen=True)
class PresentOnly:
    """Accuracy of the fused prediction where only some modalities are present."""

    present: tuple[str, ...]
    right: int
    """Test samples that are predicted right."""
    accuracy: float


@dataclass(frozen=True)
class Contributions:
    """What each modality contributes to the fused accuracy."""

    samples: int
    """Of the test split."""
    subsets: tuple[PresentOnly, ...]
    """Every set of modalities, the empty one first; set k's members are the bits of k."""
    modalities: tuple[str, ...]

    def exact(self) -> dict[str, Fraction]:
        """Return the Shapley values by modality, which sum to the whole set's accuracy minus the empty one's."""
        values = shapley_values([subset.right for subset in self.subsets], len(self.modalities))
        return {name: value / self.samples for name, value in zip(self.modalities, values, strict=True)}


@dataclass(frozen=True)
class Cost:
    """Size and speed of the run's network."""

    parameters: Mapping[str, int]
    """By owner: ``encoder/NAME`` and ``head/NAME`` of each modality, and the heads they share."""
    trainable: int
    """Parameters that the optimiser moves when the run begins."""
    flops: Mapping[str, int]
    """Of one sample's forward pass as an evaluation makes it, by ``encoder/NAME`` and ``heads``; a multiplication and
    an addition are two. Products of matrices, convolutions and attention are counted, and nothing else."""
    step_milliseconds: float
    """Measured when the run was probed: the mean over ``steps_timed`` training steps of a run that begins anew."""
    steps_timed: int
    phase: str
    """The method's phase that they belong to, its first."""
    batch: int
    """Samples of each modality in a step."""
    device: str
    threads: int


@dataclass(frozen=True)
class ProbeResult:
    """Diagnostics of a finished run: what :func:`dus_gym.probe` returns and ``dus probe --json`` prints."""

    run: str
    """Its folder."""
    title: str
    data_kind: str
    chosen_on: str
    """The samples that chose the linear probes' regularisation."""
    classes: tuple[str, ...]
    """Names of the classes, or their numbers where the data set has none."""
    fused: Predicted
    """The method's own fused prediction."""
    modalities: Mapping[str, ModalityProbe]
    contributions: Contributions
    cost: Cost
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        found: dict[str, Any] = to_json(self)
        return found

    def check(self, where: str) -> None:
        """Refuse a result that was read and can't be one.

        Raises:
            RunFolderError: if parts do not fit one another; the message names one.
        """
        names, count = tuple(self.modalities), len(self.classes)
        subsets = [
            tuple(name for j, name in enumerate(names) if members >> j & 1) for members in range(2 ** len(names))
        ]
        for key, fits in (
            ("modalities", 0 < len(names) <= MOST_MODALITIES),
            ("contributions", self.contributions.modalities == names and self.contributions.samples > 0),
            ("contributions.subsets", [of.present for of in self.contributions.subsets] == subsets),
            ("fused", self.fused.fits(count)),
            *((f"modalities.{name}.head", row.head.fits(count)) for name, row in self.modalities.items()),
            ("cost.flops", [*self.cost.flops] == [*(f"encoder/{name}" for name in names), "heads"]),
        ):
            if not fits:
                raise RunFolderError(f"{where} is damaged ({key} does not fit the rest).")

    def with_alone(self, other: ProbeResult) -> ProbeResult:
        """Return this result with the accuracies of networks trained alone that it lacks and another has.

        Args:
            other: a result of the same run.
        """
        return dataclasses.replace(
            self,
            modalities={
                name: row if row.alone is not None else dataclasses.replace(row, alone=other.modalities[name].alone)
                for name, row in self.modalities.items()
            },
        )

    def tables(self) -> list[Table]:
        """Return what a terminal or a page shows, in order."""
        confusions = [("the fused prediction", self.fused)]
        confusions += [(f"the prediction of {name}", row.head) for name, row in self.modalities.items()]
        return [
            self._overview(),
            self._subsets(),
            self._per_class(),
            *(self._confusion(said, found) for said, found in confusions),
            self._cost(),
        ]

    def _overview(self) -> Table:
        alone = any(row.alone is not None for row in self.modalities.values())
        rows = [
            [name, percent(row.head.accuracy), percent(row.linear.accuracy), f"{row.linear.strength:g}"]
            + ([percent(row.alone)] if alone else [])
            + [f"{100.0 * row.shapley:+.1f}"]
            for name, row in self.modalities.items()
        ]
        whole, empty = self.contributions.subsets[-1].accuracy, self.contributions.subsets[0].accuracy
        rows.append(
            [
                "fused",
                percent(self.fused.accuracy),
                "",
                "",
                *([""] if alone else []),
                f"{100.0 * (whole - empty):+.1f}",
            ]
        )
        head = ["test accuracy, %", "in the run", "linear probe", "C", *(["alone"] if alone else []), "Shapley, points"]
        return Table(head, rows, f"{self.title} (data {self.data_kind}; C chosen on {self.chosen_on})")

    def _subsets(self) -> Table:
        rows = [[" + ".join(of.present) or "none", percent(of.accuracy)] for of in self.contributions.subsets]
        caption = "Fused accuracy where the inputs of the other modalities are zeros"
        return Table(["modalities present", "accuracy, %"], rows, caption)

    def _per_class(self) -> Table:
        heads = [self.fused, *(row.head for row in self.modalities.values())]
        rows = [
            [name, str(sum(self.fused.confusion[k])), *(percent(head.per_class[k]) for head in heads)]
            for k, name in enumerate(self.classes)
        ]
        return Table(["class", "samples", "fused", *self.modalities], rows, "Test accuracy by true class, %")

    def _confusion(self, said: str, found: Predicted) -> Table:
        if len(self.classes) <= MOST_COLUMNS:
            rows = [[name, *map(str, row)] for name, row in zip(self.classes, found.confusion, strict=True)]
            return Table(["true class", *self.classes], rows, f"Test samples by true class and class of {said}")
        pairs = [
            (count, j, k) for j, row in enumerate(found.confusion) for k, count in enumerate(row) if j != k and count
        ]
        most = sorted(pairs, key=lambda pair: (-pair[0], *pair[1:]))[:MOST_CONFUSIONS]
        rows = [
            [self.classes[j], self.classes[k], str(count), percent(count / sum(found.confusion[j]))]
            for count, j, k in most
        ]
        caption = f"Most frequent confusions of {said}; --json has the whole matrix"
        return Table(["true class", "taken for", "samples", "of its class, %"], rows, caption)

    def _cost(self) -> Table:
        cost = self.cost
        owners = [*(owner for owner in cost.parameters if owner.startswith("encoder/")), "heads"]
        of_heads = sum(count for owner, count in cost.parameters.items() if owner not in owners)
        rows = [[name, f"{cost.parameters.get(name, of_heads):,}", f"{cost.flops[name]:,}"] for name in owners]
        rows.append(["all", f"{sum(cost.parameters.values()):,}", f"{sum(cost.flops.values()):,}"])
        caption = (
            f"{cost.trainable:,} parameters are trained. A training step takes {cost.step_milliseconds:.2f} ms "
            f"(measured now: the mean of {cost.steps_timed} at {cost.batch} samples per modality in phase "
            f"{cost.phase!r}, on {cost.device} with {cost.threads} thread{'s' if cost.threads > 1 else ''})"
        )
        return Table(["part", "parameters", "FLOPs of one sample's forward pass"], rows, caption)


def kept_probe(folder: Path) -> ProbeResult | None:
    """Return what :func:`dus_gym.probe` has kept in a run's folder; None if nothing is there.

    Raises:
        RunFolderError: if the file is damaged.
    """
    file = folder / PROBE
    if not file.is_file():
        return None
    try:
        try:
            found = from_json(ProbeResult, read_json(file.read_bytes()), str(file))
        except ValueError as error:
            raise RunFolderError(f"{file} is damaged ({error}).") from None
        found.check(str(file))
    except RunFolderError as error:
        raise RunFolderError(f"{error} Delete it, and dus probe {shlex.quote(str(folder))} makes it again.") from None
    # The folder may have moved since.
    return dataclasses.replace(found, run=str(folder))


def nothing_to_probe(folder: Path, spec: RunSpec, result: Result) -> str | None:
    """Return why a finished run can't be probed, in one line that names the fix; None where it can.

    Args:
        folder: of the run.
        spec: what the run was.
        result: what came out.
    """
    if result.trainer == "fake":
        return f"{folder} holds a run of the fake trainer, which has no network to probe; train it with --trainer real."
    if not (folder / MODEL).is_file():
        return (
            f"{folder} has no {MODEL}, and without weights nothing can be probed (runs of a comparison keep none); "
            f"train it again: {spec.command()} --out FOLDER"
        )
    return None


def shapley_values(values: Sequence[int], m: int) -> list[Fraction]:
    """Return the Shapley values ``φ_j = Σ_S |S|! (m - |S| - 1)! / m! (v(S ∪ j) - v(S))``, S without j, exactly.

    Shapley, A value for n-person games, 1953; of modalities: Hu et al., SHAPE, IJCAI 2022. They sum to v(all) - v(∅).

    Args:
        values: v of every set, ``2^m`` of them; set k's members are the bits of k.
        m: players.
    """
    found = []
    for j in range(m):
        without = [members for members in range(2**m) if not members >> j & 1]
        gains = [(members.bit_count(), values[members | 1 << j] - values[members]) for members in without]
        found.append(
            sum((Fraction(factorial(s) * factorial(m - s - 1), factorial(m)) * g for s, g in gains), Fraction())
        )
    return found


def classes_of(logits: Tensor) -> Tensor:
    """Return the predicted classes as :func:`dus_gym.metrics.score_all` has them, ``(n,)``."""
    return logits.double().nan_to_num(nan=0.0).argmax(dim=1)
