"""Cost of the environment over a bare PyTorch loop that does the same steps.

    python -m dus_gym.benchmarks.overhead          # about 3 minutes on one core

One process, one thread, process time. Both sides train the same network from the same start with the same
optimiser on in-memory tensors, epoch by epoch with the batch sizes the agent chose, and take turns. The table has
the median, over all epochs but each run's first, which touches new memory, of ours over the bare loop's time for the
same epoch. The bare loop is the paper's baseline written by hand,
nothing else: it keeps no score, no figure and no state. Where a row says so, both sides also look at the
validation split after every epoch. ``--device cuda`` takes wall time, and adds ResNet-18 at a size worth a GPU.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
import torch.nn.functional as F
from torch import Tensor

import dus_gym  # noqa: F401 - registers the ids
from dus_gym.agents import make_agent
from dus_gym.agents.base import Agent
from dus_gym.agents.loop import run_episode
from dus_gym.ambient import isolated_torch_modes
from dus_gym.data.dataset import TaskData, TensorSplit
from dus_gym.data.registry import REGISTERED, get_task
from dus_gym.data.task import DataOptions, DataSource, Task
from dus_gym.envs.dus_env import DUSEnv
from dus_gym.model import MultimodalModel
from dus_gym.precision import autocast
from dus_gym.seeding import RunSeeds
from dus_gym.trainer import Trainer

NEVER = 10**9


@dataclass(frozen=True)
class Case:
    """One size of the comparison."""

    label: str
    task: str
    epochs: int
    iterations: int
    rounds: int
    precision: str = "float32"


class RandomImages(DataSource):
    """Random square images for two ResNet-18 encoders; data source of the tasks below."""

    def build(self, task: Task, options: DataOptions, seeds: RunSeeds, root: Path | None) -> TaskData:
        """The side of an image is the number behind the x of the task's name."""
        batch, side = task.batch, int(task.name.rpartition("x")[2])
        draw = torch.Generator().manual_seed(seeds.integer("images"))

        def split(n: int) -> TensorSplit:
            images = tuple(torch.randn(n, 3, side, side, generator=draw) for _ in range(2))
            return TensorSplit(images, torch.randint(0, 10, (n,), generator=draw))

        return TaskData(split(4 * batch), split(batch), split(batch), [(3, side, side)] * 2, data_kind="mock")


RANDOM_IMAGES = RandomImages()


def register_resnet_task(batch: int, side: int) -> str:
    """Two torchvision ResNet-18 on random tensors."""
    name = f"OverheadResNet18x{side}"
    REGISTERED[name] = replace(
        get_task("Digits"),
        name=name,
        encoders=("resnet18", "resnet18"),
        batch=batch,
        train_size=4 * batch,
        source="dus_gym.benchmarks.overhead:RANDOM_IMAGES",
    )
    return name


