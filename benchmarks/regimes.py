"""Agents on tasks drawn from the embedded digits: fast and slow learning, few and many samples, 2 to 5 modalities.

    python -m dus_gym.benchmarks.regimes table --lever rates       # 30 regimes, 8 seeds each: three to eight minutes
    python -m dus_gym.benchmarks.regimes table --loss-norm fixed
    python -m dus_gym.benchmarks.regimes validation --seeds 64 --lever rates       # what more validation samples tell
    python -m dus_gym.benchmarks.regimes tune --lever rates        # the options of steady, by the cross-entropy method

``table`` prints the points of an agent over uniform, mean of concat and sum, paired by seed, and behind a comma the
worst run. A task's views are noisy or clean as in the embedded tasks; every seed draws split, noise and start anew.

``validation`` prints the same for the views of Digits by the number of validation samples, beside a good constant
split, which needs none: how much of what an agent misses is that few samples tell late.

``tune`` draws tasks (views, noise, samples, learning rate, number of modalities), trains candidates for the options of
``steady`` on all of them, and moves half-way to the best quarter; a loss counts twice. Nothing is read but the tasks'
own test samples on seeds from 100,000 on, which nothing else uses.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dus_gym.agents import make_agent
from dus_gym.agents.base import Agent
from dus_gym.data.dataset import TaskData
from dus_gym.data.registry import REGISTERED
from dus_gym.data.sets.embedded import VIEWS, Images, assembled, digits
from dus_gym.data.task import DataOptions, DataSource, Task
from dus_gym.envs.dus_env import DUSEnv
from dus_gym.experiments.search import best_quarter, fused_accuracies, narrower
from dus_gym.seeding import RunSeeds

MORE_VIEWS: dict[str, Callable[[Images], Images]] = {
    "top": lambda images: images[:, :4],
    "bottom": lambda images: images[:, 4:],
    "centre": lambda images: images[:, 2:6, 2:6],
    "coarse": lambda images: images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)),
    "slopes": lambda images: np.diff(images, axis=1),
}
ALL_VIEWS = VIEWS | MORE_VIEWS
TEST = 597
"""The last rows of a seed's permutation test."""


@dataclass(frozen=True)
class Regime:
    """A task on the digits."""

    views: tuple[tuple[str, float | None], ...]
    """Each with its noise, a factor on the view's standard deviation; None: each seed draws it, none for 2 in 5."""
    samples: int
    """Training samples."""
    validation: int
    lr: float
    epochs: int

    def task(self) -> Task:
        """Return the task, registered in this process under a name of its own."""
        name = "Drawn" + "".join(c for c in repr(self) if c.isalnum())
        task = Task(
            name=name,
            modalities=tuple(view for view, _ in self.views),
            num_classes=10,
            encoders=("mlp",) * len(self.views),
            lr=self.lr,
            epochs=self.epochs,
            summary="views of the digits",
            source=Views(self),
            train_size=self.samples,
        )
        return REGISTERED.setdefault(name, task)


class Views(DataSource):
    """The samples of a regime."""

    def __init__(self, regime: Regime) -> None:
        self.regime = regime

    def build(self, task: Task, options: DataOptions, seeds: RunSeeds, root: Path | None) -> TaskData:
        """Return one run's splits, put together as the embedded tasks' are."""
        regime, (images, _) = self.regime, digits()
        order = seeds.generator("data/split").permutation(len(images))
        rest = order[regime.samples :]
        views = []
        for j, (name, noise) in enumerate(regime.views):
            rng = seeds.generator(f"data/noise/{j}")
            drawn = float(rng.uniform(0.3, 2.0)) * float(rng.random() > 0.4)
            view = ALL_VIEWS[name](images).reshape(len(images), -1)
            view = view + (drawn if noise is None else noise) * view.std() * rng.standard_normal(view.shape)
            views.append(view)
        return assembled(views, (order[: regime.samples], rest[: regime.validation], order[-TEST:]))


def accuracies(regime: Regime, agents: Sequence[Agent], seeds: Sequence[int], settings: dict[str, Any]) -> Images:
    """Train one run per agent as one computation; return each one's mean test accuracy of concat and sum, in per cent.

    A run that diverges counts as guessing.
    """
    found = fused_accuracies(DUSEnv(regime.task().name, **settings), agents, seeds)
    return 100.0 * np.array(found)


# -- the table -----------------------------------------------------------------------------------------

