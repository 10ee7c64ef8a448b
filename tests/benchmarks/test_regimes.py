"""Tasks drawn from the digits: what they promise to every seed, and what their table is made of."""

import numpy as np
import pytest

from dus_gym.agents import make_agent
from dus_gym.benchmarks import regimes as module
from dus_gym.benchmarks.regimes import FAMILIES, Regime, accuracies, draw, regimes
from dus_gym.data.registry import REGISTERED
from dus_gym.seeding import RunSeeds


@pytest.fixture(autouse=True)
def _tasks_that_are_forgotten():
    before = dict(REGISTERED)
    yield
    REGISTERED.clear()
    REGISTERED.update(before)


SMALL = Regime((("pixels", 1.0), ("columns", None), ("left", 0.0)), 128, 60, 0.03, 4)


def test_a_seed_draws_split_and_noise_and_the_parts_share_no_sample():
    task = SMALL.task()
    one, again, other = (task.data(RunSeeds(seed), None) for seed in (0, 0, 1))
    for split, size in (("train", 128), ("validation", 60), ("test", 597)):
        first, second, third = (getattr(data, split) for data in (one, again, other))
        assert first.labels.shape == (size,)
        assert all((a == b).all() for a, b in zip(first.inputs, second.inputs, strict=True))
        assert not (first.inputs[0] == third.inputs[0]).all()
    assert [tuple(x.shape[1:]) for x in one.train.inputs] == [(64,), (8,), (32,)]
    for view in one.train.inputs:
        assert view.mean().item() == pytest.approx(0.0, abs=1e-5)
        assert view.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)
    # Views without noise show which image a row is: none stands in two splits.
    rows = [{row.numpy().tobytes() for row in split.inputs[2]} for split in (one.train, one.validation, one.test)]
    assert sum(map(len, rows)) == len(set.union(*rows)) == 128 + 60 + 597


def test_an_agents_run_does_not_depend_on_those_beside_it():
    uniform, steady = make_agent("uniform", 3), make_agent("steady", 3)
    both = accuracies(SMALL, [uniform, steady], [5, 5], {})
    alone = accuracies(SMALL, [make_agent("steady", 3)], [5], {})
    assert both[1] == pytest.approx(alone[0], abs=0.5)
    assert 10.0 < both[0] <= 100.0


def test_the_table_crosses_rates_sizes_and_numbers_of_modalities():
    found = list(regimes())
    assert len(found) == 3 * 2 * len(FAMILIES)
    assert {len(regime.views) for *_, regime in found} == {2, 3, 4, 5}
    assert {regime.lr for *_, regime in found} == {0.03 * factor for factor in (0.3, 1.0, 3.0)}


def test_drawn_tasks_are_reproducible_and_fit_the_images():
    one, again = ([draw(rng) for _ in range(20)] for rng in (np.random.default_rng(3), np.random.default_rng(3)))
    assert one == again
    assert len(set(one)) > 15
    for regime in one:
        assert regime.samples + regime.validation <= 1797 - 597
        assert 10 <= regime.epochs <= 100


def test_agents_stand_beside_a_constant_that_no_validation_sample_changes(monkeypatch, capsys):
    monkeypatch.setattr(module, "VALIDATION", (20, 60))
    monkeypatch.setitem(module.FAMILIES, "2, Digits", (*FAMILIES["2, Digits"][:1], 128, 100, 12))
    module.print_validation(["steady", "uniform"], 3, {"lever": "rates"})
    first, second = (
        [cell.strip() for cell in row.split("|")[1:-1]] for row in capsys.readouterr().out.splitlines()[2:]
    )
    assert [first[0], second[0]] == ["20", "60"]
    assert first[1] == second[1] != "+0.00"
    assert first[2] != second[2]
    assert first[3].startswith(("+0.00", "-0.00"))
