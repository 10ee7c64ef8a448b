"""OGM-GE: OGM and the noise of the notes' section 3."""

import pytest
import torch
from method_setup import Setup

from dus_gym.methods import make_method, method_class
from dus_gym.methods.ogm import OGM

DRAWS = 400


def drawn(method, **options):
    """Gradients by parameter name of several iterations of the same batch and weights, after the hook: (draws, ...)."""
    setup = Setup(method, sizes=(4, 4), alpha=0.4, **options)
    found = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(DRAWS):
            setup.begin()
            setup.model.zero_grad()
            next(iter(setup.method.substeps(setup.ctx))).backward()
            setup.method.after_backward(setup.ctx)
            for name, p in setup.model.named_parameters():
                found.setdefault(name, []).append(p.grad.clone())
    return {name: torch.stack(gradients) for name, gradients in found.items()}, setup


def test_noise_is_as_large_as_the_gradient_before_scaling_and_on_every_encoder():
    found, _ = drawn("ogm_ge")
    scaled, setup = drawn("ogm")
    k = [setup.ctx.logged["k/one"].item(), setup.ctx.logged["k/two"].item()]
    assert min(k) < 0.7
    assert max(k) == 1.0
    for name, gradients in found.items():
        noise = gradients - scaled[name]
        if not name.startswith("encoders") or gradients[0].ndim < 2:
            assert torch.count_nonzero(noise) == 0
            continue
        std = (scaled[name][0] / k[int(name[9])]).std(correction=0)
        assert noise.std().item() == pytest.approx(std.item(), rel=0.05)
        assert abs(noise.mean().item()) < 0.05 * std


def test_by_learning_rate_the_noise_is_on_the_gradient_and_the_factor_on_the_step():
    found, setup = drawn("ogm_ge", scale_via="lr")
    plain, _ = drawn("ogm", scale_via="lr")
    name = "encoders.0.layers.0.weight"
    noise = found[name] - plain[name]
    assert noise.std().item() == pytest.approx(plain[name][0].std(correction=0).item(), rel=0.05)
    rates = sorted(group["lr"] for group in setup.optimizer.torch.param_groups)
    k = min(setup.ctx.logged["k/one"].item(), setup.ctx.logged["k/two"].item())
    assert rates == pytest.approx([0.1 * k, 0.1])


def test_the_noise_is_of_the_runs_seed_and_stops_with_the_window(toy_run, weights_of, same_bits):
    def start(seed=0, method="ogm_ge"):
        return toy_run(method=method, method_options={"end_epoch": 0}, seed=seed)

    one, same, plain = start(), start(), start(method="ogm")
    torch.manual_seed(99)
    one.train([8, 8], 5)
    torch.manual_seed(1)
    for run in (same, plain):
        run.train([8, 8], 5)
    assert same_bits(weights_of(one), weights_of(same))
    assert not same_bits(weights_of(one), weights_of(plain))
    plain.restore(one.snapshot())
    for run in (one, plain):
        run.train([8, 8], 5)
    assert same_bits(weights_of(one), weights_of(plain))


def test_it_is_ogm_with_another_name():
    assert issubclass(method_class("ogm_ge"), OGM)
    assert make_method("ogm_ge").options == make_method("ogm").options
    assert not method_class("ogm_ge").supports_unpaired
