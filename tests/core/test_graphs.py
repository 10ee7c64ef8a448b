"""Captured steps give the bits of steps that run operation by operation; the device is emulated on the CPU."""

import dataclasses
import gc
import json
import logging
import weakref
from contextlib import contextmanager
from itertools import cycle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from emulated_graphs import EmulatedGraphs

import dus_gym
from dus_gym import graphs, trainer
from dus_gym.config import RunConfig
from dus_gym.data.dataset import TaskData, TensorSplit
from dus_gym.encoders import ENCODERS, Entry
from dus_gym.encoders.mlp import MLPOptions
from dus_gym.errors import ConfigError, MemoryRanOutError
from dus_gym.graphs import FIRST, Rule
from dus_gym.methods import METHODS, make_method, method_class
from dus_gym.methods.base import Method
from dus_gym.methods.baseline import Baseline
from dus_gym.methods.ogm import OGM
from dus_gym.optim import GroupedOptimizer, OptimizerConfig
from dus_gym.records import GraphsUsed
from dus_gym.seeding import RunSeeds
from dus_gym.trainer import Recipe, Trainer, TrainingRuns

EARLY = {
    "opm": {"start_epoch": 1},
    "di_mml": {"transfer_start": 0.25, "fusion": 0.5},
    "reconboost": {"pretraining": 0.25},
    "smv": {"warm_up": 0.25},
    "ogm": {"end_epoch": 1},
    "ogm_ge": {"end_epoch": 1},
    "pmr": {"end_epoch": 2},
    "domfn": {"pretraining": 0.25},
    "mses": {"patience": 0.25},
    "ogr_gb": {"super_epoch": 0.5},
    "relearning": {"period": 0.25},
}
"""Options with which a run of few epochs reaches everything that a method does."""
ON_THE_HOST = {"agm", "aug", "cml", "greedy", "mla"}
"""Methods that count, draw or decide on the host in every iteration."""


@pytest.fixture
def emulated(monkeypatch):
    """Set whether the emulated device captures whatever it can, or nothing."""
    monkeypatch.setattr(trainer, "graphs_of", lambda device: EmulatedGraphs())
    monkeypatch.setattr(Rule, "slower", lambda *_: False)

    def capture(wanted):
        monkeypatch.setattr(Rule, "pays", lambda *_: wanted)

    return capture


def sizes_of(method, m):
    """Sizes of steps that come and come again, where the method allows them to differ."""
    if not method_class(method).supports_unpaired:
        return [[8] * m, [6] * m, [8] * m, [6] * m, [8] * m, [8] * m]
    uneven = [5, 11, 8][:m]
    return [[8] * m, uneven, [8] * m, uneven[::-1], uneven, [8] * m]


def train(run, steps, iterations=8, rates=None):
    return [run.train(sizes, iterations, rates) for sizes in steps]


CASES = [
    *((method, {}) for method in METHODS),
    *((method, {"update": "alternating"}) for method in METHODS if not method_class(method).alternates),
    ("mla", {"method_options": {"projection": "none"}}),
    ("lfm", {"method_options": {"label_weight": 0.5}}),
    ("smv", {"method_options": {"warm_up": 0.25, "masking": "inputs"}}),
    ("mmpareto", {"method_options": {"magnitude": "encoder"}}),
    ("ogm", {"optimizer": {"name": "adam", "lr": 0.001}}),
    ("baseline", {"optimizer": {"name": "adam", "lr": 0.001}}),
    ("baseline", {"optimizer": {"lr": 0.01, "momentum": 0.0, "schedule": "step"}}),
    ("baseline", {"loss_norm": "fixed", "pairing": "independent"}),
    ("baseline", {"amp": True}),
    ("umt", {"select": "validation"}),
]


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize(("method", "settings"), CASES)
def test_captured_steps_give_the_same_bits(emulated, toy_run, same_bits, method, settings, m):
    """Sizes change within epochs and come again; phases, freezing and weights of epochs fall as they do."""
    settings = {"method_options": EARLY.get(method), "iterations": 12, "graphs": "auto"} | settings
    told, snapshots, evaluations = [], [], []
    for wanted in (False, True):
        emulated(wanted)
        run = toy_run(m, method=method, **settings)
        told.append(train(run, sizes_of(method, m)))
        snapshots.append(run.snapshot())
        evaluations.append(run.evaluate())
        if not wanted:
            assert run.graphs.replays == 0
    assert told[0] == told[1]
    assert same_bits(*snapshots)
    assert evaluations[0] == evaluations[1]
    used = run.graphs
    by_rates = method == "ogm" and "optimizer" in settings
    if (method in ON_THE_HOST and settings.get("method_options") != {"projection": "none"}) or by_rates:
        assert used.replays == used.captured == 0
        assert used.why_not == f"method {method!r} works on the host in every iteration"
    else:
        assert used.replays > 0
        assert used.replays < used.iterations == 48


