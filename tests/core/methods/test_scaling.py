"""The facts about optimisers that decide how a factor on gradients reaches a step."""

import pytest
import torch
from method_setup import Setup

from dus_gym.methods.scaling import SCALE_VIA, resolve
from dus_gym.optim import OptimizerConfig


def walk(optimizer, factor, steps=10):
    """Where ten steps end with gradients times ``factor`` of a quadratic whose gradients all have one sign."""
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.double))
    torch_optimizer = optimizer([parameter])
    for _ in range(steps):
        parameter.grad = factor * (parameter.detach() - 3.0)
        torch_optimizer.step()
    return parameter.item()


def test_adam_does_not_notice_a_constant_factor_and_sgd_does():
    assert walk(lambda p: torch.optim.Adam(p, lr=0.1), 0.2) == pytest.approx(
        walk(lambda p: torch.optim.Adam(p, lr=0.1), 1.0), rel=1e-6
    )
    assert walk(lambda p: torch.optim.SGD(p, lr=0.01), 0.2) < 0.5 * walk(lambda p: torch.optim.SGD(p, lr=0.01), 1.0)


def test_a_factor_of_zero_does_not_stop_a_weight_that_has_momentum():
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.double))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    for gradient, end in ((1.0, -0.1), (0.0, -0.19)):
        parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
        assert parameter.item() == pytest.approx(end, abs=1e-12)


@pytest.mark.parametrize(("optimizer", "expected"), [("sgd", "grad"), ("adam", "lr")])
def test_auto_goes_by_the_optimiser_and_the_others_by_the_word(optimizer, expected):
    ctx = Setup().ctx
    ctx.optimizer.config = OptimizerConfig(lr=0.1, name=optimizer)
    assert [resolve(word, ctx) for word in SCALE_VIA] == [expected, "grad", "lr"]