def now(device: torch.device) -> float:
    """Process seconds, or on an accelerator wall seconds once it has finished."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def bare_loop(
    run: Trainer, data: TaskData, sizes: Sequence[Sequence[int]], case: Case, *, validate: bool
) -> list[float]:
    """The paper's baseline by hand from the same start, with ``sizes[e]`` in epoch e; seconds of each epoch."""
    model: MultimodalModel = copy.deepcopy(run.model)
    config, device = run.optimizer.config, run.device
    format_of_forward = autocast(case.precision, device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
    )
    train: Any = data.train.to(device)
    validation: Any = None if data.validation is None else data.validation.to(device)
    n = len(train.labels)
    times = [now(device)]
    for wanted in sizes:
        widest, paired = max(wanted), min(wanted)
        needed = run.iterations_per_epoch * widest
        order = torch.cat([torch.randperm(n) for _ in range(-(-needed // n))]).to(device)
        for i in range(run.iterations_per_epoch):
            rows = order[i * widest : (i + 1) * widest]
            labels = train.labels[rows]
            with format_of_forward:
                features = [model.encode(j, train.inputs[j][rows[:size]]) for j, size in enumerate(wanted)]
                both = features if widest == paired else [h[:paired] for h in features]
                loss: Tensor = F.cross_entropy(model.fused(both), labels[:paired])
                for j, size in enumerate(wanted):
                    loss = loss + F.cross_entropy(model.unimodal(j, features[j]), labels[:size])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if validate:
            model.eval()
            with torch.inference_mode(), format_of_forward:
                features = [model.encode(j, validation.inputs[j]) for j in range(2)]
                heads = [model.fused(features)] + [model.unimodal(j, features[j]) for j in range(2)]
                _ = [float((logits.argmax(1) == validation.labels).float().mean()) for logits in heads]
            model.train()
        times.append(now(device))
    return [b - a for a, b in pairwise(times)]


class Timed(Agent):
    """Wraps an agent and adds up the time it takes."""

    def __init__(self, inner: Agent) -> None:
        self.inner, self.seconds = inner, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _timed(self, call: Callable[..., Any], *args: Any, **settings: Any) -> Any:
        started = time.perf_counter()
        result = call(*args, **settings)
        self.seconds += time.perf_counter() - started
        return result

    def act(self, *args: Any, **settings: Any) -> Any:
        """The inner agent's action, timed."""
        return self._timed(self.inner.act, *args, **settings)

    def learn(self, reward: float) -> None:
        """The inner agent's update, timed."""
        self._timed(self.inner.learn, reward)


def through_the_environment(env: gym.Env[Any, Any], agent: Agent) -> tuple[list[float], list[list[int]]]:
    """One run through ``gym.make`` and the agent, without its reset: each epoch's seconds and sizes."""
    observation, info = env.reset(seed=0)
    names = env.get_wrapper_attr("modalities")
    device = torch.device(env.get_wrapper_attr("config").device)
    sizes: list[list[int]] = []
    times = [now(device)]

    def note(observation: Any, reward: float, info: dict[str, Any]) -> None:
        del observation, reward
        sizes.append([info["size/" + name] for name in names])
        times.append(now(device))

    run_episode(env, agent, resume=(observation, info), on_step=note)
    return [b - a for a, b in pairwise(times)], sizes


def measure(case: Case, agent_name: str, device: str, *, validate: bool) -> tuple[float, float]:
    """Milliseconds per iteration of the bare loop, and the ratio of ours to it."""
    eval_every = 1 if validate else NEVER
    env = gym.make(
        "dus_gym:DUS-Digits-v0",
        task=case.task,
        epochs=case.epochs,
        iterations=case.iterations,
        eval_every=eval_every,
        device=device,
        precision=case.precision,
    )
    core: DUSEnv = env.unwrapped  # type: ignore[assignment]
    bare: list[float] = []
    ratios: list[float] = []
    for round_number in range(case.rounds + 1):
        ours, sizes = through_the_environment(env, make_agent(agent_name, 2, seed=round_number))
        env.reset(seed=0)
        run = core.run
        if not isinstance(run, Trainer):
            raise TypeError("the overhead benchmark needs the real trainer.")
        data = core.task.data(RunSeeds(0), None)
        with isolated_torch_modes(tf32=case.precision == "tf32"):
            theirs = bare_loop(run, data, sizes, case, validate=validate)
        if round_number:  # the first warms up
            bare += [1000.0 * seconds / run.iterations_per_epoch for seconds in theirs[1:]]
            ratios += [a / b for a, b in zip(ours[1:], theirs[1:], strict=True)]
    return statistics.median(bare), statistics.median(ratios)


def agents_share(epochs: int, rounds: int) -> float:
    """The part of a Digits run that REINFORCE's acting and learning take."""
    env = gym.make("dus_gym:DUS-Digits-v0", epochs=epochs)
    shares = []
    for _ in range(rounds):
        agent = Timed(make_agent("reinforce", 2))
        observation, info = env.reset(seed=0)
        started = time.perf_counter()
        run_episode(env, agent, resume=(observation, info))
        shares.append(agent.seconds / (time.perf_counter() - started))
    return statistics.median(shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each side")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    cases = [
        Case("digits, 6 iterations per epoch", "Digits", 100, 6, arguments.rounds),
        Case("digits, 60 iterations per epoch", "Digits", 10, 60, arguments.rounds),
        Case("two ResNet-18, B = 16, 3×64×64", register_resnet_task(16, 64), 6, 4, max(2, arguments.rounds // 3)),
    ]
    if device.type == "cuda":
        large = register_resnet_task(64, 224)
        cases += [
            Case(f"two ResNet-18, B = 64, 3×224×224, {precision}", large, 4, 20, arguments.rounds, precision)
            for precision in ("float32", "tf32", "bfloat16")
        ]
        print(torch.cuda.get_device_name(device))
    print("| size | agent | validation | bare loop, ms per iteration | ours / bare |\n|---|---|---|---|---|")
    for case in cases:
        for agent, validate in (("uniform", False), ("reinforce", False), ("reinforce", True)):
            bare, ratio = measure(case, agent, arguments.device, validate=validate)
            label = "every epoch, both sides" if validate else "none"
            print(f"| {case.label} | {agent} | {label} | {bare:.2f} | {ratio:.3f} |", flush=True)
    print(f"\nREINFORCE's share of a Digits run: {100 * agents_share(100, arguments.rounds):.2f} %")


if __name__ == "__main__":
    main()
