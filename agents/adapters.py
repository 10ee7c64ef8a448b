"""The door for anybody's policy: ``as_agent`` makes an agent of a model, a network or a function.

Every action is checked before the environment sees it. A policy of another library acts by its mean or its best
choice where it knows one; what it draws comes from the agent's seed, and the global generators stay as they were.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from dus_gym.agents.base import Agent, Array, Info
from dus_gym.allocation import SOFTMAX_SCALE, lattice, read_action, softmax_shares
from dus_gym.ambient import isolated_torch_modes
from dus_gym.errors import AgentError, ConfigError, check_choice, check_positive

Decide = Callable[[Array, Info, np.random.Generator], Any]
"""Observation ``(m,)``, info and the agent's generator to a raw action."""
Read = Callable[[Any], Any]
"""A raw action to shares ``(m,)``."""
FORMS = ("shares", "logits", "index")
SCALE = "softmax_scale"
"""The attribute in which a model of ``make_sb3`` keeps the scale of its ``SoftmaxAction``."""
LEVER = "policy_lever"
"""The attribute in which a model that a driver trained keeps the lever under which it learned."""
ON_SIMPLEX = 1e-4
"""The most a float32 softmax may differ from 1 in its sum."""


class Adapted(Agent):
    """An agent that asks somebody else's policy, which stays as it was handed over.

    Args:
        num_modalities: m.
        seed: of what the policy draws.
        name: of the policy, in messages and results.
        decide: the policy.
        read: what its actions mean.
    """

    def __init__(self, num_modalities: int, seed: int, name: str, decide: Decide, read: Read) -> None:
        super().__init__(num_modalities, seed)
        # Of this object: each policy that is handed over has its own.
        self.name = name  # type: ignore[misc]
        self.decide, self.read = decide, read
        self.acts = 0
        """Actions so far, over all runs."""

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return the policy's action as shares ``(m,)``.

        Raises:
            AgentError: unless they are m finite numbers that are not negative.
        """
        self.acts += 1
        raw = self.decide(np.asarray(observation, dtype=np.float32), info, self.rng)
        try:
            return np.array(read_action(self.read(raw), self.num_modalities), dtype=np.float32)
        except ConfigError as error:
            raise AgentError(f"agent {self.name!r}, action {self.acts} of this process: {error}") from error

    def save(self, path: Any) -> None:
        """Refuse: only the library that made the policy can write it.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"agent {self.name!r} was handed over; save it by the means of the library that made it.")


def as_agent(
    x: Any,
    num_modalities: int,
    name: str | None = None,
    *,
    actions: str | None = None,
    scale: float | None = None,
    seed: int = 0,
) -> Agent:
    """Make an agent of whatever decides.

    ============================== =====================================================================
    ``x``                          its action
    ============================== =====================================================================
    an agent                       it is returned as it is
    model or policy of SB3         ``predict(obs, deterministic=True)``; its action space says whether this is shares,
                                   logits of ``SoftmaxAction`` or an index of ``DiscreteShares``
    TorchRL ``TensorDictModule``   what it writes to ``action``, having read ``observation``
    ``torch.nn.Module``            the first of what ``get_action_and_value(obs)`` or ``get_action(obs)`` returns, or
                                   what ``forward(obs)`` does; obs is ``(1, m)``
    a function                     ``f(observation, info)``, shares; it gets ``rng=`` if it has such a parameter
    ============================== =====================================================================

    Args:
        x: see the table.
        num_modalities: m.
        name: in messages and results; that of the function or class if not given.
        actions: how a module's action is read: ``shares``, ``logits`` or ``index``. If not given, its first action
            decides, and the others must be of the same form: a whole number is an index, a point of the simplex is
            shares, anything else is logits.
        scale: what a logit of 1 stands for; if not given, that of the ``SoftmaxAction`` which a model of SB3 was
            trained under, and otherwise 1 for the logits of ``forward`` and 3, ``SoftmaxAction``'s own, for actions.
        seed: of what the policy draws.

    Raises:
        ConfigError: for what decides nothing, or for another number of modalities.
    """
    if scale is not None:
        check_positive("scale", scale)
    if actions is not None:
        check_choice("actions", actions, FORMS)
    # Nobody holds a module without having imported PyTorch, and importing it takes seconds.
    torch = sys.modules.get("torch")
    network = torch is not None and isinstance(x, torch.nn.Module)
    model = hasattr(x, "predict") and hasattr(x, "action_space")
    if actions is not None and (model or not network):
        raise ConfigError(f"actions={actions!r} is for a network; leave it out: of {x!r} it is known.")
    if scale is not None and not (model or network):
        raise ConfigError(f"scale={scale!r} is for a model or a network, and {x!r} gives shares; leave it out.")
    if isinstance(x, Agent):
        _check_number(name or x.name, x.num_modalities, num_modalities)
        return x
    label = str(name or getattr(x, "__name__", type(x).__name__))
    decide: Decide
    read: Read
    if model:
        decide, read = _of_sb3(x, num_modalities, label, scale)
    elif network:
        decide, usual = _of_tensordict(x) if hasattr(x, "in_keys") else _of_module(x)
        read = Reading(num_modalities, actions, usual if scale is None else scale)
    elif callable(x) and not isinstance(x, type):
        decide, read = _of_function(x), _plain
    else:
        raise ConfigError(
            f"agent={x!r} is not allowed; give an agent, a model of stable-baselines3, a torch.nn.Module or a function "
            "of (observation, info)."
        )
    return Adapted(num_modalities, seed, label, decide, read)