# -- the proof proves something ----------------------------------------------------------------------


class Claiming(Baseline):
    """Something that can't be captured, which says that it can."""

    name = "claiming"

    def capture_key(self, ctx):
        return ()


class Counting(Claiming):
    """Has a number of the host in each iteration."""

    capture_key = Claiming.capture_key

    def terms(self, ctx):
        for term in super().terms(ctx):
            yield term * (1.0 + ctx.iteration)


class Drawing(Claiming):
    """Draws on the host."""

    capture_key = Claiming.capture_key

    def terms(self, ctx):
        noise = torch.tensor(ctx.rngs[0].random(), dtype=torch.float32)
        for term in super().terms(ctx):
            yield term * noise


class Remembering(Claiming):
    """Replaces a tensor in each iteration, which the next one reads."""

    capture_key = Claiming.capture_key
    mean = torch.tensor(0.0)

    def terms(self, ctx):
        for term in super().terms(ctx):
            self.mean = 0.9 * self.mean + 0.1 * term.detach()
            yield term * self.mean


class Reading(Claiming):
    """Waits for the device."""

    capture_key = Claiming.capture_key

    def terms(self, ctx):
        for term in super().terms(ctx):
            yield term if term.item() > 0.0 else 2.0 * term


def both(emulated, start, steps):
    """The same run without a captured step and with."""
    runs = []
    for wanted in (False, True):
        emulated(wanted)
        runs.append(start())
        train(runs[-1], steps)
    return runs


@pytest.mark.parametrize("method", [Counting, Remembering])
def test_a_method_that_claims_too_much_comes_to_other_bits(emulated, toy_run, same_bits, method):
    eager, captured = both(emulated, lambda: toy_run(method=method(), graphs="auto"), [[8, 8]] * 2)
    assert captured.graphs.replays > 0
    assert not same_bits(eager.model.state_dict(), captured.model.state_dict())


@pytest.mark.parametrize("method", [Reading, Drawing])
def test_a_capture_that_fails_falls_back_and_says_so_once(emulated, toy_run, same_bits, caplog, method):
    with caplog.at_level(logging.WARNING):
        eager, captured = both(emulated, lambda: toy_run(method=method(), graphs="auto"), [[8, 8], [4, 12], [8, 8]])
    assert captured.graphs.captured == captured.graphs.replays == 0
    reason = "a capture failed (RuntimeError: operation not permitted when stream is capturing"
    assert captured.graphs.why_not.startswith(reason)
    assert [record.getMessage() for record in caplog.records].count(
        f"CUDA graphs: {captured.graphs.why_not}, so iterations run operation by operation."
    ) == 1
    if method is Reading:
        assert same_bits(eager.snapshot(), captured.snapshot())


class OnACard(EmulatedGraphs):
    """The card's own way into a capture and out of it."""

    device, _pool, _stream = None, None, None
    capture = graphs.CudaGraphs.capture


def test_a_broken_capture_leaves_nothing_behind_that_only_the_collector_would_find(emulated, toy_run, monkeypatch):
    """The run goes on without, and needs the memory."""
    left, under_way, collecting = [], [], []

    @contextmanager
    def capture(*_, **__):
        under_way.append(True)
        collecting.append(gc.isenabled())
        try:
            yield
        finally:
            under_way.clear()

    class Breaking(Claiming):
        capture_key = Claiming.capture_key

        def terms(self, ctx):
            for term in super().terms(ctx):
                if under_way:
                    left.append(weakref.ref(term))
                    raise torch.cuda.OutOfMemoryError("CUDA out of memory")
                yield term

    class Graph:
        def __init__(self):
            left.append(weakref.ref(self))

        def replay(self):
            raise AssertionError("nothing was captured")

    emulated(True)
    monkeypatch.setattr(trainer, "graphs_of", lambda _: OnACard())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    run = toy_run(method=Breaking(), graphs="auto")
    gc.disable()
    try:
        run.train([8, 8], 6)
        assert len(left) == 2
        assert [ref() for ref in left] == [None, None]
    finally:
        gc.enable()
    assert run.graphs.why_not.startswith("memory ran out in a capture")
    run.train([8, 8], 1)
    assert collecting == [False]


