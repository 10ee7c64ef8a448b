"""One policy for many tasks: a small network per modality, the same for all, learned over whole runs.

    x_j  = own figures, their means over modalities, progress      what info tells of any task
    z_j  = w2 tanh(W1 x_j + b1), centred over j                    one network for every modality
    u    = z + σ·noise, centred                                    a draw while learning (logistic-normal)
    a    = softmax(u)                                              the shares; softmax(z) in use

Permuting the modalities permutes the shares, and nothing depends on how many there are. The policy decides a
fixed number of times a run and holds its split in between: noise that changed every epoch would average out
before it could act on the run.

Learning is NumPy with the gradient by hand (checked against automatic differentiation). REINFORCE is one step on
``advantage * log π``; PPO takes several on the clipped ratio, and its first step is REINFORCE's.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dus_gym.agents.base import Agent, AgentOptions, Array, Info
from dus_gym.agents.policy_files import read_policy
from dus_gym.errors import CheckpointError, ConfigError, check_at_least, check_choice

Vector = npt.NDArray[np.float64]
ALGORITHMS = ("reinforce", "ppo")
OWN = ("score", "lead", "train_score", "train_accuracy", "val_score", "val_accuracy", "overfit", "last_share")
"""The figures of one modality, see :func:`features`; the network also reads their means, and the progress."""
INPUTS = 2 * len(OWN) + 1
BASELINE_RATE = 0.2
"""The part by which one batch of runs moves the expected return."""


@dataclass(frozen=True)
class TransferOptions(AgentOptions):
    """Options of the transferable policy."""

    policy: str | None = None
    """A file that `dus meta-train` wrote, or the name of a policy that comes with the package. Without one the
    network is new and splits uniformly. hidden and decisions are then the file's."""
    learn: bool = False
    """Draw splits and learn from whole runs, as in meta-training; otherwise the policy's mean is used as it is."""
    algorithm: str = "ppo"
    """reinforce: one gradient step a batch of runs; ppo: several on the clipped ratio."""
    lr: float = 3e-3
    """Learning rate of Adam."""
    batch: int = 12
    """Runs between two updates."""
    passes: int = 10
    """Gradient steps on a batch of runs (ppo)."""
    clip: float = 0.2
    """The part by which the probability of a decision may move in one update (ppo)."""
    discount: float = 1.0
    """Weight of the reward one decision later."""
    entropy: float = 0.0
    """Weight of the entropy of the mean split."""
    sigma: float = 0.5
    """Standard deviation of a draw's logits."""
    decisions: int = 10
    """Decisions a run; each holds until the next."""
    hidden: int = 24
    """Units of the network's tanh layer."""

    def __post_init__(self) -> None:
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        for name in ("batch", "passes", "decisions", "hidden"):
            check_at_least(name, getattr(self, name), 1)
        for name in ("lr", "sigma", "clip"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"{name}={getattr(self, name)!r} is not allowed; it must be positive.")
        check_at_least("entropy", self.entropy, 0.0)
        if not 0.0 <= self.discount <= 1.0:
            raise ConfigError(f"discount={self.discount!r} is not allowed; it must lie in [0, 1].")


def progress_of(info: Info) -> float | None:
    """Return the part of the run that has passed, in [0, 1]; None if info does not say."""
    epochs = info.get("epochs")
    return None if not epochs else min(1.0, float(info.get("epoch", 0)) / float(epochs))


def features(observation: npt.ArrayLike, info: Info) -> Vector:
    """Return the inputs of the network for each modality, shape ``(m, INPUTS)``; what info does not say is 0.

    Own figures: ŝ; ŝ minus its mean over modalities; training score and accuracy of the last step; validation
    score and accuracy; training minus validation score; the last share times m, minus 1. Then the means of these
    over modalities, and the progress of the run.

    Args:
        observation: ŝ_t, shape ``(m,)``.
        info: of an environment, of any task.
    """
    state = np.asarray(observation, dtype=np.float64)
    m = len(state)

    def column(kind: str) -> Vector | None:
        found = [value for key, value in info.items() if key.startswith(kind + "/")]
        return np.asarray(found, dtype=np.float64) if len(found) == m else None

    nothing = np.zeros(m)
    columns = {kind: column(kind) for kind in ("train_score", "train_accuracy", "val_score", "val_accuracy", "size")}
    train, validation, sizes = columns["train_score"], columns["val_score"], columns["size"]
    overfit = nothing if train is None or validation is None else train - validation
    share = nothing if sizes is None or not sizes.sum() > 0.0 else m * sizes / sizes.sum() - 1.0
    figures = [columns[kind] for kind in ("train_score", "train_accuracy", "val_score", "val_accuracy")]
    own = np.stack(
        [state, state - state.mean(), *(nothing if f is None else f for f in figures), overfit, share], axis=1
    )
    mean = np.broadcast_to(own.mean(axis=0), own.shape)
    found = np.concatenate([own, mean, np.full((m, 1), progress_of(info) or 0.0)], axis=1)
    return np.asarray(np.nan_to_num(found, nan=0.0, posinf=1.0, neginf=-1.0), dtype=np.float64)


