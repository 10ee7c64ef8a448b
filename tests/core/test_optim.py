"""Learning rates, freezing and state of the grouped optimiser, beside plain torch."""

import json
import math

import pytest
import torch

from dus_gym.errors import ConfigError
from dus_gym.optim import OPTIMIZERS, GroupedOptimizer, OptimizerConfig, Schedule
from dus_gym.state import load_state, save_state


def groups_of(seed=0):
    """Two owners with three parameters."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"encoder/a": [(4, 3), (4,)], "fused": [(2, 4)]}
    return {
        name: [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in owned] for name, owned in shapes.items()
    }


def everything(groups):
    return [p for owned in groups.values() for p in owned]


def backward(groups, step):
    """Gradients that depend on the step and on the parameter, as a loss would give them."""
    for p in everything(groups):
        p.grad = None
    loss = sum(((p - torch.sin(torch.arange(p.numel()) + step).view_as(p)) ** 2).sum() for p in everything(groups))
    loss.backward()


def train(groups, optimizer, steps, start=0):
    for step in range(start, start + steps):
        backward(groups, step)
        optimizer.step()


def rates(optimizer):
    """The learning rate of each owner, however the torch optimiser groups them."""
    by_parameter = {id(p): group["lr"] for group in optimizer.torch.param_groups for p in group["params"]}
    found = []
    for name in optimizer.names:
        (rate,) = {by_parameter[id(p)] for p in optimizer.parameters(name)}
        found.append(rate)
    return found


def assert_same(groups, others, **tolerance):
    for a, b in zip(everything(groups), everything(others), strict=True):
        torch.testing.assert_close(a, b, **(tolerance or {"rtol": 0, "atol": 0}))


# -- the schedule ----------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 10, 30, 33, 100, 110, 140, 1000])
def test_the_step_schedule_falls_after_seventy_percent_of_the_epochs(epochs):
    schedule = Schedule(OptimizerConfig(lr=1.0), epochs)
    for epoch in range(epochs):
        schedule.start_epoch(epoch)
        schedule.end_epoch(1.0)
        assert schedule.factor == (0.1 if 10 * epoch >= 7 * epochs else 1.0)


def test_the_step_schedule_knows_its_place_without_a_past():
    schedule = Schedule(OptimizerConfig(lr=1.0, milestone=0.5), 10)
    schedule.start_epoch(9)
    assert schedule.factor == 0.1
    schedule.start_epoch(2)
    assert schedule.factor == 1.0


def factors(schedule, losses):
    found = []
    for epoch, loss in enumerate(losses):
        schedule.start_epoch(epoch)
        found.append(schedule.factor)
        schedule.end_epoch(loss)
    return [*found, schedule.factor]


def test_the_plateau_schedule_falls_when_the_loss_saturates():
    schedule = Schedule(OptimizerConfig(lr=1.0, schedule="plateau", patience=3), 100)
    #         new best  1 bad  new best  1    2 (a tie is no fall)  3: down  1    2    3: down
    losses = [5.0, 6.0, 4.0, 4.5, 4.0, 4.1, 4.0, 4.0, 4.0]
    expected = [1, 1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01]
    assert factors(schedule, losses) == pytest.approx(expected)


def test_the_plateau_schedule_has_a_floor_and_no_fall_below_it():
    schedule = Schedule(OptimizerConfig(lr=1.0, schedule="plateau", patience=2, floor=0.02), 100)
    assert factors(schedule, [1.0] * 8) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.02, 0.02, 0.02, 0.02])
    schedule = Schedule(OptimizerConfig(lr=1.0, schedule="plateau", patience=1), 100)
    assert factors(schedule, [1.0] * 50)[-1] == pytest.approx(1e-3), "three falls by default"


def test_a_watch_that_starts_anew_forgets_the_best_loss_and_keeps_the_factor():
    schedule = Schedule(OptimizerConfig(lr=1.0, schedule="plateau", patience=3), 100)
    assert factors(schedule, [1.0, 1.0, 1.0, 1.0])[-1] == pytest.approx(0.1)
    factors(schedule, [1.0, 1.0])
    schedule.restart_watch()
    # Two bad epochs of before do not count, nor does the best loss: the first new one is the best.
    assert factors(schedule, [11.5, 11.4, 11.4, 11.4, 11.4]) == pytest.approx([0.1] * 5 + [0.01])


@pytest.mark.parametrize(("name", "falls"), [("step", [37]), ("plateau", [33, 36, 39])])
def test_a_schedule_that_starts_anew_is_at_the_full_rate_over_its_own_epochs(name, falls):
    schedule = Schedule(OptimizerConfig(lr=1.0, schedule=name, patience=3), 40)
    factors(schedule, [1.0] * 30)
    assert schedule.factor < 1.0
    schedule.restart(30, 10)
    found = []
    for epoch in range(30, 40):
        before = schedule.factor
        schedule.start_epoch(epoch)
        if name == "step" and schedule.factor < before:
            found.append(epoch)
        before = schedule.factor
        schedule.end_epoch(1.0)
        if schedule.factor < before:
            found.append(epoch)
    assert found == falls


def test_a_falling_loss_never_lowers_the_rate():
    schedule = Schedule(OptimizerConfig(lr=1.0, schedule="plateau", patience=1), 100)
    assert set(factors(schedule, [10.0 - i / 7 for i in range(50)])) == {1.0}


def test_the_default_patience_is_ten_epochs():
    schedule = Schedule(OptimizerConfig(lr=1.0, schedule="plateau"), 100)
    assert factors(schedule, [1.0] * 11) == pytest.approx([1.0] * 11 + [0.1])


def test_no_schedule_changes_nothing():
    assert set(factors(Schedule(OptimizerConfig(lr=1.0, schedule="none"), 10), [1.0] * 30)) == {1.0}


@pytest.mark.parametrize("seen", [0, 1, 4, 7])
def test_a_schedule_continues_through_json(seen):
    config = OptimizerConfig(lr=1.0, schedule="plateau", patience=2)
    schedule, resumed = Schedule(config, 100), Schedule(config, 100)
    losses = [3.0, 2.0, 2.0, 2.5, 1.9, 1.9, 1.9, 1.9, 1.9, 1.9, 1.0, 1.1]
    factors(schedule, losses[:seen])
    resumed.load_state_dict(json.loads(json.dumps(schedule.state_dict(), allow_nan=False)))
    assert factors(resumed, losses[seen:]) == factors(schedule, losses[seen:])


# -- learning rates --------------------------------------------------------------------------------


def test_a_rate_is_base_times_schedule_times_multiplier():
    optimizer = GroupedOptimizer(groups_of(), OptimizerConfig(lr=0.5), {"fused": 3.0})
    optimizer.set_rates(1.0)
    assert rates(optimizer) == [0.5, 1.5]
    optimizer.set_rates(0.1)
    assert rates(optimizer) == pytest.approx([0.05, 0.15])
    optimizer.multipliers["encoder/a"] = 0.2
    optimizer.set_rates(0.1)
    assert rates(optimizer) == pytest.approx([0.01, 0.15])
    optimizer.set_rates(1.0)
    assert rates(optimizer) == pytest.approx([0.1, 1.5]), "recomputed from the three, nothing piles up"


def test_multipliers_count_from_the_start():
    assert rates(GroupedOptimizer(groups_of(), OptimizerConfig(lr=0.5), {"fused": 3.0})) == [0.5, 1.5]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_multiplier_of_zero_stands_still_and_others_scale(name):
    groups = groups_of()
    before = [p.detach().clone() for p in everything(groups)]
    optimizer = GroupedOptimizer(groups, OptimizerConfig(lr=0.1, name=name), {"fused": 0.0})
    optimizer.set_rates(1.0)
    train(groups, optimizer.torch, 5)
    moved = [not torch.equal(p, b) for p, b in zip(everything(groups), before, strict=True)]
    assert moved == [True, True, False]


# -- beside plain torch ----------------------------------------------------------------------------


def plain(name, groups, fused, multipliers):
    entries = [{"params": owned, "lr": 0.05 * multipliers[owner]} for owner, owned in groups.items()]
    if name == "sgd":
        return torch.optim.SGD(entries, lr=0.05, momentum=0.9, weight_decay=1e-2, fused=fused)
    return torch.optim.Adam(entries, lr=0.05, weight_decay=1e-2, fused=fused)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("fused", [True, False])
def test_it_is_torchs_optimiser(name, fused):
    ours, theirs = groups_of(), groups_of()
    multipliers = {"encoder/a": 1.0, "fused": 0.3}
    optimizer = GroupedOptimizer(ours, OptimizerConfig(lr=0.05, name=name, weight_decay=1e-2), multipliers)
    optimizer.set_rates(1.0)
    train(ours, optimizer.torch, 20)
    train(theirs, plain(name, theirs, fused, multipliers), 20)
    # The fused kernel rounds in another order than the loop over parameters.
    assert_same(ours, theirs, **({} if fused else {"rtol": 1e-5, "atol": 1e-6}))


def test_one_step_of_sgd_by_hand():
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = GroupedOptimizer({"a": [parameter]}, OptimizerConfig(lr=0.1, momentum=0.5, weight_decay=0.2))
    for expected in (1 - 0.1 * 2.2, None):
        parameter.grad = torch.tensor([2.0])
        optimizer.torch.step()
        if expected is not None:
            assert parameter.item() == pytest.approx(expected)
    # v = .5 · 2.2 + (2 + .2 · .78) = 3.256
    assert parameter.item() == pytest.approx(0.78 - 0.1 * 3.256)


# -- freezing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_frozen_owner_does_not_move_by_a_bit_although_it_had_momentum(name):
    groups = groups_of()
    optimizer = GroupedOptimizer(groups, OptimizerConfig(lr=0.1, name=name))
    train(groups, optimizer.torch, 5)
    assert optimizer.torch.state, "there is momentum to lose"
    optimizer.set_trainable(["fused"])
    frozen = [p.detach().clone() for p in groups["encoder/a"]]
    moving = groups["fused"][0].detach().clone()
    train(groups, optimizer.torch, 5, start=5)
    for p, before in zip(groups["encoder/a"], frozen, strict=True):
        assert torch.equal(p, before)
        assert not p.requires_grad
        assert p.grad is None
    assert not torch.equal(groups["fused"][0], moving)


def test_a_gradient_left_over_from_before_does_not_move_a_frozen_owner():
    groups = groups_of()
    optimizer = GroupedOptimizer(groups, OptimizerConfig(lr=0.1))
    backward(groups, 0)
    optimizer.set_trainable([])
    before = [p.detach().clone() for p in everything(groups)]
    optimizer.torch.step()
    assert all(torch.equal(p, b) for p, b in zip(everything(groups), before, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_thawed_owner_trains_again_from_fresh_momentum(name):
    groups = groups_of()
    optimizer = GroupedOptimizer(groups, OptimizerConfig(lr=0.1, name=name))
    train(groups, optimizer.torch, 5)
    optimizer.set_trainable(["fused"])
    train(groups, optimizer.torch, 2)
    optimizer.set_trainable(None)
    assert all(p.requires_grad for p in everything(groups))
    fresh = {"encoder/a": [torch.nn.Parameter(p.detach().clone()) for p in groups["encoder/a"]]}
    train(groups, optimizer.torch, 3)
    train(fresh, GroupedOptimizer(fresh, OptimizerConfig(lr=0.1, name=name)).torch, 3)
    for p, expected in zip(groups["encoder/a"], fresh["encoder/a"], strict=True):
        torch.testing.assert_close(p, expected, rtol=0, atol=0)


def test_the_owner_that_stays_trainable_keeps_its_momentum():
    groups, others = groups_of(), groups_of()
    optimizer, undisturbed = (GroupedOptimizer(g, OptimizerConfig(lr=0.1)) for g in (groups, others))
    train(groups, optimizer.torch, 3)
    optimizer.set_trainable(["fused"])
    train(groups, optimizer.torch, 3, start=3)
    train(others, undisturbed.torch, 6)
    assert torch.equal(groups["fused"][0], others["fused"][0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_owner_may_get_its_first_gradient_late(name):
    """Alternating methods step one modality and the shared head, then the next modality and the head."""
    groups = groups_of()
    optimizer = GroupedOptimizer(groups, OptimizerConfig(lr=0.1, name=name))
    for p in groups["encoder/a"]:
        p.requires_grad_(False)
    train(groups, optimizer.torch, 3)
    late = {"encoder/a": [torch.nn.Parameter(p.detach().clone()) for p in groups["encoder/a"]]}
    for p in groups["encoder/a"]:
        p.requires_grad_(True)
    train(groups, optimizer.torch, 3)
    train(late, GroupedOptimizer(late, OptimizerConfig(lr=0.1, name=name)).torch, 3)
    for p, expected in zip(groups["encoder/a"], late["encoder/a"], strict=True):
        torch.testing.assert_close(p, expected, rtol=0, atol=0)


def test_parameters_are_found_by_owner():
    groups = groups_of()
    optimizer = GroupedOptimizer(groups, OptimizerConfig(lr=0.1))
    assert optimizer.names == ["encoder/a", "fused"]
    assert [id(p) for p in optimizer.parameters("fused")] == [id(p) for p in groups["fused"]]


# -- state -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"name": "sgd"}, {"name": "sgd", "momentum": 0.0}, {"name": "adam"}])
@pytest.mark.parametrize("steps", [0, 4])
def test_an_optimiser_continues_to_the_bit_through_a_file(tmp_path, settings, steps):
    config = OptimizerConfig(lr=0.1, **settings)
    groups = groups_of()
    optimizer = GroupedOptimizer(groups, config, {"fused": 0.7})
    optimizer.set_rates(0.1)
    train(groups, optimizer.torch, steps)
    optimizer.multipliers["encoder/a"] = 1.3
    optimizer.set_rates(0.1)
    save_state(tmp_path / "state", "checkpoint", optimizer.state_dict())

    again = groups_of(seed=1)
    with torch.no_grad():
        for p, value in zip(everything(again), everything(groups), strict=True):
            p.copy_(value)
    resumed = GroupedOptimizer(again, config)
    train(groups_of(seed=2), resumed.torch, 1)
    resumed.load_state_dict(load_state(tmp_path / "state", "checkpoint"))
    resumed.set_rates(0.1)
    assert resumed.multipliers == {"encoder/a": 1.3, "fused": 0.7}
    assert rates(resumed) == rates(optimizer)

    train(groups, optimizer.torch, 5, start=steps)
    train(again, resumed.torch, 5, start=steps)
    assert_same(groups, again)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_loading_forgets_what_came_after(name):
    groups = groups_of()
    optimizer = GroupedOptimizer(groups, OptimizerConfig(lr=0.1, name=name))
    before = optimizer.state_dict()
    weights = [p.detach().clone() for p in everything(groups)]
    train(groups, optimizer.torch, 3)
    first = [p.detach().clone() for p in everything(groups)]
    with torch.no_grad():
        for p, value in zip(everything(groups), weights, strict=True):
            p.copy_(value)
    optimizer.load_state_dict(before)
    train(groups, optimizer.torch, 3)
    assert all(torch.equal(p, f) for p, f in zip(everything(groups), first, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_is_a_copy_and_can_be_loaded_twice(name):
    groups = groups_of()
    optimizer = GroupedOptimizer(groups, OptimizerConfig(lr=0.1, name=name))
    train(groups, optimizer.torch, 2)
    state = optimizer.state_dict()
    kept = {key: {k: v.clone() for k, v in value.items()} for key, value in state["state"].items()}
    assert set(kept) == {"encoder/a.0", "encoder/a.1", "fused.0"}
    train(groups, optimizer.torch, 2)
    optimizer.load_state_dict(state)
    optimizer.multipliers["fused"] = 9.0
    train(groups, optimizer.torch, 2)
    for key, value in kept.items():
        for k, v in value.items():
            assert torch.equal(state["state"][key][k], v)
    assert state["multipliers"]["fused"] == 1.0


def test_a_frozen_owner_stays_without_momentum_through_a_state():
    groups = groups_of()
    optimizer = GroupedOptimizer(groups, OptimizerConfig(lr=0.1))
    train(groups, optimizer.torch, 2)
    optimizer.set_trainable(["encoder/a"])
    assert set(optimizer.state_dict()["state"]) == {"encoder/a.0", "encoder/a.1"}


# -- what can't be ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"lr": 0.0}, r"lr=0\.0 .*positive"),
        ({"lr": -0.1}, r"lr=-0\.1 .*positive"),
        ({"lr": math.nan}, r"lr=nan .*positive"),
        ({"lr": math.inf}, r"lr=inf"),
        ({"name": "adma"}, r"optimizer='adma' .*sgd, adam.*Did you mean 'adam'"),
        ({"schedule": "steps"}, r"schedule='steps' .*step, plateau, none.*Did you mean 'step'"),
        ({"patience": 0}, r"patience=0 .*at least 1"),
        ({"momentum": -0.1}, r"momentum=-0\.1"),
        ({"weight_decay": -1.0}, r"weight_decay=-1\.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        OptimizerConfig(**({"lr": 0.1} | settings))


def test_an_owner_that_does_not_exist_cannot_be_the_only_one_to_train():
    optimizer = GroupedOptimizer(groups_of(), OptimizerConfig(lr=0.1))
    with pytest.raises(ConfigError, match=r"encodr/a.*encoder/a"):
        optimizer.set_trainable(["encodr/a"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_factor_for_one_step_counts_for_that_step_alone(name):
    groups, others = groups_of(), groups_of()
    optimizer, plain = (GroupedOptimizer(g, OptimizerConfig(lr=0.1, name=name, momentum=0.0)) for g in (groups, others))
    optimizer.multipliers["fused"] = 0.5
    plain.multipliers["fused"] = 0.5
    optimizer.set_rates(0.1)
    plain.set_rates(0.1)
    before = [p.detach().clone() for p in everything(groups)]
    optimizer.scale_step({"encoder/a": 0.25})
    assert rates(optimizer) == pytest.approx([0.1 * 0.1 * 0.25, 0.1 * 0.1 * 0.5])
    for owned, chosen in ((groups, optimizer), (others, plain)):
        backward(owned, 0)
        chosen.step()
    for start, p, q in zip(before, everything(groups), everything(others), strict=True):
        factor = 1.0 if p is groups["fused"][0] else 0.25
        torch.testing.assert_close(p - start, factor * (q - start), rtol=1e-4, atol=1e-7)
    assert rates(optimizer) == rates(plain)


def test_a_factor_for_an_owner_that_is_not_there_is_refused():
    optimizer = GroupedOptimizer(groups_of(), OptimizerConfig(lr=0.1))
    with pytest.raises(ConfigError, match=r"'encoder/b'.*encoder/a"):
        optimizer.scale_step({"encoder/b": 0.5})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_starting_anew_is_a_new_optimiser(name):
    groups = groups_of()
    optimizer = GroupedOptimizer(groups, OptimizerConfig(lr=0.1, name=name))
    train(groups, optimizer.torch, 4)
    fresh = {owner: [torch.nn.Parameter(p.detach().clone()) for p in owned] for owner, owned in groups.items()}
    optimizer.start_anew()
    train(groups, optimizer.torch, 3)
    train(fresh, GroupedOptimizer(fresh, OptimizerConfig(lr=0.1, name=name)).torch, 3)
    assert_same(groups, fresh)
