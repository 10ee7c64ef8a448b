"""Print what CUDA graphs gain at sizes that change, against loops written by hand: one table for a card.

    python -m dus_gym.benchmarks.captured --device cuda

Wall time of an iteration, the mean over stretches at several pairs of sizes. Rounds of these stretches are repeated
until one of them captures nothing, six at most; the one after them counts, and the table says what was captured in it
all the same. Five sides have the same network, samples on the device, optimiser and number format:

* by hand, changing sizes: the paper's baseline and nothing else, launched operation by operation;
* by hand, captured: the same at equal sizes alone, as one CUDA graph, which no change of sizes is possible under;
* dus-gym, every size captured, whether that pays or not: the captured step itself;
* dus-gym with ``graphs="auto"``, which captures what pays, and keeps scores and figures as ever;
* dus-gym's default, ``graphs="off"``.

Memory is what tensors held at most and, pools of captures included, what was reserved at most, MiB. The last table is
of iterations that a store feeds, over the same samples in the card's memory, without augmentation. The script aims at
four minutes: what ``--seconds`` has no time for is not begun, and named.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dus_gym.ambient import isolated_torch_modes
from dus_gym.benchmarks.store import make_files
from dus_gym.config import RunConfig
from dus_gym.costs import MIB
from dus_gym.data.dataset import TaskData, TensorSplit
from dus_gym.data.registry import get_task
from dus_gym.encoders import encoder_options
from dus_gym.graphs import Graphs, Rule, graphs_of
from dus_gym.methods import make_method
from dus_gym.model import MultimodalModel
from dus_gym.optim import OptimizerConfig
from dus_gym.precision import autocast
from dus_gym.records import GraphsUsed
from dus_gym.seeding import RunSeeds
from dus_gym.trainer import Recipe, Trainer

Sizes = Sequence[int]
CLASSES = 10
VOCABULARY = 30522
BY_HAND, HAND_CAPTURED = "by hand, changing sizes", "by hand, captured"
EVERY, AUTO, OFF = "dus-gym, every size captured", "dus-gym, graphs=auto", "dus-gym, graphs=off"
ROUNDS = 6
"""Rounds at most before the one that counts."""
ITERATIONS = 24
"""Of a stretch that the store feeds."""
CLIP_SECONDS = 0.1
"""Seconds of one core for making and storing a clip, about."""


@dataclass(frozen=True)
class Case:
    """One pair or triple of encoders."""

    label: str
    encoders: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    """Of one sample, by modality."""
    batch: int
    sizes: tuple[tuple[int, ...], ...]
    """Sizes of the stretches of a round; the first are equal."""
    iterations: int = 24
    """Of a stretch."""


IMAGE = (3, 224, 224)
CASES = [
    Case(
        "two ResNet-18, B = 64, 3×224×224",
        ("resnet18",) * 2,
        (IMAGE,) * 2,
        64,
        ((64, 64), (40, 88), (80, 48), (64, 64)),
    ),
    Case(
        "BERT-base + ResNet-50, B = 64, 128 tokens",
        ("bert:weights=none", "resnet50"),
        ((128,), IMAGE),
        64,
        ((64, 64), (40, 88), (80, 48)),
    ),
    Case(
        "three I3D, B = 6, 64 frames of 224×224",
        ("i3d",) * 3,
        ((3, 64, 224, 224), (1, 64, 224, 224), (2, 64, 224, 224)),
        6,
        ((6, 6, 6), (4, 6, 8)),
        iterations=12,
    ),
]


def samples_of(case: Case, device: torch.device) -> TaskData:
    """Return random samples, two widest batches of each modality, on the device."""
    draw = torch.Generator(device).manual_seed(0)
    n = 2 * max(max(sizes) for sizes in case.sizes)

    def rows(word: str, shape: tuple[int, ...]) -> Tensor:
        if word.startswith("bert"):
            most: int = encoder_options(word)[1].vocab or VOCABULARY
            return torch.randint(1, most, (n, *shape), generator=draw, device=device)
        return torch.randn((n, *shape), generator=draw, device=device)

    inputs = tuple(rows(*of) for of in zip(case.encoders, case.shapes, strict=True))
    split = TensorSplit(inputs, torch.randint(0, CLASSES, (n,), generator=draw, device=device))
    return TaskData(split, None, split, list(case.shapes))


def run_of(case: Case, data: TaskData, device: str, precision: str, graphs: str, *, benchmark: bool) -> Trainer:
    """Return a run of the paper's baseline."""
    names = tuple(f"modality{j}" for j in range(len(case.encoders)))
    recipe = Recipe(names, CLASSES, case.encoders, OptimizerConfig(lr=1e-3, schedule="none"), 1, case.batch)
    config = RunConfig(
        epochs=10**6, iterations=10**6, device=device, precision=precision, graphs=graphs, cudnn_benchmark=benchmark
    )
    return Trainer(recipe, data, make_method("baseline"), config, RunSeeds(0))


