"""The checks that options share say what was given and what is allowed."""

import re

import pytest

from dus_gym.errors import ConfigError, check_fraction, check_positive

INSIDE = [1e-9, 0.5, 1.0 - 1e-9]
OUTSIDE = [-1e-9, 1.0 + 1e-9, float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("bounds", ["[0, 1]", "(0, 1]", "[0, 1)", "(0, 1)"])
def test_a_fraction_lies_between_its_bounds(bounds):
    allowed = [*INSIDE, *([0.0] if bounds[0] == "[" else []), *([1.0] if bounds[-1] == "]" else [])]
    for value in allowed:
        check_fraction("part", value, bounds)
    for value in {*OUTSIDE, 0.0, 1.0} - {*allowed}:
        with pytest.raises(ConfigError, match=re.escape(f"part={value!r} is not allowed; it must lie in {bounds}.")):
            check_fraction("part", value, bounds)


def test_a_positive_number_is_finite():
    check_positive("tau", 1e-300)
    for value in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=re.escape(f"tau={value!r} is not allowed; it must be positive and fin")):
            check_positive("tau", value)
