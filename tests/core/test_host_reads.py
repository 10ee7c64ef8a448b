"""Nothing inside an epoch waits for an accelerator: what the host reads, it reads once, when the stretch has ended."""

import gymnasium as gym
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dus_gym.methods import METHODS
from dus_gym.methods.base import Method

READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero")
"""Operations whose result, or whose result's shape, the host has to wait for."""
EPOCHS = 5
EARLY = {
    "opm": {"start_epoch": 1},
    "di_mml": {"transfer_start": 0.2, "fusion": 0.4},
    "reconboost": {"pretraining": 0.2},
}
"""Options with which a run of few epochs reaches everything that a method does."""
PLAIN_READS = ("tolist", "numpy", "cpu")
"""Methods of a tensor that reach the host without such an operation."""


class HostReads(TorchDispatchMode):
    """Counter of reads by name."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.partition(".")[0].rstrip("_")
        masks = name in ("index", "index_put") and any(of is not None and of.dtype == torch.bool for of in args[1])
        if name.lstrip("_") in {of.lstrip("_") for of in READS} or masks:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def reads_of(monkeypatch, play):
    counter = HostReads()
    with monkeypatch.context() as patched:
        for name in PLAIN_READS:
            original = getattr(torch.Tensor, name)

            def counted(tensor, *args, original=original, name=name, **kwargs):
                counter.names.append(name)
                return original(tensor, *args, **kwargs)

            patched.setattr(torch.Tensor, name, counted)
        with counter:
            play()
    return counter.names


def test_the_counter_counts(monkeypatch):
    x = torch.arange(4.0)
    for read in (
        lambda: x.sum().item(), lambda: float(x[0]), lambda: bool((x > 1).any()), lambda: x.tolist(), lambda: x.numpy(),
        lambda: x.cpu(), lambda: x[x > 1], lambda: x.nonzero(), lambda: torch.equal(x, x),
    ):  # fmt: skip
        assert reads_of(monkeypatch, read)
    assert not reads_of(monkeypatch, lambda: torch.where(x > 1, x, 0.0).sum())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("env_id", ["DUS-Digits-v0", "DUS-Digits3-v0"])
def test_an_epoch_reads_as_often_however_many_iterations_it_has(monkeypatch, method, env_id):
    def reads(iterations):
        """The reads of every epoch: what begins later in a run, with all phases, is among them."""
        options = {"iterations": iterations, "epochs": EPOCHS, "method": method, "method_options": EARLY.get(method)}
        run = gym.make(f"dus_gym:{env_id}", **options).unwrapped
        run.reset(seed=0)
        m = len(run.modalities)
        return [reads_of(monkeypatch, lambda: run.step([1 / m] * m)) for _ in range(EPOCHS)]

    few, many = reads(2), reads(9)
    assert all(few)
    assert many == few


def test_a_method_that_reads_in_a_step_is_caught(monkeypatch, digits_run):
    class Reading(Method):
        def terms(self, ctx):
            for j in range(ctx.num_modalities):
                loss = ctx.modality_loss(j, ctx.model.unimodal(j, ctx.features(j)))
                yield loss if loss.item() < 1e9 else 0 * loss

    Reading.heads, Reading.name = frozenset({"unimodal"}), "reading"
    run = digits_run(method=Reading())
    few, many = (reads_of(monkeypatch, lambda n=n: run.train([64, 64], n)) for n in (1, 3))
    assert len(many) - len(few) == 4