def test_nobody_captures_on_the_stream_of_another(monkeypatch):
    given = cycle(range(graphs.STREAMS))
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: SimpleNamespace(cuda_stream=next(given)))
    runs = [graphs.CudaGraphs(torch.device("cuda")) for _ in range(graphs.STREAMS + 1)]
    own = [run._own_stream().cuda_stream for run in runs[:-1]]
    assert sorted(own) == list(range(graphs.STREAMS))
    with pytest.raises(ConfigError, match=r"at most 32 runs at once in a process; use graphs='off'"):
        runs[-1]._own_stream()
    del runs[5]
    assert runs[-1]._own_stream().cuda_stream == own[5]


def test_who_changes_an_iteration_must_say_anew_whether_it_can_be_captured():
    class Changed(Baseline):
        def after_backward(self, ctx):
            pass

    class Ordered(Baseline):
        def order(self, ctx):
            return None

    class Modulated(OGM):
        def after_backward(self, ctx):
            pass

    assert Baseline.iterates_alike
    assert not Changed.iterates_alike
    assert Ordered.iterates_alike
    assert OGM.capture_key is not Method.capture_key
    assert Modulated.capture_key is Method.capture_key


# -- layers, runs and rates --------------------------------------------------------------------------

BERT = "bert:weights=none:hidden=16:layers=1:heads=2:vocab=64:out=8"


class Normed(torch.nn.Sequential):
    """A small network with BatchNorm."""

    out_features = 4

    def __init__(self, shape):
        layers = torch.nn
        super().__init__(
            layers.Conv2d(shape[0], 4, 3), layers.BatchNorm2d(4), layers.ReLU(), layers.AdaptiveAvgPool2d(1),
            layers.Flatten(),
        )  # fmt: skip


def pictures_and_text(pictures="cnn", **settings):
    """A run whose pictures go through an encoder of this name, and whose text through one with dropout."""
    rng = np.random.default_rng(2)

    def split(n):
        ids = torch.tensor(rng.integers(1, 64, (n, 16)))
        ids[:, 10:] = 0
        rows = torch.tensor(rng.standard_normal((n, 3, 16, 16)), dtype=torch.float32)
        return TensorSplit((rows, ids), torch.tensor(rng.integers(0, 3, n)))

    data = TaskData(split(24), split(8), split(8), [(3, 16, 16), (16,)])
    recipe = Recipe(("a", "b"), 3, (pictures, BERT), OptimizerConfig(lr=0.01), 2, 4)
    return Trainer(recipe, data, make_method("ogm_ge"), RunConfig.of({"graphs": "auto"} | settings), RunSeeds(0))


@pytest.mark.parametrize("settings", [{}, {"precision": "bfloat16"}], ids=str)
def test_batch_norm_dropout_and_noise_go_on_as_they_would(emulated, monkeypatch, same_bits, settings):
    # It looks at ids on the CPU alone.
    monkeypatch.setattr("dus_gym.encoders.bert.check_ids", lambda *_: None)
    monkeypatch.setitem(ENCODERS, "normed", Entry(MLPOptions, lambda shape, _: Normed(shape)))
    eager, captured = both(emulated, lambda: pictures_and_text("normed", **settings), [[4, 4]] * 2)
    assert captured.graphs.replays > 0
    assert same_bits(eager.snapshot(), captured.snapshot())


def test_learning_rates_that_change_between_steps_are_no_part_of_a_captured_step(emulated, toy_run, same_bits):
    rates = [[0.5, 1.5], [1.0, 1.0], [1.25, 0.75], [1.0, 1.0]]
    ended = []
    for wanted in (False, True):
        emulated(wanted)
        run = toy_run(lever="rates", iterations=12, optimizer={"schedule": "step", "milestone": 0.5}, graphs="auto")
        told = [run.train([8, 8], 9, of) for of in rates]
        ended.append((told, run.snapshot()))
    assert run.graphs.captured == 2, run.graphs
    assert run.graphs.replays > 20
    assert same_bits(ended[0][1], ended[1][1])
    assert ended[0][0] == ended[1][0]