@dataclass
class Decisions:
    """Decisions one after another; a decision has as many rows as its run has modalities."""

    inputs: Vector
    """``(rows, INPUTS)``."""
    logits: Vector
    """The drawn logits u, centred in each decision, ``(rows,)``."""
    owner: npt.NDArray[np.int64]
    """The decision of each row, ``(rows,)``."""
    log_probability: Vector
    """Of each decision when it was made, up to a constant, ``(decisions,)``."""

    @classmethod
    def of(cls, found: Sequence[Mapping[str, Any]]) -> Decisions:
        """Make one of decisions as :class:`Transfer` keeps them."""
        counts = [len(one["logits"]) for one in found]
        return cls(
            np.concatenate([one["inputs"] for one in found]),
            np.concatenate([one["logits"] for one in found]),
            np.repeat(np.arange(len(found)), counts),
            np.array([one["log_probability"] for one in found]),
        )

    def sums(self, rows: Vector) -> Vector:
        """Return sums over the modalities of each decision, ``(rows,)`` to ``(decisions,)``."""
        return np.asarray(np.bincount(self.owner, weights=rows), dtype=np.float64)

    def centred(self, rows: Vector) -> Vector:
        """Return rows minus their decision's mean."""
        return np.asarray(rows - (self.sums(rows) / np.bincount(self.owner))[self.owner])


