"""The interface of a method: the loss a run minimises, and nothing about batch sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dus_gym.context import Context, Phase
from dus_gym.errors import ConfigError
from dus_gym.model import MultimodalModel
from dus_gym.records import Figures


@dataclass(frozen=True)
class MethodOptions:
    """Options of a method; each method has its own subclass, whose fields become CLI options."""


class Method:
    """Base of all methods. A subclass sets the class attributes and overrides what it needs.

    A method sees a :class:`~dus_gym.context.Context` and never the agent or the environment.
    """

    name: ClassVar[str]
    """The CLI's word."""
    paper: ClassVar[str]
    """Authors, title and venue."""
    year: ClassVar[int]
    changes: ClassVar[str]
    """The difference from plain joint training, in one line."""
    heads: ClassVar[frozenset[str]]
    """Heads the model must have, of ``dus_gym.model.HEADS``."""
    fuses: ClassVar[bool] = True
    """True if one of its losses is of fused logits."""
    own_predictor: ClassVar[str] = "concat"
    """The fused predictor that the paper of the method uses: ``concat``, ``sum`` or ``entropy``."""
    alternates: ClassVar[bool] = False
    """True if it steps after each of its losses whatever ``update`` says."""
    supports_unpaired: ClassVar[bool] = False
    """True if modalities may have different batch sizes, that is, if DUS can steer it."""
    supports_independent: ClassVar[bool] = False
    """True if it can train when no sample is complete (``pairing="independent"``)."""
    maps_runs: ClassVar[bool] = False
    """True if it is written for any leading axes, so that runs can train as one computation (docs/methods.md): its
    tensors may lead with an axis of R runs, which ``ctx.runs`` tells, and its state is by run."""
    iterates_alike: ClassVar[bool] = False
    """True if an iteration can be captured, and nothing on the host ever differs from one to the next: see
    :meth:`capture_key`."""
    needs_validation: ClassVar[bool] = False
    min_modalities: ClassVar[int] = 2
    max_modalities: ClassVar[int | None] = None
    logs: ClassVar[tuple[str, ...]] = ()
    """Names of the figures it reports with ``ctx.log``; ``info`` has each as ``method/NAME``, 0 until reported.
    ``NAME/*`` stands for one figure a modality."""
    options_type: ClassVar[type[MethodOptions]] = MethodOptions

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not {"terms", "substeps", "after_backward"}.isdisjoint(vars(cls)):
            # What another class says of its iterations says nothing of these.
            for name in {"iterates_alike", "capture_key"} - vars(cls).keys():
                setattr(cls, name, getattr(Method, name))

    def __init__(self, options: MethodOptions | None = None) -> None:
        self.options = options if options is not None else self.options_type()

    @classmethod
    def figures_of(cls, modalities: Sequence[str]) -> list[str]:
        """Return the names in ``logs`` on a task with these modalities."""
        return [
            figure.replace("*", modality)
            for figure in cls.logs
            for modality in (modalities if figure.endswith("/*") else ("",))
        ]

    @property
    def fused_hidden(self) -> int:
        """Width of a hidden layer in the fused head; 0: the head is linear."""
        return 0

    # -- when it runs ------------------------------------------------------------------------------

    def phases(self, epochs: int, modalities: Sequence[str]) -> tuple[Phase, ...]:
        """Return the stretches of training; their fractions sum to 1.

        Args:
            epochs: of the whole run; a phase lasts at least one.
            modalities: names, in order.
        """
        return (Phase("train", 1.0),)

    def on_fit_start(self, ctx: Context) -> None:
        """Prepare for the run, once, after the model is built."""

    def on_epoch_start(self, ctx: Context) -> None:
        """Prepare for an epoch, before its first iteration."""

    def on_epoch_end(self, ctx: Context, validation: Sequence[Figures] | None) -> None:
        """Take in an epoch that ended; ``validation`` has an entry a run, and is None when it was not evaluated."""

    # -- what it minimises -------------------------------------------------------------------------

    def terms(self, ctx: Context) -> Iterator[Tensor]:
        """Yield the loss of ``ctx.batch`` in separable parts, one per modality or head, each a scalar.

        Of R runs with an axis of their own, a part has the shape ``(R,)``.

        With ``update="joint"`` the parts are summed and stepped together; with ``"alternating"`` each is
        stepped before the next is computed. A part must go through ``ctx.modality_loss`` or
        ``ctx.fused_loss``, which apply ``loss_norm`` and record the scores.
        """
        raise NotImplementedError

    def substeps(self, ctx: Context) -> Iterator[Tensor]:
        """Yield the losses of one iteration; the loop steps the optimiser after each."""
        if self.alternates or ctx.update == "alternating":
            yield from self.terms(ctx)
            return
        terms = self.terms(ctx)
        total = next(terms)
        for term in terms:
            total = total + term
        yield total

    def capture_key(self, ctx: Context) -> Any:
        """Return what an iteration's operations depend on, beside samples, phase, and what trains at which rate.

        A captured iteration runs again as it was recorded: Python's numbers and branches are those of that time, and a
        tensor is the object that it was. So ``()`` where nothing on the host differs from one iteration to the next,
        the default of a class that says ``iterates_alike``; where something does from epoch to epoch, such as a weight
        or prototypes that are replaced, what tells those apart (captured iterations of another key go); and None, the
        default elsewhere, where it does within an epoch, or where the host draws or reads anything. Tensors that are
        changed in place are no part of it. A subclass that changes what an iteration does must say either anew.
        """
        return () if self.iterates_alike else None

    def after_backward(self, ctx: Context) -> None:
        """Edit gradients, between backward and the optimiser's step."""

    def expand(self, ctx: Context) -> Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]] | None:
        """Return samples to repeat in the coming epochs with some modalities masked, or None for no change.

        Returns:
            For each run, indices ``(k,)`` and which modalities each copy keeps, ``(k, m)``.
        """
        return None

    def order(self, ctx: Context) -> Sequence[npt.NDArray[np.int64]] | None:
        """Return the samples of the epoch that begins, in the order in which they come, or None for no change.

        Batches are drawn from them one after another, whatever their sizes; an epoch that needs more goes on with
        permutations of the same. They replace copies of :meth:`expand`.

        Returns:
            For each run, indices ``(k,)``, any k from 1 on.
        """
        return None

    # -- what it predicts --------------------------------------------------------------------------

    def unimodal_logits(self, model: MultimodalModel, features: Sequence[Tensor]) -> list[Tensor]:
        """Return each modality's logits, m tensors ``(n, c)``; a linear fused head's additive parts if it is alone."""
        if "unimodal" in self.heads:
            return [model.unimodal(j, h) for j, h in enumerate(features)]
        if "shared" in self.heads:
            return [model.shared(j, h) for j, h in enumerate(features)]
        if "ensemble" in self.heads:
            return [model.ensemble(j, h) for j, h in enumerate(features)]
        if "boosted" in self.heads:
            return [model.boosted(j, h) for j, h in enumerate(features)]
        return model.additive_parts(features)

    def predict(self, unimodal: Tensor, predictions: Mapping[str, Tensor]) -> Tensor:
        """Return the method's own fused logits.

        Args:
            unimodal: of :meth:`unimodal_logits`, shape ``(m, n, c)``.
            predictions: of the common predictors ``concat``, ``sum`` and ``entropy``, each ``(n, c)``; where no
                concat head is trained, ``concat`` is the sum.

        Returns:
            Shape ``(n, c)``; softmax of it is the predicted distribution.
        """
        return predictions[self.own_predictor]

    # -- what it keeps -----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return everything a continuation depends on: tensors, arrays, JSON values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned."""

    # -- what it can't do --------------------------------------------------------------------------

    def check(self, num_modalities: int, has_validation: bool) -> None:
        """Raise ConfigError if the method can't train on such a task."""
        most = self.max_modalities
        if num_modalities < self.min_modalities or (most is not None and num_modalities > most):
            span = f"at least {self.min_modalities}" if most is None else f"{self.min_modalities} to {most}"
            raise ConfigError(
                f"method={self.name!r} works on {span} modalities; this task has {num_modalities}: choose another "
                "task or method."
            )
        if self.needs_validation and not has_validation:
            raise ConfigError(
                f"method={self.name!r} needs a validation split and this task has none; "
                "choose a task with one, or another method."
            )