@pytest.mark.parametrize("method", ["baseline", "umt", "di_mml", "mses"])
def test_a_run_is_resumed_rewound_and_forked_with_captured_steps(emulated, toy_run, same_bits, method):
    def start():
        return toy_run(method=method, method_options=EARLY.get(method), iterations=12, graphs="auto")

    emulated(False)
    eager = start()
    steps = [[8, 8], [4, 12], [8, 8], [4, 12]]
    train(eager, steps)
    emulated(True)
    run, fresh = start(), start()
    train(run, steps[:2])
    middle, fork = run.snapshot(), run.fork()
    assert fork.graphs.captured == 0
    train(run, steps[2:])
    fresh.restore(middle)
    for other in (fork, fresh):
        train(other, steps[2:])
        assert other.graphs.replays > 0
    rewound = run.snapshot()
    run.restore(middle)
    train(run, steps[2:])
    for other in (rewound, run.snapshot(), fork.snapshot(), fresh.snapshot()):
        assert same_bits(other, eager.snapshot())


def test_of_too_many_sizes_all_go_and_come_again(emulated, toy_run, same_bits, monkeypatch):
    """None can go alone: they share what libraries work in."""
    monkeypatch.setattr(graphs, "MOST", 2)
    steps = [[8, 8], [4, 12], [6, 10], [8, 8], [6, 10]]
    eager, captured = both(emulated, lambda: toy_run(iterations=20, graphs="auto"), steps)
    # The third takes the place of both, and the first comes beside it.
    assert captured.graphs.captured == 4
    assert captured._captured.graphs.destroyed == 2
    assert same_bits(eager.snapshot(), captured.snapshot())


def test_a_size_that_saves_nothing_is_launched_no_more_and_disturbs_no_other(emulated, toy_run, same_bits, monkeypatch):
    steps = [[8, 8], [4, 12], [8, 8], [4, 12], [8, 8]]
    emulated(False)
    eager = toy_run(iterations=20, graphs="auto")
    train(eager, steps)
    emulated(True)
    run = toy_run(iterations=20, graphs="auto")
    train(run, steps[:2])
    replays = run.graphs.replays
    (slow, _), fast = run._captured._steps, Rule.slower
    monkeypatch.setattr(Rule, "slower", lambda self, key: key == slow or fast(self, key))
    train(run, steps[2:])
    # Of three stretches, the one of the other size.
    assert run.graphs.replays == replays + 8
    assert run.graphs.captured == 2
    assert run._captured.graphs.destroyed == 0
    assert same_bits(eager.snapshot(), run.snapshot())


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_rate_in_a_tensor_is_a_rate(name):
    """Rates that float32 holds; others are rounded to it first, on a card with and without graphs."""
    after = []
    for capturable in (False, True):
        generator = torch.Generator().manual_seed(0)
        groups = {name: [torch.nn.Parameter(torch.randn(5, generator=generator))] for name in ("a", "b")}
        optimizer = GroupedOptimizer(groups, OptimizerConfig(0.0078125, name), {"b": 0.5}, capturable=capturable)
        for factor in (1.0, 0.25):
            optimizer.set_rates(factor)
            for parameters in groups.values():
                parameters[0].grad = parameters[0].detach().sin()
            optimizer.step()
        after.append([parameters[0] for parameters in groups.values()])
        assert optimizer.partition == (("a",), ("b",))
    assert all(map(torch.equal, *after))


# -- memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ({"free": 0.05}, "less than 10% of the device's memory is free; a larger size_step needs fewer"),
        (
            {"fail": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")},
            "memory ran out in a capture (OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.); a larger "
            "size_step needs fewer",
        ),
    ],
)
def test_without_memory_for_captures_the_run_goes_on(emulated, toy_run, monkeypatch, same_bits, device, said):
    def start():
        return toy_run(graphs="auto")

    emulated(False)
    eager = start()
    train(eager, [[8, 8], [4, 12]])
    emulated(True)
    monkeypatch.setattr(trainer, "graphs_of", lambda _: EmulatedGraphs(**device))
    run = start()
    train(run, [[8, 8], [4, 12]])
    assert run.graphs.why_not == said
    assert run.graphs.replays == 0
    assert same_bits(run.snapshot(), eager.snapshot())