FAMILIES: dict[str, tuple[tuple[tuple[str, float], ...], int, int, int]] = {
    "2, Digits": ((("pixels", 1.0), ("columns", 0.0)), 400, 100, 100),
    "2, DigitsControl": ((("left", 0.0), ("right", 1.0)), 1020, 180, 30),
    "3, Digits3": ((("pixels", 1.5), ("rows", 0.0), ("columns", 0.0)), 400, 100, 100),
    "4": ((("pixels", 1.5), ("rows", 0.0), ("columns", 0.0), ("left", 1.0)), 400, 100, 100),
    "5": ((("pixels", 1.5), ("rows", 0.0), ("columns", 0.0), ("left", 1.0), ("coarse", 1.0)), 400, 100, 100),
}
"""Views, training and validation samples and epochs, by number of modalities and the task that they are like."""
RATES, SIZES = (0.3, 1.0, 3.0), (0.25, 1.0)
"""Factors on the learning rate of .03 and on the training samples; fewer samples are trained for half as many epochs
again, which are fewer iterations."""


def regimes() -> Iterator[tuple[str, float, float, Regime]]:
    """Yield family, factor on the rate, factor on the samples, and the task."""
    for (family, (views, samples, validation, epochs)), size, rate in product(FAMILIES.items(), SIZES, RATES):
        fewer = int(samples * size)
        longer = epochs if size == 1.0 else epochs * 3 // 2
        yield family, rate, size, Regime(views, fewer, validation, 0.03 * rate, longer)


def print_table(agents: Sequence[str], seeds: int, settings: dict[str, Any]) -> None:
    """Print the regimes' table as Markdown, and the worst cell and runs of each agent."""
    heads = [f"lr × {rate:g}, samples × {size:g}" for size, rate in product(SIZES, RATES)]
    print("| modalities | agent | " + " | ".join(heads) + " |\n|---|---|" + "---|" * len(heads), flush=True)
    cells: dict[tuple[str, str], list[str]] = {}
    means: dict[str, list[float]] = {name: [] for name in agents}
    worst: dict[str, list[float]] = {name: [] for name in agents}
    for family, _, _, regime in regimes():
        m, numbers = len(regime.views), list(range(seeds))
        words = ["uniform", *agents]
        made = [make_agent(word, m, seed) for word in words for seed in numbers]
        found = accuracies(regime, made, numbers * len(words), settings).reshape(len(words), seeds)
        for name, row in zip(agents, found[1:] - found[0], strict=True):
            cells.setdefault((family, name), []).append(f"{row.mean():+.1f}, {row.min():+.0f}")
            means[name].append(row.mean())
            worst[name].append(row.min())
    for (family, name), row in cells.items():
        print(f"| {family} | {name} | " + " | ".join(row) + " |")
    for name in agents:
        print(
            f"\n{name}: mean over cells {np.mean(means[name]):+.2f}, worst cell {min(means[name]):+.2f}, worst run "
            f"{min(worst[name]):+.1f}"
        )


VALIDATION = (50, 100, 200, 400, 800)
"""Validation samples; the digits have no more to spare."""
CONSTANT = "0.08/0.92"
"""The best constant split that the search of ``docs/ceiling.md`` found for Digits under rates."""


def print_validation(agents: Sequence[str], seeds: int, settings: dict[str, Any]) -> None:
    """Print agents' points over uniform, and their parts of a constant split's, by the number of validation samples."""
    views, samples, _, epochs = FAMILIES["2, Digits"]
    numbers = list(range(seeds))
    print(
        "| validation samples | constant | " + " | ".join(agents) + " |\n|---|---|" + "---|" * len(agents), flush=True
    )
    for validation in VALIDATION:
        made = [make_agent("uniform", 2) for _ in numbers]
        made += [make_agent("fixed", 2, options={"shares": CONSTANT}) for _ in numbers]
        made += [make_agent(word, 2, seed) for word in agents for seed in numbers]
        regime = Regime(views, samples, validation, 0.03, epochs)
        found = accuracies(regime, made, numbers * (2 + len(agents)), settings).reshape(-1, seeds)
        constant, *gains = (found[1:] - found[0]).mean(axis=1).tolist()
        parts = [f"{gain:+.2f} ({100 * gain / constant:.0f} %)" for gain in gains]
        print(f"| {validation} | {constant:+.2f} | " + " | ".join(parts) + " |", flush=True)