def _check_number(label: str, theirs: int, num_modalities: int) -> None:
    if theirs != num_modalities:
        raise ConfigError(f"agent {label!r} is for {theirs} modalities, and here are {num_modalities}.")


def _plain(raw: Any) -> Any:
    """Return an action as an array, wherever it lies."""
    return raw.detach().cpu().numpy() if hasattr(raw, "detach") else raw


class Reading:
    """Reads the actions of a network or a model as shares; the form is found at the first action if not said.

    Args:
        num_modalities: m.
        form: one of :data:`FORMS`; None: to be found.
        scale: what a logit of 1 stands for.
        splits: what an index chooses from, ``(n, m)``; those of ``DiscreteShares`` if not given.
    """

    def __init__(self, num_modalities: int, form: str | None, scale: float, splits: Array | None = None) -> None:
        self.form, self.scale = form, scale
        self.shape = (num_modalities,)
        self.splits = lattice(num_modalities) if splits is None else splits
        self.on_simplex = False
        """True if the actions were taken for shares because the first one summed to 1."""

    def __call__(self, raw: Any) -> npt.NDArray[Any]:
        """Return the shares ``(m,)`` of an action, with or without a leading axis of length one.

        Raises:
            ConfigError: for an action of another form than the first.
        """
        action = np.asarray(_plain(raw))
        if action.ndim > 1 and action.shape[0] == 1:
            action = action[0]
        if self.form == "index" or (self.form is None and action.dtype.kind in "biu"):
            self.form = "index"
            split: Array = self.splits[self._index(action)]
            return split
        if action.shape != self.shape or action.dtype.kind not in "fbiu" or not np.isfinite(action).all():
            # The check of every action says what is wrong with this one.
            return action
        summed = bool(action.min() >= 0.0 and abs(action.sum() - 1.0) < ON_SIMPLEX)
        if self.form is None:
            self.form, self.on_simplex = ("shares", True) if summed else ("logits", False)
        if self.form == "logits":
            return softmax_shares(action, self.scale)
        if self.on_simplex and not summed:
            raise ConfigError(
                f"{action.tolist()} does not sum to 1, and the first action did, which is why they are read as shares; "
                'say what they are: as_agent(..., actions="shares") or "logits".'
            )
        return action

    def _index(self, action: npt.NDArray[Any]) -> int:
        """Return the index that an action is, or that is hot in it."""
        n = len(self.splits)
        if action.size == n and action.dtype.kind in "biu" and int(action.sum()) == 1:
            return int(action.argmax())
        if action.size != 1 or action.dtype.kind not in "biu" or not 0 <= int(action.item()) < n:
            raise ConfigError(f"{action.tolist()} is not allowed; give the index of one of {n} splits, below {n}.")
        return int(action.item())


def _of_function(x: Callable[..., Any]) -> Decide:
    """Return a function that passes the generator where it is wanted."""
    try:
        wants_rng = "rng" in inspect.signature(x).parameters
    except (TypeError, ValueError):  # some functions of C have no signature
        wants_rng = False
    if wants_rng:
        return lambda observation, info, rng: x(observation, info, rng=rng)
    return lambda observation, info, _rng: x(observation, info)


