"""Balanced multi-modal learning against numbers worked by hand from its authors' program, and what it promises."""

import math

import pytest
import torch
import torch.nn.functional as F
from method_setup import NAMES, Setup

from dus_gym.errors import ConfigError
from dus_gym.methods import greedy
from dus_gym.methods.greedy import relative_gradient


def parameter(values, gradient):
    found = torch.nn.Parameter(torch.tensor(values))
    found.grad = None if gradient is None else torch.tensor(gradient)
    return found


def test_the_relative_gradient_by_hand():
    # (1 + 4) / (9 + 16), with a second parameter (5 + 4) / (25 + 11), and what has no gradient does not count.
    one, other = parameter([3.0, 4.0], [1.0, 2.0]), parameter([[1.0], [3.0], [1.0]], [[0.0], [2.0], [0.0]])
    assert relative_gradient([one], None).item() == pytest.approx(0.2)
    assert relative_gradient([one, other, parameter([7.0], None)], None).item() == pytest.approx(9.0 / 36.0)
    by_run = parameter([[3.0, 4.0], [1.0, 1.0]], [[1.0, 2.0], [0.0, 3.0]])
    torch.testing.assert_close(relative_gradient([by_run], 2), torch.tensor([0.2, 4.5]))


def test_gates_by_hand():
    setup = Setup("greedy", sizes=(1, 1), width=(2, 2, 2))
    model = setup.model
    with torch.no_grad():
        model.gate_squeeze.weight.fill_(0.1)
        model.gate_squeeze.bias.zero_()
        model.gate_excite[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
        model.gate_excite[1].weight.copy_(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
        for excite in model.gate_excite:
            excite.bias.zero_()
    # Both units are .1 (1 + 2 + 3 + 4) = 1; sigmoids of 1, -1, 0 and 2.
    one, two = model.gates([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])])
    torch.testing.assert_close(one, torch.tensor([[0.7310586, 0.2689414]]))
    torch.testing.assert_close(two, torch.tensor([[0.5, 0.8807971]]))


def forward(setup, held=None, means=None):
    """Return the modalities' logits by PyTorch's own functions, with the mean gates for the one that is held back."""
    h = [setup.model.encode(j, x) for j, x in enumerate(setup.inputs)]
    squeezed = F.relu(setup.model.gate_squeeze(torch.cat(h, dim=1)))
    gates = [torch.sigmoid(excite(squeezed)) for excite in setup.model.gate_excite]
    if held is not None:
        gates[held] = means[held].expand_as(gates[held])
    return [head(x * gate) for head, x, gate in zip(setup.model.unimodal_heads, h, gates, strict=True)], gates


@pytest.mark.parametrize("sizes", [(4, 4), (4, 4, 4)])
def test_the_loss_is_the_sum_of_the_gated_modalities_and_the_prediction_their_mean(sizes):
    setup = Setup("greedy", sizes=sizes)
    logits, gates = forward(setup)
    expected = sum(F.cross_entropy(z, setup.labels) for z in logits).item()
    features = setup.ctx.train_features()
    for found, z in zip(setup.method.unimodal_logits(setup.model, features), logits, strict=True):
        torch.testing.assert_close(found, z)
    torch.testing.assert_close(setup.method.predict(torch.stack(logits), {}), sum(logits) / len(logits))
    assert setup.losses() == [pytest.approx(expected, rel=1e-5)]
    for mean, gate in zip(setup.method._means, gates, strict=True):
        torch.testing.assert_close(mean, gate.mean(dim=0).detach())


@pytest.mark.parametrize("sizes", [(4, 4), (4, 4, 4)])
def test_speeds_are_those_of_the_released_program(sizes):
    setup, m = Setup("greedy", sizes=sizes, epsilon=1e9), len(sizes)
    bypass, main = [0.0] * m, [0.0] * m
    for _ in range(3):
        (loss,) = setup.method.terms(setup.ctx)
        setup.optimizer.torch.zero_grad()
        loss.backward()
        for j in range(m):
            of_gates = [*setup.model.gate_excite[j].parameters(), *setup.model.gate_squeeze.parameters()]
            of_branch = [*setup.model.encoders[j].parameters(), *setup.model.unimodal_heads[j].parameters()]
            for sums, owned in ((bypass, of_gates), (main, of_branch)):
                gradient = sum((p.grad.double() ** 2).sum().item() for p in owned)
                sums[j] += gradient / sum((p.double() ** 2).sum().item() for p in owned)
        setup.method.after_backward(setup.ctx)
        setup.optimizer.step()
        setup.ctx.forget_features()
        for j, name in enumerate(NAMES[:m]):
            expected = math.log10(bypass[j] / main[j])
            assert setup.ctx.logged[f"speed/{name}"].item() == pytest.approx(expected, abs=1e-5)


