"""Private generators: named, independent, and the global ones untouched."""

import random

import numpy as np
import pytest
import torch

from dus_gym.seeding import RunSeeds, fresh_torch_state, isolated_torch_rng


class Boom(Exception):
    """Raised inside a block."""


def draw_and_fail(state):
    with isolated_torch_rng(state):
        torch.rand(3)
        raise Boom


def globals_now():
    return torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002


def assert_untouched(before):
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


# -- named generators ------------------------------------------------------------------------------


def test_a_stream_does_not_depend_on_who_asked_before():
    alone = RunSeeds(3).generator("order/0").random(5)
    seeds = RunSeeds(3)
    seeds.generator("noise").random(100)
    seeds.integer("initialisation")
    np.testing.assert_array_equal(seeds.generator("order/0").random(5), alone)
    np.testing.assert_array_equal(seeds.generator("order/0").random(5), alone)  # each is fresh


def test_every_name_and_every_seed_has_its_own_numbers():
    names = [f"{part}/{i}" for part in ("order", "probe", "noise", "split", "forward") for i in range(20)]
    integers = {RunSeeds(seed).integer(name) for seed in range(20) for name in names}
    assert len(integers) == 20 * len(names)
    draws = {tuple(RunSeeds(seed).generator(name).integers(2**40, size=2)) for seed in range(20) for name in names}
    assert len(draws) == 20 * len(names)


def test_streams_are_not_correlated():
    a, b = (RunSeeds(0).generator(name).standard_normal(20_000) for name in ("order/0", "order/1"))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03


def test_seeds_beyond_32_bits_count_whole():
    integers = {RunSeeds(seed).integer("a") for seed in (1, 2**32 + 1, 2**62 + 1, 2**63 - 2, 2**70)}
    assert len(integers) == 5


def test_an_integer_fits_every_library():
    integers = [RunSeeds(seed).integer("a") for seed in range(200)]
    assert all(type(i) is int and 0 <= i < 2**63 for i in integers)
    assert max(integers) > 2**61, "all 63 bits are used"
    for i in integers[:5]:
        torch.Generator().manual_seed(i)


def test_the_numbers_never_change_from_one_version_to_the_next():
    """A run's results hang on them; if this fails, every id's version must go up."""
    assert RunSeeds(0).integer("initialisation") == 5455777220220879381
    assert RunSeeds(7).generator("order/0").permutation(8).tolist() == [5, 0, 7, 6, 3, 4, 2, 1]


def test_numpy_integers_are_seeds_too():
    assert RunSeeds(np.int64(5)).integer("a") == RunSeeds(5).integer("a")


def test_naming_a_stream_touches_no_global_generator():
    before = globals_now()
    RunSeeds(0).generator("a").random()
    RunSeeds(0).integer("a")
    fresh_torch_state(RunSeeds(0), "forward", "cpu")
    assert_untouched(before)


# -- PyTorch's default generator -------------------------------------------------------------------


def test_a_block_draws_from_its_own_state_and_the_global_one_is_put_back():
    state = fresh_torch_state(RunSeeds(1), "forward", "cpu")
    torch.manual_seed(5)
    before = globals_now()
    with isolated_torch_rng(state):
        inside = torch.rand(4)
    assert_untouched(before)
    expected = torch.rand(4, generator=torch.Generator().manual_seed(RunSeeds(1).integer("forward")))
    assert torch.equal(inside, expected)


def test_a_state_continues_where_the_last_block_stopped():
    state, other = (fresh_torch_state(RunSeeds(1), "forward", "cpu") for _ in range(2))
    with isolated_torch_rng(state):
        whole = torch.rand(6)
    parts = []
    for count in (1, 3, 2):
        torch.manual_seed(count)  # what happens outside is of no concern
        with isolated_torch_rng(other):
            parts.append(torch.stack([torch.rand(()) for _ in range(count)]))
    assert torch.equal(torch.cat(parts), torch.stack([*whole]))
    assert torch.equal(state["cpu"], other["cpu"])


def test_a_saved_state_replays():
    state = fresh_torch_state(RunSeeds(1), "forward", "cpu")
    with isolated_torch_rng(state):
        torch.rand(3)
    saved = {device: value.clone() for device, value in state.items()}
    draws = []
    for replayed in (state, saved):
        with isolated_torch_rng(replayed):
            draws.append(torch.nn.functional.dropout(torch.ones(50), 0.5))
    assert torch.equal(*draws)


def test_the_state_that_was_given_is_not_written_through():
    state = fresh_torch_state(RunSeeds(1), "forward", "cpu")
    tensor = state["cpu"]
    copy = tensor.clone()
    with isolated_torch_rng(state):
        torch.rand(3)
    assert torch.equal(tensor, copy)
    assert not torch.equal(state["cpu"], copy)


def test_when_the_body_raises_the_global_generator_is_put_back():
    state = fresh_torch_state(RunSeeds(1), "forward", "cpu")
    before = globals_now()
    with pytest.raises(Boom):
        draw_and_fail(state)
    assert_untouched(before)


def test_when_the_body_raises_the_state_still_holds_where_it_stopped():
    state, undisturbed = (fresh_torch_state(RunSeeds(1), "forward", "cpu") for _ in range(2))
    with pytest.raises(Boom):
        draw_and_fail(state)
    with isolated_torch_rng(undisturbed):
        torch.rand(3)
    assert torch.equal(state["cpu"], undisturbed["cpu"])


def test_blocks_may_be_nested():
    outer, inner = (fresh_torch_state(RunSeeds(1), name, "cpu") for name in ("outer", "inner"))
    plain = fresh_torch_state(RunSeeds(1), "outer", "cpu")
    before = globals_now()
    with isolated_torch_rng(outer):
        first = torch.rand(2)
        with isolated_torch_rng(inner):
            torch.rand(7)
        second = torch.rand(2)
    assert_untouched(before)
    with isolated_torch_rng(plain):
        assert torch.equal(torch.cat([torch.rand(2), torch.rand(2)]), torch.cat([first, second]))


def test_two_runs_side_by_side_do_not_disturb_each_other():
    def run(seed, others=()):
        state = fresh_torch_state(RunSeeds(seed), "forward", "cpu")
        drawn = []
        for _ in range(3):
            with isolated_torch_rng(state):
                drawn.append(torch.rand(2))
            for other in others:
                with isolated_torch_rng(other):
                    torch.rand(5)
        return torch.cat(drawn)

    assert torch.equal(run(1), run(1, [fresh_torch_state(RunSeeds(2), "forward", "cpu")]))
    assert not torch.equal(run(1), run(2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_has_its_own_state():
    state = fresh_torch_state(RunSeeds(1), "forward", "cuda:0")
    assert set(state) == {"cpu", "cuda:0"}
    before = torch.cuda.get_rng_state("cuda:0")
    with isolated_torch_rng(state):
        first = torch.rand(4, device="cuda:0")
    assert torch.equal(torch.cuda.get_rng_state("cuda:0"), before)
    with isolated_torch_rng(fresh_torch_state(RunSeeds(1), "forward", "cuda:0")):
        assert torch.equal(torch.rand(4, device="cuda:0"), first)


def test_on_the_cpu_only_the_cpu_has_a_state():
    assert set(fresh_torch_state(RunSeeds(1), "forward", "cpu")) == {"cpu"}