# -- tuning --------------------------------------------------------------------------------------------

TUNED: dict[str, tuple[float, float, float]] = {
    "lost": (50.0, 5.0, 400.0),
    "gate": (0.1, 0.01, 0.5),
    "surprise": (1.0, 0.05, 8.0),
    "relax": (0.3, 0.01, 0.99),
    "memory": (0.3, 0.01, 0.9),
    "floor": (0.1, 0.03, 0.4),
    "speed": (5.0, 0.5, 20.0),
    "cap": (2.5, 1.4, 5.0),
    "promise": (1.0, 0.1, 3.0),
    "caution": (20.0, 1.0, 100.0),
}
"""Option to where the search begins, its least and its largest value; it goes by logarithms."""
STEP = 0.6
"""Standard deviation of the first candidates' logarithms."""
FIRST_SEED = 100_000


def draw(rng: np.random.Generator) -> Regime:
    """Draw a task."""
    m = int(rng.choice([2, 3, 4, 5], p=[0.5, 0.3, 0.1, 0.1]))
    views = rng.choice(list(ALL_VIEWS), m, replace=False)
    samples, lr = int(rng.choice([200, 400, 1000])), float(rng.choice([0.01, 0.03, 0.1], p=[0.25, 0.5, 0.25]))
    iterations = int(rng.choice([300, 450, 600])) if lr > 0.02 else 600
    epochs = int(np.clip(iterations // (samples // 64), 10, 100))
    return Regime(tuple((str(view), None) for view in views), samples, int(rng.choice([60, 100, 180])), lr, epochs)


def tune(generations: int, candidates: int, tasks: int, seeds: int, settings: dict[str, Any]) -> None:
    """Search for the options of ``steady``, and print where the search stands after each generation."""
    rng = np.random.default_rng(0)
    low, high = (np.log([bounds[k] for bounds in TUNED.values()]) for k in (1, 2))
    mean, spread = np.log([first for first, _, _ in TUNED.values()]), np.full(len(TUNED), STEP)
    for generation in range(generations):
        drawn = np.clip(mean + spread * rng.standard_normal((candidates, len(TUNED))), low, high)
        drawn[0] = mean
        options = [dict(zip(TUNED, np.exp(row).tolist(), strict=True)) for row in drawn]
        gains = np.zeros((tasks, candidates))
        for k in range(tasks):
            regime = draw(rng)
            m = len(regime.views)
            numbers = [FIRST_SEED + (generation * tasks + k) * seeds + i for i in range(seeds)]
            agents = [make_agent("uniform", m) for _ in numbers]
            agents += [make_agent("steady", m, options=chosen) for chosen in options for _ in numbers]
            found = accuracies(regime, agents, numbers * (candidates + 1), settings).reshape(-1, seeds)
            gains[k] = (found[1:] - found[0]).mean(axis=1)
        value = (gains + np.minimum(gains, 0.0)).mean(axis=0)
        best = drawn[best_quarter(value)]
        mean = (mean + best.mean(axis=0)) / 2.0
        spread = narrower(spread, best, 0.1 * STEP)
        said = " ".join(f"{name}={value:.3g}" for name, value in zip(TUNED, np.exp(mean), strict=True))
        print(
            f"generation {generation + 1}: gain of the mean {gains[:, 0].mean():+.2f}, worst task "
            f"{gains[:, 0].min():+.2f}; {said}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("table", "validation", "tune"))
    parser.add_argument("--agents", default="steady,holdout")
    parser.add_argument("--seeds", type=int, default=8, help="of table and validation")
    parser.add_argument("--generations", type=int, default=12)
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--tasks", type=int, default=6, help="drawn in a generation")
    parser.add_argument("--lever", default="samples", choices=("samples", "rates"))
    parser.add_argument("--loss-norm", default="mean", choices=("mean", "fixed"))
    options = parser.parse_args()
    # As runs have it; more threads are slower on networks this small, and far slower beside other work.
    torch.set_num_threads(1)
    settings = {"lever": options.lever, "loss_norm": options.loss_norm}
    if options.what == "table":
        print_table(options.agents.split(","), options.seeds, settings)
    elif options.what == "validation":
        print_validation(options.agents.split(","), options.seeds, settings)
    else:
        tune(options.generations, options.candidates, options.tasks, 4, settings)


if __name__ == "__main__":
    main()
