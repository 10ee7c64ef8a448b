"""Actions that are no numbers: refused by name, whatever they are."""

import datetime
from decimal import Decimal
from fractions import Fraction

import gymnasium as gym
import numpy as np
import pytest
import torch

from dus_gym.allocation import read_action
from dus_gym.errors import CheckpointError, ConfigError
from dus_gym.state import check_form

ODD = [
    [0.5, 10**400], ["0.5", "0.5"], [b"1", b"1"], np.array(["2020-01-01", "2021-01-01"], "M8[D]"),
    [datetime.date(2020, 1, 1)] * 2, [1j, 0.5], [None, 0.5], [Decimal("0.5")] * 2, {"a": 1}, [[0.5], [0.5]], "ab",
    [0.5, [0.5, 0.5]], torch.tensor([0.5, 0.5], requires_grad=True), np.array([(1, 2)] * 2, "i4,i4"),
]  # fmt: skip


@pytest.mark.parametrize("action", ODD, ids=lambda action: repr(action)[:30])
def test_what_is_no_number_is_refused(action):
    with pytest.raises(ConfigError, match="action"):
        read_action(action, 2)


@pytest.mark.parametrize("vector", [False, True])
def test_environments_refuse_them_and_go_on(vector):
    make = gym.make_vec if vector else gym.make
    env = make("dus_gym:DUS-Fake-v0", **({"num_envs": 1} if vector else {}))
    env.reset(seed=0)
    bad, good = [0.5, 10**400], np.array([0.5, 0.5], np.float32)
    with pytest.raises(ConfigError, match="too large"):
        env.unwrapped.step([bad] if vector else bad)
    env.unwrapped.step([good] if vector else good)


@pytest.mark.parametrize("action", [[Fraction(1, 4), Fraction(3, 4)], [True, False], [2**70, 2**70], (1, 3)], ids=repr)
def test_numbers_of_any_kind_are_taken(action):
    assert read_action(action, 2) == [float(entry) for entry in action]


@pytest.mark.parametrize(
    ("fresh", "found"),
    [
        ({"a": 1}, {}), ({"a": 1}, [1]), ({"a": 1}, {"a": "1"}), ([0.0, 0.0], [1.0]), ([0.0], [1.0, None]), (1.0, True),
        (True, 1), ("a", 1), (np.zeros(2), [0.0, 0.0]), ({"a": {"b": []}}, {"a": {"b": {}}}),
    ],
    ids=str,
)  # fmt: skip
def test_a_state_of_another_form_is_refused(fresh, found):
    with pytest.raises(CheckpointError, match="the state"):
        check_form(fresh, found, "the state")


def test_a_state_may_have_grown():
    check_form(
        {"a": None, "b": [], "c": 0, "d": {}}, {"a": [1], "b": [1], "c": 2.5, "d": {"x": 1}, "e": 1}, "the state"
    )
