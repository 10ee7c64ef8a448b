"""How much the training score still rises at the end of a run, and where that is too much."""

import json

import pytest
from command import dus

from dus_gym.experiments.run import score_rise
from dus_gym.experiments.verdict import RISING


def records(scores):
    return [{"train_score/a": score - 0.1, "train_score/b": score + 0.1} for score in scores]


@pytest.mark.parametrize(
    ("scores", "rise"),
    [
        ([], None),
        ([0.5], None),
        ([0.4, 0.7], 0.3),
        ([0.0, 0.9, 0.5, 0.4], -0.1),
        ([*range(10), 20, 30, 40, 41, 42, 43, 44, 45, 50, 60], 55 - 44.5),
    ],
)
def test_the_last_tenth_is_compared_with_the_tenth_before(scores, rise):
    found = score_rise(records(scores), ["a", "b"])
    assert found == (None if rise is None else pytest.approx(rise))


@pytest.mark.slow
@pytest.mark.parametrize(("epochs", "undertrained"), [(5, True), (100, False)])
def test_five_epochs_of_digits_are_too_few_and_a_hundred_are_not(epochs, undertrained, tmp_path):
    words = ("DUS-Digits-v0", "--agent", "uniform", "--epochs", epochs, "--json", "--quiet")
    summary = json.loads(dus("train", *words, cwd=tmp_path, check=0).stdout)
    assert (summary["score_rise"] > RISING) == undertrained
