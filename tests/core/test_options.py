"""Options by name: every wrong type is refused with its name, its value and what is allowed."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest

from dus_gym.agents import make_agent
from dus_gym.config import RunConfig
from dus_gym.errors import ConfigError
from dus_gym.methods import make_method
from dus_gym.options import build_options, option_table, parse_pairs


@dataclass(frozen=True)
class Options:
    flag: bool = False
    count: int = 1
    weight: float = 1.0
    name: str = "a"
    maybe: float | None = None
    many: tuple[float, ...] | None = None


@pytest.mark.filterwarnings("error")
def test_values_of_the_right_type_are_taken():
    given = {"flag": True, "count": np.int64(3), "weight": 2, "name": "b", "maybe": np.float32(0.5), "many": [1, 2.5]}
    found = build_options(Options, given, "option")
    assert found == Options(True, 3, 2.0, "b", 0.5, (1.0, 2.5))
    assert type(found.count) is int
    assert type(found.weight) is float
    assert build_options(Options, {"maybe": None, "many": None}, "option") == Options()
    assert build_options(Options, None, "option") == Options()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"flag": "no"}, r"flag='no' is not allowed; it must be True or False"),
        ({"flag": 1}, r"flag=1"),
        ({"count": 2.5}, r"count=2\.5 is not allowed; it must be a whole number"),
        ({"count": True}, r"count=True"),
        ({"count": None}, r"count=None"),
        ({"weight": float("inf")}, r"weight=inf is not allowed; it must be a finite number"),
        ({"weight": float("nan")}, r"weight=nan"),
        ({"weight": "a"}, r"weight='a'"),
        ({"maybe": "a"}, r"maybe='a'"),
        ({"name": 3}, r"name=3 is not allowed; it must be text"),
        ({"many": 1.0}, r"many=1\.0 is not allowed; give a sequence"),
        ({"many": "ab"}, r"many='ab'"),
        ({"many": [1.0, "x"]}, r"many='x'"),
        ({"wieght": 1.0}, r"unknown option 'wieght'.*'weight'"),
    ],
)
def test_everything_else_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        build_options(Options, given, "option")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_agent("reinforce", 2, options={"baseline": "no"}), r"baseline='no'"),
        (lambda: make_agent("reinforce", 2, options={"lr": float("inf")}), r"lr=inf"),
        (lambda: make_agent("reinforce", 2, options={"every": 2.5}), r"every=2\.5"),
        (lambda: make_agent("uniform", 2, seed=-1), r"seed=-1"),
        (lambda: make_agent("heuristic", 2, options={"alpha": -1.0}), r"alpha=-1\.0"),
        (lambda: make_agent("score", 2, options={"temperature": 1e-320}), r"temperature=1e-320"),
        (lambda: make_method("baseline", {"fused_weight": "a"}), r"fused_weight='a'"),
        (lambda: make_method("baseline", {"fused_weight": 0.0, "unimodal_weight": 0.0}), r"leave no loss"),
        (lambda: RunConfig.of({"min_fraction": "a"}), r"min_fraction='a'"),
        (lambda: RunConfig.of({"lr_scale": 1.0}), r"lr_scale=1\.0"),
        (lambda: RunConfig.of({"amp": "yes"}), r"amp='yes'"),
        (lambda: RunConfig.of({"device": None}), r"device=None"),
    ],
)
def test_agents_methods_and_runs_all_ask_it(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_numpy_integers_are_whole_numbers():
    assert RunConfig.of({"epochs": np.int64(3)}).epochs == 3


@dataclasses.dataclass(frozen=True)
class Base:
    """Fields that come first."""

    first: int = 1
    """A line
    and another."""


@dataclasses.dataclass(frozen=True)
class Derived(Base):
    """One more field."""

    second: str = "x"
    """Of the derived class."""
    third: float = 0.5


def test_the_table_of_options_has_names_types_defaults_and_docstrings():
    assert option_table(Derived) == [
        {"name": "first", "type": "int", "default": 1, "doc": "A line and another."},
        {"name": "second", "type": "str", "default": "x", "doc": "Of the derived class."},
        {"name": "third", "type": "float", "default": 0.5, "doc": ""},
    ]


def test_pairs_are_options_by_name():
    assert parse_pairs(["a=1", "b-c=(1, 2)", "d=text", "e=x=y"], "w") == {
        "a": 1,
        "b_c": (1, 2),
        "d": "text",
        "e": "x=y",
    }
    with pytest.raises(ConfigError, match=r"'w:a' is not allowed: 'a' must be option=value"):
        parse_pairs(["a"], "w:a")
