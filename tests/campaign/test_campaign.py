"""A small part of the campaign; `python -m tests.campaign` runs it at any length."""

import pytest
from campaign.fuzz import fuzz
from campaign.kills import kills


@pytest.mark.slow
def test_commands_that_are_killed_go_on_and_end_in_the_same_bits():
    figures, wrong = kills(14)
    assert wrong == []
    assert figures["kills"] >= 14


@pytest.mark.slow
def test_no_damaged_input_ends_in_a_traceback_a_hang_or_another_result():
    figures, wrong = fuzz(3000, seconds=120)
    assert wrong == []
    assert figures["hangs"] + figures["crashes"] == 0
    assert figures["refused"] > figures["inputs"] / 3, "hardly anything was damaged"
