"""UMT against numbers worked by hand from its loss, and what it promises."""

import copy

import pytest
import torch
import torch.nn.functional as F
from method_setup import NAMES, Setup

from dus_gym.errors import ConfigError


def setup_with_teacher(sizes=(3, 5), **options):
    """A method whose teachers are the encoders with all weights halved."""
    setup = Setup("umt", sizes=sizes, **options)
    teacher = copy.deepcopy(setup.model).eval()
    with torch.no_grad():
        for parameter in teacher.encoders.parameters():
            parameter.mul_(0.5)
    setup.method._teacher = teacher
    return setup, teacher


def test_the_distance_by_hand(monkeypatch):
    setup, teacher = setup_with_teacher(sizes=(2, 2), width=(2, 2, 2))
    own, taught = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0], [3.0, 2.0]])
    monkeypatch.setattr(setup.ctx, "features", lambda j: own)
    monkeypatch.setattr(teacher, "encode", lambda j, x: taught)
    _, one, two = list(setup.method.terms(setup.ctx))
    # (1 + 4) / 2 and (0 + 4) / 2, their mean 2.25, times 10.
    assert [one.item(), two.item()] == [22.5, 22.5]
    assert setup.ctx.logged["distance/one"].item() == 2.25


@pytest.mark.parametrize("loss_norm", ["mean", "fixed"])
@pytest.mark.parametrize("sizes", [(4, 4), (3, 5), (5, 3, 4)])
def test_the_losses_are_of_the_paired_samples_and_of_each_modalitys_own(sizes, loss_norm):
    setup, teacher = setup_with_teacher(sizes, weight=3.0, loss_norm=loss_norm)
    h = [setup.model.encode(j, x) for j, x in enumerate(setup.inputs)]
    p = min(sizes)
    expected = [F.cross_entropy(setup.model.fused_head(torch.cat([x[:p] for x in h], dim=1)), setup.labels[:p])]
    for j, x in enumerate(setup.inputs):
        distance = F.mse_loss(h[j], teacher.encode(j, x))
        expected.append(3.0 * distance * (1.0 if loss_norm == "mean" else len(x) / setup.ctx.base_batch))
    setup.begin()
    found = list(setup.method.terms(setup.ctx))
    assert [loss.item() for loss in found] == [pytest.approx(loss.item(), rel=1e-5) for loss in expected]
    assert all(float(setup.ctx.logged[f"distance/{name}"]) > 0 for name in NAMES[: len(sizes)])


def test_teachers_learn_nothing_and_pull_their_own_encoder_alone():
    setup, teacher = setup_with_teacher()
    setup.begin()
    _, one, _ = list(setup.method.terms(setup.ctx))
    setup.model.zero_grad()
    one.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in setup.model.encoders[0].parameters())
    assert all(parameter.grad is None for parameter in setup.model.encoders[1].parameters())


def test_teachers_are_what_unimodal_training_gives_and_the_run_begins_where_they_began(toy_run, weights_of, same_bits):
    run, alone = toy_run(method="umt", method_options={"teacher": 0.5}), toy_run(method="unimodal")
    start = weights_of(run)
    alone.train([8, 8], 2 * alone.iterations_per_epoch)
    run.train([8, 8], 1)
    assert same_bits(dict(run.method._teacher.encoders.state_dict()), dict(alone.model.encoders.state_dict()))
    # One step of .01 away from the start, where the teachers went through ten.
    moved, taught = weights_of(run), weights_of(alone)
    name = "encoders.0.layers.0.weight"
    assert (moved[name] - start[name]).norm() < 0.5 * (taught[name] - start[name]).norm()


def test_options_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"weight=-1.0 .*at least 0"):
        Setup("umt", weight=-1.0)
    with pytest.raises(ConfigError, match=r"teacher=0.0 .*\(0, 1\]"):
        Setup("umt", teacher=0.0)