def test_memory_that_fills_up_leaves_what_was_captured(emulated, toy_run):
    emulated(True)
    run = toy_run(iterations=20, graphs="auto")
    run.train([8, 8], 8)
    before = run.graphs.replays
    assert before > 0
    run._captured.graphs.free_part = 0.05
    run.train([4, 12], 8)
    assert run.graphs.replays == before
    assert run.graphs.why_not.startswith("less than 10%")
    run.train([8, 8], 8)
    assert run.graphs.replays == before + 8
    assert run.graphs.captured == 1
    assert run._captured.graphs.destroyed == 0


def test_memory_that_runs_out_names_what_graphs_take(emulated, toy_run, monkeypatch):
    emulated(True)
    run = toy_run(graphs="auto")
    monkeypatch.setattr(
        "dus_gym.encoders.mlp.MLP.forward", lambda *_: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError("CUDA"))
    )
    with pytest.raises(MemoryRanOutError, match=r"fewer captured sizes \(a larger size_step, or graphs='off'\)"):
        run.train([8, 8], 2)


# -- when ---------------------------------------------------------------------------------------------


def test_before_anything_was_measured_a_stated_number_of_iterations_pays():
    rule = Rule()
    assert rule.pays("size", FIRST)
    assert not rule.pays("size", FIRST - 1)
    rule.saw_eager("size", 10.0)
    rule.saw_capture(100.0)
    assert rule.pays("other", FIRST)


def test_a_capture_pays_where_the_time_it_saves_is_more_than_it_takes():
    rule = Rule()
    for milliseconds in (9.0, 11.0):
        rule.saw_eager("a", milliseconds)
        rule.saw_replay("a", milliseconds / 5.0)
    rule.saw_capture(100.0)
    # 8 of 10 ms an iteration are saved; another size is taken to be like it.
    assert not rule.pays("b", 12)
    assert rule.pays("b", 13)
    # Of a size with iterations of 20 ms, 16 ms.
    rule.saw_eager("b", 20.0)
    assert not rule.pays("b", 6)
    assert rule.pays("b", 7)


def test_a_size_that_saves_nothing_is_captured_no_more():
    rule = Rule()
    rule.saw_eager("a", 10.0)
    rule.saw_replay("a", 10.5)
    rule.saw_capture(1.0)
    assert rule.slower("a")
    assert not rule.pays("a", 1e9)
    assert not rule.pays("b", 1e9)
    rule.saw_replay("c", 1.0)
    assert not rule.slower("c")


