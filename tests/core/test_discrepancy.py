"""Eq. 3 and its variants against hand-worked numbers and NumPy's mean."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dus_gym.discrepancy import CUMULATIVE_MODES, CumulativeScore, true_class_probability
from dus_gym.errors import ConfigError

properties = settings(deadline=None, derandomize=True, max_examples=100)
probabilities = st.floats(0.0, 1.0)


def trace(score, steps):
    """The values after each iteration; every step of the environment is a list of iterations."""
    values = []
    for step in steps:
        score.start_step()
        for s in step:
            score.add([s])
            values.append(score.value[0])
    return values


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("run", [0.2, 0.3, 0.5, 0.5]),
        ("epoch", [0.2, 0.3, 0.9, 0.7]),  # the second step starts over
        ("ema", [0.2, 0.21, 0.2445, 0.257275]),  # .95 · old + .05 · new
        ("none", [0.2, 0.4, 0.9, 0.5]),
    ],
)
def test_each_mode_by_hand(mode, expected):
    assert trace(CumulativeScore(1, mode), [[0.2, 0.4], [0.9, 0.5]]) == pytest.approx(expected, abs=1e-12)


def test_the_papers_running_mean_is_the_default_and_each_modality_has_its_own():
    score = CumulativeScore(2)
    for s in (0.2, 0.4, 0.9):
        score.add([s, 1.0 - s])
    assert score.value == pytest.approx([0.5, 0.5])
    score.add([0.5, 0.1])
    assert score.value == pytest.approx([0.5, 0.4])
    assert score.iterations == 4


def test_before_the_first_iteration_every_score_is_zero():
    assert CumulativeScore(3).value == [0.0, 0.0, 0.0]


def test_the_first_score_is_taken_whole_in_every_mode():
    for mode in CUMULATIVE_MODES:
        score = CumulativeScore(2, mode)
        score.add([0.7, 0.1], repeats=5)
        assert score.value == [0.7, 0.1]
        assert score.iterations == 5


@pytest.mark.parametrize("mode", CUMULATIVE_MODES)
def test_repeats_are_that_many_iterations(mode):
    together, one_by_one = CumulativeScore(2, mode), CumulativeScore(2, mode)
    for scores, repeats in [([0.1, 0.9], 3), ([0.6, 0.2], 4), ([0.3, 0.3], 1), ([0.9, 0.8], 7)]:
        together.add(scores, repeats)
        for _ in range(repeats):
            one_by_one.add(scores)
    assert together.value == pytest.approx(one_by_one.value, abs=1e-12)
    assert together.iterations == one_by_one.iterations == 15


def test_only_the_mode_epoch_starts_over_at_a_step():
    for mode, expected in [("run", 0.5), ("epoch", 0.8), ("ema", 0.95 * 0.2 + 0.05 * 0.8), ("none", 0.8)]:
        score = CumulativeScore(1, mode)
        score.add([0.2])
        score.start_step()
        assert score.value == [0.2], "a step alone changes no score"
        score.add([0.8])
        assert score.value == pytest.approx([expected])


@properties
@given(st.lists(st.tuples(probabilities, probabilities, st.integers(1, 40)), min_size=1, max_size=30))
def test_the_run_mode_is_the_mean_whatever_the_chunks(chunks):
    score = CumulativeScore(2)
    for a, b, repeats in chunks:
        score.add([a, b], repeats)
    every = np.repeat([c[:2] for c in chunks], [c[2] for c in chunks], axis=0)
    np.testing.assert_allclose(score.value, every.mean(axis=0), atol=1e-12)
    assert score.iterations == len(every)


@properties
@given(st.sampled_from(CUMULATIVE_MODES), st.lists(probabilities, min_size=1, max_size=50))
def test_a_score_never_leaves_the_range_of_what_was_added(mode, scores):
    score = CumulativeScore(1, mode)
    for s in scores:
        score.add([s])
    assert min(scores) - 1e-12 <= score.value[0] <= max(scores) + 1e-12


@pytest.mark.parametrize("mode", CUMULATIVE_MODES)
def test_a_state_continues_to_the_bit_through_json(mode):
    score = CumulativeScore(2, mode)
    for i in range(7):
        score.add([1 / (i + 3), i / 7], repeats=i + 1)
    state = json.loads(json.dumps(score.state_dict(), allow_nan=False))
    resumed = CumulativeScore(2, mode)
    resumed.load_state_dict(state)
    for continued in (score, resumed):
        continued.add([0.123456789, 1 / 3], repeats=3)
    assert resumed.value == score.value
    assert resumed.iterations == score.iterations


def test_a_state_is_a_copy():
    score = CumulativeScore(1)
    score.add([0.5])
    state = score.state_dict()
    score.add([0.7])
    assert state == {"iterations": 1, "value": [0.5]}
    score.load_state_dict(state)
    score.add([0.1])
    assert state == {"iterations": 1, "value": [0.5]}
    score.state_dict()["value"][0] = 9.0
    assert score.value == pytest.approx([0.3])


def test_adding_does_not_keep_the_callers_list():
    score, scores = CumulativeScore(1), [0.5]
    score.add(scores)
    scores[0] = 0.0
    assert score.value == [0.5]


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match=r"cumulative='runs'.*run, epoch, ema, none.*Did you mean 'run'"):
        CumulativeScore(2, "runs")


def test_scores_of_another_number_of_modalities_are_refused():
    score = CumulativeScore(2)
    score.add([0.1, 0.2])
    with pytest.raises(ValueError, match="1 scores for 2 modalities"):
        score.add([0.1])
    with pytest.raises(ValueError, match="3 scores for 2 modalities"):
        CumulativeScore(2).add([0.1, 0.2, 0.3])


# -- the score of one iteration --------------------------------------------------------------------


def test_the_true_class_probability_by_hand():
    logits = torch.tensor([[0.0, 0.0], [np.log(3.0), 0.0], [0.0, np.log(3.0)], [200.0, -200.0]])
    labels = torch.tensor([0, 0, 0, 1])
    torch.testing.assert_close(true_class_probability(logits, labels), torch.tensor([0.5, 0.75, 0.25, 0.0]).double())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_true_class_probability_is_the_softmax_at_the_label(dtype):
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(40, 7, generator=generator)).to(dtype)
    labels = torch.randint(7, (40,), generator=generator)
    found = true_class_probability(logits, labels)
    wide = logits if dtype is torch.float64 else logits.float()
    expected = torch.softmax(wide, dim=1)[torch.arange(40), labels]
    assert found.shape == (40,)
    assert found.dtype == wide.dtype, "a probability in half precision is too coarse to average"
    torch.testing.assert_close(found, expected)


LOGITS = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]))


@pytest.mark.parametrize(
    "labels", [torch.tensor([1, 2]), torch.tensor([1, 2], dtype=torch.int32), np.array([1, 2]), [1, 2]],
    ids=["int64", "int32", "numpy", "list"],
)  # fmt: skip
def test_the_probability_of_the_true_class_takes_labels_of_any_kind(labels):
    assert true_class_probability(LOGITS, labels).tolist() == pytest.approx([0.25, 0.75])


@pytest.mark.parametrize(
    ("labels", "shape"), [([1], "(1,)"), ([[1, 2]], "(1, 2)"), ([1.0, 2.0], "(2,)"), (1, "()")],
    ids=["too-few", "a-row", "floats", "a-number"],
)  # fmt: skip
def test_labels_that_are_not_one_class_per_sample_are_refused(labels, shape):
    with pytest.raises(ConfigError, match=r"^labels are torch\..* of shape") as refused:
        true_class_probability(LOGITS, labels)
    assert f"of shape {shape}; logits of shape (2, 3)" in str(refused.value)
