"""Eq. 4: from an action to integer batch sizes.

An action is either a point of the simplex (``"shares"``: how N_B is split) or, for DUS-H and half-batch
training, a fraction of each modality's own base batch (``"fractions"``: the total may shrink). Plain
Python numbers: with a handful of modalities an array costs more than it saves.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from numbers import Real

import numpy as np
import numpy.typing as npt

from dus_gym.errors import ConfigError, check_at_least, check_choice, first_line

ACTION_MODES = ("shares", "fractions")
LEVERS = ("samples", "rates")
SOFTMAX_SCALE = 3.0
"""The factor of a logit before the softmax, where nobody says otherwise; confines two modalities to [.0025, .9975]."""


def read_numbers(name: str, given: npt.ArrayLike, wanted: str) -> npt.NDArray[np.float64]:
    """Return what a policy handed over as an array of floats.

    Args:
        name: of the argument, for messages.
        given: numbers of any kind, but no text, dates or complex numbers.
        wanted: what it must be, for messages.

    Raises:
        ConfigError: (a ValueError) for anything else.
    """
    try:
        values = np.asarray(given)
        # Python's whole numbers beyond 64 bits are objects; so are fractions.
        if values.dtype.kind == "O" and not all(isinstance(entry, Real) for entry in values.flat):
            raise TypeError("not all are numbers")
        if values.dtype.kind not in "buifO":
            raise TypeError(f"{values.dtype} is no number")
        return values.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        # RuntimeError: a tensor that has a gradient, or is another device's.
        raise ConfigError(
            f"{name}={reprlib.repr(given)} is not allowed; it must be {wanted} ({first_line(error)})."
        ) from error


def read_action(action: npt.ArrayLike, num_modalities: int) -> list[float]:
    """Check an action and return it as floats.

    Raises:
        ConfigError: (a ValueError) if the shape is not ``(m,)`` or an entry is negative, infinite or NaN.
    """
    wanted = f"{num_modalities} numbers, one for each modality"
    values = read_numbers("action", action, wanted)
    if values.shape != (num_modalities,):
        raise ConfigError(
            f"action has shape {values.shape}; it must be ({num_modalities},), one number for each modality."
        )
    entries: list[float] = values.tolist()
    if not all(0.0 <= entry < math.inf for entry in entries):
        raise ConfigError(f"action={entries} is not allowed; every entry must be finite and not negative.")
    return entries


def normalise(entries: Sequence[float]) -> list[float]:
    """Scale non-negative entries to sum to 1; all zero means the uniform split."""
    total = sum(entries)
    if 1e-300 < total < math.inf:
        return [entry / total for entry in entries]
    largest = max(entries)
    if largest <= 0.0:
        return [1.0 / len(entries)] * len(entries)
    # Entries so large or so small that their sum or a quotient overflows.
    return normalise([entry / largest for entry in entries])


def sizes_from_shares(shares: Sequence[float], total: int, floor: int = 0, step: int = 1) -> list[int]:
    """Round ``total * shares`` by largest remainder, with a floor for every modality (Eq. 4).

    Rounding each entry on its own, as Eq. 4 is printed, need not sum to N_B. Entries below the floor
    are lifted to it and the rest share what is left in their own proportions.

    Args:
        shares: m numbers that sum to 1.
        total: N_B, the samples per iteration over all modalities.
        floor: the fewest samples a modality may get; ``m * floor <= total``.
        step: k; a size differs from that of the uniform split by a multiple of it.

    Returns:
        m integers that sum to ``total`` exactly, none below ``floor``.
    """
    m = len(shares)
    quotas = [total * share for share in shares]
    if step > 1:
        return _in_steps(shares, quotas, sizes_from_shares([1.0 / m] * m, total, floor), floor, step)
    if min(quotas) < floor:
        quotas = _lifted(shares, total, [floor] * m)
    return _by_remainder(quotas, total)


def _by_remainder(quotas: Sequence[float], total: int) -> list[int]:
    """Return numbers that sum to about ``total`` as integers that do, rounded down or, the largest remainders, up."""
    sizes = [math.floor(quota) for quota in quotas]
    missing = total - sum(sizes)
    if missing:
        by_remainder = sorted(range(len(sizes)), key=lambda j: sizes[j] - quotas[j])
        for j in by_remainder[:missing]:
            sizes[j] += 1
    return sizes


def _in_steps(shares: Sequence[float], quotas: list[float], equal: Sequence[int], floor: int, step: int) -> list[int]:
    """Return sizes that are ``step`` or a multiple of it away from the equal ones, and sum to the same.

    Counted from the equal split, so that it stays what it is for any N_B, and nothing of N_B is left over.
    """
    total = sum(equal)
    floors = [size - (size - floor) // step * step for size in equal]
    if any(quota < least for quota, least in zip(quotas, floors, strict=True)):
        quotas = _lifted(shares, total, floors)
    away = _by_remainder([(quota - size) / step for quota, size in zip(quotas, equal, strict=True)], 0)
    return [size + step * steps for size, steps in zip(equal, away, strict=True)]


def _lifted(shares: Sequence[float], total: int, floors: Sequence[int]) -> list[float]:
    """Return quotas that sum to ``total``, those below their floor lifted to it."""
    m = len(shares)
    quotas = [float(floor) for floor in floors]
    free = list(range(m))
    while free:
        budget = total - sum(floors[j] for j in range(m) if j not in free)
        mass = sum(shares[j] for j in free)
        for j in free:
            quotas[j] = budget * shares[j] / mass if mass > 0.0 else budget / len(free)
        below = [j for j in free if quotas[j] < floors[j]]
        if not below:
            break
        for j in below:
            quotas[j] = float(floors[j])
        free = [j for j in free if j not in below]
    return quotas


def sizes_from_fractions(fractions: Sequence[float], base: int, floor: int = 0, step: int = 1) -> list[int]:
    """Round each modality's fraction of its base batch half up, never below ``floor``.

    Args:
        fractions: m numbers in [0, 1].
        base: B, the batch size of one modality in ordinary training.
        floor: the fewest samples a modality may get.
        step: k; a size is the base batch less a multiple of it.
    """
    if step > 1:
        most = (base - floor) // step
        fewer = [math.ceil((base - fraction * base) / step - 0.5) for fraction in fractions]
        return [base - step * max(0, min(most, of)) for of in fewer]
    return [max(floor, min(base, math.floor(fraction * base + 0.5))) for fraction in fractions]


def softmax_shares(logits: npt.ArrayLike, scale: float = SOFTMAX_SCALE) -> npt.NDArray[np.float32]:
    """Return the softmax of ``scale`` × logits: ``(m,)`` numbers to a point of the simplex."""
    scaled = scale * np.asarray(logits, dtype=np.float64)
    weights = np.exp(scaled - scaled.max())
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def lattice(num_modalities: int, resolution: int | None = None) -> npt.NDArray[np.float32]:
    """Return every split into positive multiples of ``1 / resolution``.

    Args:
        num_modalities: m.
        resolution: parts of the whole, at least m; by default the multiple of m up to 10, or 2m from m = 6 on,
            so that the uniform split is always among them.

    Returns:
        Shares ``(n, m)``, n = C(resolution - 1, m - 1): 9 splits .1/.9 … .9/.1 for two modalities, 28 for
        three, 35 for four.

    Raises:
        ConfigError: for fewer parts than modalities.
    """
    m = num_modalities
    parts = m * max(2, 10 // m) if resolution is None else resolution
    if parts < m:
        raise ConfigError(f"resolution={parts} is not allowed; {m} modalities need at least {m} parts.")
    # m - 1 cuts between `parts` things in a row.
    cuts = [(0, *cut, parts) for cut in combinations(range(1, parts), m - 1)]
    return np.asarray(np.diff(np.array(cuts), axis=1) / parts, dtype=np.float32)


def check_lever(lever: str, mode: str, size_step: int = 1) -> None:
    """Refuse a lever that there is none of, one that the kind of action can't move, or steps of sizes that it leaves.

    Raises:
        ConfigError: for any of them.
    """
    check_choice("lever", lever, LEVERS)
    if lever == "rates" and mode != "shares":
        raise ConfigError(
            f"action_mode={mode!r} is not allowed under lever='rates', where batches are equal and only their shares "
            "are learning rates; use action_mode='shares', or an agent that splits, such as holdout or score."
        )
    if lever == "rates" and size_step > 1:
        raise ConfigError(
            f"size_step={size_step} is not allowed under lever='rates', where batches are equal; it must be 1: leave "
            "it out, or use lever='samples'."
        )


@dataclass(frozen=True)
class Allocation:
    """The environment's rule from actions to sizes and learning rates, floors included."""

    num_modalities: int
    """m, the number of modalities."""
    total_batch: int
    """N_B, the samples per iteration over all modalities; by default m times the batch size of one."""
    mode: str = "shares"
    """``"shares"`` or ``"fractions"``, see the module's docstring."""
    min_samples: int = 2
    """The fewest samples a modality may get; BatchNorm needs 2."""
    min_fraction: float = 0.0
    """The fewest samples a modality may get, as a fraction of the equal share N_B / m."""
    lever: str = "samples"
    """``"samples"``: shares become sizes; ``"rates"``: sizes are equal, and shares become :meth:`rates`."""
    size_step: int = 1
    """k; sizes are a multiple of k away from those of the uniform split. 1: any size (the paper). No more than
    :attr:`largest_step`."""

    def __post_init__(self) -> None:
        check_lever(self.lever, self.mode, self.size_step)
        check_choice("action_mode", self.mode, ACTION_MODES)
        check_at_least("num_modalities", self.num_modalities, 1)
        check_at_least("min_samples", self.min_samples, 1)
        check_at_least("size_step", self.size_step, 1)
        for name in ("total_batch", "min_samples", "size_step"):
            if not isinstance(getattr(self, name), int):
                raise ConfigError(f"{name}={getattr(self, name)!r} is not allowed; it must be a whole number.")
        if not 0.0 <= self.min_fraction <= 1.0:
            raise ConfigError(f"min_fraction={self.min_fraction!r} is not allowed; it must lie in [0, 1].")
        least = self.num_modalities * self.min_samples
        if self.total_batch < least:
            raise ConfigError(
                f"total_batch={self.total_batch} is not allowed; it must be at least {least}: "
                f"{self.num_modalities} modalities times min_samples={self.min_samples}."
            )
        if self.size_step > max(1, self.largest_step):
            raise ConfigError(
                f"size_step={self.size_step} is not allowed: every action would give the sizes {self._whole_sizes}, "
                f"with {self.floor} samples at least (min_samples={self.min_samples}, "
                f"min_fraction={self.min_fraction}). It must be at most {max(1, self.largest_step)}; take "
                "a smaller one, lower floors or more samples per iteration (total_batch, in the plug-in batch_size)."
            )

    @cached_property
    def base_batch(self) -> int:
        """B, the batch size of one modality in ordinary training."""
        return max(1, self.total_batch // self.num_modalities)

    @cached_property
    def floor(self) -> int:
        """The fewest samples a modality can get under this rule."""
        equal = self.base_batch
        return min(equal, max(self.min_samples, math.ceil(self.min_fraction * equal - 1e-9)))

    @cached_property
    def _whole_sizes(self) -> list[int]:
        """The sizes that steps are counted from."""
        if self.mode == "fractions":
            return [self.base_batch] * self.num_modalities
        return list(self.equal_sizes)

    @cached_property
    def largest_step(self) -> int:
        """The largest ``size_step`` under which any action gives other sizes; less than 1: floors leave no choice."""
        return max(self._whole_sizes) - self.floor

    def uniform(self) -> npt.NDArray[np.float32]:
        """Return the action that gives every modality its ordinary batch."""
        m = self.num_modalities
        return np.full(m, 1.0 if self.mode == "fractions" else 1.0 / m, dtype=np.float32)

    def __call__(self, action: npt.ArrayLike) -> tuple[list[float], list[int]]:
        """Return the shares that the reward is about and the integer sizes.

        Under ``"fractions"`` the shares are the sizes normalised, under the lever ``"rates"`` the sizes are equal.

        Raises:
            ConfigError: if the action is malformed.
        """
        entries = read_action(action, self.num_modalities)
        if self.mode == "fractions":
            if max(entries) <= 0.0:
                entries = [1.0] * len(entries)
            elif max(entries) > 1.0 + 1e-6:
                raise ConfigError(f"action={entries} is not allowed; fractions lie in [0, 1].")
            sizes = sizes_from_fractions(entries, self.base_batch, self.floor, self.size_step)
            return normalise(sizes), sizes
        shares = normalise(entries)
        if self.lever == "rates":
            return shares, list(self.equal_sizes)
        return shares, sizes_from_shares(shares, self.total_batch, self.floor, self.size_step)

    @cached_property
    def equal_sizes(self) -> tuple[int, ...]:
        """The sizes of the uniform split."""
        m = self.num_modalities
        return tuple(sizes_from_shares([1.0 / m] * m, self.total_batch, self.floor))

    def rates(self, shares: Sequence[float]) -> list[float] | None:
        """Return each modality's factor on its learning rates, m × its share; None under the lever ``"samples"``.

        Shares are lifted as for sizes, so that no factor is below ``floor`` over the equal share; they sum to m.
        """
        if self.lever == "samples":
            return None
        quotas = [self.total_batch * share for share in shares]
        if min(quotas) < self.floor:
            quotas = _lifted(shares, self.total_batch, [self.floor] * len(shares))
        return [self.num_modalities * quota / self.total_batch for quota in quotas]