def test_the_rule_hears_of_every_settled_iteration_and_of_what_is_left(emulated, toy_run, monkeypatch):
    emulated(False)
    asked, seen = [], []
    monkeypatch.setattr(Rule, "pays", lambda self, key, expected: asked.append(expected) or len(asked) > 9)
    for name in ("saw_eager", "saw_replay", "saw_capture"):
        monkeypatch.setattr(Rule, name, lambda self, *what, name=name: seen.append(name))
    run = toy_run(iterations=10, graphs="auto")
    run.train([8, 8], 10)
    # Sizes that stay for a stretch have all that is left of it.
    assert asked == [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    run.train([8, 8], 10)
    # They came ten times before, so that as many are expected to come later. The third asking is yes.
    assert asked[7:] == [20.0, 19.0, 18.0]
    run.train([8, 8], 1)
    assert (seen.count("saw_eager"), seen.count("saw_capture"), seen.count("saw_replay")) == (11, 1, 7)
    assert run.graphs.replays == 9


# -- where there are none ----------------------------------------------------------------------------


def test_the_cpu_has_none(toy_run):
    run = toy_run(graphs="auto")
    assert run.graphs.why_not == "device 'cpu' has none"
    assert toy_run().graphs is None
    assert isinstance(run.optimizer.torch.param_groups[0]["lr"], float)


def test_a_summary_says_what_was_captured_and_the_run_goes_on_without(emulated, tmp_path):
    emulated(True)
    settings = {"epochs": 2, "iterations": 8, "seed": 3}
    captured = dus_gym.train("DUS-Digits-v0", "uniform", out=tmp_path / "run", graphs="auto", **settings)
    assert captured.graphs == GraphsUsed(1, 13, 16, captured.graphs.seconds)
    assert captured.graphs.seconds > 0.0
    kept = json.loads((tmp_path / "run" / "summary.json").read_text())["graphs"]
    assert kept == dataclasses.asdict(captured.graphs)
    # A setting that may differ: the run is finished, and is not made again.
    again = dus_gym.train("DUS-Digits-v0", "uniform", out=tmp_path / "run", resume=True, graphs="off", **settings)
    assert again.graphs == captured.graphs
    assert dus_gym.train("DUS-Digits-v0", "uniform", epochs=1).graphs is None


def test_what_is_captured_nowhere_says_why(emulated, monkeypatch, toy_run):
    emulated(True)
    one = toy_run()
    assert one.graphs is None
    recipe, method, config = one.recipe, make_method("baseline"), RunConfig(graphs="auto")
    splits = one.splits
    data = TaskData(splits["train"], splits["validation"], splits["test"], [(4,), (5,)])
    runs = TrainingRuns(recipe, [data] * 2, method, config, [RunSeeds(0), RunSeeds(1)])
    assert runs.graphs.why_not == "2 runs train as one computation"
    monkeypatch.setattr(trainer, "check_checkpointing", lambda *_: None)
    assert toy_run(graphs="auto", checkpointing=True).graphs.why_not.startswith("checkpointing saves memory")


# -- on a card ---------------------------------------------------------------------------------------


ON_A_CARD = [
    *((method, 2, {}) for method in METHODS),
    *((method, 3, {"precision": "bfloat16", "update": "alternating"}) for method in ("unimodal", "baseline", "umt")),
    *((method, 3, {"optimizer": {"name": "adam", "lr": 0.003}}) for method in ("baseline", "joint", "reconboost")),
]
"""About a minute."""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("method", "m", "settings"), ON_A_CARD)
def test_a_card_gives_the_same_bits_with_graphs_and_without(monkeypatch, toy_run, same_bits, method, m, settings):
    monkeypatch.setattr(Rule, "pays", lambda *_: True)
    monkeypatch.setattr(Rule, "slower", lambda *_: False)
    ended = []
    for wanted in ("off", "auto", "auto"):
        run = toy_run(
            m, method=method, method_options=EARLY.get(method), iterations=12, graphs=wanted, device="cuda",
            **{"precision": "float32"} | settings,
        )  # fmt: skip
        ended.append((train(run, sizes_of(method, m)), run.snapshot(), run.evaluate()))
    used = run.graphs
    assert used.why_not is None or "works on the host" in used.why_not
    assert used.replays > 0 or method in ON_THE_HOST
    assert same_bits(ended[0][1], ended[1][1])
    assert same_bits(ended[1][1], ended[2][1])
    assert ended[0][0] == ended[1][0] == ended[2][0]
    assert ended[0][2] == ended[1][2] == ended[2][2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_batch_norm_dropout_and_noise_go_on_on_a_card(monkeypatch, same_bits, precision):
    monkeypatch.setattr(Rule, "pays", lambda *_: True)
    monkeypatch.setattr(Rule, "slower", lambda *_: False)
    ended = []
    for wanted in ("off", "auto", "auto"):
        run = pictures_and_text("resnet18", graphs=wanted, device="cuda", precision=precision)
        train(run, [[4, 4]] * 2)
        ended.append(run.snapshot())
    assert run.graphs.replays > 0
    assert run.graphs.why_not is None
    assert same_bits(ended[0], ended[1])
    assert same_bits(ended[1], ended[2])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_card_captures_again_what_went_and_goes_on_from_a_snapshot_and_a_fork(monkeypatch, same_bits):
    """Destroyed graphs take the libraries' workspaces with them."""
    monkeypatch.setattr(graphs, "MOST", 2)
    monkeypatch.setattr(Rule, "pays", lambda *_: True)
    monkeypatch.setattr(Rule, "slower", lambda *_: False)
    ended = []
    for wanted in ("off", "auto"):
        run = pictures_and_text("resnet18", graphs=wanted, device="cuda", precision="float32", epochs=8)
        train(run, [[4, 4], [2, 2], [3, 3]])
        middle, fork = run.snapshot(), run.fork()
        train(run, [[4, 4]])
        ended.append(run.snapshot())
        run.restore(middle)
        for other in (run, fork):
            train(other, [[4, 4]])
            assert same_bits(other.snapshot(), ended[-1])
    assert run.graphs.captured >= 4
    assert run.graphs.why_not is None
    assert same_bits(*ended)