def _of_sb3(x: Any, num_modalities: int, label: str, scale: float | None) -> tuple[Decide, Read]:
    """Return how a model or policy of stable-baselines3 decides, and what its actions mean.

    Raises:
        ConfigError: for observations or actions that are not the environment's or those of its wrappers.
    """
    seen, space = x.observation_space, x.action_space
    if len(getattr(seen, "shape", None) or ()) != 1:
        raise ConfigError(f"agent {label!r} observes {seen}; a policy of this environment observes Box(0, 1, (m,)).")
    _check_number(label, seen.shape[0], num_modalities)
    if hasattr(space, "n"):
        read = Reading(num_modalities, "index", SOFTMAX_SCALE, _splits(int(space.n), num_modalities, label))
    elif getattr(space, "shape", None) != seen.shape:
        raise ConfigError(f"agent {label!r} acts in {space}; it must be shares, logits or an index of a split.")
    elif not space.low.any() and (space.high == 1).all():
        read = Reading(num_modalities, "shares", SOFTMAX_SCALE)
    elif (space.low == -1).all() and (space.high == 1).all():
        read = Reading(num_modalities, "logits", _trained_scale(x, label) if scale is None else scale)
    else:
        raise ConfigError(
            f"agent {label!r} acts in {space}; it must be shares, Box(0, 1), or logits of SoftmaxAction, Box(-1, 1)."
        )
    # Statistics of the observations the model has learned from, which its file does not hold.
    statistics = x.get_vec_normalize_env() if hasattr(x, "get_vec_normalize_env") else None

    def decide(observation: Array, _info: Info, _rng: np.random.Generator) -> Any:
        seen = observation if statistics is None else statistics.normalize_obs(observation)
        with isolated_torch_modes():
            action, state = x.predict(seen, deterministic=True)
        if state is not None:
            raise ConfigError(
                f"agent {label!r} is recurrent; hand over a function of (observation, info) that keeps its state."
            )
        return action

    return decide, read


def _trained_scale(x: Any, label: str) -> float:
    """Return the scale of the ``SoftmaxAction`` that a model was trained under.

    Raises:
        ConfigError: if its environment has none: its symmetric actions mean something else.
    """
    if hasattr(x, SCALE):
        return float(getattr(x, SCALE))
    env = x.get_env() if hasattr(x, "get_env") else None
    if env is None:
        return SOFTMAX_SCALE
    if not env.has_attr("scale"):
        raise ConfigError(
            f"agent {label!r} acts in {x.action_space} and its environment is not wrapped by SoftmaxAction; say what "
            "its actions mean with a function: as_agent(lambda observation, info: ..., m)."
        )
    return float(env.get_attr("scale")[0])


def _splits(count: int, num_modalities: int, label: str) -> Array:
    """Return the ``DiscreteShares`` that has ``count`` splits.

    Raises:
        ConfigError: if there is none.
    """
    # One resolution has that many: the count grows with it.
    parts = num_modalities
    while (found := math.comb(parts - 1, num_modalities - 1)) < count:
        parts += 1
    if found != count:
        raise ConfigError(f"agent {label!r} chooses from {count} actions; no DiscreteShares has that many splits.")
    return lattice(num_modalities, parts)


def _of_module(x: Any) -> tuple[Decide, float]:
    """Return how a module of PyTorch decides, and what a logit of 1 stands for."""
    import torch

    method = next((m for m in ("get_action_and_value", "get_action") if callable(getattr(x, m, None))), None)
    ask = x if method is None else getattr(x, method)

    def decide(observation: Array, _info: Info, rng: np.random.Generator) -> Any:
        with isolated_torch_modes(), _drawing(rng), torch.no_grad():
            found = ask(torch.as_tensor(observation, device=_device(x)).unsqueeze(0))
        return found[0] if isinstance(found, tuple) else found

    return decide, 1.0 if method is None else SOFTMAX_SCALE


def _of_tensordict(x: Any) -> tuple[Decide, float]:
    """Return how a TensorDictModule decides, and what a logit of 1 stands for."""
    import torch
    from tensordict import TensorDict
    from tensordict.nn import InteractionType, set_interaction_type

    def decide(observation: Array, _info: Info, rng: np.random.Generator) -> Any:
        device = _device(x)
        state = TensorDict({"observation": torch.as_tensor(observation, device=device)}, batch_size=[], device=device)
        quiet = set_interaction_type(InteractionType.DETERMINISTIC)
        with isolated_torch_modes(), _drawing(rng), torch.no_grad(), quiet:
            return x(state)["action"]

    return decide, SOFTMAX_SCALE


def _device(x: Any) -> Any:
    """Return the device of a module's parameters; the CPU if it has none."""
    import torch

    return next((parameter.device for parameter in x.parameters()), torch.device("cpu"))


@contextmanager
def _drawing(rng: np.random.Generator) -> Iterator[None]:
    """Seed PyTorch's generator of the CPU from ``rng``, and put it back afterwards."""
    import torch

    before = torch.get_rng_state()
    torch.default_generator.manual_seed(int(rng.integers(2**63)))
    try:
        yield
    finally:
        torch.set_rng_state(before)
