"""The three metrics, with scikit-learn as the oracle."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from dus_gym.metrics import accuracy, macro_f1, mean_average_precision, score_all

properties = settings(deadline=None, derandomize=True, max_examples=80)


def oracle_map(probabilities, labels):
    """Macro average precision; scikit-learn warns where a class has no positive sample and counts it 0."""
    one_hot = np.eye(probabilities.shape[1])[labels]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return average_precision_score(one_hot, probabilities, average="macro")


@st.composite
def logits_and_labels(draw):
    """Up to 60 samples of up to 6 classes; few distinct logits make ties, few distinct labels empty classes."""
    n, c = draw(st.integers(1, 60)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    coarse = draw(st.sampled_from([None, 1, 3]))
    logits = rng.normal(size=(n, c)) * draw(st.sampled_from([0.0, 0.1, 1.0, 30.0]))
    if coarse is not None:
        logits = np.round(logits * coarse) / coarse
    logits[:, draw(st.sets(st.integers(0, c - 1), max_size=c - 1).map(sorted))] -= 50.0  # never predicted
    labels = rng.choice(draw(st.lists(st.integers(0, c - 1), min_size=1, max_size=c, unique=True)), n)
    return torch.tensor(logits), torch.tensor(labels)


@properties
@given(logits_and_labels())
@example((torch.zeros(1, 2), torch.tensor([0])))
@example((torch.zeros(5, 3), torch.tensor([1, 1, 1, 1, 1])))
@example((torch.zeros(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])))
def test_every_metric_is_scikit_learns(case):
    logits, labels = case
    found = score_all(logits, labels)
    predicted, truth = logits.double().argmax(1).numpy(), labels.numpy()
    probabilities = logits.double().softmax(1).numpy()
    assert found.accuracy == pytest.approx(accuracy_score(truth, predicted), abs=1e-12)
    assert found.macro_f1 == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0), abs=1e-12)
    assert found.map == pytest.approx(oracle_map(probabilities, truth), abs=1e-12)
    for value in (found.accuracy, found.map, found.macro_f1):
        assert 0.0 <= value <= 1.0 + 1e-12


@properties
@given(st.integers(1, 40), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_tied_scores_enter_together_whatever_their_order(n, c, seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 3, (n, c)) / 2, rng.integers(0, c, n)
    found = mean_average_precision(torch.tensor(scores), torch.tensor(labels))
    assert found == pytest.approx(oracle_map(scores, labels), abs=1e-12)
    order = rng.permutation(n)
    assert mean_average_precision(torch.tensor(scores[order]), torch.tensor(labels[order])) == pytest.approx(found)


def test_average_precision_by_hand():
    # Class 1 by falling score: right, wrong, right: 1/2 · 1 + 1/2 · 2/3. Class 0 the other way: only the
    # second of three is right: 1/2.
    probabilities = torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    labels = torch.tensor([1, 0, 1])
    assert mean_average_precision(probabilities, labels) == pytest.approx((5 / 6 + 1 / 2) / 2)


def test_average_precision_of_constant_scores_is_the_classes_frequency():
    labels = torch.tensor([0, 0, 0, 1])
    assert mean_average_precision(torch.full((4, 2), 0.5), labels) == pytest.approx((0.75 + 0.25) / 2)


def test_macro_f1_by_hand():
    predicted, labels = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    assert macro_f1(predicted, labels, 2) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert accuracy(predicted, labels) == 0.75


def test_macro_f1_leaves_out_classes_that_occur_nowhere_and_counts_those_on_one_side_as_zero():
    predicted, labels = torch.tensor([0, 0, 3]), torch.tensor([0, 0, 5])
    assert macro_f1(predicted, labels, 10) == pytest.approx((1 + 0 + 0) / 3)
    assert macro_f1(predicted, labels, 10) == pytest.approx(f1_score(labels, predicted, average="macro"))


def test_a_class_without_a_sample_counts_zero_in_the_mean_average_precision():
    probabilities = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    assert mean_average_precision(probabilities, torch.tensor([0, 1])) == pytest.approx(2 / 3)


def test_only_one_class():
    logits, labels = torch.tensor([[2.0, 1.0], [3.0, 0.0]]), torch.tensor([0, 0])
    found = score_all(logits, labels)
    assert (found.accuracy, found.macro_f1, found.map) == (1.0, 1.0, 0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_logits_of_any_precision_are_scored_in_double(dtype):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 4, generator=generator).to(dtype)
    labels = torch.randint(4, (50,), generator=generator)
    assert score_all(logits, labels) == score_all(logits.double(), labels)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rows", [slice(0, 1), slice(None)])
def test_a_diverged_run_still_has_finite_figures(value, rows):
    logits, labels = torch.eye(3).repeat(4, 1), torch.arange(3).repeat(4)
    logits[rows] = value
    found = score_all(logits, labels)
    for figure in (found.accuracy, found.map, found.macro_f1):
        assert math.isfinite(figure)
        assert 0.0 <= figure <= 1.0
    if rows == slice(None):
        assert found.accuracy == pytest.approx(1 / 3), "all alike: class 0 is predicted"


def test_scoring_changes_nothing_it_was_given():
    logits, labels = torch.tensor([[math.nan, 1.0], [0.5, 0.2]]), torch.tensor([0, 1])
    before = logits.clone()
    score_all(logits, labels)
    torch.testing.assert_close(logits, before, equal_nan=True)
    assert labels.tolist() == [0, 1]