class ByHand:
    """The paper's baseline written by hand: no score, no figure, no state."""

    def __init__(self, model: MultimodalModel, split: TensorSplit, precision: str) -> None:
        self.model, self.split, self.precision = model, split, precision
        self.device = split.labels.device
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=True)

    def step(self, inputs: Sequence[Tensor], labels: Tensor) -> None:
        """Make one step on samples of which the first min a_j are complete."""
        paired = min(map(len, inputs))
        with autocast(self.precision, self.device):
            features = [self.model.encode(j, x) for j, x in enumerate(inputs)]
            loss = F.cross_entropy(self.model.fused([h[:paired] for h in features]), labels[:paired])
            for j, h in enumerate(features):
                loss = loss + F.cross_entropy(self.model.unimodal(j, h), labels[: len(h)])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def train(self, sizes: Sizes, iterations: int) -> None:
        """Train some iterations, operation by operation."""
        for rows in self._rows(max(sizes), iterations):
            inputs = [x.index_select(0, rows[:size]) for x, size in zip(self.split.inputs, sizes, strict=True)]
            self.step(inputs, self.split.labels[rows])

    def capture(self, graphs: Graphs, sizes: Sizes) -> Callable[[Sizes, int], None]:
        """Return what trains as :meth:`train` does, at these sizes alone, by one graph."""
        split = self.split
        inputs = [x[:size].clone() for x, size in zip(split.inputs, sizes, strict=True)]
        labels = split.labels[: max(sizes)].clone()
        with graphs.stream():
            for _ in range(3):
                self.step(inputs, labels)
            _, replay = graphs.capture(lambda: self.step(inputs, labels))

        def train(_: Sizes, iterations: int) -> None:
            with graphs.stream():
                for rows in self._rows(max(sizes), iterations):
                    for x, static in zip(split.inputs, inputs, strict=True):
                        torch.index_select(x, 0, rows[: len(static)], out=static)
                    torch.index_select(split.labels, 0, rows, out=labels)
                    replay()

        return train

    def _rows(self, widest: int, iterations: int) -> Iterator[Tensor]:
        n = len(self.split.labels)
        order = torch.cat([torch.randperm(n) for _ in range(-(-iterations * widest // n))]).to(self.device)
        yield from order[: iterations * widest].view(iterations, widest)


@dataclass(frozen=True)
class Side:
    """Time and memory of one side."""

    milliseconds: float
    """Of an iteration."""
    memory: float
    """The most that tensors held, MiB; 0 on the CPU."""
    reserved: float
    """The most that PyTorch took of the device's memory, MiB, pools of captures included; 0 on the CPU."""
    note: str = ""


def wait(device: torch.device) -> float:
    """Return the time in seconds, once the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def measure(
    case: Case, train: Callable[[Sizes, int], object], device: torch.device, used: GraphsUsed | None = None
) -> Side:
    """Time a round of stretches, after rounds that do not count: until one captures nothing, :data:`ROUNDS` at most.

    Args:
        case: with the stretches.
        train: some iterations at some sizes.
        device: where it does that.
        used: the counts of captures that ``train`` keeps; None: it has none.
    """
    used = GraphsUsed() if used is None else used

    def one_round() -> tuple[float, int, set[tuple[int, ...]]]:
        """Return seconds, captures and the sizes that ran captured."""
        begun, captured, replayed = wait(device), used.captured, set()
        for sizes in case.sizes:
            before = used.replays
            train(sizes, case.iterations)
            if used.replays > before:
                replayed.add(sizes)
        return wait(device) - begun, used.captured - captured, replayed

    for _ in range(ROUNDS):
        if not one_round()[1]:
            break
    took, captures, replayed = one_round()
    notes = [used.why_not] if used.why_not else []
    if used.iterations:
        counted = f"{len(replayed)} of {len(set(case.sizes))} sizes ran captured, {captures} captures while it counted"
        notes = [counted, f"{used.captured} in all in {used.seconds:.1f} s", *notes]
    on_card = device.type == "cuda"
    return Side(
        1000.0 * took / (case.iterations * len(case.sizes)),
        torch.cuda.max_memory_allocated(device) / MIB if on_card else 0.0,
        torch.cuda.max_memory_reserved(device) / MIB if on_card else 0.0,
        "; ".join(notes),
    )


class EverySize(Rule):
    """The rule that captures whatever it sees."""

    def slower(self, *_: Any) -> bool:
        """Return that nothing is."""
        return False

    def pays(self, *_: Any) -> bool:
        """Return that every capture does."""
        return True


@contextmanager
def fresh(device: torch.device) -> Iterator[None]:
    """Measure memory anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    yield


def sides_of(
    case: Case, device: torch.device, precision: str, *, benchmark: bool, late: Callable[[str], bool]
) -> dict[str, Side]:
    """Measure all sides of a case; the captured ones only where the device has graphs.

    Args:
        case: what to train.
        device: where.
        precision: number format.
        benchmark: cuDNN's, for all sides.
        late: whether there is no time left for what is named.
    """
    data = samples_of(case, device)
    train = data.train
    assert isinstance(train, TensorSplit)
    graphs = graphs_of(device)

    def by_hand(name: str) -> Side:
        with isolated_torch_modes(tf32=precision == "tf32", cudnn_benchmark=benchmark):
            model = run_of(case, data, str(device), precision, "off", benchmark=benchmark).model
            hand = ByHand(model, train, precision)
            if name == BY_HAND:
                return measure(case, hand.train, device)
            assert graphs is not None
            # Equal sizes alone: what it may be compared with is the sum, which is the same.
            return measure(case, hand.capture(graphs, case.sizes[0]), device)

    def ours(name: str) -> Side:
        run = run_of(case, data, str(device), precision, "off" if name == OFF else "auto", benchmark=benchmark)
        if name == EVERY and run._captured is not None:
            run._captured.rule = EverySize()
        return measure(case, run.train, device, run.graphs)

    found: dict[str, Side] = {}
    for name in (BY_HAND, HAND_CAPTURED, EVERY, AUTO, OFF):
        if (graphs is None and name in (HAND_CAPTURED, EVERY)) or late(f"{case.label}: {name}"):
            continue
        with fresh(device):
            found[name] = by_hand(name) if name in (BY_HAND, HAND_CAPTURED) else ours(name)
    return found


def rows_of(case: Case, sides: dict[str, Side]) -> Iterator[str]:
    """Rows of the table."""
    for name, side in sides.items():
        ratios = [
            f"{sides[of].milliseconds / side.milliseconds:.3f}" if of in sides else "not run" for of in (EVERY, AUTO)
        ]
        cells = [case.label, name, f"{side.milliseconds:.2f}", *ratios, f"{side.memory:.0f}", f"{side.reserved:.0f}"]
        yield f"| {' | '.join(cells)} | {side.note} |"


def store_stretches(device: torch.device, precision: str, clips: int, batch: int, stretches: int) -> Iterator[str]:
    """Rows of CREMA-D's two ResNet-18, fed by the store and by tensors on the device: the median of some stretches.

    A stretch is of :data:`ITERATIONS` whatever the clips, of which a few are enough: it is an epoch.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_files(root, clips)
        task = get_task("CREMAD").configured({"validation": "none"}, root)
        stored = task.data(RunSeeds(0), root)
        on_device = stored.train.to(device)
        rows = torch.arange(len(on_device.labels), device=device)
        inputs = tuple(
            torch.cat([on_device.fetch(j, part) for part in rows.split(batch)]) for j in range(len(task.modalities))
        )
        split = TensorSplit(inputs, on_device.labels)
        in_memory = TaskData(split, None, split, stored.input_shapes)
        recipe = replace(Recipe.of(task), batch=batch)
        seconds = {}
        for name, data in (("tensors on the device", in_memory), ("the store", replace(stored, validation=None))):
            config = RunConfig(
                epochs=10**6,
                iterations=ITERATIONS,
                device=str(device),
                precision=precision,
                graphs="auto",
                eval_every=10**6,
            )
            run = Trainer(recipe, data, make_method("baseline"), config, RunSeeds(0))
            took = []
            for _ in range(stretches + 1):
                begun = wait(device)
                run.train([batch] * 2, ITERATIONS)
                took.append(wait(device) - begun)
            seconds[name] = float(np.median(took[1:]))
            ratio = seconds[name] / seconds["tensors on the device"]
            yield f"| {name} | {seconds[name]:.3f} | {ratio:.3f} | {run._ahead.depth} |"


def main(arguments: Sequence[str] | None = None, cases: Sequence[Case] = tuple(CASES)) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "tf32", "bfloat16"))
    parser.add_argument("--cudnn-benchmark", action="store_true", help="for all sides")
    parser.add_argument("--seconds", type=float, default=230.0, help="begin nothing new after this")
    parser.add_argument("--clips", type=int, default=140, help="of the store; 0: no store")
    parser.add_argument("--batch", type=int, default=64, help="B of the store's iterations")
    given = parser.parse_args(arguments)
    RunConfig(device=given.device).check_device()
    device, begun = torch.device(given.device), time.perf_counter()
    torch.set_num_threads(1)
    if device.type == "cuda":
        print(f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}, {given.precision}")
    left_out: list[str] = []

    def late(what: str, needs: float = 0.0) -> bool:
        """Return whether there is no time left for something, and keep its name where there is none."""
        over: bool = time.perf_counter() - begun + needs > given.seconds
        left_out.extend([what] * over)
        return over

    print(
        f"| encoders | side | ms an iteration | {EVERY}, over it | {AUTO}, over it | memory, MiB | reserved, MiB "
        "| captures |\n|---|---|---|---|---|---|---|---|"
    )
    for case in cases:
        if not late(case.label):
            for row in rows_of(
                case, sides_of(case, device, given.precision, benchmark=given.cudnn_benchmark, late=late)
            ):
                print(row, flush=True)
    if given.clips and not late("the store", given.clips * CLIP_SECONDS):
        print(
            f"\n| {ITERATIONS} iterations fed by | seconds | over tensors | iterations read ahead |\n|---|---|---|---|"
        )
        for row in store_stretches(device, given.precision, given.clips, given.batch, 3):
            print(row, flush=True)
    if left_out:
        print(f"\nNo time was left for: {'; '.join(left_out)}.")
    print(f"\n{time.perf_counter() - begun:.0f} s in all")


if __name__ == "__main__":
    main()