class Transfer(Agent):
    """A permutation-equivariant policy for any number of modalities, learned over many runs.

    Args:
        num_modalities: m of the coming run; :meth:`begin_task` sets it anew.
        seed: of the network's start and of its draws.
        options: see :class:`TransferOptions`.

    Raises:
        ConfigError: for a policy that is neither a file nor a shipped one, or of another agent.
        CheckpointError: for a policy file that is damaged, of a newer format, or a pickle.
    """

    name: ClassVar[str] = "transfer"
    summary: ClassVar[str] = "a policy learned over many runs (dus meta-train), for any number of modalities"
    options_type: ClassVar[type[AgentOptions]] = TransferOptions
    options: TransferOptions

    def __init__(self, num_modalities: int, seed: int = 0, options: AgentOptions | None = None) -> None:
        super().__init__(num_modalities, seed, options)
        policy = self.options.policy
        content = None if policy is None else read_policy(policy)
        if content is not None:
            if content["agent"] != self.name:
                raise ConfigError(
                    f"policy={policy!r} holds agent {content['agent']!r}, which knows one number of "
                    "modalities only; give it to `dus train --policy`, or train one with `dus meta-train`."
                )
            theirs: dict[str, Any] = {name: getattr(content["options"], name) for name in ("hidden", "decisions")}
            self.policy_lever = content["lever"]
            # The weights are in the state from now on; a copy of this agent must not look for the file.
            self.options = dataclasses.replace(self.options, policy=None, **theirs)
        h = self.options.hidden
        bound = INPUTS**-0.5
        self.weights: dict[str, Vector] = {
            "w1": self.rng.uniform(-bound, bound, (h, INPUTS)),
            "b1": self.rng.uniform(-bound, bound, h),
            # Zero, so that learning starts at the uniform split. No bias: it would be the same for all modalities.
            "w2": np.zeros(h),
        }
        self._moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in self.weights.items()}
        self.learns = self.options.learn
        self.updates = 0
        self.made: dict[str, Any] = {}
        """The policy's origin: command, environments, seeds, scores; JSON values."""
        self._expected: dict[str, list[float]] = {}
        self._env = ""
        self._runs: list[dict[str, Any]] = []
        self._decisions: list[dict[str, Any]] = []
        self._shares: list[float] = []
        self._decided = -1
        if content is not None:
            rng = self.rng.bit_generator.state
            try:
                self.load_state_dict(content["state"])
            except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
                raise CheckpointError(f"policy={policy!r} is damaged or from another version ({error}).") from error
            # The file's generator stands where meta-training left it, and the file's last task is another run's.
            self.rng.bit_generator.state, self._env = rng, ""

    # -- acting ------------------------------------------------------------------------------------

    def begin_task(self, name: str, num_modalities: int) -> None:
        """Turn to a task, before a run of it, when learning over several.

        Args:
            name: under which returns are compared with those of earlier runs.
            num_modalities: m of the coming runs.
        """
        self._env, self.num_modalities = name, num_modalities

    def twins(self, tasks: Sequence[tuple[str, int]], *, learn: bool = True) -> list[Transfer]:
        """Return an agent for each of several runs that are made at once.

        They share this one's weights, and each draws from a generator of its own, so that what a run draws does not
        depend on the others. :meth:`learn_from` learns from what they decided.

        Args:
            tasks: name and number of modalities of each run, as for :meth:`begin_task`.
            learn: False: they take the policy's mean, as in use.
        """
        found = []
        for (name, num_modalities), rng in zip(tasks, self.rng.spawn(len(tasks)), strict=True):
            twin = copy.copy(self)
            twin.options = dataclasses.replace(self.options, learn=learn)
            twin.rng, twin._runs, twin._decisions, twin._shares, twin._decided = rng, [], [], [], -1
            twin.begin_task(name, num_modalities)
            found.append(twin)
        return found

    def learn_from(self, twins: Sequence[Transfer]) -> None:
        """Take the decisions of :meth:`twins` whose runs are over, and learn from them once the batch is full."""
        self._runs += [{"env": twin._env, "decisions": twin._decisions} for twin in twins if twin._decisions]
        if len(self._runs) >= self.options.batch:
            self.update()

    def begin(self) -> None:
        """Start a new run: what was learned stays, what was held does not."""
        self.end_run()
        self._shares, self._decided = [], -1

    def hidden(self, inputs: Vector) -> Vector:
        """Return the tanh layer ``(rows, hidden)`` of inputs ``(rows, INPUTS)``."""
        return np.tanh(inputs @ self.weights["w1"].T + self.weights["b1"])

    def logits(self, inputs: Vector) -> Vector:
        """Return the centred logits ``(m,)`` of one decision's inputs ``(m, INPUTS)``."""
        found = self.hidden(inputs) @ self.weights["w2"]
        return np.asarray(found - found.mean())

    def act(self, observation: npt.ArrayLike, info: Info, *, deterministic: bool = False) -> Array:
        """Return the split in force, or a new one when the run has come to the next decision."""
        progress = progress_of(info)
        point = self._decided + 1 if progress is None else int(progress * self.options.decisions + 1e-9)
        if self._shares and point == self._decided:
            return np.array(self._shares, dtype=np.float32)
        self._decided = point
        inputs = features(observation, info)
        logits = self.logits(inputs)
        if self.options.learn and not deterministic:
            noise = self.rng.standard_normal(len(logits))
            noise -= noise.mean()
            logits = logits + self.options.sigma * noise
            log_probability = -0.5 * float(noise @ noise)
            decision = {"inputs": inputs, "logits": logits, "log_probability": log_probability, "reward": 0.0}
            self._decisions.append(decision)
        exponentials = np.exp(logits - logits.max())
        shares = np.asarray(exponentials / exponentials.sum(), dtype=np.float32)
        if not np.isfinite(shares).all():
            shares = self.uniform_action()
        self._shares = [float(share) for share in shares]
        return shares

    # -- learning ----------------------------------------------------------------------------------

    def learn(self, reward: float) -> None:
        """Add a step's reward to the decision in force; nothing is learned before the run ends."""
        if self._decisions and math.isfinite(reward):
            self._decisions[-1]["reward"] += float(reward)

    def end_run(self) -> None:
        """End the run: its decisions join the batch, and a full batch is learned from."""
        if self._decisions:
            self._runs.append({"env": self._env, "decisions": self._decisions})
            self._decisions = []
        if len(self._runs) >= self.options.batch:
            self.update()

    def advantages(self) -> list[float]:
        """Return the advantage of each decision of the batch, in order: its return to go minus the expected one.

        Expected is a running mean per environment and decision. Returns of different tasks differ in scale, so
        each task's advantages are divided by their root mean square.
        """
        togo = [returns([d["reward"] for d in run["decisions"]], self.options.discount) for run in self._runs]
        found: list[list[float]] = [[] for _ in togo]
        for env in dict.fromkeys(run["env"] for run in self._runs):
            mine = [i for i, run in enumerate(self._runs) if run["env"] == env]
            expected = self._expected.setdefault(env, [])
            for t in range(max(len(togo[i]) for i in mine)):
                column = [togo[i][t] for i in mine if t < len(togo[i])]
                mean = math.fsum(column) / len(column)
                if t == len(expected):
                    expected.append(mean)
                for i in mine:
                    if t < len(togo[i]):
                        found[i].append(togo[i][t] - expected[t])
                expected[t] += BASELINE_RATE * (mean - expected[t])
            size = math.sqrt(np.mean([a * a for i in mine for a in found[i]])) + 1e-8
            for i in mine:
                found[i] = [a / size for a in found[i]]
        return [advantage for run in found for advantage in run]

    def update(self) -> None:
        """Learns from the runs since the last update, however many; does nothing without any."""
        if not self._runs:
            return
        batch = Decisions.of([decision for run in self._runs for decision in run["decisions"]])
        advantages = np.array(self.advantages())
        self._runs = []
        for _ in range(self.options.passes if self.options.algorithm == "ppo" else 1):
            gradient = self.gradient(batch, advantages)
            if all(np.isfinite(g).all() for g in gradient.values()):
                self._adam(gradient)

    def gradient(self, batch: Decisions, advantages: Vector) -> dict[str, Vector]:
        """Return the gradient of the clipped objective plus the entropy bonus, to be ascended.

        With the weights that made the decisions every ratio is 1 and nothing is clipped: that is REINFORCE.

        Args:
            batch: n decisions.
            advantages: shape ``(n,)``.
        """
        options, w = self.options, self.weights
        hidden = self.hidden(batch.inputs)
        logits = batch.centred(hidden @ w["w2"])
        away = (batch.logits - logits) / options.sigma
        ratio = np.exp(-0.5 * batch.sums(away * away) - batch.log_probability)
        clipped = np.where(advantages > 0.0, ratio > 1.0 + options.clip, ratio < 1.0 - options.clip)
        factor = np.where(clipped, 0.0, advantages * ratio)
        slope = factor[batch.owner] * away / options.sigma
        if options.entropy:
            exponentials = np.exp(logits)
            split = exponentials / batch.sums(exponentials)[batch.owner]
            entropy = -batch.sums(split * np.log(split))
            slope -= options.entropy * split * (np.log(split) + entropy[batch.owner])
        slope /= len(advantages)
        before = slope[:, None] * w["w2"] * (1.0 - hidden * hidden)
        return {"w1": before.T @ batch.inputs, "b1": before.sum(axis=0), "w2": slope @ hidden}

    def _adam(self, gradient: dict[str, Vector], b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> None:
        self.updates += 1
        t = self.updates
        for name, g in gradient.items():
            first, second = self._moments[name]
            first += (1.0 - b1) * (g - first)
            second += (1.0 - b2) * (g * g - second)
            self.weights[name] += self.options.lr * (first / (1.0 - b1**t)) / (np.sqrt(second / (1.0 - b2**t)) + eps)

    # -- state -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return weights, Adam's moments, expected returns, the split in force, and decisions not yet learned from."""
        return super().state_dict() | {
            "weights": {name: w.copy() for name, w in self.weights.items()},
            "moments": {name: {"first": a.copy(), "second": b.copy()} for name, (a, b) in self._moments.items()},
            "updates": self.updates,
            "made": self.made,
            "expected": {env: list(values) for env, values in self._expected.items()},
            "env": self._env,
            "runs": copy.deepcopy(self._runs),
            "decisions": copy.deepcopy(self._decisions),
            "shares": list(self._shares),
            "decided": self._decided,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` returned.

        Raises:
            CheckpointError: if the weights are of another network.
        """
        weights = {name: np.array(w) for name, w in state["weights"].items()}
        shapes = {name: w.shape for name, w in weights.items()}
        mine = {name: w.shape for name, w in self.weights.items()}
        if shapes != mine:
            raise CheckpointError(
                f"this policy's weights have shapes {shapes} and this version's network {mine}; train it anew."
            )
        super().load_state_dict(state)
        self.weights = weights
        self._moments = {n: (np.array(v["first"]), np.array(v["second"])) for n, v in state["moments"].items()}
        self.updates, self.made = int(state["updates"]), dict(state["made"])
        self._expected = {env: list(values) for env, values in state["expected"].items()}
        self._env = str(state["env"])
        # Copies: what was loaded may lie in a mapped file.
        self._runs, self._decisions = copy.deepcopy(state["runs"]), copy.deepcopy(state["decisions"])
        self._shares, self._decided = [float(share) for share in state["shares"]], int(state["decided"])


def returns(rewards: Sequence[float], discount: float) -> list[float]:
    """Return the discounted sum from each reward on."""
    found, total = [], 0.0
    for reward in reversed(rewards):
        total = reward + discount * total
        found.append(total)
    return found[::-1]