def steps_of(monkeypatch, ratios, epoch=5, **options):
    """Return who is held back in each step, from -1 for nobody, of a method that finds these relative gradients."""
    m = len(ratios[0][0])
    setup = Setup("greedy", sizes=(4,) * m, **options)
    setup.ctx.epoch, found = epoch, []
    for gates, branches in ratios:
        left, held = setup.method._left, setup.method._held
        found.append(held.item() if left.item() > 0 else -1)
        values = iter([*gates, *branches])
        monkeypatch.setattr(greedy, "relative_gradient", lambda *_, values=values: torch.tensor(next(values)))
        setup.losses()
    return setup, found


def test_windows_of_rebalancing_by_hand(monkeypatch):
    # log10(.2 / .1) - log10(.1 / .1) = .301: five steps without the first modality's exchange, whose ratios do not
    # count; then sums of .3 and .6, on branches of .2 and .2, so that it is the second one's turn.
    ratios = [((0.2, 0.1), (0.1, 0.1))] + [((9.0, 0.0), (0.1, 9.0))] * 5 + [((0.1, 0.5), (0.1, 0.1))] * 2
    setup, found = steps_of(monkeypatch, ratios)
    assert found == [-1, 0, 0, 0, 0, 0, -1, 1]
    assert setup.ctx.logged["speed/one"].item() == pytest.approx(math.log10(0.3 / 0.2))
    assert setup.ctx.logged["speed/two"].item() == pytest.approx(math.log10(0.6 / 0.2))
    assert setup.ctx.logged["rebalancing"] == 1.0


@pytest.mark.parametrize(
    ("gates", "options", "epoch", "expected"),
    [
        # .0099 and .0101 apart, at a limit of .01.
        (((0.10, 0.10 * 10**0.0099)), {}, 5, -1),
        (((0.10, 0.10 * 10**0.0101)), {}, 5, 1),
        (((0.10, 0.20)), {"epsilon": 0.31}, 5, -1),
        (((0.10, 0.20)), {}, 0, -1),
        (((0.10, 0.20)), {"start_epoch": 0}, 0, 1),
        (((0.10, 0.30, 0.20)), {}, 5, 1),
        (((0.10, 0.30, 0.40)), {}, 5, 2),
    ],
)
def test_the_fastest_is_held_back_where_speeds_are_apart(monkeypatch, gates, options, epoch, expected):
    assert steps_of(monkeypatch, [(gates, (0.1,) * len(gates))] * 2, epoch, **options)[1] == [-1, expected]


@pytest.mark.parametrize("held", [0, 1])
def test_nothing_reaches_the_one_that_is_held_back(held):
    setup = Setup("greedy", sizes=(4, 4))
    setup.losses()
    setup.method._left, setup.method._held = torch.tensor(2), torch.tensor(held)
    setup.begin()
    before = [mean.clone() for mean in setup.method._means]
    (loss,) = setup.method.terms(setup.ctx)
    _, gates = forward(setup)
    # The mean of two steps, the one under way among them.
    means = [(mean + gate.mean(dim=0).detach()) / 2 for mean, gate in zip(before, gates, strict=True)]
    logits, _ = forward(setup, held, means)
    expected = sum(F.cross_entropy(z, setup.labels) for z in logits)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    # The other one's gates alone train what all gates share.
    excite = [of.weight for of in setup.model.gate_excite]
    mine = torch.autograd.grad(loss, [*excite, setup.model.gate_squeeze.weight], allow_unused=True)
    assert mine[held].abs().sum() == 0.0
    assert mine[1 - held].abs().sum() > 0.0
    theirs = torch.autograd.grad(expected, setup.model.gate_squeeze.weight)[0]
    torch.testing.assert_close(mine[-1], theirs)


def test_a_state_from_the_host_goes_on_on_another_device():
    before, after = (Setup("greedy", sizes=(4, 4)) for _ in range(2))
    before.losses()
    after.method.load_state_dict(before.method.state_dict())
    # A device that every machine has: it computes shapes alone, and refuses tensors of another one as any does.
    after.model.to("meta")
    after.inputs, after.labels = [x.to("meta") for x in after.inputs], after.labels.to("meta")
    after.begin()
    (loss,) = after.method.terms(after.ctx)
    assert loss.device.type == "meta"
    assert {of.device.type for of in after.method.state_dict().values() if isinstance(of, torch.Tensor)} == {"meta"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilon": -1.0}, r"epsilon=-1.0 .*at least 0"),
        ({"window": 0}, r"window=0 .*at least 1"),
        ({"start_epoch": -1}, r"start_epoch=-1 .*at least 0"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        Setup("greedy", **options)
